// What the store thread notices and says by itself, with a clock that the test moves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/pure/shard_core.h"
#include "engine/shell/store_thread.h"
#include "postbag/error.h"
#include "postbag/memory_store.h"
#include "tests/support/failing_store.h"

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
  StoreThreadTest() {
    ShardCore::Config config;
    config.durable = true;
    core_ = std::make_unique<ShardCore>(config, std::make_shared<const PolicyTable>(Options{}, 1));
    thread_ = std::make_unique<StoreThread>(
        store_, Durability::fsync,
        [this](std::unique_ptr<StorePart> part) {
          const std::lock_guard lock(mutex_);
          answer_ = std::move(part);
          answered_.notify_all();
        },
        [](std::error_code) {}, logger(), [this] { return clock_.load(); });
  }

  Logger logger() {
    return {LogLevel::info, [this](LogLevel, std::string_view line) {
              const std::lock_guard lock(mutex_);
              lines_.emplace_back(line);
            }};
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
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
  Errc accept() {
    const Now now{clock_.load(), 1'700'000'000'000};
    const auto hooks = std::make_shared<HookList>();
    hooks->add({"https://a.example/h", "{}", "", "", "", "", {}});
    Parcel parcel;
    parcel.hooks = hooks;
    core_->give_numbers(thread_->take_numbers(1), 1);
    core_->add(parcel, now);
    thread_->push(core_->take_part(now));
    std::unique_ptr<StorePart> part;
    {
      std::unique_lock lock(mutex_);
      answered_.wait(lock, [this] { return answer_ != nullptr; });
      part = std::move(answer_);
    }
    core_->part_done(*part, now);
    return part->append_error;
  }

  const std::shared_ptr<StoreControl> control_ = std::make_shared<StoreControl>();
  FragileStore store_{std::shared_ptr<Store>(make_memory_store()), control_};
  std::atomic<TimePoint> clock_{TimePoint(seconds(10))};
  std::mutex mutex_;
  std::vector<std::string> lines_;
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
  EXPECT_THAT(lines(), ElementsAre(StartsWith("the store failed, nothing is accepted any more")));
}

// Nothing said so where it came within 10 s and no call came later.
TEST_F(StoreThreadTest, ThatThereIsRoomAgainIsSaidInTheEnd) {
  control_->refuse_appends(Errc::disk_low);
  EXPECT_EQ(accept(), Errc::disk_low);
  control_->refuse_appends(Errc::ok);
  go_on(seconds(1));
  EXPECT_EQ(accept(), Errc::ok);
  go_on(seconds(5));
  EXPECT_THAT(lines(), ElementsAre(StartsWith("no room, ")));
  go_on(seconds(5));
  EXPECT_THAT(lines(), ElementsAre(StartsWith("no room, "), "there is room again"));
  go_on(seconds(60));
  EXPECT_EQ(lines().size(), 2u);
}

}  // namespace
}  // namespace postbag::test
