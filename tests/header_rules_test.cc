#include "engine/pure/header_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/pure/ascii.h"
#include "postbag/glob.h"
#include "postbag/target_match.h"

namespace postbag {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(HeaderRules, AcceptsOrdinaryHeaders) {
  const std::pair<const char*, const char*> table[] = {
      {"Authorization", "Bearer abc.def"},
      {"X-Api-Key", "k"},
      {"x", ""},
      {"!#$%&'*+-.^_`|~09azAZ", "a\tb c"},
      {"Accept", "*/*"},
      {"X-Forward", "ok"},
      {"Hostess", "ok"},
      {"Tea", "1"},
      {"Postbag", "1"},
      {"X-Postbag-Id", "1"},
      {"webhook-id", "1"},
      {"Cookie", "a=b"},
  };
  for (const auto& [name, value] : table)
    EXPECT_EQ(check_header(name, value), std::nullopt) << name;
  EXPECT_EQ(check_header("a", std::string(4096, 'v')), std::nullopt);
  EXPECT_EQ(check_header(std::string(256, 'n'), "v"), std::nullopt);
}

TEST(HeaderRules, RefusesNamesThatAreNotForHooks) {
  for (const char* name : {"Host",
                           "host",
                           "HOST",
                           "Content-Length",
                           "content-length",
                           "Transfer-Encoding",
                           "Connection",
                           "Keep-Alive",
                           "TE",
                           "Te",
                           "Trailer",
                           "Upgrade",
                           "Expect",
                           "Proxy-Authorization",
                           "proxy-connection",
                           "Proxy-Anything",
                           "Content-Type",
                           "Content-Encoding",
                           "User-Agent",
                           "HTTP2-Settings",
                           "Forwarded",
                           "Via",
                           "X-Forwarded-For",
                           "x-forwarded-host",
                           "Postbag-Batch-Id",
                           "POSTBAG-ATTEMPT",
                           "Postbag-",
                           "Metadata-Flavor",
                           "Metadata",
                           "X-aws-ec2-metadata-token",
                           "X-aws-ec2-metadata-token-ttl-seconds"}) {
    const auto problem = check_header(name, "v");
    ASSERT_TRUE(problem) << name;
    EXPECT_THAT(*problem, HasSubstr(name));
  }
}

// The receiver got two of them, and a server may compress for a list of both.
TEST(HeaderRules, AnAcceptEncodingBesideOursIsRefused) {
  const auto problem = check_header("accept-Encoding", "gzip");
  ASSERT_TRUE(problem);
  EXPECT_THAT(*problem, testing::StartsWith("header accept-Encoding is not allowed: "));
  EXPECT_EQ(check_header("Accept", "text/plain"), std::nullopt);
}

// It was said to be set by Postbag or the connection, which set no such header.
TEST(HeaderRules, ARefusedNameIsNotCalledOurs) {
  EXPECT_THAT(*check_header("X-Forwarded-For", "v"), Not(HasSubstr("is set by Postbag")));
}

TEST(HeaderRules, RefusesWhatIsNoToken) {
  using namespace std::string_literals;
  for (const std::string& name :
       {""s, " a"s, "a "s, "a b"s, "a:"s, ":a"s, "a\r\nb"s, "a\0b"s, "a\x7f"s, "\xc3\xbc"s, "a(b)"s,
        "a/b"s, "\"a\""s, "a@b"s, "a{"s, std::string(257, 'n')}) {
    EXPECT_TRUE(check_header(name, "v")) << name;
  }
}

TEST(HeaderRules, RefusesValuesThatCouldEndTheField) {
  using namespace std::string_literals;
  for (const std::string& value :
       {"a\r\nX: y"s, "a\nb"s, "a\rb"s, "a\0b"s, "a\x7f"s, "\x01"s, "\xc3\xbc"s, " a"s, "a "s,
        "\ta"s, "a\t"s, " "s, std::string(4097, 'v')}) {
    EXPECT_TRUE(check_header("X-A", value)) << value;
  }
}

TEST(HeaderRules, MessagesNeverShowAValue) {
  EXPECT_THAT(*check_header("X-Key", "s3cret\n"), Not(HasSubstr("s3cret")));
  EXPECT_THAT(*check_header("Host", "s3cret"), Not(HasSubstr("s3cret")));
  EXPECT_THAT(*check_header("Authorization: s3cret", ""),
              testing::AllOf(HasSubstr("Authorization"), Not(HasSubstr("s3cret"))));
  const HeaderView twice[] = {{"X-Key", "s3cret"}, {"x-key", "s3cret"}};
  EXPECT_THAT(*check_headers(twice), testing::AllOf(HasSubstr("x-key"), Not(HasSubstr("s3cret"))));
}

TEST(HeaderRules, ChecksTheListAsAWhole) {
  EXPECT_EQ(check_headers({}), std::nullopt);
  std::vector<std::string> names;
  for (int i = 0; i < 33; ++i) names.push_back("X-" + std::to_string(i));
  std::vector<HeaderView> headers;
  for (const std::string& name : names) headers.push_back({name, "v"});
  EXPECT_TRUE(check_headers(headers));
  headers.pop_back();
  EXPECT_EQ(check_headers(headers), std::nullopt);
  headers[31] = {"x-0", "other"};
  EXPECT_TRUE(check_headers(headers));
  headers[31] = {"Host", "h"};
  EXPECT_TRUE(check_headers(headers));
}

TEST(HeaderRules, JoinsInTheGivenOrder) {
  EXPECT_EQ(join_headers({}), "");
  const HeaderView headers[] = {{"B", "2"}, {"a", ""}, {"C", "x: y"}};
  EXPECT_EQ(join_headers(headers), "B: 2\r\na: \r\nC: x: y\r\n");
}

TEST(HeaderRules, ChecksLabels) {
  using namespace std::string_literals;
  for (const std::string& good :
       {""s, "order.paid"s, "a b"s, "\xc3\xbc"s, "\xe2\x82\xac \xf0\x9f\x98\x80"s, "\xc2\xa0"s,
        std::string(128, 'a')}) {
    EXPECT_EQ(check_label("event", good), std::nullopt) << good;
  }
  for (const std::string& bad :
       {"a\nb"s, "\t"s, "\0"s, "\x1f"s, "\x7f"s, "\xc2\x80"s, "a\xc2\x9f"s, "\xff"s, "\xc3"s,
        "\xed\xa0\x80"s, "\xc0\x80"s, std::string(129, 'a')}) {
    const auto problem = check_label("group", bad);
    ASSERT_TRUE(problem) << bad;
    EXPECT_THAT(*problem, HasSubstr("group"));
  }
}

TEST(HeaderRules, ChecksContentTypes) {
  for (const char* good : {"", "application/json", "text/plain; charset=utf-8",
                           "application/vnd.api+json;a=b ; c=\"d; \\\" e\"", "a/b"}) {
    EXPECT_EQ(check_content_type(good), std::nullopt) << good;
  }
  for (const char* bad : {"application", "/json", "application/", "a/b/c", "a/b;", "a/b;c",
                          "a/b;c=", "a/b; =d", "a b/c", " a/b", "a/b ", "a/b\r\nX: y", "a/b;c=\"d",
                          "a/b;c=\"d\\", "a/b;c=\"\n\"", "a/b, c/d", "\xc3\xbc/b"}) {
    EXPECT_TRUE(check_content_type(bad)) << bad;
  }
  EXPECT_EQ(check_content_type("a/" + std::string(126, 'b')), std::nullopt);
  EXPECT_TRUE(check_content_type("a/" + std::string(127, 'b')));
}

TEST(HeaderRules, ChecksIds) {
  for (const std::string& good : {std::string("a"), std::string("A-z_0"), std::string(64, '9')})
    EXPECT_TRUE(is_valid_hook_id(good)) << good;
  for (const std::string& bad :
       {std::string(), std::string(65, '9'), std::string("a b"), std::string("a.b"),
        std::string("a/b"), std::string("a\n"), std::string("\xc3\xbc"), std::string("a\0", 2)}) {
    EXPECT_FALSE(is_valid_hook_id(bad)) << bad;
  }
}

// Names were compared as the locale of the process has it: in a Turkish one 'I' is no 'i'.
TEST(Ascii, NamesAreComparedByTheLettersOfAsciiAlone) {
  EXPECT_TRUE(equal_ignoring_case("X-ID", "x-id"));
  EXPECT_TRUE(equal_ignoring_case("AZ", "az"));
  EXPECT_TRUE(equal_ignoring_case("", ""));
  EXPECT_FALSE(equal_ignoring_case("x-id", "x-idx"));
  EXPECT_FALSE(equal_ignoring_case("@[", "`{"));
  EXPECT_FALSE(equal_ignoring_case("\xC9", "\xE9"));  // a letter in ISO 8859-1
  EXPECT_FALSE(equal_ignoring_case("I", "\xFD"));     // its small one in ISO 8859-9
}

TEST(Glob, Matches) {
  const std::pair<const char*, const char*> good[] = {
      {"", "anything"},
      {"", ""},
      {"*", ""},
      {"*", "abc"},
      {"a*c", "abbc"},
      {"a*c", "ac"},
      {"a*b*c", "axbybc"},
      {"**a**", "bab"},
      {"?", "x"},
      {"a?c", "abc"},
      {"https://e.com/*", "https://e.com/x/y"},
      {"*ab", "aab"},
      {"*aab", "aaaab"},
      {"a*?", "ab"},
      {"[x]", "[x]"},
      {"\\*", "\\anything"},
  };
  for (const auto& [pattern, text] : good)
    EXPECT_TRUE(glob_match(pattern, text)) << pattern << " " << text;
  const std::pair<const char*, const char*> bad[] = {
      {"a", ""},      {"a", "ab"},  {"?", ""},  {"?", "ab"},    {"a*c", "abd"},
      {"a*b", "abc"}, {"a*?", "a"}, {"A", "a"}, {"*a*b", "ba"}, {"[x]", "x"},
  };
  for (const auto& [pattern, text] : bad)
    EXPECT_FALSE(glob_match(pattern, text)) << pattern << " " << text;
}

TEST(Glob, ManyStarsEnd) {
  std::string pattern;
  for (int i = 0; i < 200; ++i) pattern += "a*";
  EXPECT_FALSE(glob_match(pattern + "b", std::string(2'000, 'a')));
}

// The names that log lines have for targets could be looked up nowhere, and no filter took them.
TEST(TargetMatch, APatternWithAHashMeansTheNameInTheLog) {
  const std::string url = "https://hooks.example.com/T0/secret";
  const std::string name = target_log_name(url);
  EXPECT_THAT(name, ::testing::MatchesRegex("https://hooks.example.com/#[0-9a-f]{8}"));
  EXPECT_EQ(target_log_name("https://a.example/"), "https://a.example/");
  const std::string hash = name.substr(name.find('#'));
  for (const std::string& pattern :
       {std::string(), std::string("*"), url, std::string("https://hooks.*"), name, hash,
        hash.substr(0, 5) + "*", "https://*/" + hash, "*" + hash}) {
    EXPECT_TRUE(target_matches(pattern, url)) << pattern;
  }
  for (const std::string& pattern :
       {"https://other.example.com/" + hash, std::string("#00000000"), hash.substr(0, 5),
        hash.substr(1), std::string("#"), url + "#", std::string("https://hooks.example.com/")}) {
    EXPECT_FALSE(target_matches(pattern, url)) << pattern;
  }
}

TEST(HeaderRules, HeaderLinesComeBackAsTheyWere) {
  using Pairs = std::vector<std::pair<std::string, std::string>>;
  const auto split = [](std::string_view lines) {
    Pairs pairs;
    for_each_header(lines, [&](std::string_view name, std::string_view value) {
      pairs.emplace_back(name, value);
    });
    return pairs;
  };
  const HeaderView headers[] = {{"A", "1: 2"}, {"Empty", ""}};
  EXPECT_EQ(split(join_headers(headers)), (Pairs{{"A", "1: 2"}, {"Empty", ""}}));
  EXPECT_EQ(split(""), Pairs());
  // Of a receiver, or damaged: threw, or was left out.
  EXPECT_EQ(split("A:1\r\nno colon\r\n\r\nB:  2\r\nC: cut sho"),
            (Pairs{{"A", "1"}, {"B", "2"}, {"C", "cut sho"}}));
  EXPECT_EQ(split("A: 1\r"), (Pairs{{"A", "1\r"}}));
  EXPECT_EQ(split(":"), (Pairs{{"", ""}}));
}

}  // namespace
}  // namespace postbag
