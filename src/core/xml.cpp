#include "core/xml.h"

#include <expat.h>

#include <memory>
#include <vector>

namespace ivfremote {
namespace {

constexpr size_t kMaxDepth = 32;

struct Parser {
  const std::function<void(std::string_view, std::string_view)>* element;
  XML_Parser expat;
  std::string path;
  std::vector<size_t> lengths;      // of path before each open element
  std::vector<std::string> texts;
  bool failed = false;
};

// Expat is C: nothing may be thrown through it.
template <typename Function>
void Guard(Parser* parser, Function function) {
  try {
    if (!parser->failed) function();
  } catch (...) {
    parser->failed = true;
    XML_StopParser(parser->expat, XML_FALSE);
  }
}

void OnStart(void* data, const XML_Char* name, const XML_Char**) {
  auto* parser = static_cast<Parser*>(data);
  Guard(parser, [&] {
    if (parser->lengths.size() == kMaxDepth) throw std::string("too deep");
    parser->lengths.push_back(parser->path.size());
    if (!parser->path.empty()) parser->path += '/';
    const std::string_view full(name);
    const size_t colon = full.rfind(':');
    parser->path += colon == std::string_view::npos ? full : full.substr(colon + 1);
    parser->texts.emplace_back();
  });
}

void OnText(void* data, const XML_Char* text, int length) {
  auto* parser = static_cast<Parser*>(data);
  Guard(parser, [&] { parser->texts.back().append(text, static_cast<size_t>(length)); });
}

void OnEnd(void* data, const XML_Char*) {
  auto* parser = static_cast<Parser*>(data);
  Guard(parser, [&] {
    (*parser->element)(parser->path, parser->texts.back());
    parser->texts.pop_back();
    parser->path.resize(parser->lengths.back());
    parser->lengths.pop_back();
  });
}

}  // namespace

bool ParseXml(std::string_view document,
              const std::function<void(std::string_view path, std::string_view text)>& element) {
  const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> expat(XML_ParserCreate(nullptr), XML_ParserFree);
  if (expat == nullptr) throw std::bad_alloc();
  Parser parser{&element, expat.get(), {}, {}, {}};
  XML_SetUserData(expat.get(), &parser);
  XML_SetElementHandler(expat.get(), OnStart, OnEnd);
  XML_SetCharacterDataHandler(expat.get(), OnText);
  const auto result = XML_Parse(expat.get(), document.data(), static_cast<int>(document.size()), XML_TRUE);
  return result == XML_STATUS_OK && !parser.failed;
}

std::string EscapeXml(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&apos;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace ivfremote
