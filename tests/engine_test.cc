// The public Engine with real sockets on loopback, hooks in memory: what goes in, what comes out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <stdexcept>

#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// --- Submit

TEST(EngineSubmit, AcceptsAndDelivers) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const SubmitResult result = engine->submit(receiver.url("/hook?a=1"), "{\"a\":1}");
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.accepted, 1u);
  EXPECT_THAT(result.ids, IsEmpty());
  EXPECT_EQ(engine->flush(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  ASSERT_EQ(receiver.request_count(), 1u);
  EXPECT_EQ(receiver.requests()[0].path, "/hook?a=1");
  EXPECT_EQ(receiver.requests()[0].body, "[{\"a\":1}]");
}

TEST(EngineSubmit, GivesIdsInOrder) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  HookList hooks = hooks_to(receiver.url("/a"), numbers(3));
  HookView own;
  own.body = "4";
  own.id = "my-own_1";
  const std::string url = receiver.url("/a");
  own.target = url;
  hooks.add(own);
  SubmitOptions options;
  options.want_ids = true;
  const SubmitResult result = engine->submit(std::move(hooks), options);
  ASSERT_EQ(result.ids.size(), 4u);
  EXPECT_TRUE(result.ids[3].is_null());
  std::set<std::string> different;
  for (int i = 0; i < 3; ++i) {
    const std::string text = to_string(result.ids[i]);
    EXPECT_EQ(text.size(), 36u);
    EXPECT_EQ(text[14], '7');
    EXPECT_EQ(parse_hook_id(text), result.ids[i]);
    different.insert(text);
    EXPECT_EQ(engine->find_hook(text)->state, "waiting");
  }
  EXPECT_EQ(different.size(), 3u);
  EXPECT_LT(result.ids[0], result.ids[1]);
  EXPECT_LT(result.ids[1], result.ids[2]);
}

struct BadHook {
  const char* name;
  Errc error;
  std::function<void(HookView&)> spoil;
};

class EngineRefuses : public testing::TestWithParam<BadHook> {};

// The third of four hooks is bad: nothing is accepted and the answer says which one.
TEST_P(EngineRefuses, TheWholeCall) {
  static constexpr HeaderView bad_headers[] = {{"Content-Length", "5"}};
  static constexpr HeaderView split_header[] = {{"X-A", "b\r\nX-C: d"}};
  FaultReceiver receiver;
  Options options = loopback_options();
  options.intake.max_hook = 64;
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/a");
  HookList hooks = hooks_to(url, numbers(2));
  HookView bad;
  bad.target = url;
  bad.body = "{}";
  GetParam().spoil(bad);
  if (std::string_view(GetParam().name) == "FramingHeader") bad.headers = bad_headers;
  if (std::string_view(GetParam().name) == "SplitHeader") bad.headers = split_header;
  hooks.add(bad);
  hooks.add(url, "{}");
  std::thread::id told_on;
  SubmitResult result;
  engine->submit(std::move(hooks), {}, [&](SubmitResult answer) {
    told_on = std::this_thread::get_id();
    result = std::move(answer);
  });
  EXPECT_EQ(told_on, std::this_thread::get_id());
  EXPECT_EQ(result.error, GetParam().error) << result.message;
  EXPECT_EQ(result.index, 2u);
  EXPECT_FALSE(result.message.empty());
  EXPECT_EQ(result.accepted + result.duplicates, 0u);
  EXPECT_EQ(engine->status().pending, 0u);
  EXPECT_EQ(engine->status().refused, 4u);
  EXPECT_EQ(engine->flush(), 0u);
  EXPECT_EQ(receiver.request_count(), 0u);
}

const std::string long_payload = "\"" + std::string(63, 'x') + "\"";

INSTANTIATE_TEST_SUITE_P(
    All, EngineRefuses,
    testing::Values(
        BadHook{"UrlSyntax", Errc::url_syntax,
                [](HookView& hook) { hook.target = "http://127.0.0.1/a b"; }},
        BadHook{"Scheme", Errc::url_syntax,
                [](HookView& hook) { hook.target = "ftp://127.0.0.1/"; }},
        BadHook{"NoTarget", Errc::bad_hook, [](HookView& hook) { hook.target = ""; }},
        BadHook{"Private", Errc::target_forbidden,
                [](HookView& hook) { hook.target = "http://10.0.0.1/"; }},
        BadHook{"FramingHeader", Errc::header, [](HookView&) {}},
        BadHook{"SplitHeader", Errc::header, [](HookView&) {}},
        BadHook{"NotJson", Errc::not_json, [](HookView& hook) { hook.body = "{\"a\":}"; }},
        BadHook{"TwoValues", Errc::not_json, [](HookView& hook) { hook.body = "1,2"; }},
        BadHook{"NotUtf8", Errc::not_json, [](HookView& hook) { hook.body = "\"\xff\""; }},
        BadHook{"Empty", Errc::empty, [](HookView& hook) { hook.body = ""; }},
        BadHook{"TooLarge", Errc::too_large, [](HookView& hook) { hook.body = long_payload; }},
        BadHook{"Id", Errc::bad_hook, [](HookView& hook) { hook.id = "no spaces"; }},
        BadHook{"Event", Errc::bad_hook, [](HookView& hook) { hook.event = "a\nb"; }}),
    [](const auto& test) { return test.param.name; });

TEST(EngineSubmit, RefusesAnEmptyCallAndDurabilityWithoutStoredHooks) {
  const auto engine = make_engine();
  EXPECT_EQ(engine->submit(HookList()).error, Errc::empty);
  SubmitOptions options;
  options.durability = Durability::fsync;
  EXPECT_EQ(engine->submit(hooks_to("https://example.com/", {"1"}), options).error, Errc::bad_hook);
}

TEST(EngineSubmit, FullIsAnAnswerAndRoomComesBack) {
  FaultReceiver receiver(hanging());
  Options options = loopback_options();
  options.engine.max_memory = 64 << 10;
  options.defaults.batch.size = 1;
  const auto engine = make_engine(options);
  const std::string payload = "\"" + std::string(1000, 'x') + "\"";
  std::size_t accepted = 0;
  SubmitResult result;
  while ((result = engine->submit(receiver.url("/a"), payload)).ok()) {
    ASSERT_LT(++accepted, 65u);
  }
  EXPECT_EQ(result.error, Errc::full);
  EXPECT_GT(accepted, 10u);
  // All or nothing: a call that is larger than what is left gets nothing in.
  EXPECT_EQ(engine->submit(hooks_to(receiver.url("/b"), {"1", payload})).error, Errc::full);
  EXPECT_EQ(engine->status().pending, accepted);
  receiver.release();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_TRUE(eventually([&] { return engine->submit(receiver.url("/a"), payload).ok(); }));
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(receiver.request_count(), accepted + 1);
}

TEST(EngineSubmit, WhatMaxMemoryCanNeverHoldIsTooLargeAlsoForAnIdleEngine) {
  Options options = loopback_options();
  options.engine.max_memory = 64 << 10;
  const auto engine = make_engine(options);
  const SubmitResult refused =
      engine->submit("https://example.com/", "\"" + std::string(70'000, 'x') + "\"");
  EXPECT_EQ(refused.error, Errc::too_large);
  EXPECT_THAT(refused.message, HasSubstr("max_memory allows 65536"));
  EXPECT_EQ(refused.index, SubmitResult::whole_call);
}

TEST(EngineSubmit, StopsWithTheDrain) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  const DrainReport report = engine->drain(patience);
  EXPECT_FALSE(report.timed_out);
  EXPECT_EQ(report.left + report.stored_failed, 0u);
  EXPECT_EQ(receiver.request_count(), 1u);
  EXPECT_EQ(engine->submit(receiver.url(), "2").error, Errc::stopping);
  EXPECT_TRUE(engine->status().draining);
  EXPECT_EQ(engine->drain(patience).stored_failed, 0u);  // again: the same answer
}

TEST(EngineSubmit, FromACallback) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.batch.size = 7;
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/chain");
  std::promise<void> finished;
  int left = 100;
  std::function<void(SubmitResult)> next = [&](SubmitResult result) {
    EXPECT_TRUE(result.ok());
    if (left == 0) return finished.set_value();
    const std::string payload = "{\"n\":" + std::to_string(--left) + "}";
    engine->submit(hooks_to(url, {payload}), {}, next);
  };
  next(SubmitResult());
  ASSERT_EQ(finished.get_future().wait_for(patience), std::future_status::ready);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  auto arrived = hooks_by_path(receiver)["/chain"];
  ASSERT_EQ(arrived.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(arrived[i], "{\"n\":" + std::to_string(99 - i) + "}");
}

// It waited for itself, for ever and without a word.
TEST(EngineSubmit, ACallThatBlocksIsRefusedInACallback) {
  const auto engine = make_engine();
  using Call = std::function<void()>;
  const std::vector<std::pair<std::string, Call>> calls = {
      {"submit", [&] { engine->submit("http://127.0.0.1:9/", "1"); }},
      {"recover", [&] { engine->recover(); }},
      {"flush", [&] { engine->flush(); }},
      {"cancel", [&] { engine->cancel("*"); }},
      {"wait_idle", [&] { engine->wait_idle(); }},
      {"drain", [&] { engine->drain(patience); }},
      {"retry_failed", [&] { engine->retry_failed({}); }},
      {"plan_retry", [&] { engine->plan_retry({}); }},
      {"list_failed", [&] { failed_rows(*engine); }},
      {"purge_failed", [&] { engine->purge_failed({}); }},
      {"backup", [&] { engine->backup("unused"); }},
      {"targets", [&] { engine->targets(); }},
      {"find_hook", [&] { engine->find_hook("x"); }},
      {"reload", [&] { engine->reload(loopback_options()); }},
  };
  std::promise<std::vector<std::string>> said;
  HookList hooks;
  hooks.add("http://127.0.0.1:9/", "1");
  engine->submit(std::move(hooks), {}, [&](const SubmitResult&) {
    std::vector<std::string> all;
    for (const auto& [name, call] : calls) {
      try {
        call();
        all.push_back(name);
      } catch (const std::logic_error& error) {
        all.emplace_back(error.what());
      }
    }
    said.set_value(std::move(all));
  });
  auto future = said.get_future();
  ASSERT_EQ(future.wait_for(patience), std::future_status::ready);
  const std::vector<std::string> all = future.get();
  ASSERT_EQ(all.size(), calls.size());
  for (std::size_t at = 0; at < calls.size(); ++at) {
    EXPECT_THAT(all[at], StartsWith("Engine::" + calls[at].first + "() blocks"));
  }
}

// A bug: the wake of the other engine was held back until the callback had returned.
TEST(EngineSubmit, ACallbackHandsOverToAnotherEngineAndWaitsForItsAnswer) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const auto other = make_engine();
  const std::string url = receiver.url("/a");
  std::promise<bool> answered_in_time;
  engine->submit(hooks_to(url, {"{\"n\":1}"}), {}, [&](const SubmitResult&) {
    const auto answered = std::make_shared<std::promise<void>>();
    other->submit(hooks_to(url, {"{\"n\":2}"}), {},
                  [answered](const SubmitResult&) { answered->set_value(); });
    const auto state = answered->get_future().wait_for(patience / 2);
    answered_in_time.set_value(state == std::future_status::ready);
  });
  EXPECT_TRUE(answered_in_time.get_future().get());
}

TEST(EngineSubmit, ACallbackThatThrowsIsLoggedAndOthersAreAnswered) {
  FaultReceiver receiver;
  std::atomic<int> logged{0};
  Logger logger;
  logger.level = LogLevel::error;
  logger.write = [&](LogLevel, std::string_view line) {
    logged += line.find("a callback threw: nobody catches this") != std::string_view::npos;
  };
  Engine engine(loopback_options(), make_memory_store(), logger);
  for (int i = 0; i < 3; ++i) {
    engine.submit(hooks_to(receiver.url(), {"1"}), {},
                  [](const SubmitResult&) { throw std::runtime_error("nobody catches this"); });
  }
  EXPECT_TRUE(engine.submit(receiver.url(), "2").ok());
  EXPECT_EQ(logged, 3);
  engine.flush();
  EXPECT_TRUE(engine.wait_idle(patience));
  EXPECT_EQ(engine.status().delivered, 4u);
}

TEST(EngineSubmit, AListenerThatThrowsIsLoggedAndTakesNothingOver) {
  struct Thrower : OutcomeListener {
    bool hook_done(std::size_t, const HookOutcome&) override { throw 7; }
  };
  FaultReceiver good;
  FaultReceiver bad(always(500));
  std::atomic<int> logged{0};
  Logger logger;
  logger.level = LogLevel::error;
  logger.write = [&](LogLevel, std::string_view line) {
    logged += line == "a callback threw: no std::exception";
  };
  Engine engine(loopback_options(), make_memory_store(), logger);
  for (const std::string& url : {good.url(), bad.url()}) {
    SubmitOptions options;
    options.listener = std::make_shared<Thrower>();
    EXPECT_TRUE(engine.submit(hooks_to(url, {"1"}), options).ok());
  }
  engine.flush();
  EXPECT_TRUE(engine.wait_idle(patience));
  EXPECT_TRUE(eventually([&] { return logged == 2; }));
  EXPECT_EQ(engine.status().delivered, 1u);
  EXPECT_THAT(bodies(failed_rows(engine)), ElementsAre("1"));
}

// --- Requests

TEST(EngineRequests, CarryThePayloadsByteForByte) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const std::vector<std::string> payloads = {" {\"b\" : 1,\n\t\"a\":[ ] } ", "1.50e+05",
                                             "\"\\u00e9 \xc3\xa9 \xf0\x9f\x93\xae\\/\"", "null",
                                             "{\"a\":1,\"a\":2}"};
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url("/x"), payloads)).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  std::string expected = "[";
  for (const std::string& payload : payloads) expected += payload + ",";
  expected.back() = ']';
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre(expected));
}

TEST(EngineRequests, HaveTheHeadersOfTheContract) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.delivery.headers = {{"Authorization", "Bearer secret"}};
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/a");
  const HeaderView headers[] = {{"X-One", "1"}, {"X-Two", "a, b"}};
  HookView hook;
  hook.target = url;
  hook.body = "1";
  hook.headers = headers;
  HookList hooks;
  hooks.add(hook);
  hooks.add(hook);
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  ASSERT_EQ(receiver.request_count(), 1u);
  const FaultRequest request = receiver.requests()[0];
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.header("Host"), "127.0.0.1:" + std::to_string(receiver.port()));
  EXPECT_EQ(request.header("Content-Type"), "application/json");
  EXPECT_EQ(request.header("Content-Length"), "5");
  EXPECT_EQ(request.header("User-Agent"), "postbag/" + std::string(version()));
  EXPECT_EQ(request.header("Postbag-Batch-Size"), "2");
  EXPECT_EQ(request.header("Postbag-Attempt"), "1");
  EXPECT_TRUE(parse_hook_id(request.header("Postbag-Batch-Id")));
  EXPECT_EQ(request.header("X-One"), "1");
  EXPECT_EQ(request.header("X-Two"), "a, b");
  EXPECT_EQ(request.header("Authorization"), "Bearer secret");
  std::set<std::string> names;
  for (const auto& [name, value] : request.headers) EXPECT_TRUE(names.insert(name).second) << name;
}

TEST(EngineRequests, OneTargetHasOneSpelling) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const std::string host = "127.0.0.1:" + std::to_string(receiver.port());
  EXPECT_TRUE(engine->submit("HTTP://" + host, "1").ok());
  EXPECT_TRUE(engine->submit("http://" + host + "/", "2").ok());
  EXPECT_EQ(engine->targets().size(), 1u);
  EXPECT_EQ(engine->flush("Http://" + host), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2]"));
}

// --- Bags

TEST(EngineBags, AreCutBySizeAndByFlush) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.batch.size = 3;
  const auto engine = make_engine(options);
  EXPECT_TRUE(
      engine->submit(hooks_to(receiver.url("/a"), {"1", "2", "3", "4", "5", "6", "7"})).ok());
  EXPECT_TRUE(engine->submit(receiver.url("/b"), "8").ok());
  ASSERT_TRUE(receiver.wait_for_requests(2));
  EXPECT_EQ(engine->flush(receiver.url("/a")), 1u);
  EXPECT_EQ(engine->flush("not a url"), 0u);
  ASSERT_TRUE(receiver.wait_for_requests(3));
  EXPECT_EQ(engine->flush(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2,3]", "[4,5,6]", "[7]", "[8]"));
  EXPECT_EQ(engine->status().cut_by_size, 2u);
  EXPECT_EQ(engine->status().cut_by_request, 2u);
  EXPECT_EQ(engine->status().batches, 4u);
}

TEST(EngineBags, AreCutByTime) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.batch.time = milliseconds(5);
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url("/a"), {"1", "2"})).ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  EXPECT_TRUE(engine->submit(receiver.url("/a"), "3").ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2]", "[3]"));
  EXPECT_EQ(engine->status().cut_by_time, 2u);
}

TEST(EngineBags, AreCutByBytes) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.batch.bytes = 9;  // [111,222]
  const auto engine = make_engine(options);
  EXPECT_TRUE(
      engine->submit(hooks_to(receiver.url(), {"111", "222", "333", "4444", "55555555555", "6"}))
          .ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()),
              ElementsAre("[111,222]", "[333]", "[4444]", "[55555555555]", "[6]"));
}

TEST(EngineBags, KeepGroupsAndHeadersApart) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const std::string url = receiver.url("/a");
  const HeaderView one[] = {{"X-A", "1"}};
  const HeaderView two[] = {{"X-A", "2"}};
  HookList hooks;
  int number = 0;
  for (int round = 0; round < 2; ++round) {
    for (const char* group : {"", "g", "h"}) {
      const std::string body = std::to_string(++number);
      HookView hook;
      hook.target = url;
      hook.body = body;
      hook.group = group;
      hooks.add(hook);
    }
    for (const auto& headers : {std::span(one), std::span(two)}) {
      const std::string body = std::to_string(++number);
      HookView hook;
      hook.target = url;
      hook.body = body;
      hook.headers = headers;
      hooks.add(hook);
    }
  }
  EXPECT_TRUE(engine->submit(std::move(hooks)).ok());
  EXPECT_EQ(engine->flush(), 5u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()),
              testing::UnorderedElementsAre("[1,6]", "[2,7]", "[3,8]", "[4,9]", "[5,10]"));
  for (const FaultRequest& request : receiver.requests()) {
    const std::string expected = request.body == "[4,9]"    ? "1"
                                 : request.body == "[5,10]" ? "2"
                                                            : "";
    EXPECT_EQ(request.header("X-A"), expected) << request.body;
  }
}

// --- Numbers

// The alarm for hooks that are not delivered: how many wait says nothing of it.
TEST(EngineNumbers, SayHowLongTheOldestHookHasWaited) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  EXPECT_EQ(engine->status().oldest_pending_seconds, 0);
  ASSERT_TRUE(engine->submit(receiver.url(), "1").ok());  // in a bag that nothing cuts
  EXPECT_TRUE(eventually([&] { return engine->status().oldest_pending_seconds > 0; }));
  engine->flush();
  ASSERT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->status().oldest_pending_seconds, 0);
}

TEST(EngineNumbers, AddUp) {
  FaultReceiver good;
  FaultReceiver bad(always(500));
  FaultReceiver stuck(hanging());
  Options options = loopback_options();
  options.defaults.batch.size = 2;
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hooks_to(good.url(), {"1", "2"})).ok());
  EXPECT_TRUE(engine->submit(hooks_to(bad.url(), {"1", "2"})).ok());
  EXPECT_TRUE(engine->submit(hooks_to(stuck.url(), {"1", "2", "3", "4", "5"})).ok());
  ASSERT_TRUE(stuck.wait_for_requests(1));
  ASSERT_TRUE(eventually([&] {
    const EngineStatus status = engine->status();
    // What has its outcome is counted before it is pending no more.
    return status.delivered == 2 && status.retrying == 1 && status.pending == 7;
  }));
  const EngineStatus status = engine->status();
  EXPECT_EQ(status.accepted, 9u);
  EXPECT_EQ(status.in_flight, 1u);
  EXPECT_EQ(status.attempts, 3u);
  EXPECT_EQ(status.attempts_failed, 1u);
  EXPECT_EQ(status.batches, 4u);
  EXPECT_EQ(status.targets, 3u);
  EXPECT_GT(status.memory_bytes, 0u);
  EXPECT_EQ(status.memory_limit, options.engine.max_memory);
  EXPECT_TRUE(status.healthy);
  const auto targets = engine->targets();
  ASSERT_EQ(targets.size(), 3u);
  EXPECT_EQ(targets[0].url, bad.url());
  EXPECT_EQ(targets[0].state, "retrying");
  EXPECT_EQ(targets[0].retrying, 2u);
  EXPECT_EQ(targets[0].last_status, 500);
  EXPECT_EQ(targets[0].last_reason, "status_500");
  EXPECT_EQ(targets[1].url, stuck.url());
  EXPECT_EQ(targets[1].state, "ok");
  EXPECT_EQ(targets[1].waiting, 3u);
  EXPECT_EQ(targets[1].in_flight, 2u);
  EXPECT_EQ(targets[2].delivered, 2u);
  EXPECT_EQ(targets[2].last_status, 200);
  EXPECT_EQ(targets[2].last_reason, "");
  EXPECT_EQ(engine->targets(1).size(), 1u);
  EXPECT_EQ(engine->cancel("*").cancelled, 5u);  // all but what is on the wire
  stuck.release();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->status().delivered, 4u);
  EXPECT_EQ(engine->status().given_up, 5u);
  EXPECT_TRUE(eventually([&] { return engine->status().failed == 5; }));
}

// It was "ok" as soon as nothing waited for a retry: without retries always.
TEST(EngineLooks, ATargetThatFailsEverythingIsNotCalledOk) {
  FaultReceiver receiver;
  receiver.push(FaultReply::status(500));
  Options options = loopback_options();
  options.defaults.batch.size = 1;
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(receiver.url("/works"), "0").ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->targets().at(0).state, "failing");
  EXPECT_TRUE(engine->submit(refusing_url(), "1").ok());
  EXPECT_TRUE(engine->submit(receiver.url("/works"), "2").ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto targets = engine->targets();
  ASSERT_EQ(targets.size(), 2u);
  EXPECT_EQ(targets[0].state, "failing");
  EXPECT_EQ(targets[0].last_reason, "connect_refused");
  EXPECT_EQ(targets[1].state, "ok");
  EXPECT_EQ(targets[1].url, receiver.url("/works"));
}

// --- Reload

TEST(EngineReload, HoldsForWhatIsCutLater) {
  FaultReceiver receiver;
  Options options = loopback_options();
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2"})).ok());
  options.defaults.batch.size = 2;
  options.defaults.delivery.headers = {{"X-New", "yes"}};
  options.engine.threads = 4;
  options.intake.max_hook = 1000;
  options.log.level = LogLevel::debug;
  EXPECT_THAT(engine->reload(options),
              ElementsAre("intake.max_hook", "engine.threads", "log.level"));
  ASSERT_TRUE(receiver.wait_for_requests(1));  // full by the new size
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"3", "4"})).ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,2]", "[3,4]"));
  EXPECT_EQ(receiver.requests()[1].header("X-New"), "yes");
  options.defaults.network.allow.clear();
  engine->reload(options);
  EXPECT_EQ(engine->submit(receiver.url(), "5").error, Errc::target_forbidden);
  options.defaults.batch.size = 0;
  options.defaults.batch.time = Duration::zero();
  EXPECT_THROW(engine->reload(options), std::invalid_argument);
}

// It was counted as failed and still as pending, until its shard heard of its row.
TEST(EngineStatus, AHookIsNeverFailedAndPendingAtOnce) {
  Options options = loopback_options();
  options.defaults.batch.size = 1;
  const auto engine = make_engine(options);
  const std::string url = refusing_url();
  for (std::uint64_t given = 1; given <= 60; ++given) {
    ASSERT_TRUE(engine->submit(url, "1").ok());
    EngineStatus status;
    ASSERT_TRUE(eventually([&] { return (status = engine->status()).failed == given; }));
    ASSERT_EQ(status.pending, 0u) << given;
    ASSERT_EQ(status.given_up, given);
  }
}

// The end of a cancel was told before its rows were counted.
TEST(EngineStatus, WhoeverHearsOfACancelFindsItCounted) {
  const auto engine = make_engine(loopback_options());
  const std::string url = refusing_url();
  for (std::uint64_t round = 1; round <= 60; ++round) {
    ASSERT_TRUE(engine->submit(hooks_to(url, {"1", "2", "3"})).ok());
    ASSERT_EQ(engine->cancel("*").cancelled, 3u);
    const EngineStatus status = engine->status();
    ASSERT_EQ(status.failed, 3 * round);
    ASSERT_EQ(status.pending, 0u);
  }
}

// It was a segmentation fault.
TEST(EngineStart, AnEngineWithoutAStoreIsRefused) {
  EXPECT_THROW(Engine(loopback_options(), nullptr), std::invalid_argument);
}

TEST(EngineReload, NamesEveryKeyThatWaitsForARestart) {
  Options options = loopback_options();
  const auto engine = make_engine(options);
  options.store = {"other.db", Durability::fsync, false, 1 << 30, std::chrono::hours(1), 1 << 20};
  options.intake = {"127.0.0.1:0", "tokens", 1 << 20, 1 << 10, std::chrono::minutes(1)};
  options.engine = {options.engine.threads + 1, 1 << 30, 7, std::chrono::seconds(7)};
  options.log = {LogLevel::debug, LogFormat::json};
  EXPECT_THAT(
      engine->reload(options),
      ElementsAre("store.path", "store.durability", "store.max_bytes", "store.failed_max_age",
                  "store.failed_max_bytes", "intake.listen", "intake.token_file", "intake.max_body",
                  "intake.max_hook", "intake.id_window", "engine.threads", "engine.max_memory",
                  "engine.max_connections", "engine.drain_timeout", "log.level", "log.format"));
}

TEST(EngineStart, RefusesBadOptions) {
  Options options = loopback_options();
  options.defaults.batch.size = 0;
  try {
    make_engine(options);
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("batch"));
  }
}

}  // namespace
}  // namespace postbag::test
