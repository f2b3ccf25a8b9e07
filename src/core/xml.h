// Reads the small XML answers of object stores, with expat.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace ivfremote {

// Calls element(path, text) at the end of each element, where path is "Root/Child/...", namespaces left out, and text is
// what stands directly in it. False if the document is not well-formed. External entities are not read.
bool ParseXml(std::string_view document, const std::function<void(std::string_view path, std::string_view text)>& element);

// The text for an XML body: & < > and quotes escaped.
std::string EscapeXml(std::string_view text);

}  // namespace ivfremote
