// The public Engine with real sockets on loopback: ids that producers give, looking for hooks, and
// who hears of outcomes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <new>

#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

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
  EXPECT_EQ(engine->cancel("*").cancelled, 1u);
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
    EXPECT_EQ(engine->cancel("*").cancelled, static_cast<std::uint64_t>(count));
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

// It was as unknown as one that was forgotten, and a repeat that waits had no outcome.
TEST(EngineLooks, DeliveredIsKnownAsLongAsTheIdIs) {
  constexpr int remembered_by_a_shard = 16'384;
  FaultReceiver receiver;
  Options options = loopback_options();
  options.defaults.batch.size = 1;
  options.defaults.delivery.in_flight = 16;
  const auto engine = make_engine(options);
  const std::string url = receiver.url("/a");
  EXPECT_TRUE(engine->submit(hook_with_id(url, "1", "mine")).ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->find_hook("mine")->target, url);
  HookList others;
  for (int i = 0; i < remembered_by_a_shard; ++i) others.add(url, "2");
  EXPECT_TRUE(engine->submit(std::move(others)).ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  const auto status = engine->find_hook("mine");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->state, "delivered");
  const auto outcomes = std::make_shared<Outcomes>(true);
  SubmitOptions listening;
  listening.listener = outcomes;
  EXPECT_EQ(engine->submit(hook_with_id(url, "1", "mine"), listening).duplicates, 1u);
  ASSERT_TRUE(outcomes->wait(1));
  EXPECT_TRUE(outcomes->all().at(0).delivered);
}

// What nobody knows is not called delivered.
TEST(EngineLooks, AFailedHookThatWasDroppedIsNotCalledDelivered) {
  FaultReceiver receiver(always(503));
  Options options = loopback_options();
  options.defaults.batch.size = 1;
  const auto engine = make_engine(options);
  const auto fail = [&](const char* id) {
    EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "1", id)).ok());
    EXPECT_TRUE(engine->wait_idle(patience));
  };
  fail("purged");
  EXPECT_EQ(engine->find_hook("purged")->state, "failed");
  EXPECT_EQ(engine->purge_failed({}).purged, 1u);
  EXPECT_FALSE(engine->find_hook("purged"));
  options.store.keep_failed = false;
  engine->reload(options);
  fail("discarded");
  EXPECT_FALSE(engine->find_hook("discarded"));
  options.store.keep_failed = true;
  engine->reload(options);
  EXPECT_FALSE(engine->find_hook("discarded"));
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

// Every call with ids and a listener stayed in memory: by the parcels for the shards that had none
// of its hooks it kept itself alive.
TEST(EngineListener, IsLetGoWhereOtherShardsHaveNoHookOfTheCall) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.engine.threads = 3;
  const auto engine = make_engine(options);
  auto outcomes = std::make_shared<Outcomes>(true);
  SubmitOptions call;
  call.listener = outcomes;
  HookList hooks;
  HookView hook;
  const std::string url = receiver.url();
  hook.target = url;
  hook.body = "1";
  hook.id = "one";
  hooks.add(hook);
  EXPECT_TRUE(engine->submit(std::move(hooks), std::move(call)).ok());
  engine->flush();
  ASSERT_TRUE(outcomes->wait(1));
  const std::weak_ptr<Outcomes> watched = std::exchange(outcomes, nullptr);
  EXPECT_TRUE(eventually([&] { return watched.expired(); }));
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

// Its thread finds no memory for a row that is asked for.
class RowlessStore : public FailingStore {
 public:
  explicit RowlessStore(std::shared_ptr<std::atomic<int>> asked)
      : FailingStore(make_memory_store()), asked_(std::move(asked)) {}
  std::optional<FailedHook> find_failed(FailedKey) override {
    *asked_ += 1;
    throw std::bad_alloc();
  }

 private:
  const std::shared_ptr<std::atomic<int>> asked_;
};

// It ended the engine for good, and each producer that repeats a call can ask for it.
TEST(EngineListener, ARepeatThatFindsNoMemoryInTheStoreEndsNothing) {
  FaultReceiver receiver;
  const auto asked = std::make_shared<std::atomic<int>>(0);
  Engine engine(loopback_options(), std::make_unique<RowlessStore>(asked));
  EXPECT_EQ(engine.submit(hook_with_id(receiver.url(), "1", "one")).accepted, 1u);
  EXPECT_EQ(engine.cancel("*").cancelled, 1u);
  SubmitOptions listening;
  const auto outcomes = std::make_shared<Outcomes>(true);
  listening.listener = outcomes;
  EXPECT_EQ(engine.submit(hook_with_id(receiver.url(), "1", "one"), listening).duplicates, 1u);
  ASSERT_TRUE(eventually([&] { return asked->load() == 1; }));
  EXPECT_THAT(bodies(failed_rows(engine)), ElementsAre("1"));  // behind it, on the same thread
  EXPECT_TRUE(engine.status().healthy);
  EXPECT_EQ(outcomes->calls(), 0u);
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

// Neither in the engine nor failed does not mean delivered: here it was dropped, or purged. Who
// waited for it was told nothing, and waited for its timeout.
TEST(EngineListener, ADuplicateOfAHookWithoutATraceIsSaidToBeForgotten) {
  for (const bool keeps_failed : {true, false}) {
    FaultReceiver receiver(always(500));
    Options options = loopback_options();
    options.store.keep_failed = keeps_failed;
    const auto engine = make_engine(options);
    EXPECT_TRUE(engine->submit(hook_with_id(receiver.url(), "1", "one")).ok());
    engine->flush();
    EXPECT_TRUE(engine->wait_idle(patience));
    EXPECT_EQ(engine->purge_failed({}).purged, keeps_failed ? 1u : 0u);
    SubmitOptions listening;
    const auto outcomes = std::make_shared<Outcomes>(true);
    listening.listener = outcomes;
    EXPECT_EQ(engine->submit(hook_with_id(receiver.url(), "1", "one"), listening).duplicates, 1u);
    EXPECT_TRUE(outcomes->wait_forgotten(1));
    engine->flush();  // behind it on the shard, and the listing behind it in the store
    EXPECT_THAT(failed_rows(*engine), IsEmpty());
    EXPECT_EQ(outcomes->calls(), 0u);
  }
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

// It came back before the last listeners had heard.
TEST(EngineListener, WaitIdleReturnsWhenEveryListenerWasTold) {
  struct Hesitant : OutcomeListener {
    bool hook_done(std::size_t, const HookOutcome&) override {
      begun.set_value();
      may_end.get_future().wait_for(patience);
      is_told = true;
      return true;
    }
    std::promise<void> begun, may_end;
    std::atomic<bool> is_told{false};
  };
  FaultReceiver receiver;
  const auto engine = make_engine();
  const auto listener = std::make_shared<Hesitant>();
  SubmitOptions listening;
  listening.listener = listener;
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1"}), listening).ok());
  engine->flush();
  ASSERT_EQ(listener->begun.get_future().wait_for(patience), std::future_status::ready);
  EXPECT_EQ(engine->status().pending, 0u);
  EXPECT_FALSE(engine->wait_idle(Duration::zero()));
  listener->may_end.set_value();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_TRUE(listener->is_told);
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

}  // namespace
}  // namespace postbag::test
