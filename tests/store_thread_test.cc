// What the store thread notices and says by itself, with a clock that the test moves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <utility>

#include "engine/pure/shard_core.h"
#include "engine/shell/store_thread.h"
#include "postbag/error.h"
#include "postbag/memory_store.h"
#include "tests/support/failing_store.h"
#include "tests/support/logged_lines.h"

namespace postbag::test {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::StartsWith;

// A checkpoint of it fails for good.
class FragileStore : public FailingStore {
 public:
  using FailingStore::FailingStore;
  bool maintain() override {
    has_failed_ = breaks.load();
    return true;
  }
  std::error_code check_place() override {
    return has_failed_ ? make_error_code(Errc::store_failed) : std::error_code();
  }
  std::atomic<bool> breaks{false};

 private:
  bool has_failed_ = false;
};

// One shard and the store thread behind it.
class StoreThreadTest : public ::testing::Test {
 protected:
  explicit StoreThreadTest(Durability durability = Durability::fsync) {
    ShardCore::Config config;
    config.durable = durability != Durability::memory;
    Options options;
    options.defaults.retry.retries = 0;
    core_ = std::make_unique<ShardCore>(config, std::make_shared<const PolicyTable>(options, 1));
    thread_ = std::make_unique<StoreThread>(
        store_, durability,
        [this](std::unique_ptr<StorePart> part) {
          const std::lock_guard lock(mutex_);
          answer_ = std::move(part);
          answered_.notify_all();
        },
        [](std::error_code) {}, logger_, [this] { return clock_.load(); });
  }

  // Until the thread has looked at the clock since it was moved: a job comes before the look, the
  // next one behind it.
  void go_on(Duration time) {
    clock_ = clock_.load() + time;
    for (int job = 0; job < 2; ++job) {
      const auto done = std::make_shared<std::promise<void>>();
      thread_->push_job([done](Store&) { done->set_value(); });
      done->get_future().get();
    }
  }
  Now now() const { return {clock_.load(), 1'700'000'000'000}; }
  void add_hook() {
    const auto hooks = std::make_shared<HookList>();
    hooks->add({"https://a.example/h", "{}", "", "", "", "", {}});
    Parcel parcel;
    parcel.hooks = hooks;
    core_->give_numbers(thread_->take_numbers(1), 1);
    core_->add(parcel, now());
  }
  std::unique_ptr<StorePart> store_part() {
    thread_->push(core_->take_part(now()));
    std::unique_lock lock(mutex_);
    answered_.wait(lock, [this] { return answer_ != nullptr; });
    return std::move(answer_);
  }
  Errc accept() {
    add_hook();
    const auto part = store_part();
    core_->part_done(*part, now());
    return part->append_error;
  }
  // Sends a hook in vain. Returns whether its failed row, and those left before, are stored.
  bool give_up() {
    add_hook();
    core_->flush({}, now());
    AttemptResult result;
    result.reason = Reason::status;
    result.status = 500;
    for (Batch* const batch : std::exchange(core_->sends(), {})) {
      core_->attempt_done(*batch, AttemptResult(result), now());
    }
    const auto part = store_part();
    core_->part_done(*part, now());
    return part->error == Errc::ok && !part->fails_left;
  }

  const std::shared_ptr<StoreControl> control_ = std::make_shared<StoreControl>();
  FragileStore store_{std::shared_ptr<Store>(make_memory_store()), control_};
  std::atomic<TimePoint> clock_{TimePoint(seconds(10))};
  Logger logger_;
  LoggedLines lines_{logger_, LogLevel::info};
  std::mutex mutex_;
  std::condition_variable answered_;
  std::unique_ptr<StorePart> answer_;
  std::unique_ptr<ShardCore> core_;
  std::unique_ptr<StoreThread> thread_;
};

// It was known with the next commit, or after 10 s: until then it was healthy and took calls.
TEST_F(StoreThreadTest, ACheckpointThatFailsForGoodIsKnownAtOnce) {
  go_on(seconds(20));
  EXPECT_FALSE(thread_->failed());
  store_.breaks = true;
  go_on(seconds(1));
  EXPECT_TRUE(thread_->failed());
  EXPECT_THAT(lines_.all(),
              ElementsAre(StartsWith("the store failed, nothing is accepted any more")));
}

// Nothing said so where it came within 10 s and no call came later.
TEST_F(StoreThreadTest, ThatThereIsRoomAgainIsSaidInTheEnd) {
  control_->refuse_appends(Errc::disk_low);
  EXPECT_EQ(accept(), Errc::disk_low);
  control_->refuse_appends(Errc::ok);
  go_on(seconds(1));
  EXPECT_EQ(accept(), Errc::ok);
  go_on(seconds(5));
  EXPECT_THAT(lines_.all(), ElementsAre(StartsWith("no room, ")));
  go_on(seconds(5));
  EXPECT_THAT(lines_.all(), ElementsAre(StartsWith("no room, "), "there is room again"));
  go_on(seconds(60));
  EXPECT_EQ(lines_.all().size(), 2u);
}

// It was known for half a second after a call, and ready whenever nobody called.
TEST_F(StoreThreadTest, ThatItTakesNothingInIsKnownAsLongAsItIsSo) {
  EXPECT_TRUE(thread_->takes_in());
  control_->refuse_appends(Errc::disk_low);
  EXPECT_EQ(accept(), Errc::disk_low);
  go_on(seconds(60));
  EXPECT_FALSE(thread_->disk_is_low());  // the next call is tried
  EXPECT_FALSE(thread_->takes_in());
  control_->refuse_appends(Errc::ok);
  go_on(seconds(1));
  EXPECT_TRUE(thread_->takes_in());
}

class MemoryStoreThreadTest : public StoreThreadTest {
 protected:
  MemoryStoreThreadTest() : StoreThreadTest(Durability::memory) {}
};

// Only a group that appended said so, which never comes there; and as room was never said to be
// back, that there is none was said once in the engine's life.
TEST_F(MemoryStoreThreadTest, ThatThereIsRoomAgainIsSaidInMemoryModeToo) {
  for (std::size_t time = 1; time <= 2; ++time) {
    control_->refuse_fails(true);
    EXPECT_FALSE(give_up());
    EXPECT_TRUE(thread_->disk_is_low());
    EXPECT_EQ(lines_.all().size(), 2 * time - 1);
    control_->refuse_fails(false);
    go_on(seconds(20));
    EXPECT_TRUE(give_up());
    EXPECT_FALSE(thread_->disk_is_low());
    ASSERT_EQ(lines_.all().size(), 2 * time);
    EXPECT_THAT(lines_.all()[2 * time - 2], StartsWith("no room, "));
    EXPECT_EQ(lines_.all()[2 * time - 1], "there is room again");
    go_on(seconds(20));
  }
}

}  // namespace
}  // namespace postbag::test
