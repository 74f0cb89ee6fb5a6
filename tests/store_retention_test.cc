// Deleting failed rows by age and by bytes: the rules with a clock of our own, the driving by a
// store thread.
#include "engine/shell/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <future>

#include "engine/shell/store_thread.h"
#include "postbag/error.h"
#include "postbag/memory_store.h"
#include "postbag/sqlite_store.h"
#include "tests/support/logged_lines.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct InSqlite {
  test::TempDirectory directory;
  std::unique_ptr<Store> make() {
    return open_sqlite_store({.path = directory.file("postbag.db")});
  }
};
struct InMemory {
  std::unique_ptr<Store> make() { return make_memory_store(); }
};

void fail(Store& store, ChunkNumber number, WallMs at, const std::string& body) {
  test::GroupBuilder group;
  group.fail(number, "https://a.example/", {{failed_key(number, 0), "id", "push", body}}).last_at =
      at;
  ASSERT_FALSE(store.commit(group.group(), CommitLevel::no_sync));
}

std::vector<ChunkNumber> failed(Store& store) {
  FailedPage page;
  EXPECT_FALSE(store.list_failed({}, std::nullopt, {}, page));
  std::vector<ChunkNumber> numbers;
  for (const FailedHook& hook : page.rows) numbers.push_back(failed_key_chunk(hook.key));
  return numbers;
}

Now at(Duration since_start) {
  constexpr WallMs wall = 1'700'000'000'000;
  return {TimePoint(100h + since_start),
          wall + std::chrono::duration_cast<std::chrono::milliseconds>(since_start).count()};
}

// Everything that is due at `now`. Returns rows deleted.
std::uint64_t run(Retention& retention, Store& store, const Now& now,
                  const std::vector<FailedKey>& except = {}) {
  std::uint64_t purged = 0;
  while (retention.is_due(now, store.stats())) {
    const Retention::Slice slice = retention.run_slice(store, now, except);
    EXPECT_FALSE(slice.error);
    purged += slice.purged;
    if (slice.done) return purged;
  }
  return purged;
}

template <typename Place>
class RetentionTest : public ::testing::Test {
 protected:
  Place place_;
  std::unique_ptr<Store> store_ = place_.make();
};
using Places = ::testing::Types<InSqlite, InMemory>;
TYPED_TEST_SUITE(RetentionTest, Places);

TYPED_TEST(RetentionTest, WithoutLimitsNothingGoes) {
  fail(*this->store_, 1, 0, "x");
  Retention retention(RetentionLimits{});
  EXPECT_FALSE(retention.is_due(at(0s), this->store_->stats()));
  EXPECT_EQ(retention.next_run(), time_point_never);
}

TYPED_TEST(RetentionTest, ByAgeOfTheLastFailure) {
  const WallMs now = at(0s).wall_ms;
  fail(*this->store_, 1, now - 3'600'001, "old");
  fail(*this->store_, 2, now - 3'600'000, "as old as it may be");
  fail(*this->store_, 3, now - 9'000'000, "old, behind a younger one");
  Retention retention({1h, 0});
  EXPECT_EQ(run(retention, *this->store_, at(0s)), 2u);
  EXPECT_EQ(retention.purged_in_run(), 2u);
  EXPECT_THAT(failed(*this->store_), ElementsAre(2));
  EXPECT_EQ(run(retention, *this->store_, at(59s)), 0u);  // once a minute
  EXPECT_EQ(run(retention, *this->store_, at(60s)), 1u);
  EXPECT_THAT(failed(*this->store_), IsEmpty());
}

TYPED_TEST(RetentionTest, ByBytesTheOldestFirstAndNoMoreThanNeeded) {
  for (ChunkNumber number = 1; number <= 10; ++number) {
    fail(*this->store_, number, 0, std::string(1'000, 'x'));
  }
  const std::uint64_t row = this->store_->stats().failed_bytes / 10;
  EXPECT_GT(row, 1'000u);
  Retention retention({0s, 4 * row});
  EXPECT_EQ(run(retention, *this->store_, at(0s)), 6u);
  EXPECT_THAT(failed(*this->store_), ElementsAre(7, 8, 9, 10));
  EXPECT_EQ(this->store_->stats().failed_bytes, 4 * row);
}

TYPED_TEST(RetentionTest, BothLimitsHold) {
  const WallMs now = at(0s).wall_ms;
  for (ChunkNumber number = 1; number <= 10; ++number) {
    fail(*this->store_, number, number % 2 == 0 ? now : 1, "x");
  }
  const std::uint64_t row = this->store_->stats().failed_bytes / 10;
  Retention retention({1h, 3 * row});
  EXPECT_EQ(run(retention, *this->store_, at(0s)), 7u);
  EXPECT_THAT(failed(*this->store_), ElementsAre(6, 8, 10));
}

TYPED_TEST(RetentionTest, GrowthStartsARunButNotOneARow) {
  for (ChunkNumber number = 1; number <= 100; ++number) fail(*this->store_, number, 0, "x");
  const std::uint64_t row = this->store_->stats().failed_bytes / 100;
  Retention retention({0s, 100 * row});
  EXPECT_EQ(run(retention, *this->store_, at(0s)), 0u);
  fail(*this->store_, 101, 0, "x");
  EXPECT_EQ(run(retention, *this->store_, at(10s)), 0u);
  for (ChunkNumber number = 102; number <= 104; ++number) fail(*this->store_, number, 0, "x");
  EXPECT_EQ(run(retention, *this->store_, at(11s)), 4u);
  for (ChunkNumber number = 105; number <= 108; ++number) fail(*this->store_, number, 0, "x");
  EXPECT_EQ(run(retention, *this->store_, at(11s + 999ms)), 0u);
  EXPECT_EQ(run(retention, *this->store_, at(12s)), 4u);
  fail(*this->store_, 109, 0, "x");
  EXPECT_EQ(run(retention, *this->store_, at(72s)), 1u);  // at the minute whatever is over
}

TYPED_TEST(RetentionTest, RowsUnderWayStay) {
  for (ChunkNumber number = 1; number <= 4; ++number) fail(*this->store_, number, 0, "x");
  const std::uint64_t row = this->store_->stats().failed_bytes / 4;
  Retention retention({0s, row});
  EXPECT_EQ(run(retention, *this->store_, at(0s), {failed_key(1, 0), failed_key(2, 0)}), 2u);
  EXPECT_THAT(failed(*this->store_), ElementsAre(1, 2));
  EXPECT_FALSE(retention.is_running());
  Retention by_age({1h, 0});
  EXPECT_EQ(run(by_age, *this->store_, at(0s), {failed_key(2, 0)}), 1u);
  EXPECT_THAT(failed(*this->store_), ElementsAre(2));
}

TYPED_TEST(RetentionTest, ALongRunIsCutIntoSlices) {
  test::GroupBuilder group;
  for (ChunkNumber number = 1; number <= 5'000; ++number) {
    group.fail(number, "https://a.example/", {{failed_key(number, 0), "id", "", "x"}});
  }
  ASSERT_FALSE(this->store_->commit(group.group(), CommitLevel::no_sync));
  Retention retention({1h, 0});
  std::uint64_t slices = 0;
  for (bool done = false; !done; ++slices) {
    ASSERT_TRUE(retention.is_due(at(0s), this->store_->stats()));
    const Retention::Slice slice = retention.run_slice(*this->store_, at(0s), {});
    EXPECT_LE(slice.purged, 500u);
    done = slice.done;
  }
  EXPECT_GE(slices, 10u);
  EXPECT_EQ(retention.purged_in_run(), 5'000u);
  EXPECT_THAT(failed(*this->store_), IsEmpty());
  EXPECT_EQ(this->store_->stats().failed_bytes, 0u);
}

TYPED_TEST(RetentionTest, AClockThatJumpsAheadDeletesNothingForADay) {
  const auto jumped = [](Duration since_start) {
    Now now = at(since_start);
    now.wall_ms += 365ll * 24 * 3'600'000;
    return now;
  };
  fail(*this->store_, 1, at(0s).wall_ms, "x");
  Retention retention({24h * 7, 0});
  EXPECT_EQ(run(retention, *this->store_, at(0s)), 0u);
  EXPECT_FALSE(retention.clock_jumped());
  EXPECT_EQ(run(retention, *this->store_, jumped(10min)), 0u);
  EXPECT_TRUE(retention.clock_jumped());
  EXPECT_FALSE(retention.clock_jumped());
  EXPECT_EQ(run(retention, *this->store_, jumped(24h)), 0u);
  EXPECT_EQ(run(retention, *this->store_, jumped(24h + 11min)), 1u);  // nobody has set it right
}

// The size of the rows is counted as they come and go, whatever brings and takes them.
TYPED_TEST(RetentionTest, FailedBytesFollowTheRows) {
  Store& store = *this->store_;
  EXPECT_EQ(store.stats().failed_bytes, 0u);
  fail(store, 1, 0, "12345");
  const std::uint64_t small = store.stats().failed_bytes;
  test::GroupBuilder group;
  FailBatch& batch = group.fail(2, "https://a.example/",
                                {{failed_key(2, 0), "id", "push", "12345"},
                                 {failed_key(2, 1), "id", "push", std::string(500, 'x')}});
  batch.response_headers = "A: b\r\n";
  batch.response_excerpt = "excerpt";
  ASSERT_FALSE(store.commit(group.group(), CommitLevel::no_sync));
  EXPECT_EQ(store.stats().failed_bytes, 3 * small + 495 + 13);
  StoreGroup remove;
  remove.delete_failed = {failed_key(2, 0), failed_key(99, 0)};
  ASSERT_FALSE(store.commit(remove, CommitLevel::no_sync));
  EXPECT_EQ(store.stats().failed_bytes, 2 * small + 495 + 13);
  // Fails again: its row is replaced, the response of before goes with its last row.
  fail(store, 1, 0, "1234567");
  EXPECT_EQ(store.stats().failed_bytes, 2 * small + 2 + 495 + 13);
  remove.delete_failed = {failed_key(2, 1)};
  ASSERT_FALSE(store.commit(remove, CommitLevel::no_sync));
  EXPECT_EQ(store.stats().failed_bytes, small + 2);
}

// --- The store thread

TEST(StoreThreadRetention, DeletesCountsAndLogsOnce) {
  InSqlite place;
  const auto store = place.make();
  for (ChunkNumber number = 1; number <= 1'200; ++number) fail(*store, number, 1, "x");
  Logger logger;
  test::LoggedLines lines(logger, LogLevel::debug);
  StoreThread thread(
      *store, Durability::memory, [](std::unique_ptr<StorePart>) {}, [](std::error_code) {},
      logger);
  thread.set_retention({1h, 0}, [] {
    return std::vector<FailedKey>{failed_key(7, 0), failed_key(3, 0)};
  });
  // Each job is one turn of the thread; the slices run in between.
  while (thread.retention_purged() < 1'198) thread.run([](Store&) { return 0; });
  while (lines.all().empty()) thread.run([](Store&) { return 0; });
  EXPECT_THAT(lines.all(), ElementsAre("retention: 1198 failed hooks deleted"));
  EXPECT_THAT(thread.run([](Store& at) { return failed(at); }), ElementsAre(3, 7));
  EXPECT_EQ(thread.stats().failed_hooks, 2u);
}

TEST(StoreThreadWarnings, WhatWasNoticedAtOpenIsLogged) {
  test::TempDirectory directory;
  const std::string path = directory.file("postbag.db");
  // A directory in the witness's place: it cannot be written.
  std::filesystem::create_directory(path + ".witness");
  const auto store = open_sqlite_store({.path = path});
  Logger logger;
  test::LoggedLines lines(logger, LogLevel::debug);
  const StoreThread thread(
      *store, Durability::fsync, [](std::unique_ptr<StorePart>) {}, [](std::error_code) {}, logger);
  EXPECT_THAT(lines.all(), ElementsAre(HasSubstr("witness beside it cannot be written")));
}

}  // namespace
}  // namespace postbag
