// A disk that fills up: the low-water mark, the ballast.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <filesystem>
#include <limits>
#include <map>
#include <string>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/disk_room.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"

namespace postbag {
namespace {

namespace fs = std::filesystem;
using test::FileSizeLimit;
using ::testing::EndsWith;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(directory)) bytes += entry.file_size();
  return bytes;
}

// A file system with so much room for SQLite: a write that makes a file longer is refused when all
// files of the directory together are over the quota. What is deleted gives its room back.
class SmallDisk {
 public:
  explicit SmallDisk(std::string directory) {
    directory_ = std::move(directory);
    quota_ = std::numeric_limits<std::uint64_t>::max();
    real_ = sqlite3_vfs_find(nullptr);
    vfs_ = *real_;
    vfs_.pNext = nullptr;
    vfs_.zName = "small_disk";
    vfs_.xOpen = open;
    sqlite3_vfs_register(&vfs_, 1);
  }
  ~SmallDisk() {
    sqlite3_vfs_unregister(&vfs_);
    sqlite3_vfs_register(real_, 1);  // which need not be the next one
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  void set_quota(std::uint64_t bytes) { quota_ = bytes; }

 private:
  struct Methods : sqlite3_io_methods {
    const sqlite3_io_methods* real = nullptr;
  };

  static int open(sqlite3_vfs*, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    const int code = real_->xOpen(real_, name, file, flags, out_flags);
    if (code != SQLITE_OK || file->pMethods == nullptr) return code;
    // SQLite has a table for files with locks and one for those without.
    Methods& methods = methods_[file->pMethods];
    static_cast<sqlite3_io_methods&>(methods) = *file->pMethods;
    methods.real = file->pMethods;
    methods.xWrite = write;
    file->pMethods = &methods;
    return code;
  }
  static int write(sqlite3_file* file, const void* data, int size, sqlite3_int64 at) {
    const sqlite3_io_methods* real = static_cast<const Methods*>(file->pMethods)->real;
    sqlite3_int64 length = 0;
    real->xFileSize(file, &length);
    const std::uint64_t growth =
        at + size > length ? static_cast<std::uint64_t>(at + size - length) : 0;
    if (growth > 0 && bytes_in(directory_) + growth > quota_) return SQLITE_FULL;
    return real->xWrite(file, data, size, at);
  }

  static inline std::string directory_;
  static inline std::uint64_t quota_;
  static inline sqlite3_vfs* real_;
  static inline sqlite3_vfs vfs_;
  static inline std::map<const sqlite3_io_methods*, Methods> methods_;
};

class DiskTest : public ::testing::Test {
 protected:
  void open(SqliteStoreOptions options = {}) {
    store_.reset();
    options.path = path_;
    store_ = open_sqlite_store(options);
  }

  std::error_code append(ChunkNumber number, std::size_t bytes = 10) {
    test::GroupBuilder group;
    group.append(number, number, {std::string(bytes, 'x')});
    return store_->commit(group.group(), CommitLevel::sync);
  }
  std::error_code settle(ChunkNumber first, ChunkNumber last) {
    StoreGroup group;
    for (ChunkNumber number = first; number <= last; ++number) group.settle.push_back(number);
    return store_->commit(group, CommitLevel::no_sync);
  }
  std::error_code fail(ChunkNumber number, std::size_t bytes = 10) {
    test::GroupBuilder group;
    group.group().settle = {number};
    group.fail(number, "https://a.example/",
               {{failed_key(number, 0), "id", "push", std::string(bytes, 'y')}});
    return store_->commit(group.group(), CommitLevel::sync);
  }

  bool has_ballast() const { return fs::exists(ballast_); }

  test::TempDirectory directory_;
  SmallDisk disk_{directory_.path()};
  std::string path_ = directory_.file("postbag.db");
  std::string ballast_ = path_ + ".ballast";
  std::unique_ptr<Store> store_;
};

TEST(LowWater, IsSensibleForEveryDisk) {
  constexpr std::uint64_t mib = 1 << 20, gib = 1 << 30;
  EXPECT_EQ(low_water_bytes(0), 0u);
  EXPECT_EQ(low_water_bytes(64 * mib), 8 * mib);
  EXPECT_EQ(low_water_bytes(gib), 128 * mib);
  EXPECT_EQ(low_water_bytes(2 * gib), 256 * mib);
  EXPECT_EQ(low_water_bytes(5 * gib), 256 * mib);
  EXPECT_EQ(low_water_bytes(20 * gib), gib);
  EXPECT_EQ(low_water_bytes(40 * gib), 2 * gib);
  EXPECT_EQ(low_water_bytes(10'000 * gib), 2 * gib);
}

TEST_F(DiskTest, UnderTheMarkNothingNewIsTakenAndTheRestGoesOn) {
  open();
  ASSERT_FALSE(append(1));
  ASSERT_FALSE(append(2));
  ASSERT_FALSE(append(3));
  open({.min_free_bytes = std::numeric_limits<std::uint64_t>::max() / 2});
  EXPECT_EQ(store_->why_no_room(), "");
  EXPECT_EQ(append(4), Errc::disk_low);
  EXPECT_THAT(store_->why_no_room(),
              EndsWith(" are free at " + path_ + ", 8388608.0 TiB are wanted"));
  test::GroupBuilder both;
  both.append(5, 5, {"x"});
  both.group().settle = {1};
  EXPECT_EQ(store_->commit(both.group(), CommitLevel::sync), Errc::disk_low);
  EXPECT_FALSE(settle(1, 1));
  EXPECT_FALSE(fail(2));
  StoreGroup attempts;
  attempts.attempts = {{3, 1, 5}};
  EXPECT_FALSE(store_->commit(attempts, CommitLevel::no_sync));
  open({.min_free_bytes = 0});
  EXPECT_FALSE(append(4));
}

TEST_F(DiskTest, TheBallastTakesRealRoomAndStays) {
  open();
  struct stat first {};
  ASSERT_EQ(stat(ballast_.c_str(), &first), 0);
  EXPECT_EQ(first.st_size, 16 << 20);
  EXPECT_GE(first.st_blocks * 512, 16 << 20);
  EXPECT_EQ(first.st_mode & 0777, 0600u);
  open();
  struct stat second {};
  ASSERT_EQ(stat(ballast_.c_str(), &second), 0);
  EXPECT_EQ(second.st_ino, first.st_ino);

  fs::remove(ballast_);
  open({.max_bytes = 4 << 20});
  EXPECT_EQ(fs::file_size(ballast_), 256u << 10);
  open();  // larger again
  EXPECT_EQ(fs::file_size(ballast_), 16u << 20);
  fs::remove(ballast_);
  open({.ballast_bytes = 0});
  EXPECT_FALSE(has_ballast());
  // Where it would itself use up what is left there is none.
  open({.min_free_bytes = std::numeric_limits<std::uint64_t>::max() / 2});
  EXPECT_FALSE(has_ballast());
}

TEST_F(DiskTest, WithoutBallastAFullDiskTakesNoSettle) {
  open({.ballast_bytes = 0});
  for (ChunkNumber number = 1; number <= 100; ++number) ASSERT_FALSE(append(number, 5'000));
  disk_.set_quota(bytes_in(directory_.path()));
  EXPECT_EQ(append(101, 5'000), Errc::disk_low);
  EXPECT_THAT(store_->why_no_room(), StartsWith("the disk is full: "));
  EXPECT_EQ(settle(1, 100), Errc::disk_low);
}

TEST_F(DiskTest, OnAFullDiskTheBallastGoesSoThatSettlingWorks) {
  open();
  for (ChunkNumber number = 1; number <= 100; ++number) ASSERT_FALSE(append(number, 5'000));
  ASSERT_FALSE(fail(100, 5'000));
  disk_.set_quota(bytes_in(directory_.path()));
  EXPECT_EQ(append(101, 5'000), Errc::disk_low);
  EXPECT_TRUE(has_ballast());  // not for what is new
  {
    const FileSizeLimit limit(10 << 20);
    EXPECT_FALSE(settle(1, 50));
    EXPECT_FALSE(has_ballast());
    EXPECT_FALSE(fail(51, 5'000));
    EXPECT_EQ(append(102), Errc::disk_low);  // there would be room, but it is not for that
  }
  disk_.set_quota(std::numeric_limits<std::uint64_t>::max());
  // It comes back as soon as it can (tried once a second), and intake with it.
  while (!has_ballast()) store_->maintain();
  EXPECT_FALSE(append(103));
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
}

// It was deleted and made anew each second though the disk was not full.
TEST_F(DiskTest, TheBallastStaysWhereMaxBytesIsReached) {
  open({.max_bytes = 4 << 20});
  ASSERT_FALSE(append(1, 50'000));
  ChunkNumber number = 2;
  std::error_code error;
  for (; !error && number < 200; ++number) error = fail(number, 50'000);
  EXPECT_EQ(error, Errc::disk_low);
  EXPECT_EQ(append(number), Errc::disk_low);
  EXPECT_THAT(
      store_->why_no_room(),
      MatchesRegex("\\[store\\] max_bytes: [34]\\.[0-9] MiB of 4\\.0 MiB are used, new hooks "
                   "are taken up to 90 %"));
  EXPECT_TRUE(has_ballast());
  EXPECT_FALSE(settle(1, 1));  // what only frees has room all the same
}

TEST_F(DiskTest, WhetherThereIsRoomIsWhatAnAppendWouldFind) {
  open({.max_bytes = 4 << 20});
  EXPECT_TRUE(store_->has_room());
  ChunkNumber number = 1;
  while (number < 200 && !fail(number, 50'000)) ++number;
  EXPECT_FALSE(store_->has_room());
  EXPECT_EQ(append(number), Errc::disk_low);
  std::uint64_t purged = 0;
  std::optional<FailedKey> next;
  EXPECT_FALSE(store_->purge_failed({}, std::nullopt, {}, {}, purged, next));
  while (store_->maintain()) continue;
  EXPECT_TRUE(store_->has_room());
  EXPECT_FALSE(append(number + 1));
}

TEST_F(DiskTest, PurgingWorksOnAFullDisk) {
  open();
  for (ChunkNumber number = 1; number <= 100; ++number) ASSERT_FALSE(fail(number, 5'000));
  disk_.set_quota(bytes_in(directory_.path()));
  const FileSizeLimit limit(10 << 20);
  std::uint64_t purged = 0;
  std::optional<FailedKey> next;
  EXPECT_FALSE(store_->purge_failed({}, std::nullopt, {}, {}, purged, next));
  EXPECT_EQ(purged, 100u);
  EXPECT_FALSE(has_ballast());
  EXPECT_EQ(store_->stats().failed_bytes, 0u);
}

}  // namespace
}  // namespace postbag
