// submit() when an allocation fails: for every i the i-th one, until a pass in which none does.
// The call is refused whole, or accepted whole; what it held is free again, and it can be repeated.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <new>
#include <string>
#include <thread>

#include "tests/support/engine_support.h"
#include "tests/support/failing_new.h"
#include "tests/support/failing_store.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using test::FailingNew;
using test::Outcomes;
using test::patience;

const std::string url_a = "http://127.0.0.1:9/a";
const std::string url_b = "http://127.0.0.1:9/b";

// Never cut, so nothing is sent.
Options waiting_options(std::uint32_t threads) {
  Options options = test::loopback_options();
  options.engine.threads = threads;
  return options;
}

HookList some_hooks(const std::string& id_prefix) {
  HookList hooks;
  for (int i = 0; i < 20; ++i) {
    const std::string id = id_prefix.empty() ? "" : id_prefix + std::to_string(i);
    HookView hook;
    hook.target = i % 2 == 0 ? url_a : url_b;
    hook.body = R"({"n":1})";
    hook.id = id;
    hooks.add(hook);
  }
  return hooks;
}

struct Answer {
  std::promise<SubmitResult> promise;
  std::future<SubmitResult> future = promise.get_future();
  SubmitHandler handler() {
    return [this](SubmitResult result) { promise.set_value(std::move(result)); };
  }
  // Nothing if the call was never answered.
  std::optional<SubmitResult> get() {
    if (future.wait_for(patience) != std::future_status::ready) return {};
    return future.get();
  }
};

// The engine's threads have memory; the producer has not.
void fail_the_producer(std::uint32_t threads, const std::string& id_prefix, bool with_listener) {
  Engine engine(waiting_options(threads), make_memory_store());
  std::uint64_t accepted = 0;
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    const std::string ids = id_prefix.empty() ? "" : id_prefix + std::to_string(nth) + "_";
    HookList hooks = some_hooks(ids);
    SubmitOptions options;
    options.want_ids = true;
    if (with_listener) options.listener = std::make_shared<Outcomes>(false);
    Answer answer;
    FailingNew::arm(FailingNew::Who::this_thread, nth);
    engine.submit(std::move(hooks), std::move(options), answer.handler());
    const bool clean = FailingNew::disarm() == 0;
    const auto result = answer.get();
    ASSERT_TRUE(result) << "allocation " << nth << ": no answer";
    accepted += result->accepted;
    if (clean) {
      ASSERT_TRUE(result->ok()) << result->message;
      EXPECT_GT(nth, 2u);
      break;
    }
    ASSERT_EQ(result->error, Errc::full) << "allocation " << nth;
    ASSERT_EQ(result->accepted, 0u) << nth;
    ASSERT_EQ(engine.status().pending, accepted) << nth;
    // Nothing of the ids is left behind: the same call is new.
    const SubmitResult again = engine.submit(some_hooks(ids));
    ASSERT_TRUE(again.ok()) << again.message;
    ASSERT_EQ(again.accepted, 20u) << nth;
    accepted += 20;
  }
  EXPECT_EQ(engine.status().pending, accepted);
  EXPECT_EQ(engine.cancel("*").cancelled, accepted);
  EXPECT_TRUE(engine.wait_idle(patience));
  EXPECT_LT(engine.status().memory_bytes, 100'000u);  // no reservation is left
}

TEST(EngineAllocFailureTest, ACallIsRefusedWhole) {
  fail_the_producer(1, "", false);
}
TEST(EngineAllocFailureTest, ACallForSeveralShardsIsRefusedWhole) {
  fail_the_producer(3, "", false);
}
TEST(EngineAllocFailureTest, TheIdsOfARefusedCallAreFree) {
  fail_the_producer(2, "id_", false);
}
TEST(EngineAllocFailureTest, ACallThatIsListenedTo) {
  fail_the_producer(1, "id_", true);
}

// A call that waits for the ids of one that ends without memory is told.
TEST(EngineAllocFailureTest, ARepeatedCall) {
  Engine engine(waiting_options(1), make_memory_store());
  ASSERT_TRUE(engine.submit(some_hooks("id_")).ok());
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    HookList hooks = some_hooks("id_");
    SubmitOptions options;
    options.listener = std::make_shared<Outcomes>(false);
    Answer answer;
    FailingNew::arm(FailingNew::Who::this_thread, nth);
    engine.submit(std::move(hooks), std::move(options), answer.handler());
    const bool clean = FailingNew::disarm() == 0;
    const auto result = answer.get();
    ASSERT_TRUE(result) << "allocation " << nth << ": no answer";
    ASSERT_EQ(result->error, clean || result->ok() ? Errc::ok : Errc::full) << nth;
    ASSERT_EQ(result->duplicates, result->ok() ? 20u : 0u) << nth;
    if (clean) return;
  }
  FAIL() << "there is always one more allocation";
}

// The engine's own threads have none: a shard that cannot go on halts, the engine says so, and
// every call has its answer.
void fail_everywhere(std::uint32_t threads, std::uint64_t failures,
                     Durability durability = Durability::memory, bool syncs_later = false) {
  std::uint64_t halted = 0;
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    Options engine_options = waiting_options(threads);
    engine_options.store.durability = durability;
    const auto control = std::make_shared<test::StoreControl>();
    if (syncs_later) control->sync_later();
    Engine engine(engine_options,
                  std::make_unique<test::FailingStore>(make_memory_store(), control));
    std::atomic<bool> fatal{false};
    engine.on_fatal([&](std::error_code error) {
      EXPECT_EQ(error, std::errc::not_enough_memory);
      fatal = true;
    });
    HookList hooks = some_hooks("id_");
    SubmitOptions options;
    options.want_ids = true;
    Answer answer;
    FailingNew::arm(FailingNew::Who::every_thread, nth, failures);
    engine.submit(std::move(hooks), std::move(options), answer.handler());
    const auto result = answer.get();
    const bool clean = FailingNew::disarm() == 0;
    ASSERT_TRUE(result) << "allocation " << nth << ": no answer";
    if (result->error == Errc::store_failed) {
      ASSERT_TRUE(test::eventually([&] { return fatal.load(); })) << nth;
      ASSERT_FALSE(engine.status().healthy) << nth;
      const Errc later = engine.submit(url_a, "{}").error;
      ASSERT_TRUE(later == Errc::stopping || later == Errc::store_failed) << nth;
      ++halted;
    } else if (!result->ok()) {
      ASSERT_TRUE(result->error == Errc::full || result->error == Errc::disk_low) << nth;
    }
    engine.drain(patience);  // ends, also with a shard that halted
    if (!clean) continue;
    ASSERT_TRUE(result->ok());
    EXPECT_GT(halted, 0u);
    return;
  }
  FAIL() << "there is always one more allocation";
}

TEST(EngineAllocFailureTest, AShardWithoutMemoryHaltsAndAnswers) {
  fail_everywhere(1, 1);
}
TEST(EngineAllocFailureTest, OneOfSeveralShardsWithoutMemory) {
  fail_everywhere(3, 2);
}
TEST(EngineAllocFailureTest, AStoreThreadWithoutMemoryRefusesAndEndsTheEngine) {
  fail_everywhere(2, 1, Durability::fsync);
}
TEST(EngineAllocFailureTest, AThreadOfTheSyncsWithoutMemory) {
  fail_everywhere(1, 3, Durability::fsync, true);
}

// A shard that halts while it is held for a recovery must not stay held.
void fail_a_recovery(std::uint32_t threads, std::uint64_t failures) {
  Options options = waiting_options(threads);
  options.store.durability = Durability::fsync;
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    const std::shared_ptr<Store> store = make_memory_store();
    const auto make = [&] {
      return std::make_unique<Engine>(options, std::make_unique<test::FailingStore>(store));
    };
    ASSERT_TRUE(make()->submit(some_hooks("")).ok());
    auto engine = make();
    HookList hooks = some_hooks("id_");
    Answer answer;
    std::optional<std::uint64_t> recovered;
    FailingNew::arm(FailingNew::Who::every_thread, nth, failures);
    bool is_held = false;
    try {
      recovered = engine->recover({}, [&] {
        is_held = true;
        engine->submit(std::move(hooks), {}, answer.handler());
      });
    } catch (const std::exception&) {
      EXPECT_FALSE(recovered);
    }
    const bool clean = FailingNew::disarm() == 0;
    engine->drain(milliseconds(1));
    engine.reset();
    ASSERT_TRUE(!is_held || answer.get()) << "allocation " << nth << ": no answer";
    if (!clean) continue;
    EXPECT_EQ(recovered, 20u);
    return;
  }
  FAIL() << "there is always one more allocation";
}

TEST(EngineAllocFailureTest, ARecoveryWithoutMemoryEnds) {
  fail_a_recovery(1, 1);
}
TEST(EngineAllocFailureTest, ARecoveryOfSeveralShardsWithoutMemoryEnds) {
  fail_a_recovery(3, 2);
}

// A run of retry-failed-hooks that ended without memory kept rows claimed: until the restart they
// were neither retried nor purged.
TEST(EngineAllocFailureTest, ARetryRunThatEndsWithoutMemoryLeavesItsRowsFree) {
  Engine engine(waiting_options(2), make_memory_store());
  ASSERT_TRUE(engine.submit(some_hooks("")).ok());
  EXPECT_EQ(engine.cancel("*").cancelled, 20u);
  std::uint64_t ended_early = 0;
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    FailingNew::arm(FailingNew::Who::this_thread, nth);
    std::error_code error;
    try {
      error = engine.retry_failed({}).error;
    } catch (const std::bad_alloc&) {
      error = std::make_error_code(std::errc::not_enough_memory);
    }
    const bool clean = FailingNew::disarm() == 0;
    if (error) {
      ASSERT_EQ(error, std::errc::not_enough_memory) << nth;
      ASSERT_FALSE(clean);
      ended_early += 1;
    }
    ASSERT_EQ(engine.retry_failed({}).failed, 20u) << "allocation " << nth;
    if (!clean) continue;
    EXPECT_GT(ended_early, 10u);
    return;
  }
  FAIL() << "there is always one more allocation";
}

// Three slices; notes whether it ended elsewhere than it began while it was not whole.
class ThreadNotingBackup : public StoreBackup {
 public:
  explicit ThreadNotingBackup(std::atomic<int>& ended_elsewhere)
      : ended_elsewhere_(ended_elsewhere) {}
  ~ThreadNotingBackup() override {
    if (steps_ < 3 && std::this_thread::get_id() != thread_) ended_elsewhere_ += 1;
  }
  std::error_code step(bool& done) override {
    done = ++steps_ == 3;
    return {};
  }
  std::error_code sync() override { return {}; }

 private:
  const std::thread::id thread_ = std::this_thread::get_id();
  std::atomic<int>& ended_elsewhere_;
  int steps_ = 0;
};

class ThreadNotingStore : public test::FailingStore {
 public:
  explicit ThreadNotingStore(std::atomic<int>& ended_elsewhere)
      : FailingStore(make_memory_store()), ended_elsewhere_(ended_elsewhere) {}
  std::error_code begin_backup(const std::string&, std::unique_ptr<StoreBackup>& backup) override {
    backup = std::make_unique<ThreadNotingBackup>(ended_elsewhere_);
    return {};
  }

 private:
  std::atomic<int>& ended_elsewhere_;
};

// It ended on the caller's thread, while the store's own used the same connection.
TEST(EngineAllocFailureTest, ABackupWithoutMemoryEndsOnTheStoresThread) {
  std::atomic<int> ended_elsewhere{0};
  Engine engine(waiting_options(1), std::make_unique<ThreadNotingStore>(ended_elsewhere));
  std::uint64_t failed = 0;
  for (bool clean = false; !clean; failed += clean ? 0 : 1) {
    FailingNew::arm(FailingNew::Who::this_thread, failed);
    std::optional<std::error_code> error;
    try {
      error = engine.backup("unused");
    } catch (const std::bad_alloc&) {
      error.reset();
    }
    clean = FailingNew::disarm() == 0;
    ASSERT_EQ(error.has_value(), clean) << failed;
  }
  EXPECT_GT(failed, 3u);
  EXPECT_EQ(ended_elsewhere, 0);
}

}  // namespace
}  // namespace postbag
