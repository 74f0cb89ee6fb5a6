#include "engine/pure/url.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace postbag {
namespace {

std::string canonical(std::string_view text) {
  std::string error;
  const std::optional<Url> url = parse_url(text, error);
  return url ? url->canonical : "refused: " + error;
}

bool is_refused(std::string_view text) {
  std::string error;
  const bool refused = !parse_url(text, error);
  EXPECT_EQ(refused, !error.empty()) << text;
  return refused;
}

// There were four parsers of it, and each took something that the others did not.
TEST(AddressPort, IsParsedStrictly) {
  const auto v4 = parse_address_port("127.0.0.1:8420");
  ASSERT_TRUE(v4);
  EXPECT_EQ(to_string(v4->address), "127.0.0.1");
  EXPECT_EQ(v4->port, 8420);
  const auto v6 = parse_address_port("[2001:DB8::1]:0");
  ASSERT_TRUE(v6);
  EXPECT_EQ(to_string(v6->address), "2001:db8::1");
  EXPECT_EQ(v6->port, 0);
  EXPECT_EQ(parse_address_port("0.0.0.0:65535")->port, 65535);
  for (const char* bad : {"",
                          ":",
                          ":1",
                          "127.0.0.1",
                          "127.0.0.1:",
                          "127.0.0.1:65536",
                          "127.0.0.1:000080",
                          "127.0.0.1:80x",
                          "127.0.0.1:-1",
                          "127.0.0.1:+1",
                          "127.0.0.1: 1",
                          "127.0.0.01:1",
                          "localhost:1",
                          "::1:80",
                          "[::1]",
                          "[::1]80",
                          "[]:80",
                          "[:80",
                          "]:80",
                          "[127.0.0.1]:80",
                          "[::1%lo]:80",
                          "example.com:80"}) {
    EXPECT_FALSE(parse_address_port(bad)) << bad;
  }
}

TEST(Url, ACredentialIsCalledOneWhereverItStands) {
  for (const std::string text : {"https://user@example.com/", "https://user:pw@example.com/",
                                 "https://user:80@example.com/"}) {
    std::string error;
    EXPECT_FALSE(parse_url(text, error));
    EXPECT_EQ(error, "not a target URL: a user name or password is not allowed") << text;
  }
}

TEST(Url, TakesPartsApart) {
  std::string error;
  const auto url = parse_url("HTTPS://Example.COM.:8443/a/b%2Fc?x=1&y=/?", error);
  ASSERT_TRUE(url) << error;
  EXPECT_EQ(url->scheme, "https");
  EXPECT_EQ(url->host, "example.com");
  EXPECT_EQ(url->port, 8443);
  EXPECT_EQ(url->path_and_query, "/a/b%2Fc?x=1&y=/?");
  EXPECT_EQ(url->canonical, "https://example.com:8443/a/b%2Fc?x=1&y=/?");
  EXPECT_FALSE(url->literal);
}

TEST(Url, TakesLiteralsApart) {
  std::string error;
  const auto v4 = parse_url("http://127.0.0.1:9/", error);
  ASSERT_TRUE(v4 && v4->literal);
  EXPECT_EQ(to_string(*v4->literal), "127.0.0.1");
  const auto v6 = parse_url("http://[FD00::1]:9", error);
  ASSERT_TRUE(v6 && v6->literal);
  EXPECT_EQ(v6->host, "fd00::1");
  EXPECT_EQ(v6->port, 9);
  EXPECT_EQ(v6->canonical, "http://[fd00::1]:9/");
}

TEST(Url, RepairsOnlyTheNamedThings) {
  const std::pair<const char*, const char*> table[] = {
      {"https://example.com/", "https://example.com/"},
      {"https://example.com", "https://example.com/"},
      {"https://example.com?a=b", "https://example.com/?a=b"},
      {"https://example.com:443/x", "https://example.com/x"},
      {"http://example.com:80", "http://example.com/"},
      {"http://example.com:443/", "http://example.com:443/"},
      {"hTTp://EXAMPLE.com/Path", "http://example.com/Path"},
      {"https://example.com./", "https://example.com/"},
      {"https://example.com.:443/", "https://example.com/"},
      {"https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"},
      {"https://a-b.c0/", "https://a-b.c0/"},
      {"https://1.2.3.4.example/", "https://1.2.3.4.example/"},
      {"https://4u.0xyz/", "https://4u.0xyz/"},
      {"https://[::1]/", "https://[::1]/"},
      {"https://[2001:DB8::1]:443/", "https://[2001:db8::1]/"},
      {"https://[::ffff:127.0.0.1]/", "https://[::ffff:127.0.0.1]/"},
      {"https://[::FFFF:127.0.0.1]:443/", "https://[::ffff:127.0.0.1]/"},
      {"https://[64:ff9b::7f00:1]/", "https://[64:ff9b::7f00:1]/"},
      {"https://h/.well-known/x..y/...", "https://h/.well-known/x..y/..."},
      {"https://h/a//b/;p=1,2!$&'()*+@:~", "https://h/a//b/;p=1,2!$&'()*+@:~"},
      {"https://h/?", "https://h/?"},
      {"https://h/?u=../..", "https://h/?u=../.."},
      {"https://h/%c3%BC", "https://h/%c3%BC"},
      {"https://h:1/", "https://h:1/"},
      {"https://h:65535/", "https://h:65535/"},
  };
  for (const auto& [text, want] : table) {
    EXPECT_EQ(canonical(text), want) << text;
    EXPECT_EQ(canonical(want), want) << text;
  }
}

TEST(Url, RefusesHostileTexts) {
  using namespace std::string_literals;
  const std::string table[] = {
      "",
      "https",
      "https:",
      "https:/",
      "https://",
      "https:///",
      "https:///path",
      "//example.com/",
      "example.com",
      "ftp://example.com/",
      "file:///etc/passwd",
      "gopher://h/",
      "javascript:alert(1)",
      "https:example.com",
      " https://example.com/",
      "https://example.com/ ",
      "https://example.com\n",
      "\thttps://example.com/",
      "https://exam\tple.com/",
      "https://example.com/a b",
      "https://example.com/a\r\nX: y",
      "https://example.com/\x7f",
      "https://example.com/\0x"s,
      "https://example.com\0.evil/"s,
      "https://example.com/\xc3\xbc",
      "https://b\xc3\xbc"
      "cher.example/",
      "https://example.com/#f",
      "https://example.com#f",
      "https://example.com/?q#f",
      "https://user@example.com/",
      "https://user:pw@example.com/",
      "http://good.com@evil.com:80@127.0.0.1/x",
      "https://@example.com/",
      "http://h:80:90/",
      "http://[::1]evil.com/",
      "http://[::1].evil.com/",
      "http://[::1",
      "http://::1/",
      "http://[]/",
      "http://[127.0.0.1]/",
      "http://[fe80::1%25eth0]/",
      "http://[fe80::1%eth0]/",
      "http://[v1.x]/",
      "http://[0:0:0:0:0:0:0:1]/",
      "http://[2001:0db8::1]/",
      "http://[1:0:0:2:0:0:0:3:4]/",
      "http://[::1:]/",
      "http://[1::2::3]/",
      "http://[::1.2.3]/",
      "http://[::1.2.3.4.5]/",
      "http://[::01.2.3.4]/",
      "http://h\\evil.com/",
      "http://h/\\evil",
      "http:\\\\h/",
      "http://h:/",
      "http://h:0/",
      "http://h:080/",
      "http://h:65536/",
      "http://h:99999/",
      "http://h:100000/",
      "http://h:+80/",
      "http://h:8a/",
      "http://h: 80/",
      "http://0177.0.0.1/",
      "http://0x7f000001/",
      "http://0X7F000001/",
      "http://0x7f.0.0.1/",
      "http://127.0.0.0x1/",
      "http://2130706433/",
      "http://127.1/",
      "http://127.0.1/",
      "http://127.0.0.1.1/",
      "http://127.0.0.256/",
      "http://127.0.0.01/",
      "http://1.2.3.4.5/",
      "http://example.1/",
      "http://example.0x/",
      "http://%31%32%37.0.0.1/",
      "http://127.0.0.1%00.evil.com/",
      "http://exa%6dple.com/",
      "http://./",
      "http://.com/",
      "http://a..b/",
      "http://a.b../",
      "http://-a.com/",
      "http://a-.com/",
      "http://a.-b/",
      "http://a_b.com/",
      "http://a*b.com/",
      "http://a,b/",
      "http://a;b/",
      "http://a!b/",
      "http://[::1]:80:80/",
      "http://h/%",
      "http://h/%2",
      "http://h/%zz",
      "http://h/%2g",
      "http://h/<>",
      "http://h/\"",
      "http://h/{x}",
      "http://h/a|b",
      "http://h/^",
      "http://h/`",
      "http://h/?a[]=1",
      "http://h/.",
      "http://h/..",
      "http://h/a/../b",
      "http://h/a/./b",
      "http://h/a/..?x",
      "http://h/%2e%2e/b",
      "http://h/.%2E/b",
      "http://h/%2e",
      "http://" + std::string(64, 'a') + ".com/",
  };
  for (const std::string& text : table) EXPECT_TRUE(is_refused(text)) << text;
}

// Both texts were taken, as two targets with a bag each.
TEST(Url, AnAddressHasOneTextAlsoWhereItHoldsAnIpv4Address) {
  std::string error;
  EXPECT_TRUE(parse_url("http://[::ffff:127.0.0.1]/", error));
  EXPECT_FALSE(parse_url("http://[::ffff:7f00:1]/", error));
  EXPECT_THAT(error, testing::HasSubstr("is written [::ffff:127.0.0.1]"));
  EXPECT_TRUE(parse_url("http://[64:ff9b::7f00:1]/", error));
  EXPECT_FALSE(parse_url("http://[64:ff9b::127.0.0.1]/", error));
  EXPECT_TRUE(parse_url("http://[::7f00:1]/", error));
  EXPECT_FALSE(parse_url("http://[::127.0.0.1]/", error));
}

TEST(Url, AnAddressInFrontOfANameIsAName) {
  std::string error;
  const auto url = parse_url("http://127.0.0.1.evil.com/", error);
  ASSERT_TRUE(url);
  EXPECT_EQ(url->host, "127.0.0.1.evil.com");
  EXPECT_FALSE(url->literal);
  EXPECT_EQ(url->path_and_query, "/");
}

TEST(Url, LimitsLengths) {
  const std::string base = "https://h/";
  EXPECT_FALSE(is_refused(base + std::string(2048 - base.size(), 'a')));
  EXPECT_TRUE(is_refused(base + std::string(2049 - base.size(), 'a')));
  // Repair must not make it longer than the limit either.
  const std::string query = "https://h?";
  EXPECT_FALSE(is_refused(query + std::string(2047 - query.size(), 'a')));
  EXPECT_TRUE(is_refused(query + std::string(2048 - query.size(), 'a')));
  std::string host;
  for (int i = 0; i < 4; ++i) host += std::string(62, 'a') + ".";  // 252 and a last letter
  EXPECT_FALSE(is_refused("https://" + host + "b/"));
  EXPECT_FALSE(is_refused("https://" + host + "b./"));
  EXPECT_TRUE(is_refused("https://" + host + "bc/"));
  EXPECT_FALSE(is_refused("https://" + std::string(63, 'a') + "/"));
}

// Pieces that make valid, nearly valid and hostile URLs.
std::string random_url(std::mt19937_64& random) {
  static const std::vector<std::vector<std::string>> parts = {
      {"https://", "http://", "HTTPS://", "Http://", "ftp://", "https:/"},
      {"example.com", "EXAMPLE.com", "h", "a.b.c.", "127.0.0.1", "10.0.0.1.", "[::1]", "[FD00::a]",
       "[::ffff:1.2.3.4]", "1.2.3", "0x7f", "a..b", "x-y.z9", "-a", "a@b", "[2001:db8:0:0:1::]",
       "xn--a.de", ""},
      {"", "", "", ":80", ":443", ":8080", ":0", ":", ":65536", ":01"},
      {"", "/", "/a", "/a/b", "/A%2f", "/.", "/..x", "/a//", "/%", "/~:@!", "/a/../b", "x"},
      {"", "", "?", "?a=b", "?a/?b", "? ", "?%41", "#f", "/?"},
  };
  std::string out;
  for (const auto& choices : parts) out += choices[random() % choices.size()];
  if (random() % 8 == 0 && !out.empty())
    out[random() % out.size()] = static_cast<char>(random() % 256);
  return out;
}

TEST(Url, CanonicalFormIsAFixedPoint) {
  std::mt19937_64 random(20240607);
  int valid = 0;
  int repaired = 0;
  for (int i = 0; i < 10'000; ++i) {
    const std::string text = random_url(random);
    std::string error;
    const auto url = parse_url(text, error);
    if (!url) continue;
    ++valid;
    repaired += url->canonical != text ? 1 : 0;
    const auto again = parse_url(url->canonical, error);
    ASSERT_TRUE(again) << text << " -> " << url->canonical << ": " << error;
    EXPECT_EQ(again->canonical, url->canonical);
    EXPECT_EQ(again->scheme, url->scheme);
    EXPECT_EQ(again->host, url->host);
    EXPECT_EQ(again->port, url->port);
    EXPECT_EQ(again->path_and_query, url->path_and_query);
    EXPECT_EQ(again->literal, url->literal);
  }
  EXPECT_GT(valid, 1'000);
  EXPECT_GT(repaired, 500);
}

TEST(IpAddress, Ipv4IsStrict) {
  for (const char* text : {"0.0.0.0", "1.2.3.4", "255.255.255.255", "10.0.0.200"}) {
    const auto address = parse_ipv4(text);
    ASSERT_TRUE(address) << text;
    EXPECT_TRUE(address->is_v4);
    EXPECT_EQ(to_string(*address), text);
  }
  for (const char* text :
       {"", "1", "1.2.3", "1.2.3.", ".1.2.3", "1.2.3.4.", "1.2.3.4.5", "01.2.3.4", "1.2.3.256",
        "1.2.3.0x4", "1..2.3", " 1.2.3.4", "1.2.3.4 ", "1.2.3.-4", "1.2.3.0000"}) {
    EXPECT_FALSE(parse_ipv4(text)) << text;
  }
}

// The system's own reader and writer are the oracle.
TEST(IpAddress, Ipv6AgreesWithTheSystem) {
  std::mt19937_64 random(7);
  const std::vector<std::string> pieces = {":",    "::",    "0",       "1", "ffff", "fe80",
                                           "00ab", "12345", "1.2.3.4", ":", ":",    "g"};
  int valid = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text;
    for (std::size_t n = random() % 18; n > 0; --n) text += pieces[random() % pieces.size()];
    if (i % 2 == 0) {  // mostly right: groups and a gap
      text.clear();
      const std::size_t groups = 5 + random() % 4;
      for (std::size_t g = 0; g < groups; ++g) {
        if (g > 0) text += random() % 6 == 0 ? "::" : ":";
        text += pieces[2 + random() % 5];
      }
      if (random() % 4 == 0) text += ":1.2.3.4";
    }
    std::array<std::uint8_t, 16> want{};
    const bool system = inet_pton(AF_INET6, text.c_str(), want.data()) == 1;
    const auto address = parse_ipv6(text);
    ASSERT_EQ(address.has_value(), system) << text;
    if (!address) continue;
    ++valid;
    ASSERT_EQ(address->bytes, want) << text;
    ASSERT_EQ(parse_ipv6(to_string(*address)), address) << text;
  }
  EXPECT_GT(valid, 2'000);
}

TEST(IpAddress, Ipv6TextIsCanonical) {
  const std::pair<const char*, const char*> table[] = {
      {"::", "::"},
      {"0:0:0:0:0:0:0:1", "::1"},
      {"1:0:0:0:0:0:0:0", "1::"},
      {"2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"1:0:0:2:0:0:0:3", "1:0:0:2::3"},
      {"::ffff:1.2.3.4", "::ffff:1.2.3.4"},
      {"::ffff:102:304", "::ffff:1.2.3.4"},
      {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
  };
  for (const auto& [text, want] : table) {
    const auto address = parse_ipv6(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(to_string(*address), want);
  }
}

}  // namespace
}  // namespace postbag
