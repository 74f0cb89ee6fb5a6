// Writes that are made in larger pieces: when they leave, and who is told that they failed.
#include "store/gathering_vfs.h"

#include <SQLiteCpp/Database.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <cerrno>
#include <memory>
#include <random>
#include <string>

#include "store/copied_frames.h"
#include "store/sqlite_schema.h"
#include "store/store_file.h"
#include "tests/crash/disk_log.h"
#include "tests/crash/fault_vfs.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

class GatheringVfsTest : public ::testing::Test {
 protected:
  GatheringVfsTest() {
    FaultVfs::install();
    create_store_file(path_);
    db_ = std::make_unique<SQLite::Database>(open_database(path_, OpenFor::writing));
    prepare_for_writing(*db_, path_, 1 << 20);
    db_->exec("CREATE TABLE t(n INTEGER PRIMARY KEY, b BLOB NOT NULL)");
  }
  ~GatheringVfsTest() override {
    FaultVfs::disarm();
    FaultVfs::record(nullptr);
  }

  void insert(int rows, int bytes) {
    for (int i = 0; i < rows; ++i) {
      db_->exec("INSERT INTO t VALUES(NULL, zeroblob(" + std::to_string(bytes) + "))");
    }
  }
  int checkpoint() {
    return sqlite3_wal_checkpoint_v2(db_->getHandle(), "main", SQLITE_CHECKPOINT_PASSIVE, nullptr,
                                     nullptr);
  }
  // Lets parts be copied ahead, of a log that is taken to be on disk.
  void copy_in_parts() {
    sqlite3_file *file = nullptr, *log = nullptr;
    sqlite3_file_control(db_->getHandle(), "main", SQLITE_FCNTL_FILE_POINTER, &file);
    sqlite3_file_control(db_->getHandle(), "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    ASSERT_TRUE(set_copied_frames(file, log, frames_));
    const auto count = [](void* frames, sqlite3*, const char*, int in_log) {
      *static_cast<int*>(frames) = in_log;
      return SQLITE_OK;
    };
    sqlite3_wal_hook(db_->getHandle(), count, &in_log_);
  }
  // The frames up to that one.
  int copy_ahead(int last) {
    const CopiedFrames::Pass pass(frames_, static_cast<std::uint64_t>(last));
    return checkpoint();
  }
  // As a kill at this instant leaves the files; or the file alone, behind a checkpoint.
  void expect_same_in_files(bool with_log = true) {
    const std::string copy = folder_.file("copy.db");
    write_whole_file(copy, read_whole_file(path_));
    write_whole_file(copy + "-wal", with_log ? read_whole_file(path_ + "-wal") : "");
    SQLite::Database other = open_database(copy, OpenFor::writing);
    for (const char* query : {"SELECT count(*) FROM t", "SELECT sum(length(b)) FROM t",
                              "SELECT sum(n * length(b)) FROM t"}) {
      ASSERT_EQ(pragma_value(other, query), pragma_value(*db_, query)) << query;
    }
    ASSERT_EQ(other.execAndGet("PRAGMA integrity_check").getString(), "ok");
  }

  TempDirectory folder_;
  const std::string path_ = folder_.file("store.db");
  CopiedFrames frames_{sqlite_page_bytes, 1000};
  int in_log_ = 0;  // frames
  std::unique_ptr<SQLite::Database> db_;
};

TEST_F(GatheringVfsTest, ACommitAndACheckpointAreFewWrites) {
  db_.reset();
  DiskLog log(folder_.file("none"));
  FaultVfs::record(&log);
  db_ = std::make_unique<SQLite::Database>(open_database(path_, OpenFor::writing));
  db_->exec("PRAGMA wal_autocheckpoint = 0");
  const std::size_t before = log.now();
  db_->exec("BEGIN");
  insert(100, 100'000);  // 1,300 pages
  db_->exec("COMMIT");
  const std::size_t committed = log.now();
  EXPECT_EQ(checkpoint(), SQLITE_OK);
  EXPECT_LT(committed - before, 110u);
  EXPECT_LT(log.now() - committed, 110u);
  EXPECT_EQ(pragma_value(*db_, "SELECT count(*) FROM t"), 100);
}

// With a cache so small that pages go to the log early and are changed there.
TEST_F(GatheringVfsTest, WhatIsCommittedIsInTheFiles) {
  db_->exec("PRAGMA cache_size = 12; PRAGMA cache_spill = 12; PRAGMA synchronous = NORMAL");
  ASSERT_NO_FATAL_FAILURE(copy_in_parts());
  std::mt19937 random(3);
  for (int i = 0; i < 150; ++i) {
    db_->exec("BEGIN");
    const int changes = 1 + static_cast<int>(random() % 8);
    for (int change = 0; change < changes; ++change) {
      const std::string bytes = std::to_string(random() % 60'000);
      const std::string row =
          "(SELECT n FROM t ORDER BY n LIMIT 1 OFFSET " + std::to_string(random() % 50) + ")";
      switch (random() % 4) {
        case 0:
          db_->exec("UPDATE t SET b = zeroblob(" + bytes + ") WHERE n = " + row);
          break;
        case 1:
          db_->exec("DELETE FROM t WHERE n = " + row);
          break;
        default:
          db_->exec("INSERT INTO t VALUES(NULL, zeroblob(" + bytes + "))");
      }
    }
    if (random() % 5 == 0) {
      db_->exec("ROLLBACK");
    } else {
      db_->exec("COMMIT");
    }
    ASSERT_NO_FATAL_FAILURE(expect_same_in_files()) << i;
    if (random() % 4 == 0) {
      ASSERT_EQ(copy_ahead(static_cast<int>(random() % 100) * in_log_ / 99), SQLITE_OK);
      ASSERT_NO_FATAL_FAILURE(expect_same_in_files()) << i;
    }
    if (random() % 10 == 0) {
      ASSERT_EQ(checkpoint(), SQLITE_OK);
      ASSERT_NO_FATAL_FAILURE(expect_same_in_files(false)) << i;
    }
  }
}

TEST_F(GatheringVfsTest, AWriteThatFailsFailsTheCommit) {
  db_->exec("PRAGMA synchronous = NORMAL");
  bool passed = false;
  for (std::uint64_t nth = 1; nth < 100 && !passed; ++nth) {
    db_->exec("BEGIN");
    insert(10, 100'000);
    FaultVfs::arm({.calls = static_cast<unsigned>(DiskCall::write),
                   .nth = nth,
                   .error = ENOSPC,
                   .in_part = nth % 2 == 0});
    const int code = db_->tryExec("COMMIT");
    passed = FaultVfs::failures() == 0;
    FaultVfs::disarm();
    EXPECT_EQ(code, passed ? SQLITE_OK : SQLITE_FULL) << nth;
    if (sqlite3_get_autocommit(db_->getHandle()) == 0) db_->exec("ROLLBACK");
    EXPECT_EQ(pragma_value(*db_, "SELECT count(*) FROM t"), passed ? 10 : 0) << nth;
    ASSERT_NO_FATAL_FAILURE(expect_same_in_files()) << nth;
    EXPECT_TRUE(nth > 5 || !passed) << "a commit of 1 MB in fewer writes than can be";
  }
  EXPECT_TRUE(passed);
}

// The last piece leaves where SQLite asks nobody.
TEST_F(GatheringVfsTest, AWriteThatFailsFailsTheCheckpoint) {
  insert(20, 20'000);
  bool passed = false;
  for (std::uint64_t nth = 1; nth < 100 && !passed; ++nth) {
    FaultVfs::arm({.calls = static_cast<unsigned>(DiskCall::write), .nth = nth, .error = ENOSPC});
    const int code = checkpoint();
    passed = FaultVfs::failures() == 0;
    FaultVfs::disarm();
    EXPECT_EQ(code, passed ? SQLITE_OK : SQLITE_FULL) << nth;
    ASSERT_NO_FATAL_FAILURE(expect_same_in_files()) << nth;
    EXPECT_TRUE(nth > 3 || !passed) << "400 KB in fewer writes than can be";
  }
  EXPECT_TRUE(passed);
}

TEST_F(GatheringVfsTest, APartIsCopiedAheadOnceAndTheLogGoesOn) {
  db_.reset();
  DiskLog log(folder_.file("none"));
  FaultVfs::record(&log);
  db_ = std::make_unique<SQLite::Database>(open_database(path_, OpenFor::writing));
  db_->exec("PRAGMA wal_autocheckpoint = 0");
  insert(1, 1);
  ASSERT_NO_FATAL_FAILURE(copy_in_parts());
  insert(50, 100'000);  // 650 pages
  const std::string log_before = read_whole_file(path_ + "-wal");
  const std::string file_before = read_whole_file(path_);
  ASSERT_EQ(copy_ahead(in_log_ / 2), SQLITE_OK);
  EXPECT_FALSE(file_before == read_whole_file(path_));
  std::size_t before = log.now();
  ASSERT_EQ(copy_ahead(in_log_ / 2), SQLITE_OK);
  EXPECT_LE(log.now() - before, 1u);  // SQLite syncs the log
  ASSERT_EQ(copy_ahead(in_log_), SQLITE_OK);
  EXPECT_TRUE(log_before == read_whole_file(path_ + "-wal"));
  ASSERT_NO_FATAL_FAILURE(expect_same_in_files());
  insert(1, 1);
  EXPECT_TRUE(read_whole_file(path_ + "-wal").starts_with(log_before));
  // The last one's few pages, the file's length and its sync.
  before = log.now();
  EXPECT_EQ(checkpoint(), SQLITE_OK);
  EXPECT_LT(log.now() - before, 8u);
  ASSERT_NO_FATAL_FAILURE(expect_same_in_files(false));
}

// Of a pass whose pages are not all there nothing is left out by the next one.
TEST_F(GatheringVfsTest, AWriteThatFailsInAPartIsMadeAgain) {
  ASSERT_NO_FATAL_FAILURE(copy_in_parts());
  bool passed = false;
  for (std::uint64_t nth = 1; nth < 100 && !passed; ++nth) {
    insert(20, 20'000);
    FaultVfs::arm({.calls = static_cast<unsigned>(DiskCall::write),
                   .nth = nth,
                   .error = ENOSPC,
                   .in_part = nth % 2 == 0});
    const int code = copy_ahead(in_log_);
    passed = FaultVfs::failures() == 0;
    FaultVfs::disarm();
    EXPECT_EQ(code, passed ? SQLITE_OK : SQLITE_FULL) << nth;
    ASSERT_NO_FATAL_FAILURE(expect_same_in_files()) << nth;
    EXPECT_EQ(checkpoint(), SQLITE_OK);
    ASSERT_NO_FATAL_FAILURE(expect_same_in_files(false)) << nth;
  }
  EXPECT_TRUE(passed);
}

}  // namespace
}  // namespace postbag::test
