// A checkpoint under load: who waits for it, and what becomes of the log when it fails.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sync_ledger.h"
#include "tests/crash/disk_log.h"
#include "tests/crash/fault_vfs.h"
#include "tests/crash/io_bench.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

constexpr std::chrono::seconds patience{30};

// A store on a disk whose syncs the test knows of, and groups for it until a checkpoint is due.
class CheckpointTest : public ::testing::Test {
 protected:
  CheckpointTest() {
    FaultVfs::install();
    store_ = open_sqlite_store(small_store(path_));
  }
  ~CheckpointTest() override { FaultVfs::on_sync({}); }

  std::error_code commit_next(char byte = 'x') {
    GroupBuilder builder;
    builder.append(next_, next_, {std::string(20'000, byte)});
    const std::error_code error = store_->commit(builder.group(), CommitLevel::sync_later);
    if (!error) ++next_;
    return error;
  }
  // Until the file is synced, or 1,000 times.
  std::error_code commit_until(const std::atomic<bool>& file_synced) {
    std::error_code error;
    for (int i = 0; i < 1000 && !error && !file_synced; ++i) error = commit_next();
    return error;
  }
  std::size_t chunks_stored() {
    std::vector<PendingChunk> chunks;
    EXPECT_FALSE(store_->scan_pending(0, 10'000, chunks));
    return chunks.size();
  }

  TempDirectory folder_;
  const std::string path_ = folder_.file("store.db");
  std::unique_ptr<Store> store_;
  ChunkNumber next_ = 1;
};

TEST_F(CheckpointTest, WhatIsCommittedIsAnsweredWhileTheFilesSyncHangs) {
  std::promise<void> hangs, goes_on;
  std::atomic<bool> file_synced = false;
  FaultVfs::on_sync([&, may_go_on = goes_on.get_future().share()](const std::string& path) {
    if (path != path_ || file_synced.exchange(true)) return false;
    hangs.set_value();
    may_go_on.wait();
    return false;
  });
  auto committing = std::async(std::launch::async, [&] { return commit_until(file_synced); });
  auto began = hangs.get_future();
  ASSERT_EQ(began.wait_for(patience), std::future_status::ready);
  // As the thread of the syncs does, which answers then.
  auto syncing = std::async(std::launch::async, [&] { return store_->sync(); });
  EXPECT_EQ(syncing.wait_for(patience), std::future_status::ready);
  EXPECT_EQ(committing.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  goes_on.set_value();
  EXPECT_FALSE(syncing.get());
  EXPECT_FALSE(committing.get());
}

TEST_F(CheckpointTest, TheLogIsOnDiskBeforeTheFileIsWritten) {
  ASSERT_FALSE(commit_next());
  std::vector<std::string> synced;
  std::atomic<bool> file_synced = false;
  FaultVfs::on_sync([&](const std::string& path) {
    if (!file_synced) synced.push_back(path);
    if (path == path_) file_synced = true;
    return false;
  });
  ASSERT_FALSE(commit_until(file_synced));
  // Once before the last part is copied ahead, once for what came since.
  EXPECT_EQ(synced, (std::vector<std::string>{path_ + "-wal", path_ + "-wal", path_}));
}

TEST_F(CheckpointTest, NothingIsTakenBehindAFilesSyncThatFailed) {
  std::atomic<bool> file_synced = false;
  FaultVfs::on_sync([&](const std::string& path) {
    return path == path_ && !file_synced.exchange(true);  // the kernel tells of it once
  });
  EXPECT_EQ(commit_until(file_synced), Errc::store_failed);
  const std::string log = read_whole_file(path_ + "-wal");
  EXPECT_FALSE(log.empty());
  EXPECT_EQ(store_->sync(), Errc::store_failed);
  EXPECT_EQ(commit_next(), Errc::store_failed);
  EXPECT_FALSE(store_->maintain());
  store_.reset();
  // All is in there still: the file may hold any part of it.
  EXPECT_TRUE(log == read_whole_file(path_ + "-wal"));
  store_ = open_sqlite_store(small_store(path_));
  EXPECT_EQ(chunks_stored(), next_ - 1);
}

// A page in the file whose frame a power loss takes would be of a commit that never was.
TEST_F(CheckpointTest, OnlyWhatIsSyncedInTheLogIsCopiedAhead) {
  const auto is_in_file = [&](char byte) {
    return read_whole_file(path_).find(std::string(1000, byte)) != std::string::npos;
  };
  ASSERT_FALSE(commit_next('x'));
  ASSERT_FALSE(commit_next('x'));
  int logs_syncs = 0, files_syncs = 0;
  FaultVfs::on_sync([&](const std::string& path) {
    files_syncs += path == path_;
    if (path == path_ || ++logs_syncs > 1) return false;
    EXPECT_FALSE(commit_next('y'));  // while it runs
    return false;
  });
  EXPECT_FALSE(is_in_file('x'));
  ASSERT_FALSE(store_->sync());
  ASSERT_FALSE(commit_next('z'));
  EXPECT_TRUE(is_in_file('x'));
  EXPECT_FALSE(is_in_file('y'));
  ASSERT_FALSE(store_->sync());
  ASSERT_FALSE(commit_next('z'));
  EXPECT_TRUE(is_in_file('y'));
  EXPECT_EQ(logs_syncs, 2);
  EXPECT_EQ(files_syncs, 0);
}

TEST_F(CheckpointTest, TheFileIsSyncedOnceForALongLog) {
  int files_syncs = 0;
  FaultVfs::on_sync([&](const std::string& path) {
    files_syncs += path == path_;
    return false;
  });
  std::uint64_t log_bytes = 0;
  for (int i = 0; i < 1000 && files_syncs == 0; ++i) {
    log_bytes = std::filesystem::file_size(path_ + "-wal");
    ASSERT_FALSE(commit_next());
    ASSERT_FALSE(store_->sync());
  }
  EXPECT_EQ(files_syncs, 1);
  EXPECT_GE(log_bytes, small_store(path_).max_bytes / 16);
  store_.reset();
  store_ = open_sqlite_store(small_store(path_));
  EXPECT_EQ(chunks_stored(), next_ - 1);
}

// While a backlog is delivered and nothing comes in, nobody asks for a sync: the log grew to its
// full length, and all of it was synced and copied in one go.
TEST_F(CheckpointTest, WhatGroupsThatOnlyTakeAwayWriteIsCopiedAheadToo) {
  for (int i = 0; i < 100; ++i) {
    ASSERT_FALSE(commit_next());
    ASSERT_FALSE(store_->sync());
  }
  bool log_synced = false, file_synced = false;
  bool synced_ahead = true;  // what was appended is
  FaultVfs::on_sync([&](const std::string& path) {
    (path == path_ ? file_synced : log_synced) = true;
    return false;
  });
  int checkpoints = 0;
  for (ChunkNumber chunk = 1; chunk < next_; ++chunk) {
    log_synced = file_synced = false;
    StoreGroup group;
    group.settle = {chunk};
    ASSERT_FALSE(store_->commit(group, CommitLevel::no_sync));
    if (!file_synced) {
      synced_ahead = synced_ahead || log_synced;
      continue;
    }
    // Each checkpoint finds the log synced but for the last group.
    EXPECT_TRUE(std::exchange(synced_ahead, false)) << "at " << chunk;
    ++checkpoints;
  }
  EXPECT_GT(checkpoints, 0);
}

// The sync of a log that ends when the next one has begun says nothing of that one.
TEST(SyncLedgerTest, FramesOfTheLogBeforeDoNotCount) {
  SyncLedger ledger(false, 0);
  ledger.committed({}, true, CommitLevel::sync_later, 10);
  SyncLedger::Covered covered = ledger.covered();
  ledger.committed({}, true, CommitLevel::sync_later, 15);
  EXPECT_EQ(ledger.synced_frames(), 0u);
  ledger.synced(covered);
  EXPECT_EQ(ledger.synced_frames(), 10u);
  covered = ledger.covered();
  ledger.log_is_copied({});
  ledger.committed({}, true, CommitLevel::sync_later, 3);
  ledger.synced(covered);
  EXPECT_EQ(ledger.synced_frames(), 0u);
  ledger.committed({}, true, CommitLevel::sync, 4);
  EXPECT_EQ(ledger.synced_frames(), 4u);
}

}  // namespace
}  // namespace postbag::test
