// What only the SQLite store does: files, locks, damage, room.
#include "postbag/sqlite_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "store/sqlite_schema.h"
#include "store/store_file.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/sqlite_store_fixture.h"

namespace postbag {
namespace {

using test::damage;
using test::FileSizeLimit;
using test::open_fails;
using test::read_file;
using test::write_file;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// SQLite's header has these as big-endian numbers.
void set_header_number(const std::string& path, std::size_t offset, char value) {
  std::string content = read_file(path);
  ASSERT_GT(content.size(), offset + 4);
  content.replace(offset, 4, std::string{0, 0, 0, value});
  write_file(path, content);
}
constexpr std::size_t user_version_at = 60, application_id_at = 68;

class SqliteStoreTest : public test::SqliteStoreFixture {};

TEST_F(SqliteStoreTest, MakesAFileForItsOwnerOnly) {
  const mode_t before = umask(0);
  open();
  umask(before);
  append(1, "x");
  for (const std::string& name : {path_, path_ + "-wal"}) {
    struct stat status {};
    ASSERT_EQ(stat(name.c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 0777, 0600u) << name;
  }
  EXPECT_FALSE(std::filesystem::exists(path_ + "-shm"));  // exclusive: nobody to share with
  store_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_ + "-wal"));
  SQLite::Database db = open_existing(path_);
  EXPECT_EQ(pragma_value(db, "PRAGMA page_size"), static_cast<std::int64_t>(sqlite_page_bytes));
  EXPECT_EQ(pragma_value(db, "PRAGMA auto_vacuum"), 2);
  EXPECT_EQ(pragma_value(db, "PRAGMA user_version"), 2);
}

TEST_F(SqliteStoreTest, KeepsEverythingOverAReopen) {
  open();
  EXPECT_TRUE(store_->info().durable);
  const std::uint16_t tag = store_->info().store_tag;
  test::GroupBuilder group;
  group.append(3, 3, {"abc"}).hooks = 2;
  group.append(4, 3, {"defg"}).hooks = 5;
  group.group().remember = {{{1, 2}, {3, 4}, 55, 1'000}};
  group.group().reserve_below = 1'000;
  commit(group.group());
  StoreGroup attempts;
  attempts.attempts = {{3, 2, 4'444}};
  commit(attempts);
  fail(9, "[1]");

  open();
  const StoreInfo info = store_->info();
  EXPECT_EQ(info.store_tag, tag);
  EXPECT_EQ(info.next_number, 1'000u);
  EXPECT_EQ(info.pending_chunks, 2u);
  EXPECT_EQ(info.pending_hooks, 7u);
  EXPECT_EQ(info.pending_bytes, 7u);
  EXPECT_EQ(info.failed_hooks, 1u);
  store_.reset();
  store_ = open_sqlite_store({.path = path_, .count_pending = false});
  EXPECT_EQ(store_->info().pending_hooks, 0u);
  EXPECT_EQ(store_->info().failed_hooks, 1u);
  std::vector<PendingChunk> chunks;
  ASSERT_FALSE(store_->scan_pending(0, 10, chunks));
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].attempts, 2u);
  EXPECT_EQ(chunks[0].next_attempt_ms, 4'444);
  EXPECT_EQ(store_->find_failed(failed_key(9, 0))->response_excerpt, "the excerpt");
  std::vector<RememberedId> ids;
  ASSERT_FALSE(store_->load_ids(0, [&](const RememberedId& id) { ids.push_back(id); }));
  EXPECT_THAT(ids, SizeIs(1));
  // The attempts are found again by the settle.
  StoreGroup settle;
  settle.settle = {3, 4};
  commit(settle);
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
}

// Of which a new store had twice as much as one that was opened again, and the larger its pages the
// more.
TEST_F(SqliteStoreTest, TheCacheIsBoundedInBytesWhateverThePageSize) {
  for (const bool is_new : {true, false}) {
    if (is_new) create_store_file(path_);
    SQLite::Database db = open_database(path_, OpenFor::writing);
    prepare_for_writing(db, path_, 1 << 20);
    for (int i = 0; i < 10; ++i) {
      db.exec("INSERT INTO failed_batch VALUES(NULL, 1, zeroblob(12000000), x'')");
    }
    int used = 0, ignored = 0;
    ASSERT_EQ(sqlite3_db_status(db.getHandle(), SQLITE_DBSTATUS_CACHE_USED, &used, &ignored, 0), 0);
    EXPECT_LT(used, 66 << 20) << is_new;
    EXPECT_GT(used, 50 << 20) << is_new;
  }
}

TEST_F(SqliteStoreTest, AFileWithPagesOfAnotherSizeIsUsedAsItIs) {
  create_store_file(path_);
  {
    SQLite::Database db(path_, SQLite::OPEN_READWRITE);
    db.exec("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL; VACUUM");
  }
  open();
  for (ChunkNumber number = 1; number <= 20; ++number) append(number, std::string(100'000, 'x'));
  open();  // the log is in the file
  const StoreStats stats = store_->stats();
  EXPECT_GT(stats.used_bytes, 2'000'000u);
  EXPECT_LT(stats.used_bytes, stats.file_bytes + 100'000);
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
  SQLite::Database db = open_existing(path_);
  EXPECT_EQ(pragma_value(db, "PRAGMA page_size"), 4096);
}

TEST_F(SqliteStoreTest, NumbersAreNeverUsedAgain) {
  open();
  StoreGroup reserve;
  reserve.reserve_below = 65;
  commit(reserve);
  append(64, "x");
  StoreGroup settle;
  settle.settle = {64};
  commit(settle);
  open();  // empty now, and yet
  EXPECT_THAT(pending(), IsEmpty());
  EXPECT_EQ(store_->info().next_number, 65u);
}

TEST_F(SqliteStoreTest, ASecondOpenerIsBusyAtOnce) {
  open();
  std::string what;
  EXPECT_EQ(open_error(&what), Errc::store_busy);
  EXPECT_THAT(what, HasSubstr(path_));
  EXPECT_EQ(open_fails([&] { (void)check_sqlite_store(path_); }), Errc::store_busy);
  EXPECT_EQ(open_fails([&] { (void)salvage_sqlite_store(path_, directory_.file("s.db")); }),
            Errc::store_busy);
  append(1, "still fine");
  store_.reset();
  EXPECT_EQ(open_error(), std::error_code());
}

TEST_F(SqliteStoreTest, AnotherProcessIsBusyAtOnce) {
  int start[2];
  ASSERT_EQ(pipe(start), 0);
  const pid_t child = fork();  // before SQLite is in use, so that the child shares nothing with it
  ASSERT_GE(child, 0);
  if (child == 0) {
    char byte = 0;
    if (read(start[0], &byte, 1) != 1) _exit(2);
    _exit(open_error() == Errc::store_busy ? 0 : 1);
  }
  open();
  ASSERT_EQ(write(start[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  close(start[0]);
  close(start[1]);
  append(1, "still fine");
}

TEST_F(SqliteStoreTest, RefusesWhatItCannotOpen) {
  const auto code_of = [](const std::string& path, bool create = true) {
    return open_fails([&] { (void)open_sqlite_store({.path = path, .create = create}); });
  };
  EXPECT_EQ(code_of("file:" + path_), Errc::store_cannot_create);
  EXPECT_EQ(code_of(":memory:"), Errc::store_cannot_create);
  EXPECT_EQ(code_of(""), Errc::store_cannot_create);
  EXPECT_EQ(code_of(directory_.path()), Errc::store_cannot_create);
  EXPECT_EQ(code_of(directory_.file("none/postbag.db")), Errc::store_cannot_create);
  EXPECT_EQ(code_of(path_, false), Errc::not_found);
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_EQ(open_fails([&] { (void)check_sqlite_store(path_); }), Errc::not_found);
}

TEST_F(SqliteStoreTest, RefusesWhatIsNoStoreAndLeavesItAlone) {
  const std::string text(10'000, 'x');
  write_file(path_, text);
  EXPECT_EQ(open_error(), Errc::store_corrupt);
  EXPECT_EQ(read_file(path_), text);
  EXPECT_THAT(check_sqlite_store(path_), SizeIs(1));

  std::filesystem::remove(path_);
  open();
  store_.reset();
  set_header_number(path_, application_id_at, 7);
  const std::string foreign = read_file(path_);
  std::string what;
  EXPECT_EQ(open_error(&what), Errc::store_corrupt);
  EXPECT_THAT(what, HasSubstr("another program"));
  EXPECT_EQ(read_file(path_), foreign);
}

TEST_F(SqliteStoreTest, RefusesALaterSchema) {
  open();
  store_.reset();
  set_header_number(path_, user_version_at, 99);
  const std::string later = read_file(path_);
  std::string what;
  EXPECT_EQ(open_error(&what), Errc::store_newer);
  EXPECT_THAT(what, HasSubstr("99"));
  EXPECT_EQ(read_file(path_), later);
  EXPECT_EQ(open_fails([&] { (void)check_sqlite_store(path_); }), Errc::store_newer);
}

TEST_F(SqliteStoreTest, MigratesInOneTransaction) {
  ASSERT_FALSE(create_store_file(path_));
  SQLite::Database db = open_database(path_, OpenFor::writing);
  const std::vector<Migration> first{{"CREATE TABLE a(x); INSERT INTO a VALUES(1)"}};
  migrate_schema(db, first, path_);
  EXPECT_EQ(pragma_value(db, "PRAGMA user_version"), 1);

  // The third step fails: nothing of the second stays.
  std::vector<Migration> more = first;
  more.push_back({"UPDATE a SET x = 2"});
  more.push_back({"INSERT INTO missing VALUES(1)"});
  EXPECT_THROW(migrate_schema(db, more, path_), SQLite::Exception);
  EXPECT_EQ(pragma_value(db, "PRAGMA user_version"), 1);
  EXPECT_EQ(pragma_value(db, "SELECT x FROM a"), 1);

  more.pop_back();
  migrate_schema(db, more, path_);
  EXPECT_EQ(pragma_value(db, "PRAGMA user_version"), 2);
  EXPECT_EQ(pragma_value(db, "SELECT x FROM a"), 2);
  EXPECT_THROW(migrate_schema(db, first, path_), StoreError);
}

TEST_F(SqliteStoreTest, NoticesADamagedChunk) {
  open();
  append(1, "the first blob");
  append(2, "the other blob " + std::string(30'000, '.'));
  store_.reset();
  damage(path_, "the other blob");
  open();
  std::vector<std::string> blobs;
  EXPECT_EQ(store_->read_chunks(std::vector<ChunkNumber>{1, 2}, blobs), Errc::store_corrupt);
  EXPECT_FALSE(store_->read_chunks(std::vector<ChunkNumber>{1}, blobs));
  EXPECT_THAT(blobs, ElementsAre("the first blob"));
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), ElementsAre(HasSubstr("chunk 2: wrong checksum")));
}

TEST_F(SqliteStoreTest, NoticesADamagedTarget) {
  open();
  append(1, "blob");
  store_.reset();
  damage(path_, "https://target.example/");
  open();
  std::vector<std::string> blobs;
  EXPECT_EQ(store_->read_chunks(std::vector<ChunkNumber>{1}, blobs), Errc::store_corrupt);
}

TEST_F(SqliteStoreTest, ADamagedFailedRowHasNoBody) {
  open();
  fail(1, "{\"sound\":1}");
  fail(2, "{\"damaged\":1}");
  store_.reset();
  damage(path_, "{\"damaged\"");
  open();
  FailedPage page;
  ASSERT_FALSE(store_->list_failed({}, std::nullopt, {}, page));
  ASSERT_EQ(page.rows.size(), 2u);
  EXPECT_EQ(page.rows[0].reason, Reason::status);
  EXPECT_EQ(page.rows[0].body, "{\"sound\":1}");
  EXPECT_EQ(page.rows[1].reason, Reason::corrupt_payload);
  EXPECT_EQ(page.rows[1].body, "");
  EXPECT_EQ(store_->find_failed(failed_key(2, 0))->body, "");
}

TEST_F(SqliteStoreTest, ResponsesGoWithTheirLastRow) {
  open();
  test::GroupBuilder group;
  FailBatch& batch =
      group.fail(5, "https://a.example/",
                 {{failed_key(5, 0), "a", "", "1"}, {failed_key(5, 1), "b", "", "2"}});
  batch.response_excerpt = "kept once";
  commit(group.group());
  StoreGroup remove;
  remove.delete_failed = {failed_key(5, 0)};
  commit(remove);
  EXPECT_EQ(store_->find_failed(failed_key(5, 1))->response_excerpt, "kept once");
  // A row that fails again takes the new response and lets go of the old one.
  test::GroupBuilder again;
  again.fail(6, "https://a.example/", {{failed_key(5, 1), "b", "", "2"}}).response_excerpt = "new";
  commit(again.group());
  EXPECT_EQ(store_->find_failed(failed_key(5, 1))->response_excerpt, "new");
  store_.reset();
  {
    SQLite::Database db = open_existing(path_);
    EXPECT_EQ(pragma_value(db, "SELECT count(*) FROM failed_batch"), 1);
  }
  open();
  remove.delete_failed = {failed_key(5, 1)};
  commit(remove);
  store_.reset();
  SQLite::Database db = open_existing(path_);
  EXPECT_EQ(pragma_value(db, "SELECT count(*) FROM failed_batch"), 0);
}

TEST_F(SqliteStoreTest, AResponseThatIsReplacedIsCountedOnce) {
  open();
  const auto fail_batch = [&](bool both, const std::string& excerpt) {
    test::GroupBuilder group;
    using Hook = test::GroupBuilder::Hook;
    const Hook first{failed_key(5, 0), "a", "", "1"};
    const Hook second{failed_key(5, 1), "b", "", "2"};
    FailBatch& batch = group.fail(5, "https://a.example/", {first, second});
    if (!both) {
      const FailedHookView& only = group.hook(0);
      batch.each_hook = [&only](const auto& each) { each(only); };
    }
    batch.response_excerpt = excerpt;
    commit(group.group());
  };
  fail_batch(true, "first");
  const std::uint64_t bytes = store_->stats().failed_bytes;
  fail_batch(false, "the second");
  EXPECT_EQ(store_->stats().failed_bytes, bytes + 5);
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
}

TEST_F(SqliteStoreTest, AppendsStopBelowMaxBytesAndSettlingGoesOn) {
  constexpr std::uint64_t max_bytes = 4 << 20;
  open(max_bytes);
  const std::string data(50'000, 'x');
  ChunkNumber number = 1;
  std::error_code error;
  for (; number < 1'000 && !error; ++number) {
    test::GroupBuilder group;
    group.append(number, number, {data});
    error = store_->commit(group.group(), CommitLevel::no_sync);
  }
  EXPECT_EQ(error, Errc::disk_low);
  EXPECT_GT(number, 60u);  // most of it could be used
  EXPECT_LE(store_->stats().used_bytes, max_bytes - max_bytes / 10 + 100'000);
  EXPECT_EQ(pending().size(), number - 2);

  // Failing has the last tenth.
  fail(900, std::string(100'000, 'y'));
  // A group with an append is refused as a whole.
  test::GroupBuilder mixed;
  mixed.append(950, 950, {data});
  mixed.group().settle = {1};
  EXPECT_EQ(store_->commit(mixed.group(), CommitLevel::no_sync), Errc::disk_low);
  EXPECT_EQ(pending().front(), 1u);

  StoreGroup settle;
  for (ChunkNumber i = 1; i <= 30; ++i) settle.settle.push_back(i);
  commit(settle);
  append(951, data);
  EXPECT_FALSE(store_->find_chunk(1));
}

TEST_F(SqliteStoreTest, AFullDiskTakesNothingAndLaterWorks) {
  open();
  append(1, "x");
  test::GroupBuilder group;
  group.append(2, 2, {std::string(2 << 20, 'y')});
  group.group().settle = {1};
  group.group().reserve_below = 777;
  {
    const FileSizeLimit limit(1 << 20);
    EXPECT_EQ(store_->commit(group.group(), CommitLevel::sync), Errc::disk_low);
    EXPECT_THAT(pending(), ElementsAre(1));
    EXPECT_EQ(store_->info().next_number, 2u);
    append(3, "what fits is taken");
  }
  commit(group.group());
  EXPECT_THAT(pending(), ElementsAre(2, 3));
  open();
  EXPECT_THAT(pending(), ElementsAre(2, 3));
  EXPECT_EQ(store_->info().next_number, 777u);
}

TEST_F(SqliteStoreTest, ACommitThatFailsIsForGood) {
  open();
  append(1, "x");
  test::GroupBuilder group;
  group.append(2, 2, {"y"});
  group.append(1, 1, {"the number is taken"});
  EXPECT_EQ(store_->commit(group.group(), CommitLevel::sync), Errc::store_failed);
  StoreGroup settle;
  settle.settle = {1};
  EXPECT_EQ(store_->commit(settle, CommitLevel::sync), Errc::store_failed);
  std::vector<PendingChunk> chunks;
  EXPECT_EQ(store_->scan_pending(0, 10, chunks), Errc::store_failed);
  open();  // nothing of the group is there
  EXPECT_THAT(pending(), ElementsAre(1));
}

// One thread commits and makes checkpoints, so that the log begins anew time and again; another
// syncs.
TEST_F(SqliteStoreTest, SyncsBesideCommits) {
  open();
  ASSERT_TRUE(store_->syncs_later());
  std::atomic<bool> done = false;
  std::uint64_t syncs = 0;
  std::thread syncer([&] {
    while (!done) {
      EXPECT_FALSE(store_->sync());
      ++syncs;
    }
  });
  const std::string data(100'000, 'x');
  for (ChunkNumber number = 1; number <= 300; ++number) {
    test::GroupBuilder group;
    group.append(number, number, {data});
    StoreGroup with_settle = group.group();
    if (number > 3) with_settle.settle = {number - 3};
    EXPECT_FALSE(store_->commit(with_settle, CommitLevel::sync_later));
    if (number % 10 == 0) store_->maintain();
  }
  done = true;
  syncer.join();
  EXPECT_GT(syncs, 0u);
  EXPECT_FALSE(store_->sync());
  open();
  EXPECT_THAT(pending(), ElementsAre(298, 299, 300));
}

TEST_F(SqliteStoreTest, SpaceGoesBackToTheFileSystem) {
  open();
  const std::string data(1 << 20, 'x');
  StoreGroup settle;
  for (ChunkNumber number = 1; number <= 64; ++number) {
    append(number, data);
    settle.settle.push_back(number);
    store_->maintain();
  }
  const std::uint64_t full = store_->stats().file_bytes;
  EXPECT_GT(full, 64ull << 20);
  commit(settle);
  while (store_->maintain()) {
  }
  store_->maintain();
  EXPECT_LT(store_->stats().file_bytes, full - (16ull << 20));
  EXPECT_LT(store_->stats().used_bytes, 40ull << 20);
  store_.reset();
  EXPECT_THAT(check_sqlite_store(path_), IsEmpty());
}

TEST_F(SqliteStoreTest, TheLogStaysBounded) {
  open();
  const std::string data(1 << 20, 'x');
  for (ChunkNumber number = 1; number <= 100; ++number) {  // no maintain() in between
    append(number, data);
    StoreGroup settle;
    settle.settle = {number};
    commit(settle);
  }
  EXPECT_LT(std::filesystem::file_size(path_ + "-wal"), 80ull << 20);
}

TEST_F(SqliteStoreTest, RemembersAMillionIdsAndNotMore) {
  open();
  for (std::uint64_t group = 0; group < 12; ++group) {
    StoreGroup ids;
    for (std::uint64_t i = 0; i < 100'000; ++i) {
      ids.remember.push_back({{group, i}, {0, 0}, group, 1'000});
    }
    commit(ids);
  }
  std::vector<std::uint64_t> groups(12);
  ASSERT_FALSE(store_->load_ids(0, [&](const RememberedId& id) { ++groups[id.location]; }));
  EXPECT_EQ(groups[0] + groups[1], 0u);
  for (std::size_t group = 2; group < 12; ++group) EXPECT_EQ(groups[group], 100'000u);
}

}  // namespace
}  // namespace postbag
