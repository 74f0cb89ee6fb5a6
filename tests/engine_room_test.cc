// The public Engine where open bags are more than max_memory holds: hooks are taken all the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <span>
#include <string>
#include <utility>

#include "engine/pure/url_hash.h"
#include "postbag/sqlite_store.h"
#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr int targets = 10;

// Hooks of a kilobyte, in turn to each of the targets. A call that is told `full` is repeated.
void submit_numbers(Engine& engine, const FaultReceiver& receiver, int from, int to) {
  constexpr int call_hooks = 100;
  for (int first = from; first < to; first += call_hooks) {
    const bool is_taken = eventually([&] {
      HookList hooks;
      for (int number = first; number < first + call_hooks; ++number) {
        std::string payload = "{\"n\":" + std::to_string(number) + "}";
        payload.insert(payload.size() - 1, 1000 - payload.size(), ' ');
        hooks.add(receiver.url("/" + std::to_string(number % targets)), payload);
      }
      const SubmitResult result = engine.submit(std::move(hooks));
      EXPECT_TRUE(result.ok() || result.error == Errc::full) << result.message;
      return result.ok();
    });
    ASSERT_TRUE(is_taken) << first;
  }
}

std::map<std::string, std::vector<std::string>> sizes_by_path(const FaultReceiver& receiver) {
  std::map<std::string, std::vector<std::string>> sizes;
  for (const FaultRequest& request : receiver.requests()) {
    sizes[request.path].push_back(request.header("Postbag-Batch-Size"));
  }
  return sizes;
}

void expect_in_order(const FaultReceiver& receiver, int count) {
  const auto arrived = hooks_by_path(receiver);
  ASSERT_EQ(arrived.size(), static_cast<std::size_t>(targets));
  for (int target = 0; target < targets; ++target) {
    int next = target;
    for (const std::string& payload : arrived.at("/" + std::to_string(target))) {
      ASSERT_EQ(payload.substr(0, payload.find(' ')), "{\"n\":" + std::to_string(next)) << target;
      next += targets;
    }
    EXPECT_EQ(next, count + target);
  }
}

class EngineRoom : public testing::Test {
 protected:
  EngineRoom() {
    options.store.path = directory.file("postbag.db");
    options.store.durability = Durability::os;
    options.engine.max_memory = 1 << 20;
    options.defaults.batch.size = 1000;
    options.defaults.batch.bytes = 2 << 20;
    start();
  }
  void start() {
    engine.reset();
    SqliteStoreOptions store;
    store.path = options.store.path;
    engine = std::make_unique<Engine>(options, open_sqlite_store(store));
  }

  TempDirectory directory;
  Options options = loopback_options();
  FaultReceiver receiver;
  std::unique_ptr<Engine> engine;
};

// Review A2: 930 hooks were accepted, then every call was `full` for good.
TEST_F(EngineRoom, OpenBagsBeyondMaxMemoryAreFilledToTheirSize) {
  submit_numbers(*engine, receiver, 0, 20'000);
  ASSERT_TRUE(engine->wait_idle(std::chrono::seconds(100)));
  for (const auto& [path, sizes] : sizes_by_path(receiver)) {
    EXPECT_THAT(sizes, ElementsAre("1000", "1000")) << path;
  }
  expect_in_order(receiver, 20'000);
  EXPECT_EQ(engine->status().cut_by_size, 20u);
  EXPECT_EQ(engine->status().cut_by_request, 0u);
}

TEST_F(EngineRoom, OpenBagsBeyondMaxMemoryAreFoundAfterARestart) {
  submit_numbers(*engine, receiver, 0, 12'000);
  ASSERT_TRUE(eventually([&] { return engine->status().delivered == 10'000; }))
      << engine->status().delivered << " of " << engine->status().accepted << ", cut early "
      << engine->status().cut_by_request;
  start();
  EXPECT_EQ(engine->recover(), 2'000u);
  submit_numbers(*engine, receiver, 12'000, 22'000);
  ASSERT_TRUE(engine->wait_idle(std::chrono::seconds(100)));
  for (const auto& [path, sizes] : sizes_by_path(receiver)) {
    EXPECT_THAT(sizes, ElementsAre("1000", "200", "1000")) << path;
  }
  expect_in_order(receiver, 22'000);
}

// Nothing can be dropped there, so the fullest bags are cut before they are full, and the log says
// so.
TEST(EngineMemoryRoom, OpenBagsBeyondMaxMemoryAreCutEarlyInMemoryMode) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.engine.max_memory = 1 << 20;
  options.defaults.batch.bytes = 2 << 20;
  Logger logger;
  LoggedLines lines(logger, LogLevel::warning);
  Engine engine(options, make_memory_store(), logger);
  submit_numbers(engine, receiver, 0, 5'000);
  engine.flush();
  ASSERT_TRUE(engine.wait_idle(patience));
  expect_in_order(receiver, 5'000);
  EXPECT_GT(engine.status().cut_by_request, 10u);
  EXPECT_THAT(lines.all(), Not(IsEmpty()));
  EXPECT_THAT(lines.all(), Each(HasSubstr("open bags")));
}

std::pair<std::string, std::string> urls_of_two_shards(const FaultReceiver& receiver) {
  std::pair<std::string, std::string> urls;
  for (int path = 0; urls.first.empty() || urls.second.empty(); ++path) {
    std::string url = receiver.url("/" + std::to_string(path));
    (shard_index(url_hash(url), 2) == 0 ? urls.first : urls.second) = std::move(url);
  }
  return urls;
}

// Each shard was asked for an equal part: one that held next to nothing cut all of its bags.
TEST(EngineMemoryRoom, AShardThatHoldsLittleCutsNothing) {
  FaultReceiver receiver(hanging());
  Options options = loopback_options();
  options.engine.threads = 2;
  options.engine.max_memory = 1 << 20;
  options.defaults.batch.size = 100;
  Engine engine(options, make_memory_store());
  const auto [little, much] = urls_of_two_shards(receiver);
  ASSERT_TRUE(engine.submit(little, "1").ok());
  const std::string payload = '"' + std::string(1'000, 'x') + '"';
  while (engine.submit(much, payload).ok()) {
  }
  // What was asked for is done and published behind two turns of each.
  for (int turn = 0; turn < 2; ++turn) EXPECT_EQ(engine.targets().size(), 2u);
  EXPECT_EQ(engine.status().cut_by_request, 0u);
  for (const TargetStatus& target : engine.targets()) {
    EXPECT_TRUE(target.url != little || target.waiting == 1);
  }
  receiver.release();
}

// Counts what is read back.
class ReadsStore : public FailingStore {
 public:
  ReadsStore() : FailingStore(std::shared_ptr<Store>(make_memory_store())) {}
  std::error_code read_chunks(std::span<const ChunkNumber> chunks,
                              std::vector<std::string>& blobs) override {
    reads += 1;
    return FailingStore::read_chunks(chunks, blobs);
  }
  std::atomic<int> reads{0};
};

// The same of what the store has: what waited there left memory for what another shard held.
TEST(EngineMemoryRoom, AShardThatHoldsLittleDropsNothing) {
  FaultReceiver receiver(replying([](const FaultRequest& request) {
    if (request.body.size() < 1'000) return FaultReply::status(503);
    return FaultReply::hang().then(FaultReply::status(200));
  }));
  Options options = loopback_options();
  options.store.durability = Durability::os;
  options.engine.threads = 2;
  options.engine.max_memory = 1 << 20;
  options.defaults.batch.size = 1;
  options.defaults.delivery.in_flight = 16;
  options.defaults.retry.retries = 1;
  options.defaults.retry.retry_interval = hours(1);
  auto store = std::make_unique<ReadsStore>();
  const std::atomic<int>& reads = store->reads;
  Engine engine(options, std::move(store));
  const auto [little, much] = urls_of_two_shards(receiver);
  ASSERT_TRUE(engine.submit(little, "1").ok());
  ASSERT_TRUE(eventually([&] { return engine.status().retrying == 1; }));
  const std::string payload = '"' + std::string(100'000, 'x') + '"';
  for (int hook = 0; hook < 8; ++hook) ASSERT_TRUE(engine.submit(much, payload).ok());
  ASSERT_TRUE(eventually([&] { return engine.status().in_flight == 8; }));
  ASSERT_GT(engine.status().memory_bytes, options.engine.max_memory / 4 * 3);
  for (int turn = 0; turn < 2; ++turn) EXPECT_EQ(engine.targets().size(), 2u);
  EXPECT_EQ(engine.cancel(little).cancelled, 1u);
  EXPECT_EQ(reads, 0) << "its failed row wanted what was dropped";
  receiver.release();
}

}  // namespace
}  // namespace postbag::test
