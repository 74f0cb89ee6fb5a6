// What a start says when the store in its place is not the one that stood there last, or nobody can
// know; and of what schema it was.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "store/sqlite_schema.h"
#include "store/witness.h"
#include "tests/support/sqlite_store_fixture.h"

namespace postbag {
namespace {

namespace fs = std::filesystem;
using test::open_fails;
using test::read_file;
using test::write_file;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class CopyBackTest : public test::SqliteStoreFixture {
 protected:
  std::vector<std::string> warnings() { return store_->info().warnings; }
  void settle(ChunkNumber number) {
    StoreGroup group;
    group.settle = {number};
    commit(group);
  }
  std::string log_path() const { return path_ + "-wal"; }
  std::string witness_path() const { return path_ + ".witness"; }
  // As a kill at this moment leaves it.
  void kill_now() {
    const std::string db = read_file(path_), log = read_file(log_path()),
                      witness = read_file(witness_path());
    store_.reset();
    write_file(path_, db);
    write_file(log_path(), log);
    write_file(witness_path(), witness);
  }
  void make_version_1() {
    store_.reset();
    fs::remove(witness_path());
    SQLite::Database db = open_database(path_, OpenFor::writing);
    for (const char* column : {"failed_bytes", "epoch", "sequence", "taken_hooks", "last_number"}) {
      db.exec(std::string("ALTER TABLE meta DROP COLUMN ") + column);
    }
    db.exec("PRAGMA user_version = 1");
  }
  std::int64_t version_of(const std::string& path) {
    SQLite::Database db = open_existing(path);
    return pragma_value(db, "PRAGMA user_version");
  }
};

// Nothing waited and nothing had failed at the last stop, as is usual: not a word, and the hooks of
// the copy were delivered again.
TEST_F(CopyBackTest, ABackupPutBackAfterAllWasDeliveredIsSaid) {
  open();
  append(7, "blob");
  const std::string backup = directory_.file("backup.db");
  ASSERT_FALSE(store_->backup(backup));
  settle(7);
  store_.reset();
  fs::copy_file(backup, path_, fs::copy_options::overwrite_existing);
  open();
  EXPECT_THAT(pending(), ElementsAre(7));
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("a copy was put back")));
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

// Of the same life of the store, so that the epoch says nothing.
TEST_F(CopyBackTest, FilesCopiedByHandAndPutBackAfterAllWasDeliveredAreSaid) {
  open();
  append(7, "blob");
  kill_now();
  const std::string db = read_file(path_), log = read_file(log_path());
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  settle(7);
  store_.reset();
  write_file(path_, db);
  write_file(log_path(), log);
  open();
  EXPECT_THAT(pending(), ElementsAre(7));
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("a copy was put back")));
  kill_now();
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

TEST_F(CopyBackTest, AnEmptyOneForAnEmptyOneIsNothingToSay) {
  open();
  append(7, "blob");
  settle(7);
  const std::string backup = directory_.file("backup.db");
  ASSERT_FALSE(store_->backup(backup));
  append(8, "blob");
  settle(8);
  store_.reset();
  fs::copy_file(backup, path_, fs::copy_options::overwrite_existing);
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

// --- A witness that is not there

// The hooks were in the log alone, and nobody said that nothing could be checked.
TEST_F(CopyBackTest, AStoreWithoutTheWitnessThatItHadIsSaid) {
  open();
  append(1, "blob");
  kill_now();
  const std::string db = read_file(path_), log = read_file(log_path()),
                    witness = read_file(witness_path());
  WitnessRecord other = *read_witness(witness_path()).newest();
  other.epoch = 5;
  other.store_tag ^= 1;
  other.empty = true;
  const std::string path_of_other = directory_.file("other.witness");
  WitnessWriter writer;
  ASSERT_TRUE(writer.open(path_of_other, true));
  writer.write(other);
  const std::string of_another = read_file(path_of_other);
  for (const std::string& bad :
       {std::string(), std::string(4'096, '\0'), std::string(4'096, 'x'), of_another}) {
    for (const bool with_log : {true, false}) {
      write_file(path_, db);
      write_file(log_path(), with_log ? log : "");
      write_file(witness_path(), bad);
      if (bad.empty()) fs::remove(witness_path());
      open();
      EXPECT_THAT(warnings(), ElementsAre(AllOf(HasSubstr("could not be checked"),
                                                HasSubstr("postbag.db.witness"))));
      EXPECT_EQ(pending().size(), with_log ? 1u : 0u);
      // Once: from here it watches again, also for who is killed at once.
      kill_now();
      open();
      EXPECT_THAT(warnings(), IsEmpty());
      store_.reset();
    }
  }
}

TEST_F(CopyBackTest, CopiesAndFirstStartsMissNoWitness) {
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  kill_now();
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  append(1, "blob");
  const std::string backup = directory_.file("backup.db"), salvaged = directory_.file("saved.db");
  ASSERT_FALSE(store_->backup(backup));
  store_.reset();
  (void)salvage_sqlite_store(path_, salvaged);
  for (const std::string& copy : {backup, salvaged}) {
    path_ = copy;
    open();
    EXPECT_THAT(warnings(), IsEmpty());
    EXPECT_THAT(pending(), ElementsAre(1));
  }
}

// A kill while a start draws a new epoch: the witness knows of it first.
TEST_F(CopyBackTest, AStartThatWasKilledAccusesNobody) {
  open();
  append(1, "blob");
  const std::string backup = directory_.file("backup.db");
  ASSERT_FALSE(store_->backup(backup));
  store_.reset();
  const std::string old = read_file(path_);
  // The witness as it is after each write of an opening, beside what the file may be then.
  path_ = backup;
  open();
  kill_now();
  const std::string begun =
      read_file(backup + ".witness").substr(0, 128) + std::string(3'968, '\0');
  const std::string drawn = read_file(backup), log = read_file(backup + "-wal");
  for (const std::string& file : {read_file(directory_.file("postbag.db")), drawn}) {
    write_file(backup, file);
    write_file(backup + "-wal", file == drawn ? log : "");
    write_file(backup + ".witness", begun);
    open();
    EXPECT_THAT(warnings(), IsEmpty());
    EXPECT_THAT(pending(), ElementsAre(1));
    store_.reset();
  }
}

// "0 accepted hooks of 1 commits are missing" helped nobody.
TEST_F(CopyBackTest, WhereNoAcceptedHookIsMissingItSaysWhatIs) {
  open();
  append(1, "blob");
  open();
  fail(1, "body");
  kill_now();
  write_file(log_path(), "");
  std::string what;
  EXPECT_EQ(open_error(&what), Errc::store_corrupt);
  EXPECT_THAT(what, AllOf(HasSubstr("1 commits are missing; they accepted no hook"),
                          Not(HasSubstr("0 accepted hooks"))));
}

// --- An older schema

TEST_F(CopyBackTest, AnUpgradeIsSaidWithTheNameOfTheCopy) {
  open();
  append(1, "blob");
  make_version_1();
  open();
  EXPECT_THAT(warnings(),
              ElementsAre(AllOf(HasSubstr("from schema 1 to 2"), HasSubstr(path_ + ".before-v2"))));
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

// `status` and `store backup` of a new version made the store one that the old version refuses.
TEST_F(CopyBackTest, LookingDoesNotUpgrade) {
  open();
  append(1, "blob");
  make_version_1();
  const std::string before = read_file(path_);
  std::string what;
  EXPECT_EQ(open_fails([&] { (void)open_sqlite_store({.path = path_, .upgrade = false}); }, &what),
            std::errc::not_supported);
  EXPECT_THAT(what, AllOf(HasSubstr("schema 1"), HasSubstr("postbag serve")));
  const std::string backup = directory_.file("backup.db");
  backup_sqlite_store(path_, backup);
  EXPECT_EQ(version_of(backup), 1);
  EXPECT_EQ(version_of(path_), 1);
  EXPECT_EQ(read_file(path_), before);
  EXPECT_FALSE(fs::exists(path_ + ".before-v2"));
  EXPECT_EQ(open_fails([&] { backup_sqlite_store(path_, backup); }), Errc::store_cannot_create);
  path_ = backup;
  open();
  EXPECT_THAT(pending(), ElementsAre(1));
}

// A backup looks, too: what a start would refuse is not copied as if it were whole, and what a
// start would say is left to it.
TEST_F(CopyBackTest, ABackupOfAClosedStoreChangesNothing) {
  open();
  append(1, "blob");
  kill_now();
  const std::string db = read_file(path_), log = read_file(log_path()),
                    witness = read_file(witness_path());
  backup_sqlite_store(path_, directory_.file("backup.db"));
  EXPECT_EQ(read_file(path_), db);
  EXPECT_EQ(read_file(log_path()), log);
  EXPECT_EQ(read_file(witness_path()), witness);
  write_file(log_path(), "");
  EXPECT_EQ(open_fails([&] { backup_sqlite_store(path_, directory_.file("other.db")); }),
            Errc::store_corrupt);
  path_ = directory_.file("backup.db");
  open();
  EXPECT_THAT(pending(), ElementsAre(1));
}

}  // namespace
}  // namespace postbag
