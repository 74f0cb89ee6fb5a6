// The public Engine over a store that is slow, full or broken.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/pure/url_hash.h"
#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class EngineStore : public testing::Test {
 protected:
  EngineStore() { options.store.durability = Durability::fsync; }
  // The store's thread has made its first commit, which reserves numbers: what a test refuses
  // behind the start is no other.
  Engine& start() {
    engine =
        std::make_unique<Engine>(options, std::make_unique<FailingStore>(store, control), logger);
    FailedPage page;
    EXPECT_FALSE(engine->list_failed({}, {}, {}, page));
    return *engine;
  }
  ~EngineStore() override {
    control->release();
    control->release_syncs();
  }

  // When no engine writes.
  std::uint64_t pending_in_store() {
    std::vector<PendingChunk> chunks;
    EXPECT_FALSE(store->scan_pending(0, 1000, chunks));
    std::uint64_t hooks = 0;
    for (const PendingChunk& chunk : chunks) hooks += chunk.hooks;
    return hooks;
  }

  Options options = loopback_options();
  Logger logger;
  std::shared_ptr<Store> store = make_memory_store();
  std::shared_ptr<StoreControl> control = std::make_shared<StoreControl>();
  std::unique_ptr<Engine> engine;
};

TEST_F(EngineStore, NoByteIsSentBeforeTheCommit) {
  std::atomic<bool> too_early = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    if (control->holds()) too_early = true;
    return FaultReply::status(200);
  }));
  options.defaults.batch.size = 1;
  start();
  control->hold();
  auto first = submit_async(*engine, hooks_to(receiver.url(), {"1"}));
  ASSERT_TRUE(control->wait_held());
  auto second = submit_async(*engine, hooks_to(receiver.url(), {"2"}));
  EXPECT_EQ(engine->targets().at(0).waiting, 2u);  // both are in bags
  EXPECT_EQ(engine->status().in_flight, 0u);
  EXPECT_EQ(engine->status().accepted, 0u);
  EXPECT_EQ(engine->status().pending, 2u);
  EXPECT_EQ(first.wait_for(Duration::zero()), std::future_status::timeout);
  EXPECT_EQ(receiver.connection_count(), 0u);
  control->release();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[2]"));
  EXPECT_FALSE(too_early);
}

// What is committed waits for its sync, as the next group is committed already.
TEST_F(EngineStore, NoByteIsSentBeforeTheSync) {
  std::atomic<bool> too_early = false;
  FaultReceiver receiver(replying([&](const FaultRequest&) {
    if (control->holds_syncs()) too_early = true;
    return FaultReply::status(200);
  }));
  options.defaults.batch.size = 1;
  control->sync_later();
  start();
  control->hold_syncs();
  auto first = submit_async(*engine, hooks_to(receiver.url(), {"1"}));
  ASSERT_TRUE(control->wait_sync_held());
  auto second = submit_async(*engine, hooks_to(receiver.url(), {"2"}));
  ASSERT_TRUE(control->wait_appends(2));
  EXPECT_EQ(engine->targets().at(0).waiting, 2u);  // both are in bags
  EXPECT_EQ(engine->status().in_flight, 0u);
  EXPECT_EQ(engine->status().accepted, 0u);
  EXPECT_EQ(first.wait_for(Duration::zero()), std::future_status::timeout);
  EXPECT_EQ(second.wait_for(Duration::zero()), std::future_status::timeout);
  EXPECT_EQ(receiver.connection_count(), 0u);
  control->release_syncs();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(second.get().ok());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[2]"));
  EXPECT_FALSE(too_early);
}

TEST_F(EngineStore, ASyncThatFailsEndsIntakeAndNothingIsAccepted) {
  FaultReceiver receiver;
  control->sync_later();
  start();
  std::promise<std::error_code> fatal;
  engine->on_fatal([&](std::error_code error) { fatal.set_value(error); });
  control->hold_syncs();
  auto first = submit_async(*engine, hooks_to(receiver.url(), {"1"}));
  ASSERT_TRUE(control->wait_sync_held());
  auto second = submit_async(*engine, hooks_to(receiver.url(), {"2"}));
  ASSERT_TRUE(control->wait_appends(2));
  control->refuse_syncs(Errc::store_failed);
  control->release_syncs();
  EXPECT_EQ(first.get().error, Errc::store_failed);
  EXPECT_EQ(second.get().error, Errc::store_failed);
  auto told = fatal.get_future();
  ASSERT_EQ(told.wait_for(patience), std::future_status::ready);
  EXPECT_EQ(told.get(), Errc::store_failed);
  EXPECT_EQ(engine->submit(receiver.url(), "3").error, Errc::store_failed);
  EXPECT_EQ(engine->status().accepted, 0u);
  EXPECT_FALSE(engine->status().healthy);
  engine.reset();
  EXPECT_EQ(receiver.request_count(), 0u);
}

// Calls are refused meanwhile; what was delivered is settled, and what failed gets its row, later.
TEST_F(EngineStore, WantOfMemoryAtACommitRefusesItAndLaterWorks) {
  FaultReceiver good;
  FaultReceiver bad(always(500));
  FaultReceiver slow(hanging());
  options.defaults.batch.size = 1;
  options.defaults.retry.retries = 0;
  start();
  for (const char* path : {"/a", "/b", "/c"}) {
    EXPECT_TRUE(engine->submit(slow.url(path), "1").ok());
  }
  ASSERT_TRUE(slow.wait_for_requests(3));
  control->run_out_of_memory(true);
  EXPECT_EQ(engine->submit(good.url(), "2").error, Errc::disk_low);
  slow.release();
  ASSERT_TRUE(eventually([&] { return control->refused() >= 3; }));
  control->run_out_of_memory(false);
  ASSERT_TRUE(eventually([&] { return engine->submit(bad.url(), "3").ok(); }));
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(good.request_count(), 0u);
  EXPECT_EQ(slow.request_count(), 3u);
  EXPECT_THAT(bodies(failed_rows(*engine)), ::testing::Contains("3"));
  engine.reset();
  EXPECT_EQ(pending_in_store(), 0u);
}

// It needs no sync of its own, but what it comes behind may be gone.
TEST_F(EngineStore, ACallWithoutASyncBehindOneThatFailsIsRefusedToo) {
  FaultReceiver receiver;
  control->sync_later();
  start();
  control->hold_syncs();
  auto first = submit_async(*engine, hooks_to(receiver.url(), {"1"}));
  ASSERT_TRUE(control->wait_sync_held());
  SubmitOptions os;
  os.durability = Durability::os;
  auto second = submit_async(*engine, hooks_to(receiver.url(), {"2"}), os);
  ASSERT_TRUE(control->wait_appends(2));
  control->refuse_syncs(Errc::store_failed);
  control->release_syncs();
  EXPECT_EQ(first.get().error, Errc::store_failed);
  EXPECT_EQ(second.get().error, Errc::store_failed);
  EXPECT_EQ(engine->status().accepted, 0u);
  engine.reset();
  EXPECT_EQ(receiver.request_count(), 0u);
}

bool thread_exists(std::string_view name) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "comm");
    std::string line;
    if (std::getline(file, line) && line == name) return true;
  }
  return false;
}

// The shards have ended when the store says what became of the first two; the third never left its
// shard.
TEST_F(EngineStore, TheEndAfterAFatalErrorAnswersWhatIsUnderWay) {
  FaultReceiver receiver;
  control->sync_later();
  start();
  std::promise<void> fatal;
  engine->on_fatal([&](std::error_code) { fatal.set_value(); });
  control->hold_syncs();
  auto first = submit_async(*engine, hooks_to(receiver.url(), {"1"}));
  ASSERT_TRUE(control->wait_sync_held());
  control->hold();
  auto second = submit_async(*engine, hooks_to(receiver.url(), {"2"}));
  ASSERT_TRUE(control->wait_held());
  auto third = submit_async(*engine, hooks_to(receiver.url(), {"3"}));
  EXPECT_EQ(engine->targets().at(0).waiting, 3u);  // all are in bags
  control->refuse_all(Errc::store_failed);
  control->release();
  ASSERT_EQ(fatal.get_future().wait_for(patience), std::future_status::ready);
  auto ended = std::async(std::launch::async, [&] { engine.reset(); });
  EXPECT_TRUE(eventually([] { return !thread_exists("postbag-shard"); }));
  control->release_syncs();
  ASSERT_EQ(ended.wait_for(patience), std::future_status::ready);
  for (auto* call : {&first, &second, &third}) {
    ASSERT_EQ(call->wait_for(Duration::zero()), std::future_status::ready);
  }
  EXPECT_TRUE(first.get().ok());
  EXPECT_EQ(second.get().error, Errc::store_failed);
  EXPECT_EQ(third.get().error, Errc::stopping);
  EXPECT_EQ(pending_in_store(), 1u);
}

TEST_F(EngineStore, ADuplicateIsAcceptedWithTheFirst) {
  FaultReceiver receiver;
  start();
  control->hold();
  auto first = submit_async(*engine, hook_with_id(receiver.url(), "1", "one"));
  ASSERT_TRUE(control->wait_held());
  auto again = submit_async(*engine, hook_with_id(receiver.url(), "1", "one"));
  auto conflict = submit_async(*engine, hook_with_id(receiver.url(), "2", "one"));
  EXPECT_EQ(conflict.get().error, Errc::id_conflict);
  EXPECT_EQ(again.wait_for(Duration::zero()), std::future_status::timeout);
  control->release();
  EXPECT_EQ(first.get().accepted, 1u);
  const SubmitResult result = again.get();
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.accepted, 0u);
  EXPECT_EQ(result.duplicates, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]"));
}

TEST_F(EngineStore, ADuplicateIsRefusedWithTheFirst) {
  FaultReceiver receiver;
  start();
  control->hold();
  control->refuse_appends(Errc::disk_low);
  auto first = submit_async(*engine, hook_with_id(receiver.url(), "1", "one"));
  ASSERT_TRUE(control->wait_held());
  auto again = submit_async(*engine, hook_with_id(receiver.url(), "1", "one"));
  control->release();
  EXPECT_EQ(first.get().error, Errc::disk_low);
  EXPECT_EQ(again.get().error, Errc::disk_low);
  control->refuse_appends(Errc::ok);
  SubmitResult result;
  EXPECT_TRUE(eventually([&] {
    result = engine->submit(hook_with_id(receiver.url(), "2", "one"));  // the id is free again
    return result.error != Errc::disk_low;
  }));
  EXPECT_EQ(result.accepted, 1u);
}

TEST_F(EngineStore, FullIsAnAnswerAndNothingOfTheCallStays) {
  FaultReceiver receiver;
  start();
  EXPECT_TRUE(engine->submit(receiver.url("/a"), "1").ok());
  control->refuse_appends(Errc::disk_low);
  HookList hooks = hooks_to(receiver.url("/a"), {"2", "3"});
  hooks.add(receiver.url("/b"), "4");
  const SubmitResult refused = engine->submit(std::move(hooks));
  EXPECT_EQ(refused.error, Errc::disk_low);
  EXPECT_EQ(refused.accepted, 0u);
  EXPECT_FALSE(refused.message.empty());
  EXPECT_TRUE(eventually([&] { return engine->status().pending == 1; }));
  EXPECT_TRUE(engine->status().healthy);
  EXPECT_EQ(engine->submit(receiver.url("/a"), "5").error, Errc::disk_low);
  control->refuse_appends(Errc::ok);
  // Nothing but a call can find out that there is room again.
  EXPECT_TRUE(eventually([&] { return engine->submit(receiver.url("/a"), "6").ok(); }));
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1,6]"));
  EXPECT_EQ(engine->drain(patience).left, 0u);
  engine.reset();
  EXPECT_EQ(pending_in_store(), 0u);
}

// Its ids were free again, so the repeat of the call sent what had been kept of it twice.
TEST_F(EngineStore, WhatOneShardKeepsOfARefusedCallIsADuplicateInItsRepeat) {
  FaultReceiver receiver;
  options.engine.threads = 2;
  start();
  const auto url_of_shard = [&](std::uint64_t shard) {
    int n = 0;
    std::string url;
    do url = receiver.url("/" + std::to_string(n++));
    while (shard_index(url_hash(url), 2) != shard);
    return url;
  };
  const std::string kept = url_of_shard(0), refused = url_of_shard(1);
  const auto call = [&] {
    HookList hooks = hook_with_id(kept, "1", "one");
    hooks.add({refused, "2", "", "", "two", "", {}});
    return hooks;
  };
  std::promise<void> blocked, go_on;
  engine->submit(hooks_to(refused, {"0"}), {}, [&](const SubmitResult&) {
    blocked.set_value();
    go_on.get_future().wait();
  });
  ASSERT_EQ(blocked.get_future().wait_for(patience), std::future_status::ready);
  auto first = submit_async(*engine, call());
  EXPECT_TRUE(eventually([&] { return engine->status().accepted == 1; }));  // of the other shard
  control->refuse_appends(Errc::disk_low);
  go_on.set_value();
  EXPECT_EQ(first.get().error, Errc::disk_low);
  control->refuse_appends(Errc::ok);
  SubmitResult again;
  EXPECT_TRUE(eventually([&] {
    again = engine->submit(call());
    return again.error != Errc::disk_low;
  }));
  EXPECT_EQ(again.accepted, 1u);
  EXPECT_EQ(again.duplicates, 1u);
  engine->flush();
  EXPECT_TRUE(engine->wait_idle(patience));
  auto hooks = bodies(receiver.requests());
  std::sort(hooks.begin(), hooks.end());
  EXPECT_THAT(hooks, ElementsAre("[0,2]", "[1]"));
}

TEST_F(EngineStore, DeliveriesGoOnWhereIntakeCannot) {
  FaultReceiver receiver(hanging());
  options.defaults.batch.size = 1;
  start();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2"})).ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  control->refuse_appends(Errc::disk_low);
  EXPECT_EQ(engine->submit(receiver.url(), "3").error, Errc::disk_low);
  receiver.release();
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->drain(patience).left, 0u);
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]", "[2]"));
}

// Hooks whose failure cannot be written stay in the engine until it can.
TEST_F(EngineStore, WhatCannotBeStoredAsFailedStays) {
  FaultReceiver receiver(always(500));
  options.store.durability = Durability::memory;
  start();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), {"1", "2"})).ok());
  control->refuse_all(Errc::disk_low);
  engine->flush();
  ASSERT_TRUE(eventually([&] { return control->refused() >= 1; }));
  EXPECT_EQ(engine->status().pending, 2u);
  EXPECT_EQ(engine->status().given_up, 0u);
  control->refuse_all(Errc::ok);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("1", "2"));
  EXPECT_EQ(receiver.request_count(), 1u);
}

TEST_F(EngineStore, AFatalHandlerThatThrowsIsLogged) {
  FaultReceiver receiver;
  std::promise<void> logged;
  logger.level = LogLevel::error;
  logger.write = [&](LogLevel, std::string_view line) {
    if (line == "a callback threw: nobody catches this") logged.set_value();
  };
  start();
  engine->on_fatal([](std::error_code) { throw std::runtime_error("nobody catches this"); });
  control->refuse_all(Errc::store_failed);
  EXPECT_EQ(engine->submit(receiver.url(), "1").error, Errc::store_failed);
  EXPECT_EQ(logged.get_future().wait_for(patience), std::future_status::ready);
  EXPECT_FALSE(engine->status().healthy);
}

// It was said that it failed, and not what.
TEST_F(EngineStore, ItsFailureIsLoggedOnceWithTheCause) {
  FaultReceiver receiver;
  LoggedLines lines(logger, LogLevel::warning);
  start();
  control->refuse_all(Errc::store_failed);
  for (int call = 0; call < 3; ++call) {
    EXPECT_EQ(engine->submit(receiver.url(), "1").error, Errc::store_failed);
  }
  engine.reset();
  EXPECT_THAT(lines.all(),
              ElementsAre("the store failed, nothing is accepted any more: " + control->failure()));
}

// It was said that there is none, and not of what.
TEST_F(EngineStore, WantOfRoomIsLoggedOnceWithTheLimit) {
  FaultReceiver receiver;
  LoggedLines lines(logger, LogLevel::warning);
  start();
  control->refuse_appends(Errc::disk_low);
  for (int call = 0; call < 3; ++call) {
    const SubmitResult refused = engine->submit(receiver.url(), "1");
    EXPECT_EQ(refused.error, Errc::disk_low);
    EXPECT_THAT(refused.message, HasSubstr("[store] max_bytes"));  // what may be done about it
  }
  engine.reset();
  EXPECT_THAT(lines.all(),
              ElementsAre("no room, nothing new is accepted until there is some, deliveries go on: "
                          "a limit of the test: 9 of 10"));
}

// Every call was answered 507, and /healthz/ready with yes.
TEST_F(EngineStore, AnEngineWhoseStoreHasNoRoomSaysSoFromTheStart) {
  control->refuse_appends(Errc::disk_low);
  start();
  EXPECT_TRUE(engine->status().disk_low);
  EXPECT_TRUE(engine->status().healthy);
  control->refuse_appends(Errc::ok);
  EXPECT_TRUE(eventually([&] { return !engine->status().disk_low; }));
}

// It told how many it had cancelled; the next start would have sent them.
TEST_F(EngineStore, ACancelThatIsNotStoredIsAnError) {
  FaultReceiver receiver;
  start();
  ASSERT_TRUE(engine->submit(receiver.url(), "1").ok());
  control->refuse_all(Errc::store_failed);
  EXPECT_EQ(engine->cancel("*").error, Errc::store_failed);
  control->refuse_all(Errc::ok);
  engine.reset();
  EXPECT_EQ(pending_in_store(), 1u);
}

// One failed hook that found no room held back every settle, which would have made some.
TEST_F(EngineStore, WhatIsDeliveredLeavesTheStoreWhereFailuresFindNoRoom) {
  FaultReceiver refusing(always(500)), receiver(hanging());
  options.defaults.batch.size = 1;
  start();
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  EXPECT_TRUE(engine->submit(receiver.url("/b"), "2").ok());
  ASSERT_TRUE(receiver.wait_for_requests(2));
  control->refuse_fails(true);
  EXPECT_TRUE(engine->submit(refusing.url(), "3").ok());
  ASSERT_TRUE(eventually([&] { return control->refused() >= 1; }));
  receiver.release();
  EXPECT_TRUE(eventually([&] { return control->settled() == 2; }));
  control->refuse_fails(false);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("3"));
}

// All repeated calls were taken for new ones, and nothing said so.
TEST_F(EngineStore, DoesNotStartWithoutTheRememberedIds) {
  control->fail_load_ids();
  try {
    start();
    ADD_FAILURE();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), Errc::store_io);
  }
}

TEST_F(EngineStore, AStoreThatFailsEndsIntake) {
  FaultReceiver receiver;
  options.engine.threads = 2;
  start();
  std::promise<std::error_code> fatal;
  engine->on_fatal([&](std::error_code error) {
    // From a callback too: refused, at once.
    engine->submit(hooks_to(receiver.url(), {"1"}), {},
                   [](const SubmitResult& result) { EXPECT_EQ(result.error, Errc::store_failed); });
    fatal.set_value(error);
  });
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  control->refuse_all(Errc::store_failed);
  EXPECT_EQ(engine->submit(receiver.url(), "2").error, Errc::store_failed);
  auto told = fatal.get_future();
  ASSERT_EQ(told.wait_for(patience), std::future_status::ready);
  EXPECT_EQ(told.get(), Errc::store_failed);
  EXPECT_EQ(engine->submit(receiver.url(), "3").error, Errc::store_failed);
  EXPECT_FALSE(engine->status().healthy);
  EXPECT_FALSE(engine->wait_idle());  // ends: it never will be idle
  engine->flush();
  EXPECT_EQ(engine->cancel("*").error, Errc::store_failed);
  int calls = 0;
  engine->on_fatal([&](std::error_code error) {
    calls += 1;
    EXPECT_EQ(error, Errc::store_failed);
  });
  EXPECT_EQ(calls, 1);  // late, but told
  EXPECT_TRUE(engine->drain(patience).timed_out);
  engine.reset();
  EXPECT_EQ(pending_in_store(), 1u);  // what was accepted is there
  EXPECT_EQ(receiver.request_count(), 0u);
}

// The next engine over the same store goes on with it.
TEST_F(EngineStore, WhatWasAcceptedBeforeItFailedIsDeliveredLater) {
  FaultReceiver receiver;
  start();
  EXPECT_TRUE(engine->submit(receiver.url(), "1").ok());
  control->refuse_all(Errc::store_failed);
  EXPECT_EQ(engine->submit(receiver.url(), "2").error, Errc::store_failed);
  engine.reset();
  control->refuse_all(Errc::ok);
  start();
  EXPECT_EQ(engine->recover(), 1u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(receiver.requests()), ElementsAre("[1]"));
}

// Of the last batches that it read the rest may be missing: none may go out as it is.
TEST_F(EngineStore, ARecoveryThatCannotReadSendsNothing) {
  ReceiverOptions silent = hanging();
  FaultReceiver receiver(silent);
  options.defaults.batch.size = 1;
  start();
  EXPECT_TRUE(engine->submit(hooks_to(receiver.url(), std::vector<std::string>(5000, "1"))).ok());
  ASSERT_TRUE(receiver.wait_for_requests(1));
  engine.reset();
  start();
  control->fail_scan(1);
  EXPECT_THROW(engine->recover(), std::system_error);
  EXPECT_EQ(engine->submit(receiver.url(), "2").error, Errc::stopping);
  EXPECT_EQ(engine->status().in_flight, 0u);
  engine.reset();
  control->fail_scan(~ChunkNumber{0});
  start();
  receiver.release();
  EXPECT_EQ(engine->recover(), 5000u);
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(receiver.request_count(), 5001u);
}

// What the end of an engine says of hooks that the store does not take any more.
class EngineStoreEnd : public EngineStore {
 protected:
  EngineStoreEnd() {
    options.defaults.retry.retries = 5;
    options.defaults.retry.retry_interval = hours(1);
  }
  ~EngineStoreEnd() override { engine.reset(); }

  LoggedLines lines{logger, LogLevel::error};
  FaultReceiver sick{always(503)};
};

// It said that they are stored.
TEST_F(EngineStoreEnd, SaysWhatAMemoryEngineHasLost) {
  options.store.durability = Durability::memory;
  start();
  control->refuse_all(Errc::store_failed);
  EXPECT_TRUE(engine->submit(hooks_to(sick.url(), {"1", "2", "3"})).ok());
  const DrainReport report = engine->drain(patience);
  EXPECT_EQ(report.error, Errc::store_failed);
  EXPECT_EQ(report.lost, 3u);
  EXPECT_EQ(report.stored_failed, 0u);
  EXPECT_EQ(report.left, 0u);
  EXPECT_THAT(lines.all(), Contains(HasSubstr("3 hooks are lost")));
}

// A durable run left them; a memory one that ends takes nothing away.
TEST_F(EngineStoreEnd, WhatAnEarlierRunLeftInTheStoreIsNotLost) {
  start();
  EXPECT_TRUE(engine->submit(hooks_to(sick.url(), {"1", "2", "3"})).ok());
  (void)engine->drain(patience);
  engine.reset();
  options.store.durability = Durability::memory;
  start();
  EXPECT_EQ(engine->recover(), 3u);
  const DrainReport report = engine->drain(patience);
  EXPECT_FALSE(report.error);
  EXPECT_EQ(report.left, 3u);
  EXPECT_EQ(report.lost, 0u);
  engine.reset();
  EXPECT_EQ(pending_in_store(), 3u);
}

// It was like a drain that timed out, and forgot what was on the wire.
TEST_F(EngineStoreEnd, SaysThatTheStoreFailedAndWhatStaysInIt) {
  FaultReceiver stuck(hanging());
  options.defaults.batch.size = 1;
  start();
  EXPECT_TRUE(engine->submit(hooks_to(stuck.url(), {"1", "2"})).ok());
  ASSERT_TRUE(stuck.wait_for_requests(1));
  control->refuse_all(Errc::store_failed);
  EXPECT_FALSE(engine->submit(stuck.url(), "3").ok());
  const DrainReport report = engine->drain(patience);
  EXPECT_EQ(report.error, Errc::store_failed);
  EXPECT_EQ(report.left, 2u);
  EXPECT_EQ(report.lost + report.stored_failed, 0u);
  engine.reset();
  EXPECT_EQ(pending_in_store(), 2u);
}

// A receiver that says 503 until failed rows are there, and then hangs.
class EngineStoreRetry : public EngineStore {
 protected:
  void make_failed(int rows) {
    start();
    for (int row = 0; row < rows; ++row) {
      ASSERT_TRUE(engine->submit(receiver.url(), std::to_string(row)).ok());
    }
    engine->flush();
    ASSERT_TRUE(engine->wait_idle(patience));
    hangs = true;
  }
  std::future<RetryProgress> retry_async() {
    return std::async(std::launch::async, [this] { return engine->retry_failed({}); });
  }

  std::atomic<bool> hangs = false;
  int then_status = 200;
  FaultReceiver receiver{replying([this](const FaultRequest&) {
    return hangs ? FaultReply::hang().then(FaultReply::status(then_status))
                 : FaultReply::status(503);
  })};
};

// It waited for outcomes for ever, and `serve` with it, which could not exit.
TEST_F(EngineStoreRetry, EndsWhereTheStoreFailsWhileRowsAreOut) {
  make_failed(3);
  const std::size_t before = receiver.request_count();
  auto run = retry_async();
  ASSERT_TRUE(receiver.wait_for_requests(before + 1));
  control->refuse_all(Errc::store_failed);
  receiver.release();
  ASSERT_EQ(run.wait_for(patience), std::future_status::ready);
  EXPECT_EQ(run.get().error, Errc::store_failed);
  EXPECT_EQ(engine->retry_failed({}).error, Errc::store_failed);
  engine.reset();
  control->refuse_all(Errc::ok);
  hangs = false;
  start();
  EXPECT_EQ(failed_rows(*engine).size(), 3u);
}

// A dry run told nothing of it: nothing would be sent.
TEST_F(EngineStoreRetry, ADryRunThatCannotReadTheRowsIsAnError) {
  make_failed(3);
  EXPECT_EQ(engine->plan_retry({}).hooks, 3u);
  control->fail_list();
  EXPECT_EQ(engine->plan_retry({}).error, Errc::store_io);
  EXPECT_FALSE(engine->plan_retry({}).error);
}

TEST_F(EngineStoreRetry, EndsWhereAShardHaltsWhileRowsAreOut) {
  then_status = 500;
  const auto out_of_memory = std::make_shared<std::atomic<bool>>(false);
  logger.level = LogLevel::info;
  logger.write = [out_of_memory](LogLevel, std::string_view line) {
    if (*out_of_memory && line.starts_with("given up")) throw std::bad_alloc();
  };
  make_failed(3);
  const std::size_t before = receiver.request_count();
  auto run = retry_async();
  ASSERT_TRUE(receiver.wait_for_requests(before + 1));
  *out_of_memory = true;
  receiver.release();
  ASSERT_EQ(run.wait_for(patience), std::future_status::ready);
  EXPECT_EQ(run.get().error, std::errc::not_enough_memory);
}

// The rows that it delivered stayed, and it never ended.
TEST_F(EngineStoreRetry, EndsWhereAFailureFindsNoRoom) {
  make_failed(3);
  control->refuse_fails(true);
  FaultReceiver refusing(always(500));
  ASSERT_TRUE(engine->submit(refusing.url(), "4").ok());
  engine->flush();
  ASSERT_TRUE(eventually([&] { return control->refused() >= 1; }));
  receiver.release();
  auto run = retry_async();
  const auto state = run.wait_for(patience);
  const auto rows = failed_rows(*engine);
  control->refuse_fails(false);
  EXPECT_EQ(state, std::future_status::ready);
  EXPECT_EQ(run.get().delivered, 3u);
  EXPECT_THAT(rows, IsEmpty());
  EXPECT_TRUE(engine->wait_idle(patience));
  EXPECT_THAT(bodies(failed_rows(*engine)), ElementsAre("4"));
}

// Rows that had been read already stayed claimed: neither retried nor purged before a restart.
TEST_F(EngineStoreRetry, AReadErrorInTheMiddleClaimsNothing) {
  make_failed(3);
  control->fail_list();
  const RetryProgress cut_short = engine->retry_failed({});
  EXPECT_EQ(cut_short.error, Errc::store_io);
  EXPECT_EQ(cut_short.delivered, 0u);
  receiver.release();
  const RetryProgress done = engine->retry_failed({});
  EXPECT_FALSE(done.error);
  EXPECT_EQ(done.delivered, 3u);
  EXPECT_THAT(failed_rows(*engine), IsEmpty());
}

}  // namespace
}  // namespace postbag::test
