// What is made of a SQLite store beside it: backups, what a check says, what salvage saves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "store/sqlite_schema.h"
#include "tests/support/sqlite_store_fixture.h"

namespace postbag {
namespace {

using test::damage;
using test::open_fails;
using test::read_file;
using test::write_file;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SqliteCopiesTest : public test::SqliteStoreFixture {};

TEST_F(SqliteCopiesTest, BacksUpWhileOpen) {
  open();
  append(1, "blob");
  fail(2, "body");
  const std::string copy = directory_.file("copy.db");
  ASSERT_FALSE(store_->backup(copy));
  EXPECT_EQ(store_->backup(copy), Errc::store_cannot_create);  // never over a file
  EXPECT_EQ(store_->backup("file:x"), Errc::store_cannot_create);
  append(3, "later");
  struct stat status {};
  ASSERT_EQ(stat(copy.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);

  EXPECT_THAT(check_sqlite_store(copy), IsEmpty());
  const std::uint16_t tag = store_->info().store_tag;
  path_ = copy;
  open();
  EXPECT_THAT(pending(), ElementsAre(1));
  EXPECT_EQ(store_->info().failed_hooks, 1u);
  EXPECT_EQ(store_->info().store_tag, tag);
}

// What is committed between two slices is in the copy, in pages that it has already or not.
TEST_F(SqliteCopiesTest, BacksUpInSlicesWhileItIsWrittenTo) {
  open();
  constexpr ChunkNumber chunks = 64;
  for (ChunkNumber number = 1; number <= chunks; ++number) {
    append(number, std::string(1 << 20, 'x'));
  }
  const std::string copy = directory_.file("copy.db");
  std::unique_ptr<StoreBackup> backup;
  ASSERT_FALSE(store_->begin_backup(copy, backup));
  int slices = 0;
  for (bool done = false; !done; ++slices) {
    ASSERT_FALSE(backup->step(done));
    if (done || slices >= 20) continue;
    const ChunkNumber number = chunks + 1 + static_cast<ChunkNumber>(slices);
    append(number, std::string(50'000, 'y'));
    StoreGroup settle;
    settle.settle = {number - chunks};
    commit(settle);
    store_->maintain();
  }
  ASSERT_FALSE(backup->sync());
  backup.reset();
  EXPECT_GT(slices, 1);
  const std::vector<ChunkNumber> here = pending();
  EXPECT_THAT(check_sqlite_store(copy), IsEmpty());
  path_ = copy;
  open();
  EXPECT_EQ(pending(), here);
}

TEST_F(SqliteCopiesTest, LeavesNothingOfABackupThatIsCutShort) {
  open();
  for (ChunkNumber number = 1; number <= 64; ++number) append(number, std::string(1 << 20, 'x'));
  const std::string copy = directory_.file("copy.db");
  std::unique_ptr<StoreBackup> backup;
  ASSERT_FALSE(store_->begin_backup(copy, backup));
  bool done = false;
  ASSERT_FALSE(backup->step(done));
  EXPECT_TRUE(std::filesystem::exists(copy + ".part"));
  backup.reset();
  EXPECT_FALSE(std::filesystem::exists(copy));
  EXPECT_FALSE(std::filesystem::exists(copy + ".part"));
  append(65, "goes on");
}

// A kill left half a file that looked like a store.
TEST_F(SqliteCopiesTest, ABackupHasItsNameWhenItIsWhole) {
  open();
  append(1, "blob");
  const std::string copy = directory_.file("copy.db");
  const auto make = [&](std::unique_ptr<StoreBackup>& backup) {
    std::error_code error = store_->begin_backup(copy, backup);
    for (bool done = false; !error && !done;) error = backup->step(done);
    return error;
  };
  std::unique_ptr<StoreBackup> backup, second;
  ASSERT_FALSE(make(backup));
  EXPECT_FALSE(std::filesystem::exists(copy));
  EXPECT_EQ(make(second), Errc::store_cannot_create) << "one is under way";
  ASSERT_FALSE(backup->sync());
  EXPECT_FALSE(std::filesystem::exists(copy + ".part"));
  EXPECT_THAT(check_sqlite_store(copy), IsEmpty());

  std::filesystem::remove(copy);
  ASSERT_FALSE(make(backup));
  write_file(copy, "of somebody else");
  EXPECT_EQ(backup->sync(), Errc::store_cannot_create);
  EXPECT_EQ(read_file(copy), "of somebody else");
  EXPECT_FALSE(std::filesystem::exists(copy + ".part"));
}

TEST_F(SqliteCopiesTest, CheckChangesNothing) {
  open();
  append(1, "blob");
  // As a kill leaves it: with a log.
  const std::string copy = directory_.file("killed.db");
  write_file(copy, read_file(path_));
  write_file(copy + "-wal", read_file(path_ + "-wal"));
  const std::string before = read_file(copy), wal_before = read_file(copy + "-wal");
  EXPECT_THAT(check_sqlite_store(copy), IsEmpty());
  EXPECT_EQ(read_file(copy), before);
  EXPECT_EQ(read_file(copy + "-wal"), wal_before);
  path_ = copy;
  open();
  EXPECT_THAT(pending(), ElementsAre(1));  // from the log
}

// The advice was to do what had just been done.
TEST_F(SqliteCopiesTest, OfAFileThatIsNoDatabaseSalvageSavesNothingAndSaysSo) {
  write_file(path_, std::string(8192, 'x'));
  std::string what;
  EXPECT_EQ(open_fails([&] { (void)salvage_sqlite_store(path_, directory_.file("s.db")); }, &what),
            Errc::store_corrupt);
  EXPECT_THAT(what, HasSubstr("nothing in it can be read"));
  EXPECT_THAT(what, Not(HasSubstr("store salvage")));
}

TEST_F(SqliteCopiesTest, SalvagesWhatCanBeRead) {
  open();
  const std::uint16_t tag = store_->info().store_tag;
  StoreGroup extra;
  extra.reserve_below = 5'000;
  extra.remember = {{{1, 2}, {3, 4}, 55, 1'000}};
  commit(extra);
  for (ChunkNumber number = 1; number <= 200; ++number) {
    append(number, "blob " + std::to_string(number) + std::string(1'000, '.'));
  }
  StoreGroup attempts;
  attempts.attempts = {{200, 3, 77}};
  commit(attempts);
  fail(300, "sound body");
  fail(301, "damaged body");
  store_.reset();
  damage(path_, "blob 7.");
  damage(path_, "damaged body");
  // And a page with several chunks whose structure is gone.
  std::string content = read_file(path_);
  const std::size_t page = content.find("blob 100.") / sqlite_page_bytes * sqlite_page_bytes;
  content.replace(page, 100, std::string(100, '\x55'));
  write_file(path_, content);

  const std::string to = directory_.file("salvaged.db");
  const SalvageReport report = salvage_sqlite_store(path_, to);
  EXPECT_EQ(report.failed, 1u);
  EXPECT_EQ(report.lost_failed, 1u);
  EXPECT_GE(report.lost_chunks, 2u);
  EXPECT_GT(report.chunks, 180u);
  EXPECT_LT(report.chunks, 200u);
  EXPECT_EQ(open_fails([&] { (void)salvage_sqlite_store(path_, to); }), Errc::store_cannot_create);

  EXPECT_THAT(check_sqlite_store(to), IsEmpty());
  EXPECT_FALSE(check_sqlite_store(path_).empty());
  path_ = to;
  open();
  EXPECT_EQ(store_->info().store_tag, tag);
  EXPECT_EQ(store_->info().next_number, 5'000u);
  EXPECT_EQ(store_->info().pending_chunks, report.chunks);
  std::vector<PendingChunk> chunks;
  ASSERT_FALSE(store_->scan_pending(199, 10, chunks));
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].attempts, 3u);
  EXPECT_EQ(store_->find_failed(failed_key(300, 0))->body, "sound body");
  EXPECT_EQ(store_->find_failed(failed_key(300, 0))->response_excerpt, "the excerpt");
}

// The advice of a start that finds damage, followed by somebody who forgets the log once.
class SalvageAdviceTest : public SqliteCopiesTest {
 protected:
  struct Files {
    std::string db, log, witness;
  };
  Files files() const {
    return {read_file(path_), read_file(path_ + "-wal"), read_file(path_ + ".witness")};
  }
  void put(const Files& files) {
    store_.reset();
    write_file(path_, files.db);
    write_file(path_ + "-wal", files.log);
    write_file(path_ + ".witness", files.witness);
  }

  // False: nothing could be saved, and it says so.
  bool follow_advice(SalvageReport& report) {
    const std::string to = directory_.file("rescued.db");
    std::filesystem::remove(to);
    std::string what;
    const auto error = open_fails([&] { report = salvage_sqlite_store(path_, to); }, &what);
    if (error) {
      EXPECT_EQ(error, Errc::store_corrupt);
      EXPECT_THAT(what, HasSubstr("backup"));
      EXPECT_THAT(what, Not(HasSubstr("store salvage")));
      return false;
    }
    std::filesystem::rename(to, path_);
    const std::string rescued = read_file(path_);
    EXPECT_EQ(open_error(&what), Errc::store_corrupt);
    EXPECT_THAT(what, HasSubstr("remove it"));
    EXPECT_THAT(what, HasSubstr(path_ + "-wal"));
    EXPECT_EQ(read_file(path_), rescued);
    std::filesystem::remove(path_ + "-wal");
    EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
    open();
    return true;
  }
};

// SQLite laid the pages of the old log over the rescued store, and nobody noticed.
TEST_F(SalvageAdviceTest, WhatIsRescuedIsNotMixedWithTheLogOfBefore) {
  open();
  for (ChunkNumber number = 1; number <= 200; ++number) {
    append(number, "blob " + std::to_string(number) + std::string(1'000, '.'));
  }
  open();
  const std::uint16_t tag = store_->info().store_tag;
  append(201, "in the log");
  StoreGroup settle;
  settle.settle = {5};
  commit(settle);
  Files killed = files();
  const std::size_t page = killed.db.find("blob 100.") / sqlite_page_bytes * sqlite_page_bytes;
  killed.db.replace(page, 100, std::string(100, '\x55'));
  put(killed);
  std::string what;
  EXPECT_EQ(open_error(&what), Errc::store_corrupt);
  EXPECT_THAT(what, HasSubstr("store salvage"));

  SalvageReport report;
  ASSERT_TRUE(follow_advice(report));
  EXPECT_GE(report.lost_chunks, 1u);
  EXPECT_GT(report.chunks, 180u);
  const std::vector<ChunkNumber> chunks = pending();
  EXPECT_EQ(chunks.size(), report.chunks);
  EXPECT_THAT(chunks, Contains(201));
  EXPECT_THAT(chunks, Not(Contains(5)));
  EXPECT_EQ(store_->info().store_tag, tag);
}

// Of each page of a small store in turn.
TEST_F(SalvageAdviceTest, ItWorksWhateverPageIsDamaged) {
  open();
  for (ChunkNumber number = 1; number <= 40; ++number) {
    append(number, "blob " + std::to_string(number) + std::string(1'000, '.'));
  }
  for (ChunkNumber number = 101; number <= 110; ++number) fail(number, std::string(2'000, 'b'));
  StoreGroup ids;
  ids.remember = {{{1, 2}, {3, 4}, 55, 4'000'000'000'000}};
  ids.attempts = {{1, 3, 77}};
  commit(ids);
  store_.reset();
  Files sound = files();
  sound.log = "what a kill leaves";  // so the structure is checked; SQLite takes it for none
  const std::size_t pages = sound.db.size() / sqlite_page_bytes;
  int rescued = 0, hopeless = 0;
  for (std::size_t page = 0; page < pages; ++page) {
    SCOPED_TRACE("page " + std::to_string(page + 1));
    Files damaged = sound;
    const std::size_t header = page == 0 ? 100 : 0;  // SQLite's own, of the file
    damaged.db.replace(page * sqlite_page_bytes + header, 200, std::string(200, '\x55'));
    put(damaged);
    std::string what;
    if (!open_error(&what)) continue;  // a page that is not used
    EXPECT_THAT(what, AllOf(HasSubstr("store salvage"), Not(HasSubstr("\n"))));
    EXPECT_THAT(check_sqlite_store(path_), AllOf(Not(IsEmpty()), Each(Not(HasSubstr("\n")))));
    SalvageReport report;
    if (!follow_advice(report)) {
      ++hopeless;
      continue;
    }
    ++rescued;
    EXPECT_EQ(pending().size(), report.chunks);
    EXPECT_EQ(store_->info().failed_hooks, report.failed);
    // A page is of one table.
    EXPECT_TRUE(report.chunks == 40 || report.failed == 10);
    EXPECT_EQ(report.lost_chunks > 0, report.chunks < 40);
    EXPECT_EQ(report.lost_failed > 0, report.failed < 10);
  }
  EXPECT_EQ(hopeless, 1);  // the first, which says where the tables are
  EXPECT_GE(rescued, 10);
}

}  // namespace
}  // namespace postbag
