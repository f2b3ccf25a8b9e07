#include "core/xml.h"

#include <utility>

#include "support.h"

namespace ivfremote {
namespace {

using Elements = std::vector<std::pair<std::string, std::string>>;

Elements Parse(std::string_view document, bool* well_formed) {
  Elements elements;
  *well_formed = ParseXml(document, [&](std::string_view path, std::string_view text) {
    elements.emplace_back(path, text);
  });
  return elements;
}

Elements Parse(std::string_view document) {
  bool well_formed = false;
  Elements elements = Parse(document, &well_formed);
  EXPECT_TRUE(well_formed) << document;
  return elements;
}

TEST(ParseXml, ElementsComeAtTheirEndsWithPathAndText) {
  EXPECT_EQ(Parse("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<List><Item><Key>a</Key><Size>1</Size></Item><Item/></List>"),
            (Elements{{"List/Item/Key", "a"}, {"List/Item/Size", "1"}, {"List/Item", ""}, {"List/Item", ""}, {"List", ""}}));
}

TEST(ParseXml, TextIsOnlyWhatStandsDirectlyInAnElement) {
  EXPECT_EQ(Parse("<a>one<b>two</b>three</a>"), (Elements{{"a/b", "two"}, {"a", "onethree"}}));
}

TEST(ParseXml, NamespacesAreLeftOut) {
  EXPECT_EQ(Parse("<List xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><x:Key xmlns:x=\"urn:x\">a</x:Key></List>"),
            (Elements{{"List/Key", "a"}, {"List", ""}}));
}

TEST(ParseXml, EntitiesAndSections) {
  EXPECT_EQ(Parse("<a>&lt;&amp;&gt;&quot;&apos;&#65;&#x20AC;<![CDATA[<b>&amp;]]></a>"),
            (Elements{{"a", "<&>\"'A\u20AC<b>&amp;"}}));
}

TEST(ParseXml, WhatIsEscapedComesBack) {
  const std::string text = "a<b>&c\"d'e &amp; \u00fc";
  EXPECT_EQ(EscapeXml("<&>\"'"), "&lt;&amp;&gt;&quot;&apos;");
  EXPECT_EQ(Parse("<a>" + EscapeXml(text) + "</a>"), (Elements{{"a", text}}));
}

TEST(ParseXml, RefusesWhatIsNotWellFormed) {
  for (const char* document : {"", " ", "text", "<a>", "<a></b>", "<a/><b/>", "<a><b></a></b>", "<a>&unknown;</a>", "<a b></a>", "<a>\x01</a>",
                               "<html><br></html>"}) {
    bool well_formed = true;
    Parse(document, &well_formed);
    EXPECT_FALSE(well_formed) << document;
  }
}

std::string Nested(int depth) {
  std::string document;
  for (int i = 0; i < depth; ++i) document += "<a>";
  for (int i = 0; i < depth; ++i) document += "</a>";
  return document;
}

TEST(ParseXml, RefusesWhatIsTooDeep) {
  bool well_formed = false;
  EXPECT_EQ(Parse(Nested(32), &well_formed).size(), 32u);
  EXPECT_TRUE(well_formed);
  EXPECT_TRUE(Parse(Nested(33), &well_formed).empty());
  EXPECT_FALSE(well_formed);
  Parse(Nested(100000), &well_formed);
  EXPECT_FALSE(well_formed);
}

TEST(ParseXml, ReadsNoExternalEntity) {
  bool well_formed = false;
  for (const auto& [path, text] : Parse("<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/hostname\">]><a>&x;</a>", &well_formed))
    EXPECT_EQ(text, "") << path;
}

// Each entity is ten of the one before: 10^9 characters if they were written out.
TEST(ParseXml, DoesNotExpandWithoutBound) {
  std::string document = "<!DOCTYPE a [<!ENTITY e0 \"0123456789\">";
  for (int i = 1; i < 9; ++i) {
    document += "<!ENTITY e" + std::to_string(i) + " \"";
    for (int k = 0; k < 10; ++k) document += "&e" + std::to_string(i - 1) + ";";
    document += "\">";
  }
  bool well_formed = true;
  Parse(document + "]><a>&e8;</a>", &well_formed);
  EXPECT_FALSE(well_formed);
}

TEST(ParseXml, WhatACallbackThrowsEndsIt) {
  int calls = 0;
  EXPECT_FALSE(ParseXml("<a><b/><c/></a>", [&](std::string_view, std::string_view) {
    ++calls;
    throw std::bad_alloc();
  }));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace ivfremote
