// What the witness notices at open, and what it must not cry about; files deleted or replaced.
#include "store/witness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_schema.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"
#include "tests/support/whole_file.h"

namespace postbag {
namespace {

namespace fs = std::filesystem;
using test::read_file;
using test::write_file;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class WitnessTest : public ::testing::Test {
 protected:
  void open(bool accept_loss = false) {
    store_.reset();
    store_ = open_sqlite_store({.path = path_, .accept_loss = accept_loss});
  }

  // Empty: it opens. The store stays closed.
  std::string refusal() {
    store_.reset();
    try {
      (void)open_sqlite_store({.path = path_});
    } catch (const StoreError& error) {
      EXPECT_EQ(error.code(), Errc::store_corrupt);
      return error.what();
    }
    return {};
  }

  void append(ChunkNumber number, CommitLevel level = CommitLevel::sync, std::uint32_t hooks = 1) {
    test::GroupBuilder group;
    group.append(number, number, {"blob " + std::to_string(number)}).hooks = hooks;
    group.group().reserve_below = 1'000;
    ASSERT_FALSE(store_->commit(group.group(), level));
  }

  void settle(ChunkNumber number) {
    StoreGroup group;
    group.settle = {number};
    ASSERT_FALSE(store_->commit(group, CommitLevel::no_sync));
  }

  // The files as a kill at this moment leaves them.
  struct Image {
    std::string db, log, witness;
  };
  Image image() const { return {read_file(path_), read_file(path_ + "-wal"), read_file(witness_)}; }
  void put(const Image& image) {
    store_.reset();
    write_file(path_, image.db);
    write_file(path_ + "-wal", image.log);
    write_file(witness_, image.witness);
  }

  std::vector<ChunkNumber> pending() { return test::pending_chunks(*store_); }
  std::vector<std::string> warnings() { return store_->info().warnings; }

  test::TempDirectory directory_;
  std::string path_ = directory_.file("postbag.db");
  std::string witness_ = path_ + ".witness";
  std::unique_ptr<Store> store_;
};

TEST_F(WitnessTest, SaysNothingAboutWhatIsAsItWasLeft) {
  for (int round = 0; round < 3; ++round) {
    open();
    EXPECT_THAT(warnings(), IsEmpty());
    for (ChunkNumber i = 1; i <= 40; ++i) append(100 * static_cast<ChunkNumber>(round) + i);
  }
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  EXPECT_EQ(pending().size(), 120u);
  store_.reset();
  EXPECT_EQ(fs::file_size(witness_), 4'096u);
  EXPECT_EQ(fs::status(witness_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

// Cuts the log behind every frame: what is acknowledged is the whole of it, so every shorter one is
// a loss, and the witness as it was then never is.
TEST_F(WitnessTest, MissesNoCutAndAccusesNoKill) {
  open();
  std::vector<Image> images;
  for (ChunkNumber number = 1; number <= 6; ++number) {
    append(number, CommitLevel::sync, 10);
    images.push_back(image());
  }
  const Image last = images.back();
  constexpr std::size_t frame = sqlite_page_bytes + 24, header = 32;
  ASSERT_EQ((last.log.size() - header) % frame, 0u);
  std::size_t refused = 0;
  for (std::size_t size = 0; size < last.log.size(); size += size == 0 ? header : frame) {
    put({last.db, last.log.substr(0, size), last.witness});
    ASSERT_THAT(refusal(), HasSubstr(" missing, ")) << size;
    ++refused;
    // Refused means untouched.
    EXPECT_EQ(read_file(path_), last.db);
    EXPECT_EQ(read_file(witness_), last.witness);
  }
  EXPECT_GT(refused, 6u);
  // Killed before the witness was written: it is one behind, or more where it was not synced.
  for (std::size_t at_kill = 0; at_kill < images.size(); ++at_kill) {
    for (std::size_t seen = 0; seen <= at_kill; ++seen) {
      put({images[at_kill].db, images[at_kill].log, images[seen].witness});
      EXPECT_EQ(refusal(), "") << at_kill << " " << seen;
    }
  }
}

TEST_F(WitnessTest, NamesWhatIsMissingAndGoesOnWhenTold) {
  open();
  append(11, CommitLevel::sync, 5);
  const Image before = image();
  append(12, CommitLevel::sync, 100);
  append(15, CommitLevel::sync, 20);
  put({before.db, before.log, read_file(witness_)});
  EXPECT_THAT(refusal(),
              AllOf(HasSubstr(path_), HasSubstr("120 accepted hooks of 2 commits are missing"),
                    HasSubstr("chunk numbers 12 to 15"), HasSubstr("--accept-loss")));
  EXPECT_THAT(check_sqlite_store(path_), ElementsAre(HasSubstr("120 accepted hooks")));
  open(true);
  EXPECT_THAT(pending(), ElementsAre(11));
  EXPECT_THAT(warnings(), ElementsAre(AllOf(HasSubstr("12 to 15"), HasSubstr("was accepted"))));
  // Once is enough, and from here it watches again.
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  const Image later = image();
  append(16);
  put({later.db, later.log, read_file(witness_)});
  EXPECT_THAT(refusal(), HasSubstr("chunk numbers 16 to 16"));
}

TEST_F(WitnessTest, ManyMissingCommitsAreCountedExactly) {
  open();
  append(1);
  const Image before = image();
  for (ChunkNumber number = 2; number <= 200; ++number) append(number, CommitLevel::sync, 3);
  put({before.db, before.log, read_file(witness_)});
  EXPECT_THAT(refusal(), AllOf(HasSubstr("597 accepted hooks of 199 commits"),
                               HasSubstr("chunk numbers 2 to 200")));
}

TEST_F(WitnessTest, ADeletedLogAndAnOldCopyAreLosses) {
  open();
  append(1);
  const Image old = image();
  open();  // the log goes into the file
  const std::string closed = read_file(path_);
  append(2);
  const std::string witness = read_file(witness_);
  put({closed, "", witness});
  EXPECT_THAT(refusal(), HasSubstr("1 accepted hooks of 1 commits"));
  put({old.db, old.log, witness});
  EXPECT_THAT(refusal(), HasSubstr("1 accepted hooks of 1 commits"));
}

TEST_F(WitnessTest, ADeletedStoreIsALossUnlessItWasEmpty) {
  open();
  append(1);
  store_.reset();
  fs::remove(path_);
  EXPECT_THAT(refusal(), HasSubstr("is missing"));
  EXPECT_FALSE(fs::exists(path_));
  open(true);
  EXPECT_THAT(pending(), IsEmpty());
  append(1);
  settle(1);
  store_.reset();
  fs::remove(path_);
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  // Killed, nobody knows that it was empty.
  append(1);
  settle(1);
  const std::string witness = read_file(witness_);
  store_.reset();
  fs::remove(path_);
  write_file(witness_, witness);
  EXPECT_THAT(refusal(), HasSubstr("is missing"));
}

TEST_F(WitnessTest, AStoreOfAnotherIsRefused) {
  open();
  append(1);
  store_.reset();
  const std::string other = directory_.file("other.db");
  std::string of_other;
  // Tags are random in 16 bits; one that differs is needed.
  for (int i = 0; i < 5 && of_other.empty(); ++i) {
    auto store = open_sqlite_store({.path = other});
    test::GroupBuilder group;
    group.append(1, 1, {"x"});
    ASSERT_FALSE(store->commit(group.group(), CommitLevel::sync));
    store.reset();
    of_other = read_file(other);
  }
  write_file(path_, of_other);
  EXPECT_THAT(refusal(), HasSubstr("this is another one"));
}

TEST_F(WitnessTest, ABackupPutBackIsNoLoss) {
  open();
  append(7);
  const std::string backup = directory_.file("backup.db");
  ASSERT_FALSE(store_->backup(backup));
  StoreGroup reserve;
  reserve.reserve_below = 5'000;
  ASSERT_FALSE(store_->commit(reserve, CommitLevel::sync));
  append(4'000);
  store_.reset();
  fs::copy_file(backup, path_, fs::copy_options::overwrite_existing);
  open();
  EXPECT_THAT(pending(), ElementsAre(7));
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("a copy was put back")));
  EXPECT_EQ(store_->info().next_number, 5'000u);  // no number of before is given to another hook
  open();
  EXPECT_THAT(warnings(), IsEmpty());
  // Also one that was looked at elsewhere first, and so has begun to live.
  append(4'500);
  store_.reset();
  (void)open_sqlite_store({.path = backup});
  fs::copy_file(backup, path_, fs::copy_options::overwrite_existing);
  open();
  EXPECT_THAT(warnings(), ElementsAre(HasSubstr("a copy was put back")));
}

TEST_F(WitnessTest, ASalvagedStorePutInPlaceIsNoLoss) {
  open();
  append(1);
  store_.reset();
  const std::string to = directory_.file("salvaged.db");
  (void)salvage_sqlite_store(path_, to);
  EXPECT_FALSE(fs::exists(to + ".witness"));
  EXPECT_FALSE(fs::exists(to + ".ballast"));
  fs::rename(to, path_);
  open();
  EXPECT_THAT(pending(), ElementsAre(1));
}

// Level os: what a power loss may take is no reason not to start.
TEST_F(WitnessTest, UnsyncedCommitsMayGo) {
  open();
  append(1, CommitLevel::no_sync);
  append(2, CommitLevel::sync);
  const Image synced = image();
  append(3, CommitLevel::no_sync);
  append(4, CommitLevel::no_sync, 9);
  const std::string witness = read_file(witness_);
  put({synced.db, synced.log, witness});
  EXPECT_THAT(check_sqlite_store(path_), ElementsAre(HasSubstr("10 accepted hooks")));
  open();
  EXPECT_THAT(pending(), ElementsAre(1, 2));
  EXPECT_THAT(warnings(), ElementsAre(AllOf(HasSubstr("10 accepted hooks of 2 commits"),
                                            HasSubstr("3 to 4"), HasSubstr("power loss"))));
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

TEST_F(WitnessTest, AForcedSyncEndsTheWindow) {
  open();
  append(1, CommitLevel::sync);
  const Image before = image();
  append(2, CommitLevel::no_sync);
  ASSERT_FALSE(store_->commit({}, CommitLevel::sync));
  put({before.db, before.log, read_file(witness_)});
  EXPECT_THAT(refusal(), HasSubstr("chunk numbers 2 to 2"));
}

TEST_F(WitnessTest, TornAndMissingWitnessesAccuseNobody) {
  open();
  append(1);
  const Image before = image();
  append(2);
  const Image after = image();
  store_.reset();
  for (std::size_t at = 0; at < after.witness.size(); at += 57) {
    Image torn = after;
    torn.witness[at] = static_cast<char>(torn.witness[at] ^ 0x5a);
    put(torn);
    EXPECT_EQ(refusal(), "") << at;
  }
  put(after);
  fs::remove(witness_);
  EXPECT_EQ(refusal(), "");
  EXPECT_TRUE(fs::exists(witness_));
  // A torn newest record leaves the one before, which still knows of the first commit.
  put({before.db, "", after.witness.substr(0, after.witness.size() / 2)});
  EXPECT_NE(refusal(), "");
}

TEST_F(WitnessTest, NoDamagedRecordIsBelieved) {
  WitnessRecord record;
  record.epoch = 5;
  record.sequence = 7;
  {
    WitnessWriter writer;
    ASSERT_TRUE(writer.open(witness_, true));
    writer.write(record);
  }
  const std::string sound = read_file(witness_);
  ASSERT_EQ(read_witness(witness_).records.size(), 1u);
  EXPECT_EQ(read_witness(witness_).newest()->sequence, 7u);
  for (std::size_t at = 0; at < 80; ++at) {
    std::string damaged = sound;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    write_file(witness_, damaged);
    EXPECT_THAT(read_witness(witness_).records, IsEmpty()) << at;
  }
}

// A process that dies at once, many times, in the middle of committing: every one starts again.
TEST_F(WitnessTest, KillsAtAnyMomentAreNoLoss) {
  for (int round = 0; round < 25; ++round) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      open();
      const ChunkNumber first = store_->info().next_number;
      for (ChunkNumber number = first;; ++number) {
        append(number, number % 3 == 0 ? CommitLevel::sync : CommitLevel::no_sync);
        if (number % 5 == 0) store_->maintain();
        if (write(pipe_ends[1], "x", 1) != 1) _exit(1);
      }
    }
    // After a number of commits that differs, at whatever it is doing then.
    char byte = 0;
    for (int commits = 0; commits < 3 + round; ++commits) {
      ASSERT_EQ(read(pipe_ends[0], &byte, 1), 1);
    }
    kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    const Image killed = image();
    ASSERT_THAT(check_sqlite_store(path_), IsEmpty()) << round;
    ASSERT_EQ(image().log, killed.log);
  }
  open();
  EXPECT_THAT(warnings(), IsEmpty());
}

// --- Deleted and replaced files

TEST_F(WitnessTest, ChecksThatTheFilesAreStillThere) {
  open();
  append(1);
  EXPECT_FALSE(store_->check_place());
  for (const std::string& name : {path_, path_ + "-wal"}) {
    open();
    append(store_->info().next_number);
    fs::rename(name, directory_.file("away"));
    EXPECT_EQ(store_->failure(), "");
    EXPECT_EQ(store_->check_place(), Errc::store_failed) << name;
    EXPECT_EQ(store_->failure(),
              path_ + ": it or its log was deleted, moved or replaced while in use");
    EXPECT_EQ(store_->commit({}, CommitLevel::sync), std::error_code(Errc::store_failed)) << name;
    store_.reset();
    fs::rename(directory_.file("away"), name);  // brought back: nothing is lost
    EXPECT_EQ(refusal(), "") << name;
  }
  open();
  append(2'000);
  fs::rename(path_, directory_.file("away"));
  write_file(path_, "another file of the name");
  EXPECT_EQ(store_->check_place(), Errc::store_failed);
}

// Closing a store deletes its log by name; the log of the store that took its place must not go.
TEST_F(WitnessTest, ClosingLeavesTheFilesOfASuccessorAlone) {
  open();
  append(1);
  const Image successor = image();
  fs::rename(path_, directory_.file("away"));
  fs::rename(path_ + "-wal", directory_.file("away-wal"));
  write_file(path_, successor.db);
  write_file(path_ + "-wal", successor.log);
  store_.reset();
  EXPECT_EQ(read_file(path_), successor.db);
  EXPECT_EQ(read_file(path_ + "-wal"), successor.log);
}

// --- An unclean stop, an older schema

TEST_F(WitnessTest, AfterAnUncleanStopTheStructureIsChecked) {
  open();
  for (ChunkNumber number = 1; number <= 300; ++number) {
    test::GroupBuilder group;
    group.fail(number, "https://a.example/",
               {{failed_key(number, 0), "id", "",
                 "body " + std::to_string(number) + std::string(99, '.')}});
    ASSERT_FALSE(store_->commit(group.group(), CommitLevel::no_sync));
  }
  store_.reset();
  // A page of failed rows, which nothing reads at open.
  std::string content = read_file(path_);
  const std::size_t page = content.find("body 150.") / sqlite_page_bytes * sqlite_page_bytes;
  ASSERT_GT(page, sqlite_page_bytes);
  content.replace(page + 8, 300, std::string(300, '\x55'));
  write_file(path_, content);
  const std::string damaged = read_file(path_);
  open();  // after a clean stop nobody looks: it would cost a start its time
  append(999);
  Image unclean = image();
  put(unclean);
  // Of however long a log: its file stays long when it has been long once.
  fs::resize_file(path_ + "-wal", 70 << 20);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("damaged"), HasSubstr("salvage")));
  EXPECT_EQ(read_file(path_), damaged);
}

TEST_F(WitnessTest, AnOlderSchemaIsCopiedAndMigrated) {
  open();
  append(42);
  test::GroupBuilder group;
  FailBatch& batch =
      group.fail(50, "https://a.example/\xc3\xa9", {{failed_key(50, 0), "id", "push", "a body"}});
  batch.response_excerpt = "excerpt";
  ASSERT_FALSE(store_->commit(group.group(), CommitLevel::sync));
  const std::uint64_t bytes = store_->stats().failed_bytes;
  store_.reset();
  fs::remove(witness_);
  {
    SQLite::Database db = open_database(path_, OpenFor::writing);
    for (const char* column : {"failed_bytes", "epoch", "sequence", "taken_hooks", "last_number"}) {
      db.exec(std::string("ALTER TABLE meta DROP COLUMN ") + column);
    }
    db.exec("PRAGMA user_version = 1");
  }
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());  // as it is
  const std::string copy = path_ + ".before-v2";
  for (const std::string& half : {copy, copy + ".part"}) {
    write_file(half, "a copy of an attempt that was killed");
  }
  open();
  EXPECT_THAT(pending(), ElementsAre(42));
  EXPECT_EQ(store_->stats().failed_bytes, bytes);
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
  SQLite::Database before = open_existing(copy);
  EXPECT_EQ(pragma_value(before, "PRAGMA user_version"), 1);
  EXPECT_EQ(pragma_value(before, "SELECT number FROM chunk"), 42);
  EXPECT_EQ(fs::status(copy).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(WitnessTest, WhereTheCopyCannotBeMadeNothingIsMigrated) {
  open();
  append(42);
  store_.reset();
  {
    SQLite::Database db = open_database(path_, OpenFor::writing);
    for (const char* column : {"failed_bytes", "epoch", "sequence", "taken_hooks", "last_number"}) {
      db.exec(std::string("ALTER TABLE meta DROP COLUMN ") + column);
    }
    db.exec("PRAGMA user_version = 1");
  }
  fs::create_directory(path_ + ".before-v2");
  EXPECT_THROW(open(), StoreError);
  SQLite::Database db = open_existing(path_);
  EXPECT_EQ(pragma_value(db, "PRAGMA user_version"), 1);
}

}  // namespace
}  // namespace postbag
