// Many producers, two shards, real sockets: nothing lost, nothing twice, order kept.
#include <gtest/gtest.h>

#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

constexpr std::size_t producers = 8;
constexpr std::size_t hooks_each = 10'000;
constexpr std::size_t targets = 16;
constexpr std::size_t list_hooks = 250;

std::string payload_of(std::size_t producer, std::size_t number) {
  return "{\"p\":" + std::to_string(producer) + ",\"n\":" + std::to_string(number) + "}";
}

void produce(Engine& engine, const FaultReceiver& receiver, std::size_t producer) {
  for (std::size_t first = 0; first < hooks_each; first += list_hooks) {
    HookList hooks;
    for (std::size_t number = first; number < first + list_hooks; ++number) {
      hooks.add(receiver.url("/" + std::to_string(number % targets)), payload_of(producer, number));
    }
    const SubmitResult result = engine.submit(std::move(hooks));
    ASSERT_TRUE(result.ok()) << result.message;
    ASSERT_EQ(result.accepted, list_hooks);
  }
}

// The numbers of one producer that one target got must be exactly its own, ascending.
void expect_in_order(const std::vector<std::string>& arrived, std::size_t target) {
  std::vector<std::size_t> next(producers, target);
  for (const std::string& payload : arrived) {
    std::size_t producer = 0, number = 0;
    ASSERT_EQ(std::sscanf(payload.c_str(), "{\"p\":%zu,\"n\":%zu}", &producer, &number), 2);
    ASSERT_LT(producer, producers);
    ASSERT_EQ(number, next[producer]) << "producer " << producer << ", target " << target;
    next[producer] += targets;
  }
  for (const std::size_t end : next) EXPECT_GE(end, hooks_each);
}

TEST(EngineLoad, EveryHookArrivesOnceAndInOrder) {
  FaultReceiver receiver;
  Options options = loopback_options();
  options.engine.threads = 2;
  options.defaults.batch.size = 100;
  options.defaults.batch.time = milliseconds(20);
  Engine engine(options, make_memory_store());
  std::vector<std::thread> threads;
  for (std::size_t producer = 0; producer < producers; ++producer) {
    threads.emplace_back([&, producer] { produce(engine, receiver, producer); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(engine.wait_idle(std::chrono::seconds(100)));
  const auto arrived = hooks_by_path(receiver);
  std::size_t sum = 0;
  for (std::size_t target = 0; target < targets; ++target) {
    const auto& hooks = arrived.at("/" + std::to_string(target));
    sum += hooks.size();
    expect_in_order(hooks, target);
  }
  EXPECT_EQ(sum, producers * hooks_each);
  const EngineStatus status = engine.status();
  EXPECT_EQ(status.accepted, producers * hooks_each);
  EXPECT_EQ(status.delivered, producers * hooks_each);
  EXPECT_EQ(status.pending, 0u);
}

// Everything at once, for the thread sanitizer: intake, looking, flushing, reloading, cancelling,
// retrying.
TEST(EngineLoad, CallsFromManyThreadsAtOnce) {
  std::atomic<int> requests = 0;
  FaultReceiver receiver(replying(
      [&](const FaultRequest&) { return FaultReply::status(++requests % 5 == 0 ? 500 : 200); }));
  Options options = loopback_options();
  options.engine.threads = 2;
  options.defaults.batch.size = 10;
  options.defaults.retry.retries = 1;
  std::uint64_t accepted = 0;
  Engine engine(options, make_memory_store());
  std::atomic<bool> stop = false;
  std::vector<std::thread> others;
  const auto repeat = [&](auto what) {
    others.emplace_back([&stop, what] {
      while (!stop) what();
    });
  };
  repeat([&] { engine.flush(); });
  repeat([&] { engine.reload(options); });
  repeat([&] { engine.status(), engine.targets(), engine.find_hook("nobody"); });
  repeat([&] { engine.retry_failed({}); });
  repeat([&] { engine.cancel("*/3"); });
  SubmitOptions want;
  want.want_ids = true;
  for (int i = 0; i < 300; ++i) {
    HookList hooks;
    for (int j = 0; j < 20; ++j) {
      hooks.add(receiver.url("/" + std::to_string(j % 8)), payload_of(0, i * 20 + j));
    }
    const SubmitResult result = engine.submit(std::move(hooks), want);
    ASSERT_TRUE(result.ok());
    accepted += result.accepted;
  }
  stop = true;
  for (std::thread& thread : others) thread.join();
  engine.flush();
  EXPECT_TRUE(engine.wait_idle(patience));
  const EngineStatus status = engine.status();
  EXPECT_EQ(accepted, 6000u);
  EXPECT_EQ(status.accepted, accepted);
  // Each was delivered at once, or failed; those that failed were delivered later or are still
  // there.
  const std::uint64_t left = failed_rows(engine).size();
  EXPECT_EQ(status.delivered + left, accepted);
}

}  // namespace
}  // namespace postbag::test
