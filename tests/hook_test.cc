#include "postbag/hook.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/pure/hook_check.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/url_hash.h"
#include "postbag/error.h"
#include "postbag/json.h"
#include "postbag/outcome.h"

namespace postbag {
namespace {

// --- ids

TEST(HookId, PlaceComesBack) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 10'000; ++i) {
    const HookLocation place{static_cast<WallMs>(random() >> 16), random() >> 20,
                             static_cast<std::uint32_t>(random() >> 50),
                             static_cast<std::uint16_t>(random())};
    const HookId id = make_hook_id(place.wall_ms, place.chunk, place.index, place.tag);
    ASSERT_EQ(locate(id), place);
    const std::string text = to_string(id);
    ASSERT_EQ(text.size(), 36U);
    ASSERT_EQ(text[14], '7');
    ASSERT_NE(std::string("89ab").find(text[19]), std::string::npos) << text;
    ASSERT_EQ(parse_hook_id(text), id);
  }
}

TEST(HookId, LayoutIsFixed) {
  // Ids stand in databases: this text must never change.
  const HookId id = make_hook_id(0x0190a6f2c3d4, 0xabc12345678, 0x1234, 0xbeef);
  EXPECT_EQ(to_string(id), "0190a6f2-c3d4-7abc-848d-159e1234beef");
  EXPECT_EQ(to_string(make_hook_id(0, 0, 0, 0)), "00000000-0000-7000-8000-000000000000");
  const HookId most = make_hook_id((1LL << 48) - 1, (1ULL << 44) - 1, (1U << 14) - 1, 0xffff);
  EXPECT_EQ(to_string(most), "ffffffff-ffff-7fff-bfff-ffffffffffff");
}

TEST(HookId, CutsOffBitsThatDoNotFit) {
  const HookId id = make_hook_id(-1, ~0ULL, ~0U, 0);
  EXPECT_EQ(locate(id), (HookLocation{(1LL << 48) - 1, (1ULL << 44) - 1, (1U << 14) - 1, 0}));
  EXPECT_TRUE(parse_hook_id(to_string(id)));
}

TEST(HookId, OrderIsTimeThenChunkThenIndex) {
  EXPECT_LT(make_hook_id(1, 9, 9, 9), make_hook_id(2, 0, 0, 0));
  EXPECT_LT(make_hook_id(1, (1ULL << 33) - 1, 9, 9), make_hook_id(1, 1ULL << 33, 0, 0));
  EXPECT_LT(make_hook_id(1, 1, 8, 9), make_hook_id(1, 1, 9, 0));
}

TEST(HookId, ParsesVersionSevenOnly) {
  const std::string good = "0190a6f2-c3d4-7abc-8def-0123456789ab";
  ASSERT_TRUE(parse_hook_id(good));
  EXPECT_EQ(to_string(*parse_hook_id(good)), good);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = 'g';
    EXPECT_FALSE(parse_hook_id(bad)) << bad;
    bad[i] = '\0';
    EXPECT_FALSE(parse_hook_id(bad)) << i;
  }
  for (const char* bad :
       {"", "0190a6f2-c3d4-7abc-8def-0123456789a", "0190a6f2-c3d4-7abc-8def-0123456789abc",
        "0190a6f2c3d47abc8def0123456789ab", "0190a6f2-c3d4-4abc-8def-0123456789ab",
        "0190a6f2-c3d4-7abc-0def-0123456789ab", "0190a6f2-c3d4-7abc-cdef-0123456789ab",
        "0190A6F2-C3D4-7ABC-8DEF-0123456789AB", "{190a6f2-c3d4-7abc-8def-0123456789a}"}) {
    EXPECT_FALSE(parse_hook_id(bad)) << bad;
  }
}

TEST(HookId, AppendsBehindWhatIsThere) {
  std::string out = "id=";
  append_to(out, make_hook_id(0, 0, 0, 0));
  EXPECT_EQ(out, "id=00000000-0000-7000-8000-000000000000");
}

// --- lists

static_assert(std::is_nothrow_move_constructible_v<HookList>);

// Reads the padding too, which the address sanitizer would refuse outside a block.
void expect_padded(std::string_view body) {
  if (body.empty()) return;
  volatile char sink = 0;
  for (std::size_t i = 0; i < json_padding; ++i) sink = body.data()[body.size() + i];
  static_cast<void>(sink);
}

struct Sample {
  std::string target, body, event, group, id, content_type;
  std::vector<std::pair<std::string, std::string>> headers;
};

Sample random_sample(std::mt19937_64& random) {
  const auto text = [&](std::size_t max) {
    return std::string(random() % (max + 1), static_cast<char>('a' + random() % 26));
  };
  Sample sample;
  sample.target = "https://h/" + std::to_string(random() % 3);
  sample.body = text(random() % 50 == 0 ? 100'000 : 300);
  sample.event = text(5);
  sample.group = text(3);
  sample.id = text(10);
  sample.content_type = text(2);
  for (std::size_t n = random() % 3; n > 0; --n) sample.headers.emplace_back(text(6), text(20));
  return sample;
}

void add_and_wipe(HookList& list, Sample sample) {
  std::vector<HeaderView> headers;
  for (const auto& [name, value] : sample.headers) headers.push_back({name, value});
  HookView view;
  view.target = sample.target;
  view.body = sample.body;
  view.event = sample.event;
  view.group = sample.group;
  view.id = sample.id;
  view.content_type = sample.content_type;
  view.headers = headers;
  list.add(view);
}

void expect_equal(const HookView& view, const Sample& sample) {
  ASSERT_EQ(view.target, sample.target);
  ASSERT_EQ(view.body, sample.body);
  ASSERT_EQ(view.event, sample.event);
  ASSERT_EQ(view.group, sample.group);
  ASSERT_EQ(view.id, sample.id);
  ASSERT_EQ(view.content_type, sample.content_type);
  ASSERT_EQ(view.headers.size(), sample.headers.size());
  for (std::size_t h = 0; h < sample.headers.size(); ++h) {
    ASSERT_EQ(view.headers[h].name, sample.headers[h].first);
    ASSERT_EQ(view.headers[h].value, sample.headers[h].second);
  }
  expect_padded(view.body);
}

TEST(HookList, CopiesEverythingAndKeepsViewsWhereTheyAre) {
  std::mt19937_64 random(5);
  HookList list;
  for (int round = 0; round < 3; ++round) {
    std::vector<Sample> samples;
    std::vector<HookView> views;
    std::uint64_t bytes = 0;
    for (int i = 0; i < 1'000; ++i) {
      samples.push_back(random_sample(random));
      add_and_wipe(list, samples.back());
      views.push_back(list[list.size() - 1]);
      bytes += samples.back().body.size();
    }
    HookList moved = std::move(list);
    EXPECT_TRUE(list.empty());  // NOLINT: usable after a move is part of the contract
    EXPECT_EQ(list.body_bytes(), 0U);
    list.add("https://other/", "1");
    ASSERT_EQ(moved.size(), samples.size());
    EXPECT_EQ(moved.body_bytes(), bytes);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      expect_equal(moved[i], samples[i]);
      EXPECT_EQ(moved[i].body.data(), views[i].body.data());
      EXPECT_EQ(moved[i].headers.data(), views[i].headers.data());
      EXPECT_FALSE(moved.is_checked(i));
    }
    EXPECT_EQ(list[0].target, "https://other/");
    list = std::move(moved);
    ASSERT_EQ(list.size(), samples.size());
    expect_equal(list[999], samples[999]);
    list.clear();
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.body_bytes(), 0U);
  }
}

TEST(HookList, SharesTheTargetOfARun) {
  HookList list;
  for (const char* target : {"https://a/", "https://a/", "https://b/", "https://a/"})
    list.add(target, "1");
  EXPECT_EQ(list[0].target.data(), list[1].target.data());
  EXPECT_EQ(list[2].target, "https://b/");
  EXPECT_EQ(list[3].target, "https://a/");
}

TEST(HookList, SharesTheLabelsOfARunOfCopies) {
  HookList list;
  const auto add = [&](const std::string& event, const std::string& group, const std::string& id) {
    HookView hook;
    hook.target = "https://a/";
    hook.body = "1";
    hook.event = event;
    hook.group = group;
    hook.id = id;
    list.add(hook);
  };
  add("paid", "g", "");
  add("paid", "g", "");
  add("paid", "", "");
  add("paid", "", "7");
  add("paid", "", "8");
  list.add("https://a/", "1");
  EXPECT_EQ(list[0].event.data(), list[1].event.data());
  EXPECT_EQ(list[1].group, "g");
  EXPECT_EQ(list[2].event, "paid");
  EXPECT_EQ(list[2].group, "");
  EXPECT_EQ(list[3].id, "7");
  EXPECT_EQ(list[4].id, "8");
  EXPECT_EQ(list[5].event, "");
  EXPECT_EQ(list[5].id, "");
}

TEST(HookList, ClearKeepsABlockForTheNextRound) {
  HookList list;
  list.add("https://a/", std::string(1'000, 'x'));
  const char* const first = list[0].target.data();
  list.clear();
  list.add("https://b/", "2");
  EXPECT_EQ(list[0].target.data(), first);
  EXPECT_EQ(list[0].target, "https://b/");
  // A giant is not kept, and what is copied next is right all the same.
  list.add("https://b/", std::string(3 << 20, 'y'));
  EXPECT_EQ(list[1].body, std::string(3 << 20, 'y'));
  list.clear();
  list.add("https://c/", "3");
  EXPECT_EQ(list[0].body, "3");
  expect_padded(list[0].body);
}

TEST(HookList, AdoptsWithoutACopy) {
  auto owner = std::make_shared<std::string>("https://a/[1]v");
  const std::weak_ptr<std::string> alive = owner;
  const std::string_view bytes = *owner;
  HookList list;
  {
    HookView view;
    view.target = bytes.substr(0, 10);
    view.body = bytes.substr(10, 3);
    const HeaderView headers[] = {{"X", bytes.substr(13)}};
    view.headers = headers;
    list.adopt(std::exchange(owner, nullptr));
    list.add_checked_view(view);
    list.add_view(view);
  }
  list.add("https://a/", "[2]");
  ASSERT_EQ(list.size(), 3U);
  EXPECT_TRUE(list.is_checked(0));
  EXPECT_FALSE(list.is_checked(1));
  EXPECT_FALSE(list.is_checked(2));
  for (const std::size_t adopted : {0U, 1U}) {
    EXPECT_EQ(list[adopted].body.data(), bytes.data() + 10);
    ASSERT_EQ(list[adopted].headers.size(), 1U);
    EXPECT_EQ(list[adopted].headers[0].value, "v");
  }
  EXPECT_NE(list[2].target.data(), bytes.data());
  EXPECT_EQ(list.body_bytes(), 9U);
  EXPECT_FALSE(alive.expired());
  list.clear();
  EXPECT_TRUE(alive.expired());
}

// --- checks

Errc verdict_on(std::string_view target, const PolicyTable& policies) {
  HookView hook;
  hook.target = target;
  hook.body = "{}";
  std::string canonical;
  const auto problem = HookChecker(policies, 1000).check(hook, true, canonical);
  return problem ? problem->error : Errc::ok;
}

// Their hashes are the same, as the two that differ of their eight-byte words make up for each
// other.
TEST(HookChecker, ATargetIsNotTakenForAnotherOneWithItsHash) {
  std::string good = "https://example.com/" + std::string(300, 'b');
  good.replace(80, 8, "!bbb04AD");
  good.replace(208, 8, "bbbbKxTz");
  std::string bad = good;
  bad[80] = ' ';
  bad[208] = 'c';
  ASSERT_EQ(url_hash(good), url_hash(bad));

  const PolicyTable policies(Options{}, 1);
  EXPECT_EQ(verdict_on(bad, policies), Errc::url_syntax);
  EXPECT_EQ(verdict_on(good, policies), Errc::ok);
  EXPECT_EQ(verdict_on(bad, policies), Errc::url_syntax);
  EXPECT_EQ(verdict_on(good, policies), Errc::ok);
}

// Each thread keeps so many texts, of one generation of the policies.
TEST(HookChecker, WhatWasAdmittedOnceIsJudgedAgainAfterAReload) {
  Options options;
  options.defaults.network.allow_http = true;
  const PolicyTable open(options, 101), closed(Options{}, 102);
  const auto target = [](int number) {
    return "http://example.com/" + std::to_string(number) + std::string(200, 'x');
  };
  for (int number = 0; number < 20'000; ++number) {
    ASSERT_EQ(verdict_on(target(number), open), Errc::ok);
    ASSERT_EQ(verdict_on(target(number), open), Errc::ok);
  }
  EXPECT_EQ(verdict_on(target(19'999), closed), Errc::target_forbidden);
  EXPECT_EQ(verdict_on(target(19'999), open), Errc::ok);
}

// --- reasons and errors

TEST(Reasons, TokensComeBack) {
  std::set<std::string> seen;
  for (int i = 0; i <= static_cast<int>(Reason::url_syntax); ++i) {
    const auto reason = static_cast<Reason>(i);
    const int status = reason == Reason::status ? 503 : 0;
    const std::string token = reason_token(reason, status);
    EXPECT_TRUE(seen.insert(token).second) << token;
    const auto parsed = parse_reason(token);
    ASSERT_TRUE(parsed) << token;
    EXPECT_EQ(parsed->reason, reason);
    EXPECT_EQ(parsed->status, status);
  }
}

TEST(Reasons, TokensAreTheEnumeratorsNames) {
  const std::pair<Reason, const char*> table[] = {
      {Reason::none, "delivered"},
      {Reason::connect_refused, "connect_refused"},
      {Reason::connect_timeout, "connect_timeout"},
      {Reason::net_unreachable, "net_unreachable"},
      {Reason::local_resource, "local_resource"},
      {Reason::reset, "reset"},
      {Reason::write_timeout, "write_timeout"},
      {Reason::timeout, "timeout"},
      {Reason::closed_no_response, "closed_no_response"},
      {Reason::tls_cert, "tls_cert"},
      {Reason::tls_name, "tls_name"},
      {Reason::tls_version, "tls_version"},
      {Reason::tls_timeout, "tls_timeout"},
      {Reason::tls_eof, "tls_eof"},
      {Reason::tls_protocol, "tls_protocol"},
      {Reason::tls_client_cert, "tls_client_cert"},
      {Reason::tls_alpn, "tls_alpn"},
      {Reason::dns_not_found, "dns_not_found"},
      {Reason::dns_timeout, "dns_timeout"},
      {Reason::dns_failed, "dns_failed"},
      {Reason::truncated_header, "truncated_header"},
      {Reason::header_limit, "header_limit"},
      {Reason::bad_framing, "bad_framing"},
      {Reason::bad_response, "bad_response"},
      {Reason::bad_protocol, "bad_protocol"},
      {Reason::too_many_1xx, "too_many_1xx"},
      {Reason::early_success, "early_success"},
      {Reason::ssrf_denied, "ssrf_denied"},
      {Reason::shutdown, "shutdown"},
      {Reason::cancelled, "cancelled"},
      {Reason::corrupt_payload, "corrupt_payload"},
      {Reason::url_syntax, "url_syntax"},
  };
  for (const auto& [reason, token] : table) EXPECT_EQ(reason_token(reason, 0), token);
  EXPECT_EQ(reason_token(Reason::status, 404), "status_404");
}

TEST(Reasons, UnknownTokensAreRefused) {
  for (const char* token :
       {"", "none", "status", "status_", "status_5", "status_5033", "status_05x", "status_-12",
        "status_099", "Timeout", "timeout ", "delivered\n"}) {
    EXPECT_FALSE(parse_reason(token)) << token;
  }
}

TEST(Errors, TokensAreTheEnumeratorsNames) {
  const std::pair<Errc, const char*> table[] = {
      {Errc::bad_hook, "bad_hook"},
      {Errc::not_json, "not_json"},
      {Errc::empty, "empty"},
      {Errc::too_large, "too_large"},
      {Errc::url_syntax, "url_syntax"},
      {Errc::target_forbidden, "target_forbidden"},
      {Errc::header, "header"},
      {Errc::id_conflict, "id_conflict"},
      {Errc::full, "full"},
      {Errc::stopping, "stopping"},
      {Errc::disk_low, "disk_low"},
      {Errc::store_failed, "store_failed"},
      {Errc::store_busy, "store_busy"},
      {Errc::store_corrupt, "store_corrupt"},
      {Errc::store_newer, "store_newer"},
      {Errc::store_cannot_create, "store_cannot_create"},
      {Errc::store_permission, "store_permission"},
      {Errc::store_io, "store_io"},
      {Errc::not_found, "not_found"},
  };
  std::set<std::string> messages;
  for (const auto& [errc, token] : table) {
    EXPECT_EQ(error_token(errc), token);
    const std::error_code code = errc;
    EXPECT_EQ(code.category(), postbag_category());
    EXPECT_TRUE(code);
    EXPECT_EQ(code, make_error_code(errc));
    EXPECT_TRUE(messages.insert(code.message()).second) << code.message();
  }
  EXPECT_FALSE(make_error_code(Errc::ok));
  EXPECT_EQ(error_token(static_cast<Errc>(9999)), "unknown");
  EXPECT_FALSE(postbag_category().message(9999).empty());
}

}  // namespace
}  // namespace postbag
