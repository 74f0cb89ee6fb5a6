// What durability `os` promises of a power loss: of what was accepted at most the last second is
// lost. The store thread with a clock that the test moves, over a disk that forgets what was not
// synced; images of it are taken at moments of that clock, on which a sync takes no time.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "engine/pure/shard_core.h"
#include "engine/shell/store_thread.h"
#include "postbag/error.h"
#include "tests/crash/fault_vfs.h"
#include "tests/crash/io_bench.h"
#include "tests/support/failing_store.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration promised = seconds(1);
constexpr Duration tick = milliseconds(20);  // the store thread looks as often while it has to
constexpr int ticks = 3'000;
constexpr const char* target_url = "https://a.example/h";

// The disk below knows one thread: a sync and the rest take turns. Notes what is still to be
// synced.
class TurnsStore : public FailingStore {
 public:
  using FailingStore::FailingStore;

  bool syncs_later() const override { return true; }
  std::error_code commit(const StoreGroup& group, CommitLevel level) override {
    const std::lock_guard lock(turn_);
    owes_sync_ = owes_sync_ || level == CommitLevel::sync_later;
    return FailingStore::commit(group, level);
  }
  std::error_code sync() override {
    const std::lock_guard lock(turn_);
    const std::error_code error = FailingStore::sync();
    owes_sync_ = false;
    synced_.notify_all();
    return error;
  }
  std::error_code forget_ids(WallMs now_ms) override {
    const std::lock_guard lock(turn_);
    return FailingStore::forget_ids(now_ms);
  }
  bool maintain() override {
    const std::lock_guard lock(turn_);
    return FailingStore::maintain();
  }

  // Until all that was to be synced later is. False: it was not in 30 s.
  bool wait_synced() {
    std::unique_lock lock(turn_);
    return synced_.wait_for(lock, seconds(30), [this] { return !owes_sync_; });
  }
  // While nothing else is done to the disk.
  template <typename Work>
  void apart(Work work) {
    const std::lock_guard lock(turn_);
    work();
  }

 private:
  std::mutex turn_;
  std::condition_variable synced_;
  bool owes_sync_ = false;
};

// One shard that takes hooks and delivers none, and the store thread behind it.
class OsWindow {
 public:
  explicit OsWindow(std::uint64_t seed) : random_(seed) {
    log_.adopt(folder_.path());
    FaultVfs::record(&log_);
    std::shared_ptr<Store> disk = open_sqlite_store(small_store(path_));
    EXPECT_TRUE(disk->syncs_later());
    store_ = std::make_unique<TurnsStore>(std::move(disk));
    Options options;
    options.defaults.batch.size = 100'000;
    options.defaults.batch.time = std::chrono::hours(1);
    ShardCore::Config config;
    config.durable = true;
    config.store_tag = store_->info().store_tag;
    core_ = std::make_unique<ShardCore>(config, std::make_shared<const PolicyTable>(options, 1));
    thread_ = std::make_unique<StoreThread>(
        *store_, Durability::os, [this](auto part) { answered(std::move(part)); },
        [](std::error_code error) { ADD_FAILURE() << error.message(); }, Logger{},
        [this] { return clock_.load(); });
  }
  ~OsWindow() {
    thread_.reset();
    FaultVfs::record(nullptr);
  }
  OsWindow(const OsWindow&) = delete;
  OsWindow& operator=(const OsWindow&) = delete;

  void run() {
    bool is_busy = true;
    for (int i = 0; i < ticks && !::testing::Test::HasFailure(); ++i) {
      if (random_() % 40 == 0) is_busy = !is_busy;
      const bool accepts = is_busy ? random_() % 2 == 0 : random_() % 60 == 0;
      if (accepts) accept(random_() % 20 == 0);
      if (random_() % 20 == 0) lose_power();
      clock_ = clock_.load() + tick;
      settle();
    }
  }
  int images() const { return images_; }
  int losses() const { return losses_; }
  int warnings() const { return warnings_; }

 private:
  struct Accepted {
    ChunkNumber chunk = 0;
    TimePoint at{};
    bool synced = false;  // the call asked for it
  };

  Now now() const { return {clock_.load(), 1'700'000'000'000}; }

  // On the store's thread or that of the syncs.
  void answered(std::unique_ptr<StorePart> part) {
    const std::lock_guard lock(mutex_);
    answers_.push_back(std::move(part));
    came_.notify_one();
  }

  // A call, up to its answer.
  void accept(bool sync) {
    const auto hooks = std::make_shared<HookList>();
    hooks->add({target_url, "{\"n\":1}", "", "", "", "", {}});
    Parcel parcel;
    parcel.hooks = hooks;
    parcel.sync = sync;
    core_->give_numbers(thread_->take_numbers(1), 1);
    core_->add(parcel, now());
    auto part = core_->take_part(now());
    ASSERT_NE(part, nullptr);
    thread_->push(std::move(part));
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(came_.wait_for(lock, seconds(30), [this] { return !answers_.empty(); }));
    part = std::move(answers_.front());
    answers_.pop_front();
    ASSERT_EQ(part->append_error, Errc::ok);
    for (const StorePart::Chunk& chunk : part->append) {
      accepted_.push_back({chunk.info.number, clock_.load(), sync});
    }
    core_->part_done(*part, now());
  }

  // Until the store thread has looked at the clock since it was moved, and what it then wanted is
  // synced: a job comes before the look, the next one after it.
  void settle() {
    for (int job = 0; job < 2; ++job) {
      const auto done = std::make_shared<std::promise<void>>();
      thread_->push_job([done](Store&) { done->set_value(); });
      done->get_future().get();
    }
    ASSERT_TRUE(store_->wait_synced());
  }

  void lose_power() {
    store_->apart([this] {
      FaultVfs::record(nullptr);
      check_image();
      FaultVfs::record(&log_);
    });
  }

  void check_image() {
    const TempDirectory image;
    const std::string way = log_.make_image(log_.now(), random_(), image.path());
    ++images_;
    std::vector<PendingChunk> found;
    std::string warned;
    try {
      const auto store = open_sqlite_store(small_store(image.file("store.db")));
      ASSERT_FALSE(store->scan_pending(0, accepted_.size() + 1, found));
      for (const std::string& warning : store->info().warnings) warned += warning + "\n";
    } catch (const StoreError& error) {
      FAIL() << "the start was stopped (" << way << "): " << error.what();
    }
    std::vector<ChunkNumber> lost;
    auto next = found.begin();
    for (const Accepted& accepted : accepted_) {
      if (next != found.end() && next->chunk == accepted.chunk) {
        ++next;
        continue;
      }
      lost.push_back(accepted.chunk);
      EXPECT_FALSE(accepted.synced) << "lost although its call asked for a sync (" << way << ")";
      const auto age = std::chrono::duration_cast<milliseconds>(clock_.load() - accepted.at);
      EXPECT_LT(age, promised) << "lost after " << age.count() << " ms (" << way << ")";
    }
    EXPECT_EQ(next, found.end()) << "in the store and never accepted";
    losses_ += !lost.empty();
    check_warning(warned, lost);
  }

  // The witness is not synced either, so it may know of less than what is gone, never of more.
  void check_warning(const std::string& warned, const std::vector<ChunkNumber>& lost) {
    if (warned.empty()) return;
    ++warnings_;
    ASSERT_FALSE(lost.empty()) << "cries wolf: " << warned;
    const std::string words = "chunk numbers ";
    const std::size_t at = warned.find(words);
    ASSERT_NE(at, std::string::npos) << warned;
    std::size_t digits = 0;
    const std::string range = warned.substr(at + words.size());
    const ChunkNumber first = std::stoull(range, &digits);
    const ChunkNumber last = std::stoull(range.substr(digits + std::string(" to ").size()));
    EXPECT_EQ(first, lost.front()) << warned;
    EXPECT_LE(last, lost.back()) << warned;
  }

  std::mt19937_64 random_;
  const TempDirectory folder_;
  const std::string path_ = folder_.file("store.db");
  DiskLog log_{path_ + ".witness"};
  // Behind the steady clock, so that the thread never waits for it.
  std::atomic<TimePoint> clock_{TimePoint(seconds(10))};
  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<std::unique_ptr<StorePart>> answers_;
  std::vector<Accepted> accepted_;
  int images_ = 0, losses_ = 0, warnings_ = 0;
  std::unique_ptr<TurnsStore> store_;
  std::unique_ptr<ShardCore> core_;
  std::unique_ptr<StoreThread> thread_;
};

TEST(OsWindowTest, APowerLossTakesTheLastSecondAtMost) {
  FaultVfs::install();
  int images = 0, losses = 0, warnings = 0;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    OsWindow window(seed);
    window.run();
    images += window.images();
    losses += window.losses();
    warnings += window.warnings();
  }
  // The run must have met what it is about.
  EXPECT_GT(images, 200);
  EXPECT_GT(losses, 50);
  EXPECT_GT(warnings, 10);
}

}  // namespace
}  // namespace postbag::test
