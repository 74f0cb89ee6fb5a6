// How an engine ends, hooks in memory: drain, hurry, destructor.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/shell/progress_wait.h"
#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// An engine whose store stays when it is gone.
struct World {
  std::shared_ptr<Store> store = make_memory_store();
  std::unique_ptr<Engine> engine;
  explicit World(const Options& options = loopback_options())
      : engine(std::make_unique<Engine>(options, std::make_unique<FailingStore>(store))) {}
  std::vector<FailedHook> rows() const {
    FailedPage page;
    EXPECT_FALSE(store->list_failed({}, {}, SliceLimits{}, page));
    return page.rows;
  }
};

void expect_shut_down(const std::vector<FailedHook>& rows, std::uint32_t attempts) {
  for (const FailedHook& row : rows) {
    EXPECT_EQ(row.reason, Reason::shutdown);
    EXPECT_EQ(row.attempts, attempts);
  }
}

TEST(WaitWhileProgress, EndsOnlyWhenNothingWasDoneForSoLong) {
  std::mutex mutex;
  std::condition_variable changed;
  std::unique_lock lock(mutex);
  std::uint64_t left = 100;
  const auto wait = [&](std::uint64_t ended_at, std::uint64_t hangs_at) {
    return wait_while_progress(
        changed, lock, Duration::zero(), [&] { return left <= ended_at; },
        [&] { return left == hangs_at ? left : left--; });
  };
  EXPECT_TRUE(wait(50, 0));
  EXPECT_EQ(left, 50u);
  EXPECT_FALSE(wait(10, 20));
  EXPECT_EQ(left, 20u);
}

TEST(EngineDrain, GivesEachBatchOneAttemptAndStoresTheRest) {
  FaultReceiver good;
  FaultReceiver bad(always(503));
  Options options = loopback_options();
  options.defaults.retry.retries = 5;
  options.defaults.retry.retry_interval = hours(1);
  options.defaults.batch.size = 2;
  World world(options);
  EXPECT_TRUE(world.engine->submit(hooks_to(good.url(), {"1", "2", "3"})).ok());
  EXPECT_TRUE(world.engine->submit(hooks_to(bad.url(), {"4", "5", "6"})).ok());
  const DrainReport report = world.engine->drain(patience);
  EXPECT_FALSE(report.timed_out);
  EXPECT_EQ(report.left, 0u);
  EXPECT_EQ(report.stored_failed, 3u);
  EXPECT_THAT(bodies(good.requests()), ElementsAre("[1,2]", "[3]"));
  EXPECT_THAT(bodies(bad.requests()), ElementsAre("[4,5]", "[6]"));
  EXPECT_THAT(bodies(failed_rows(*world.engine)), ElementsAre("4", "5", "6"));
  EXPECT_EQ(world.engine->status().pending, 0u);
  expect_shut_down(world.rows(), 1);
  world.engine.reset();
  EXPECT_EQ(world.rows().size(), 3u);
}

TEST(EngineDrain, BreaksOffWhatHangs) {
  FaultReceiver stuck(hanging());
  World world;
  EXPECT_TRUE(world.engine->submit(hooks_to(stuck.url(), {"1", "2"})).ok());
  world.engine->flush();
  ASSERT_TRUE(stuck.wait_for_requests(1));
  EXPECT_TRUE(world.engine->submit(stuck.url(), "3").ok());
  const DrainReport report = world.engine->drain(milliseconds(1));
  EXPECT_TRUE(report.timed_out);
  EXPECT_EQ(report.stored_failed, 3u);
  EXPECT_THAT(bodies(world.rows()), ElementsAre("1", "2", "3"));
  expect_shut_down(world.rows(), 0);  // we broke the attempt off: it is not counted
}

TEST(EngineDrain, HurriesWhenToldAgain) {
  FaultReceiver stuck(hanging());
  World world;
  EXPECT_TRUE(world.engine->submit(stuck.url(), "1").ok());
  auto drained =
      std::async(std::launch::async, [&] { return world.engine->drain(std::chrono::hours(1)); });
  ASSERT_TRUE(stuck.wait_for_requests(1));
  world.engine->hurry();
  ASSERT_EQ(drained.wait_for(patience), std::future_status::ready);
  EXPECT_TRUE(drained.get().timed_out);
  EXPECT_EQ(world.rows().size(), 1u);
}

// Two signals at once, as a supervisor of a group gives them: an idle daemon said that it had
// stopped early.
TEST(EngineDrain, AnIdleEngineIsInTimeHoweverHurried) {
  Options options = loopback_options();
  options.engine.threads = 4;
  for (int round = 0; round < 100; ++round) {
    World world(options);
    world.engine->hurry();
    EXPECT_FALSE(world.engine->drain(Duration::zero()).timed_out);
  }
}

TEST(EngineDrain, ManyAtOnceGetTheSameAnswer) {
  FaultReceiver bad(always(500));
  Options options = loopback_options();
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  World world(options);
  EXPECT_TRUE(world.engine->submit(bad.url(), "1").ok());
  std::vector<std::future<DrainReport>> drains;
  for (int i = 0; i < 4; ++i) {
    drains.push_back(std::async(std::launch::async, [&] { return world.engine->drain(patience); }));
  }
  for (auto& drain : drains) EXPECT_EQ(drain.get().stored_failed, 1u);
}

TEST(EngineDestructor, StoresWhatIsLeftAsFailed) {
  FaultReceiver stuck(hanging());
  FaultReceiver bad(always(500));
  Options options = loopback_options();
  options.engine.threads = 2;
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  World world(options);
  EXPECT_TRUE(world.engine->submit(hooks_to(bad.url(), {"1", "2"})).ok());
  EXPECT_TRUE(world.engine->submit(stuck.url(), "3").ok());
  world.engine->flush();
  ASSERT_TRUE(stuck.wait_for_requests(1));
  ASSERT_TRUE(eventually([&] { return world.engine->status().retrying == 1; }));
  EXPECT_TRUE(world.engine->submit(hooks_to(stuck.url(), {"4", "5"})).ok());
  world.engine.reset();
  auto rows = world.rows();
  std::sort(rows.begin(), rows.end(), [](const auto& a, const auto& b) { return a.body < b.body; });
  EXPECT_THAT(bodies(rows), ElementsAre("1", "2", "3", "4", "5"));
  for (const FailedHook& row : rows) {
    EXPECT_EQ(row.reason, Reason::shutdown);
    EXPECT_EQ(row.attempts, row.body < "3" ? 1u : 0u);
  }
}

// What was handed over a moment before may come to its shard in the same turn as the end.
TEST(EngineDestructor, AccountsForCallsOfTheLastMoment) {
  FaultReceiver stuck(hanging());
  for (int round = 0; round < 50; ++round) {
    Options options = loopback_options();
    options.defaults.batch.size = 1;
    World world(options);
    auto answer =
        submit_async(*world.engine, hooks_to(stuck.url("/" + std::to_string(round)), {"1"}));
    world.engine.reset();
    EXPECT_TRUE(answer.get().ok());
    EXPECT_EQ(world.rows().size(), 1u) << round;
  }
}

// The callback's thread is one that the end waits for.
TEST(EngineDestructor, FromACallbackReturnsAtOnceAndTheEngineEndsLater) {
  FaultReceiver stuck(hanging());
  for (const bool durable : {false, true}) {
    std::promise<void> ended;
    std::promise<void> called;
    const std::shared_ptr<Store> store = make_memory_store();
    Options options = loopback_options();
    if (durable) options.store.durability = Durability::fsync;
    Logger logger;  // lives as long as the engine
    logger.write = [token = std::shared_ptr<void>(nullptr, [&ended](void*) { ended.set_value(); })](
                       LogLevel, std::string_view) {};
    auto engine =
        std::make_unique<Engine>(options, std::make_unique<FailingStore>(store), std::move(logger));
    engine->submit(hooks_to(stuck.url(), {"1"}), {}, [&](const SubmitResult& result) {
      EXPECT_TRUE(result.ok());
      engine.reset();
      called.set_value();
    });
    ASSERT_EQ(called.get_future().wait_for(patience), std::future_status::ready);
    ASSERT_EQ(ended.get_future().wait_for(patience), std::future_status::ready);
    std::vector<PendingChunk> chunks;
    FailedPage page;
    EXPECT_FALSE(store->scan_pending(0, 10, chunks));
    EXPECT_FALSE(store->list_failed({}, {}, SliceLimits{}, page));
    EXPECT_EQ(chunks.size(), durable ? 1u : 0u);
    EXPECT_EQ(page.rows.size(), durable ? 0u : 1u);
  }
}

// A call of settled duplicates only is answered on the thread that made it.
TEST(EngineDestructor, FromTheCallbackOfADuplicate) {
  const std::string url = refusing_url();
  auto engine = std::make_unique<Engine>(loopback_options(), make_memory_store());
  ASSERT_TRUE(engine->submit(hook_with_id(url, "1", "one")).ok());
  Engine& ended = *engine;
  bool is_called = false;
  ended.submit(hook_with_id(url, "1", "one"), {}, [&](const SubmitResult& result) {
    EXPECT_EQ(result.duplicates, 1u);
    engine.reset();
    is_called = true;
  });
  EXPECT_TRUE(is_called);
}

TEST(EngineDestructor, OfAnIdleEngine) {
  World world;
  world.engine.reset();
  EXPECT_THAT(world.rows(), IsEmpty());
}

}  // namespace
}  // namespace postbag::test
