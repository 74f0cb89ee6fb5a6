// The public Engine with real sockets on loopback, hooks in memory: what goes in, what comes out.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::unique_ptr<Engine> make_engine(const Options& options = loopback_options()) {
  return std::make_unique<Engine>(options, make_memory_store());
}

std::vector<std::string> numbers(int count) {
  std::vector<std::string> payloads;
  for (int i = 0; i < count; ++i) payloads.push_back("{\"n\":" + std::to_string(i) + "}");
  return payloads;
}

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

// --- Ids given by producers

TEST(EngineIds, TheSameContentIsAcceptedOnce) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const std::string url = receiver.url("/a");
  EXPECT_EQ(engine->submit(hook_with_id(url, "{\"a\":1}", "one")).accepted, 1u);
  const SubmitResult again = engine->submit(hook_with_id(url, "{\"a\":1}", "one"));
  EXPECT_TRUE(again.ok());
  EXPECT_EQ(again.accepted, 0u);
  EXPECT_EQ(again.duplicates, 1u);
  HookList twice = hook_with_id(url, "{\"a\":2}", "two");
  HookView view;
  view.target = url;
  view.body = "{\"a\":2}";
  view.id = "two";
  twice.add(view);
  const SubmitResult in_one_call = engine->submit(std::move(twice));
  EXPECT_EQ(in_one_call.accepted, 1u);
  EXPECT_EQ(in_one_call.duplicates, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->submit(hook_with_id(url, "{\"a\":1}", "one")).duplicates, 1u);  // delivered
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[{\"a\":1},{\"a\":2}]"));
  EXPECT_EQ(engine->status().duplicates, 3u);
  EXPECT_EQ(engine->find_hook("one")->state, "delivered");
}

TEST(EngineIds, OtherContentIsAConflictAndTakesNothing) {
  FaultReceiver receiver;
  const auto engine = make_engine();
  const std::string url = receiver.url("/a");
  EXPECT_TRUE(engine->submit(hook_with_id(url, "1", "one")).ok());
  HookList hooks = hook_with_id(url, "2", "two");
  HookView view;
  view.target = url;
  view.body = "\"other\"";
  view.id = "one";
  hooks.add(view);
  const SubmitResult result = engine->submit(std::move(hooks));
  EXPECT_EQ(result.error, Errc::id_conflict);
  EXPECT_EQ(result.index, 1u);
  EXPECT_EQ(result.duplicates, 0u);
  // The other id of the refused call is free: content of its own is no conflict.
  EXPECT_EQ(engine->submit(hook_with_id(url, "3", "two")).accepted, 1u);
  // Another target is other content.
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url("/b"), "1", "one")).error, Errc::id_conflict);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,3]"));
}

TEST(EngineIds, AreForgottenAfterTheirWindow) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.intake.id_window = milliseconds(1);
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/a");
  EXPECT_TRUE(engine->submit(hook_with_id(url, "1", "one")).ok());
  EXPECT_TRUE(eventually([&] {
    return engine->submit(hook_with_id(url, "2", "one")).accepted == 1;  // first a conflict
  }));
}

// --- Looking for a hook

TEST(EngineFind, KnowsEveryState) {
  FaultReceiver receiver(hanging(503));
  Options options = loopback_options();
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  const auto engine = make_engine(options);
  SubmitOptions want;
  want.want_ids = true;
  const auto id_of = [&](const std::string& path) {
    return to_string(engine->submit(hooks_to(receiver.url(path), {"1"}), want).ids.at(0));
  };
  const std::string id = id_of("/a");
  EXPECT_EQ(engine->find_hook(id)->state, "waiting");
  EXPECT_EQ(engine->find_hook(id)->target, receiver.url("/a"));
  engine->flush();
  ASSERT_TRUE(receiver.wait_for_requests(1));
  EXPECT_EQ(engine->find_hook(id)->state, "in_flight");
  EXPECT_EQ(engine->find_hook(id)->attempts, 1u);
  receiver.release();
  EXPECT_TRUE(eventually([&] { return engine->find_hook(id)->state == "retrying"; }));
  EXPECT_EQ(engine->find_hook(id)->reason, "status_503");
  EXPECT_EQ(engine->find_hook(id)->status, 503);
  EXPECT_EQ(engine->cancel("*"), 1u);
  EXPECT_EQ(engine->find_hook(id)->state, "failed");
  EXPECT_EQ(engine->find_hook(id)->reason, "cancelled");
  receiver.push(FaultReply::status(204));
  const std::string good = id_of("/b");
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->find_hook(good)->state, "delivered");
  EXPECT_EQ(engine->find_hook(good)->id, good);
  EXPECT_FALSE(engine->find_hook("unknown"));
  EXPECT_FALSE(engine->find_hook("01234567-89ab-7def-8123-456789abcdef"));
}

// Neither the ids' memory nor those forgotten for want of it were counted.
TEST(EngineLooks, IdsCountAsMemoryAndTakeHalfOfItAtMost) {
  constexpr std::uint64_t limit = 1 << 20, id_bytes = 88, slack = 2'000;
  FaultReceiver receiver;
  Options options = loopback_options();
  options.engine.max_memory = limit;
  options.defaults.batch.size = 2'000;
  const auto engine = make_engine(options);
  int next = 0;
  const auto give_and_cancel = [&](int count) {
    for (const int end = next + count; next < end; ++next) {
      engine->submit(hook_with_id(receiver.url(), "1", "id-" + std::to_string(next)), {},
                     [](const SubmitResult& answer) { EXPECT_TRUE(answer.ok()); });
    }
    EXPECT_EQ(engine->cancel("*"), static_cast<std::uint64_t>(count));
  };
  const auto memory_is_about = [&](std::uint64_t bytes) {
    return eventually([&] {
      const std::uint64_t used = engine->status().memory_bytes;
      return used >= bytes && used < bytes + slack;
    });
  };
  give_and_cancel(1'000);
  EXPECT_TRUE(memory_is_about(1'000 * id_bytes));
  EXPECT_EQ(engine->status().ids_forgotten, 0u);
  for (int round = 1; round < 9; ++round) give_and_cancel(1'000);
  constexpr std::uint64_t kept = limit / 2 / id_bytes;
  EXPECT_TRUE(memory_is_about(kept * id_bytes));
  EXPECT_EQ(engine->status().ids_forgotten, 9'000 - kept);
}

// It was not found though it was listed.
TEST(EngineLooks, AFailedHookIsFoundByItsOwnIdAfterTheWindowToo) {
  FaultReceiver receiver(always(503));
  Options options = loopback_options();
  options.intake.id_window = Duration::zero();
  const auto engine = make_engine(options);
  EXPECT_FALSE(engine->find_hook("mine"));
  for (const char* payload : {"1", "2"}) {
    EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), payload, "mine")).accepted, 1u);
    EXPECT_EQ(engine->submit(hook_with_id(receiver.url("/b"), payload, "other")).accepted, 1u);
    engine->flush();
    EXPECT_TRUE(engine->wait_idle(patience));
  }
  const auto status = engine->find_hook("mine");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->id, "mine");
  EXPECT_EQ(status->state, "failed");
  EXPECT_EQ(status->reason, "status_503");
  EXPECT_EQ(status->target, receiver.url());
  EXPECT_FALSE(engine->find_hook("theirs"));
}

// --- Listeners (?wait=delivered)

TEST(EngineListener, HearsOfEveryHookAndTakesFailedOnesOver) {
  FaultReceiver good;
  FaultReceiver bad(always(500));
  const auto engine = make_engine();
  HookList hooks = hooks_to(good.url(), {"1"});
  hooks.add(bad.url(), "2");
  hooks.add(good.url(), "3");
  const auto outcomes = std::make_shared<Outcomes>(true);
  SubmitOptions options;
  options.listener = outcomes;
  EXPECT_TRUE(engine->submit(std::move(hooks), options).ok());
  EXPECT_TRUE(engine->submit(bad.url(), "4").ok());  // of another call, in the same batch
  EXPECT_EQ(outcomes->calls(), 0u);
  engine->flush();
  ASSERT_TRUE(outcomes->wait(3));
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto all = outcomes->all();
  EXPECT_EQ(outcomes->calls(), 3u);
  EXPECT_TRUE(all.at(0).delivered);
  EXPECT_TRUE(all.at(2).delivered);
  EXPECT_FALSE(all.at(1).delivered);
  EXPECT_EQ(reason_token(all.at(1).reason, all.at(1).status), "status_500");
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("4"));
}

TEST(EngineListener, ThatIsGoneLeavesTheHookToTheStore) {
  FaultReceiver bad(always(500));
  const auto engine = make_engine();
  const auto outcomes = std::make_shared<Outcomes>(false);
  SubmitOptions options;
  options.listener = outcomes;
  EXPECT_TRUE(engine->submit(hooks_to(bad.url(), {"1", "2"}), options).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(outcomes->calls(), 2u);
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("1", "2"));
}

// Its repeat was called a duplicate: never sent, and with a listener said to be delivered.
TEST(EngineListener, AHookReportedAsFailedIsNewWhenItIsGivenAgain) {
  for (const bool keeps_failed : {true, false}) {
    FaultReceiver receiver;
    receiver.push(FaultReply::status(500));
    Options options = loopback_options();
    options.store.keep_failed = keeps_failed;
    options.defaults.batch.size = 1;
    const auto engine = make_engine(options);
    SubmitOptions listening;
    const auto first = std::make_shared<Outcomes>(true);
    listening.listener = first;
    EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "1", "one"), listening).ok());
    ASSERT_TRUE(first->wait_settled(1));
    EXPECT_FALSE(first->all().at(0).delivered);
    EXPECT_THAT(failed_rows(*engine), IsEmpty());
    const auto second = std::make_shared<Outcomes>(true);
    listening.listener = second;
    EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one"), listening).accepted, 1u);
    ASSERT_TRUE(second->wait(1));
    EXPECT_TRUE(second->all().at(0).delivered);
    EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one")).duplicates, 1u);
    EXPECT_TRUE(engine->wait_idle(patience));
    EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[1]"));
  }
}

TEST(EngineListener, AHookThatAnotherCallReliesOnIsKept) {
  FaultReceiver receiver(always(500));
  const auto engine = make_engine();
  SubmitOptions listening;
  const auto outcomes = std::make_shared<Outcomes>(true);
  listening.listener = outcomes;
  HookList hooks = hook_with_id(receiver.url(), "1", "one");
  const std::string url = receiver.url();
  hooks.add({url, "2", "", "", "two", "", {}});
  EXPECT_TRUE(engine->submit(std::move(hooks), listening).ok());
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one")).duplicates, 1u);
  engine->flush();
  ASSERT_TRUE(outcomes->wait_settled(2));
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("1"));
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one")).duplicates, 1u);
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "2", "two")).accepted, 1u);
}

// Neither in the engine nor failed does not mean delivered: here it was dropped.
TEST(EngineListener, ADuplicateOfAHookWithoutATraceIsNotSaidToBeDelivered) {
  FaultReceiver receiver(always(500));
  Options options = loopback_options();
  options.store.keep_failed = false;
  const auto engine = make_engine(options);
  EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "1", "one")).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  SubmitOptions listening;
  const auto outcomes = std::make_shared<Outcomes>(true);
  listening.listener = outcomes;
  EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one"), listening).duplicates, 1u);
  engine->flush();  // behind it on the shard, and the listing behind it in the store
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
  EXPECT_EQ(outcomes->calls(), 0u);
}

// Who was told of an outcome found its hook pending still.
TEST(EngineListener, WhoHearsOfAnOutcomeFindsItCounted) {
  struct Looking : OutcomeListener {
    bool hook_done(std::size_t, const HookOutcome& outcome) override {
      if (outcome.delivered) look(delivered);
      return true;
    }
    void hook_settled(std::size_t) override { look(settled); }
    void look(std::promise<std::uint64_t>& at) const { at.set_value(engine->status().pending); }
    Engine* engine = nullptr;
    std::promise<std::uint64_t> delivered, settled;
  };
  FaultReceiver good, bad(always(500));
  const auto engine = make_engine();
  const auto listener = std::make_shared<Looking>();
  listener->engine = engine.get();
  SubmitOptions listening;
  listening.listener = listener;
  for (FaultReceiver* receiver : {&good, &bad}) {
    EXPECT_TRUE(engine->submit(hooks_to(receiver->url(), {"1"}), listening).ok());
    engine->flush();
    std::future<std::uint64_t> pending =
        (receiver == &good ? listener->delivered : listener->settled).get_future();
    ASSERT_EQ(pending.wait_for(patience), std::future_status::ready);
    EXPECT_EQ(pending.get(), 0u);
  }
}

TEST(EngineAdmin, RowsThatWerePurgedAreNotCountedAnyMore) {
  FaultReceiver receiver(always(500));
  const auto engine = make_engine();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), numbers(20))).ok());
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->status().failed, 20u);
  EXPECT_EQ(engine->purge_failed({}).purged, 20u);
  EXPECT_EQ(engine->status().failed, 0u);
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
  EXPECT_EQ(engine->status().cut_by_order, 2u);
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
    return status.delivered == 2 && status.retrying == 1;
  }));
  const EngineStatus status = engine->status();
  EXPECT_EQ(status.accepted, 9u);
  EXPECT_EQ(status.pending, 7u);
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
  EXPECT_EQ(targets[0].url, stuck.url());
  EXPECT_EQ(targets[0].waiting, 3u);
  EXPECT_EQ(targets[0].in_flight, 2u);
  EXPECT_EQ(targets[1].url, bad.url());
  EXPECT_EQ(targets[1].state, "retrying");
  EXPECT_EQ(targets[1].retrying, 2u);
  EXPECT_EQ(targets[1].last_status, 500);
  EXPECT_EQ(targets[1].last_reason, "status_500");
  EXPECT_EQ(targets[2].delivered, 2u);
  EXPECT_EQ(targets[2].last_status, 200);
  EXPECT_EQ(targets[2].last_reason, "");
  EXPECT_EQ(engine->targets(1).size(), 1u);
  EXPECT_EQ(engine->cancel("*"), 5u);  // all but what is on the wire
  stuck.release();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->status().delivered, 4u);
  EXPECT_EQ(engine->status().given_up, 5u);
  EXPECT_TRUE(eventually([&] { return engine->status().failed == 5; }));
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
              ElementsAre("engine.threads", "intake.max_hook", "log.level"));
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
