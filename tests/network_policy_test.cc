#include "engine/pure/network_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "engine/pure/special_addresses.h"

namespace postbag {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

using Verdict = NetworkRules::Verdict;

NetworkRules rules(std::vector<std::string> allow, bool allow_http = true,
                   std::vector<std::string> own = {}) {
  NetworkPolicy policy;
  policy.allow_http = allow_http;
  policy.allow = std::move(allow);
  return NetworkRules(policy, own);
}

Verdict judge(const NetworkRules& rules, std::string_view text) {
  std::string error;
  const auto url = parse_url(text, error);
  EXPECT_TRUE(url) << text << ": " << error;
  return url ? rules.judge_url(*url) : Verdict{};
}

IpAddress address(std::string_view text) {
  const auto parsed =
      text.find(':') == std::string_view::npos ? parse_ipv4(text) : parse_ipv6(text);
  EXPECT_TRUE(parsed) << text;
  return parsed.value_or(IpAddress{});
}

bool opens(const NetworkRules& rules, std::string_view text, std::uint16_t port = 443,
           std::string_view host = "h.example") {
  const Verdict verdict = rules.judge_address(address(text), port, host);
  EXPECT_EQ(verdict.allowed, verdict.why.empty()) << text;
  return verdict.allowed;
}

IpAddress step(IpAddress address, int by) {
  int carry = by;
  for (int i = address.is_v4 ? 3 : 15; i >= 0 && carry != 0; --i) {
    const int sum = address.bytes[static_cast<std::size_t>(i)] + carry;
    address.bytes[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(sum & 255);
    carry = sum < 0 ? -1 : sum > 255 ? 1 : 0;
  }
  return address;
}

struct Range {
  const char* first;
  const char* last;
  bool open_before = true;  // what the neighbours are
  bool open_behind = true;
};

void check_edges(const Range& range) {
  const NetworkRules none = rules({});
  const auto allowed = [&](const IpAddress& one) {
    return none.judge_address(one, 443, "h.example").allowed;
  };
  EXPECT_FALSE(allowed(address(range.first))) << range.first;
  EXPECT_FALSE(allowed(address(range.last))) << range.last;
  EXPECT_FALSE(allowed(step(address(range.first), 1)) &&
               std::string_view(range.first) != range.last)
      << range.first;
  EXPECT_EQ(allowed(step(address(range.first), -1)), range.open_before) << "before " << range.first;
  EXPECT_EQ(allowed(step(address(range.last), 1)), range.open_behind) << "behind " << range.last;
}

TEST(NetworkPolicy, EdgesOfEverySpecialIpv4Range) {
  const Range table[] = {
      {"0.0.0.0", "0.255.255.255", false, true},  // before it: 255.255.255.255
      {"10.0.0.0", "10.255.255.255"},
      {"100.64.0.0", "100.127.255.255"},
      {"127.0.0.0", "127.255.255.255"},
      {"168.63.129.16", "168.63.129.16"},
      {"169.254.0.0", "169.254.255.255"},
      {"172.16.0.0", "172.31.255.255"},
      {"192.0.0.0", "192.0.0.255"},
      {"192.0.2.0", "192.0.2.255"},
      {"192.88.99.0", "192.88.99.255"},
      {"192.168.0.0", "192.168.255.255"},
      {"198.18.0.0", "198.19.255.255"},
      {"198.51.100.0", "198.51.100.255"},
      {"203.0.113.0", "203.0.113.255"},
      {"224.0.0.0", "239.255.255.255", true, false},
      {"240.0.0.0", "255.255.255.255", false, false},
  };
  for (const Range& range : table) check_edges(range);
}

TEST(NetworkPolicy, EdgesOfEverySpecialIpv6Range) {
  const Range table[] = {
      {"::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false, true},
      {"2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
      {"4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true, false},
  };
  for (const Range& range : table) check_edges(range);
}

TEST(NetworkPolicy, RefusesEveryCarrierOfAnIpv4Address) {
  const NetworkRules none = rules({});
  for (const char* text :
       {"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::10.0.0.1", "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::127.0.0.1",
        "2002:7f00:1::", "2001:0:1234::7f00:1", "fe80::5efe:127.0.0.1", "100::1", "5f00::1",
        "fec0::1", "ff02::1", "fc00::1", "fd00:ec2::254", "::1", "::"}) {
    EXPECT_FALSE(opens(none, text)) << text;
    EXPECT_FALSE(judge(none, "https://[" + to_string(address(text)) + "]/").allowed) << text;
  }
  // A mapped address is the IPv4 address, so a public one is public.
  EXPECT_TRUE(opens(none, "::ffff:8.8.8.8"));
  EXPECT_TRUE(opens(none, "8.8.8.8"));
  EXPECT_TRUE(opens(none, "2606:4700::1111"));
}

TEST(NetworkPolicy, DefaultIsHttpsToPublicAddresses) {
  const NetworkRules none = rules({}, false);
  EXPECT_TRUE(judge(none, "https://example.com/").allowed);
  EXPECT_TRUE(judge(none, "https://example.com:8443/").allowed);
  EXPECT_TRUE(judge(none, "https://8.8.8.8/").allowed);
  EXPECT_TRUE(judge(none, "https://127.0.0.1.evil.com/").allowed);
  EXPECT_FALSE(judge(none, "http://example.com/").allowed);
  for (const char* host : {"localhost", "a.localhost", "printer.local", "db.internal",
                           "metadata.google.internal", "receiver"}) {
    const Verdict verdict = judge(none, "https://" + std::string(host) + "/");
    EXPECT_FALSE(verdict.allowed) << host;
    EXPECT_THAT(verdict.why, HasSubstr("allow = [\"" + std::string(host) + ":443\"]"));
    EXPECT_TRUE(judge(rules({host}, false), "https://" + std::string(host) + "/").allowed) << host;
  }
  for (const char* host :
       {"notlocalhost.com", "localhost.example.com", "local.example", "internal.example"}) {
    EXPECT_TRUE(judge(none, "https://" + std::string(host) + "/").allowed) << host;
  }
}

TEST(NetworkPolicy, ARefusalNamesEveryKeyThatIsNeeded) {
  EXPECT_THAT(judge(rules({}, false), "http://127.0.0.1:9/secret?token=x").why,
              AllOf(HasSubstr("allow_http = true"), HasSubstr("allow = [\"127.0.0.1:9\"]"),
                    HasSubstr("loopback"), Not(HasSubstr("secret")), Not(HasSubstr("token"))));
  EXPECT_THAT(judge(rules({}, true), "http://127.0.0.1:9/").why,
              AllOf(Not(HasSubstr("allow_http")), HasSubstr("allow = [\"127.0.0.1:9\"]")));
  EXPECT_THAT(judge(rules({"127.0.0.1:9"}, false), "http://127.0.0.1:9/").why,
              AllOf(HasSubstr("allow_http = true"), Not(HasSubstr("allow = "))));
  EXPECT_THAT(judge(rules({}, false), "http://example.com/").why,
              AllOf(HasSubstr("allow_http = true"), Not(HasSubstr("allow = "))));
  EXPECT_THAT(judge(rules({}, false), "http://[::1]:8080/").why,
              AllOf(HasSubstr("allow_http = true"), HasSubstr("allow = [\"[::1]:8080\"]")));
  EXPECT_THAT(judge(rules({}, false), "http://localhost:8080/").why,
              AllOf(HasSubstr("allow_http = true"), HasSubstr("allow = [\"localhost:8080\"]")));
  EXPECT_THAT(rules({}).judge_address(address("10.0.0.5"), 443, "h.example").why,
              HasSubstr("allow = [\"10.0.0.5:443\"]"));
}

// Whatever a refusal asks for must be accepted, and must open the target.
TEST(NetworkPolicy, TheNamedKeysOpenTheTarget) {
  for (const char* text :
       {"http://127.0.0.1:9/", "http://[::1]:9/", "https://10.0.0.1/", "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/", "http://169.254.169.254/", "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:a9fe:a9fe::1]/", "http://localhost:1/", "https://x.local/",
        "http://0.0.0.0:5/"}) {
    const std::string why = judge(rules({}, false), text).why;
    const std::size_t begin = why.find("allow = [\"");
    ASSERT_NE(begin, std::string::npos) << text << ": " << why;
    const std::string entry = why.substr(begin + 10, why.find('"', begin + 10) - begin - 10);
    EXPECT_TRUE(judge(rules({entry}), text).allowed) << text << " with " << entry;
  }
}

TEST(NetworkPolicy, AllowOpensExactlyWhatItNames) {
  const NetworkRules some =
      rules({"10.1.0.0/16:8080", "127.0.0.1", "[fd00::]/8:443", "192.168.1.1:81"});
  EXPECT_TRUE(opens(some, "10.1.0.0", 8080));
  EXPECT_TRUE(opens(some, "10.1.255.255", 8080));
  EXPECT_TRUE(opens(some, "::ffff:10.1.2.3", 8080));
  EXPECT_FALSE(opens(some, "10.1.0.0", 8081));
  EXPECT_FALSE(opens(some, "10.0.255.255", 8080));
  EXPECT_FALSE(opens(some, "10.2.0.0", 8080));
  EXPECT_TRUE(opens(some, "127.0.0.1", 1));
  EXPECT_FALSE(opens(some, "127.0.0.2", 1));
  EXPECT_FALSE(opens(some, "::1", 1));
  EXPECT_FALSE(opens(some, "0.0.0.0", 1));
  EXPECT_TRUE(opens(some, "fd12::1", 443));
  EXPECT_FALSE(opens(some, "fd12::1", 444));
  EXPECT_FALSE(opens(some, "fc12::1", 443));
  EXPECT_TRUE(opens(some, "192.168.1.1", 81));
  EXPECT_FALSE(opens(some, "192.168.1.1", 80));
  // IPv4 entries never match IPv6 bytes, nor the other way round.
  EXPECT_FALSE(opens(rules({"a00::/8"}), "10.0.0.1"));
  EXPECT_FALSE(opens(rules({"252.0.0.0/6"}), "fc00::1"));
  EXPECT_TRUE(opens(rules({"::ffff:10.0.0.0/104"}), "10.200.0.1"));
}

TEST(NetworkPolicy, ANameOpensWhatItResolvesTo) {
  const NetworkRules some = rules({"Svc.Corp.:8443", "hooks.example"});
  EXPECT_TRUE(opens(some, "10.0.0.1", 8443, "svc.corp"));
  EXPECT_TRUE(opens(some, "127.0.0.1", 8443, "svc.corp"));
  EXPECT_FALSE(opens(some, "10.0.0.1", 443, "svc.corp"));
  EXPECT_FALSE(opens(some, "10.0.0.1", 8443, "x.svc.corp"));
  EXPECT_FALSE(opens(some, "10.0.0.1", 8443, "10.0.0.1"));
  EXPECT_TRUE(opens(some, "10.0.0.1", 1, "hooks.example"));
  EXPECT_FALSE(opens(some, "10.0.0.1", 1, "example"));
  EXPECT_FALSE(opens(some, "10.0.0.1", 1, ""));
}

TEST(NetworkPolicy, LocalhostIsOpenWhereLoopbackIs) {
  const NetworkRules v4 = rules({"127.0.0.1:8080"});
  EXPECT_TRUE(judge(v4, "http://localhost:8080/").allowed);
  EXPECT_TRUE(judge(v4, "http://LOCALHOST.:8080/").allowed);
  EXPECT_FALSE(judge(v4, "http://localhost:8081/").allowed);
  EXPECT_FALSE(judge(v4, "http://a.localhost:8080/").allowed);
  EXPECT_TRUE(opens(v4, "127.0.0.1", 8080, "localhost"));
  EXPECT_TRUE(opens(v4, "::1", 8080, "localhost"));
  EXPECT_FALSE(opens(v4, "::1", 8081, "localhost"));
  EXPECT_FALSE(opens(v4, "::1", 8080, "evil.example"));
  EXPECT_FALSE(opens(v4, "10.0.0.1", 8080, "localhost"));
  EXPECT_TRUE(judge(rules({"::1"}), "http://localhost:8080/").allowed);
  EXPECT_TRUE(judge(rules({"127.0.0.0/8"}), "http://localhost:8080/").allowed);
  const NetworkRules name = rules({"localhost"});
  EXPECT_TRUE(judge(name, "http://localhost:1/").allowed);
  EXPECT_TRUE(opens(name, "127.0.0.1", 1, "localhost"));
  EXPECT_FALSE(judge(name, "http://127.0.0.1:1/").allowed);
}

TEST(NetworkPolicy, MetadataNeedsItsExactAddress) {
  const NetworkRules wide = rules({"169.254.0.0/16", "168.63.0.0/16", "100.64.0.0/10",
                                   "192.0.0.0/24", "fd00::/8", "64:ff9b::/96", "2002::/16",
                                   "2001::/32", "metadata.google.internal", "169.254.169.254/31"});
  EXPECT_TRUE(opens(wide, "169.254.1.1"));
  EXPECT_TRUE(opens(wide, "fd00:ec2::253"));
  EXPECT_TRUE(opens(wide, "64:ff9b::8.8.8.8"));
  for (const char* text : {"169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192",
                           "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254",
                           "2002:a9fe:a9fe::1", "2001::5601:5601"}) {
    EXPECT_TRUE(is_metadata(unmapped(address(text)))) << text;
    EXPECT_FALSE(opens(wide, text, 80, "metadata.google.internal")) << text;
    EXPECT_TRUE(opens(rules({text}), text)) << text;
    EXPECT_FALSE(opens(rules({"[" + to_string(address("::1")) + "]"}), text)) << text;
  }
  EXPECT_TRUE(opens(rules({"169.254.169.254/32:80"}), "169.254.169.254", 80));
  EXPECT_FALSE(opens(rules({"169.254.169.254:80"}), "169.254.169.254", 81));
}

TEST(NetworkPolicy, OwnAddressesAreNeverTargets) {
  const NetworkRules own =
      rules({"127.0.0.0/8", "::1", "localhost", "0.0.0.0", "::"}, true, {"127.0.0.1:8420"});
  EXPECT_FALSE(opens(own, "127.0.0.1", 8420));
  EXPECT_FALSE(opens(own, "::ffff:127.0.0.1", 8420));
  EXPECT_FALSE(opens(own, "127.0.0.1", 8420, "localhost"));
  EXPECT_FALSE(opens(own, "0.0.0.0", 8420));  // Linux connects it to loopback
  EXPECT_FALSE(opens(own, "::", 8420));
  EXPECT_TRUE(opens(own, "127.0.0.1", 8421));
  EXPECT_TRUE(opens(own, "127.0.0.2", 8420));
  EXPECT_FALSE(judge(own, "http://127.0.0.1:8420/v1/hooks").allowed);
  EXPECT_FALSE(judge(own, "http://localhost:8420/v1/hooks").allowed);
  EXPECT_TRUE(judge(own, "http://localhost:8421/").allowed);
  EXPECT_THAT(judge(own, "http://127.0.0.1:8420/").why,
              AllOf(HasSubstr("itself"), Not(HasSubstr("allow"))));
  const NetworkRules any = rules({"127.0.0.0/8", "::1"}, true, {"0.0.0.0:8420", "[::]:8421"});
  EXPECT_FALSE(opens(any, "127.0.0.9", 8420));
  EXPECT_FALSE(opens(any, "::1", 8421));
  EXPECT_FALSE(judge(any, "http://localhost:8420/").allowed);
  const NetworkRules open = rules({}, true, {"8.8.8.8:443"});
  EXPECT_FALSE(opens(open, "8.8.8.8", 443));
  for (const char* bad :
       {"", "127.0.0.1", "127.0.0.1:", ":80", "host:80", "::1:80", "127.0.0.1:65536"}) {
    EXPECT_THROW(rules({}, true, {bad}), std::invalid_argument) << bad;
  }
}

TEST(NetworkPolicy, ChecksAllowEntries) {
  for (const char* good :
       {"127.0.0.1", "127.0.0.1:80", "10.0.0.0/8", "10.0.0.0/8:443", "10.1.2.3/32", "::1", "[::1]",
        "[::1]:8080", "fd00::/8", "[fd00::]/8", "[fd00::]/8:443", "localhost", "localhost:9",
        "svc.corp", "SVC.corp.:443", "a", "fd00::1:2:3", "128.0.0.0/1"}) {
    EXPECT_EQ(NetworkRules::check_allow_entry(good), std::nullopt) << good;
  }
  for (const char* bad : {"",
                          " ",
                          "0.0.0.0/0",
                          "::/0",
                          "[::]/0",
                          "[::]/0:443",
                          "0.0.0.0/0:443",
                          "::ffff:0:0/96",
                          "::ffff:0:0/64",
                          "10.0.0.0/33",
                          "10.0.0.0/",
                          "10.0.0.0/08",
                          "10.0.0.0/-1",
                          "10.0.0.0/8/8",
                          "10.0.0.0:",
                          "10.0.0.0:0",
                          "10.0.0.0:65536",
                          "10.0.0.0:080",
                          "10.0.0.0:x",
                          "10.1.2.3/16",
                          "fd00::1/8",
                          "[fd00::1",
                          "[fd00::1]x",
                          "[fd00::1]:",
                          "[fd00::1]/129",
                          "fd00::/8:443",
                          "[]",
                          "[10.0.0.1]",
                          "1.2.3",
                          "0x7f000001",
                          "010.0.0.1",
                          "*",
                          "*.corp",
                          "svc.corp/8",
                          "http://svc.corp",
                          "https://127.0.0.1/",
                          "svc.corp/",
                          "a b",
                          "a_b",
                          "u@h",
                          "h?x",
                          "h#f",
                          "-a",
                          "a..b",
                          "allow_any",
                          "10.0.0.1, 10.0.0.2"}) {
    const auto problem = NetworkRules::check_allow_entry(bad);
    ASSERT_TRUE(problem) << bad;
    EXPECT_THAT(*problem, HasSubstr("\"" + std::string(bad) + "\""))
        << "the message names the entry";
    EXPECT_THROW(rules({bad}), std::invalid_argument) << bad;
  }
  EXPECT_TRUE(NetworkRules::check_allow_entry(std::string(100'000, 'a')));
  EXPECT_THAT(*NetworkRules::check_allow_entry("10.1.2.3/16"), HasSubstr("10.1.0.0/16"));
}

}  // namespace
}  // namespace postbag
