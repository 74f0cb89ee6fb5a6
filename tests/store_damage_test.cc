// Rows whose numbers and counts are not what was written: SQLite does not notice them.
#include <SQLiteCpp/Database.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/sqlite_schema.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"
#include "tests/support/whole_file.h"

namespace postbag {
namespace {

using test::read_file;
using test::write_file;
using ::testing::ElementsAre;

// As SQLite writes it.
std::string varint(std::uint64_t value) {
  std::string bytes(1, static_cast<char>(value & 0x7f));
  while ((value >>= 7) != 0) bytes.insert(0, 1, static_cast<char>(0x80 | (value & 0x7f)));
  return bytes;
}

// Gives a row of a closed store another number; `text` stands in the page that it is in.
void renumber(const std::string& path, const std::string& text, std::uint64_t from,
              std::uint64_t to) {
  std::string content = read_file(path);
  ASSERT_EQ(varint(from).size(), varint(to).size());
  ASSERT_NE(content.find(text), std::string::npos);
  const std::size_t page = content.find(text) / sqlite_page_bytes * sqlite_page_bytes;
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(content[at]); };
  const auto two_bytes = [&](std::size_t at) { return byte(at) << 8 | byte(at + 1); };
  ASSERT_EQ(byte(page), 0x0d);  // a leaf of a table
  int changed = 0;
  for (int cell = 0; cell < two_bytes(page + 3); ++cell) {
    std::size_t at =
        page + static_cast<std::size_t>(two_bytes(page + 8 + 2 * static_cast<std::size_t>(cell)));
    while ((byte(at++) & 0x80) != 0) {  // the size of the row
    }
    if (content.compare(at, varint(from).size(), varint(from)) != 0) continue;
    content.replace(at, varint(to).size(), varint(to));
    ++changed;
  }
  ASSERT_EQ(changed, 1);
  write_file(path, content);
}

class StoreDamageTest : public ::testing::Test {
 protected:
  void open() {
    store_.reset();
    store_ = open_sqlite_store({.path = path_});
  }
  void commit(const StoreGroup& group) {
    const std::error_code error = store_->commit(group, CommitLevel::sync);
    ASSERT_FALSE(error) << error.message();
  }
  void reserve(ChunkNumber below) {
    StoreGroup group;
    group.reserve_below = below;
    commit(group);
  }
  void append(ChunkNumber number, const std::string& data) {
    test::GroupBuilder group;
    group.append(number, number, {data});
    commit(group.group());
  }
  void fail(ChunkNumber number, const std::string& body) {
    test::GroupBuilder group;
    group.fail(number, "https://a.example/", {{failed_key(number, 0), "id", "push", body}});
    commit(group.group());
  }
  // Closes it first.
  void alter(const std::string& sql) {
    store_.reset();
    SQLite::Database(path_, SQLite::OPEN_READWRITE).exec(sql);
  }
  SalvageReport salvage(const std::string& name) {
    store_.reset();
    const std::string to = directory_.file(name);
    const SalvageReport report = salvage_sqlite_store(path_, to);
    salvaged_ = open_sqlite_store({.path = to});
    return report;
  }
  std::error_code scan(std::size_t max) {
    open();
    return store_->scan_pending(0, max, chunks_);
  }

  test::TempDirectory directory_;
  std::string path_ = directory_.file("postbag.db");
  std::unique_ptr<Store> store_, salvaged_;
  std::vector<PendingChunk> chunks_;
};

// One bit of it was four billion failed rows, with keys of other chunks.
TEST_F(StoreDamageTest, ADamagedNumberOfHooksStaysPossible) {
  open();
  for (ChunkNumber number = 1; number <= 5; ++number) append(number, "blob");
  alter("UPDATE chunk SET hooks = -28 WHERE number = 2");
  alter("UPDATE chunk SET hooks = 0 WHERE number = 3");
  alter("UPDATE chunk SET hooks = 16000 WHERE number = 4");
  alter("UPDATE chunk SET hooks = 16001 WHERE number = 5");
  ASSERT_FALSE(scan(10));
  std::vector<std::uint32_t> hooks;
  for (const PendingChunk& chunk : chunks_) hooks.push_back(chunk.hooks);
  EXPECT_THAT(hooks, ElementsAre(1, 1, 1, 16000, 1));
  std::vector<std::string> blobs;
  for (ChunkNumber number = 2; number <= 5; ++number) {
    EXPECT_EQ(store_->read_chunks(std::vector{number}, blobs), Errc::store_corrupt);
  }
}

// Nothing checks how many ids a row says it has. 1 << 40 of them were no start any more, and more
// than fit made the store forget those that it has.
TEST_F(StoreDamageTest, DamagedCountOfRememberedIds) {
  const auto remember = [this](std::uint64_t id) {
    StoreGroup group;
    group.remember = {{{id, 1}, {3, 4}, id, 1'000}};
    commit(group);
  };
  const auto remembered = [this] {
    std::vector<std::uint64_t> ids;
    EXPECT_FALSE(store_->load_ids(0, [&](const RememberedId& id) { ids.push_back(id.location); }));
    return ids;
  };
  open();
  for (const char* count : {"1 << 40", "1 << 60", "-5", "2000000"}) {
    alter("DELETE FROM remembered");
    open();
    for (std::uint64_t id = 1; id <= 3; ++id) remember(id);
    alter("UPDATE remembered SET ids = " + std::string(count) + " WHERE number = 2");
    open();
    EXPECT_THAT(remembered(), ElementsAre(1, 2, 3)) << count;
    remember(4);
    EXPECT_THAT(remembered(), ElementsAre(1, 2, 3, 4)) << count;
  }
}

// SQLite gives rows as they stand; what looked for the next number never came to those behind one
// that was too high.
class DamagedNumberTest : public StoreDamageTest {
 protected:
  // Rows 200 to 240, on one page.
  void make(ChunkNumber from, ChunkNumber to) {
    open();
    reserve(16'100);
    for (ChunkNumber number = 200; number <= 240; ++number) {
      append(number, "blob " + std::to_string(number));
    }
    store_.reset();
    renumber(path_, "blob 220", from, to);
  }
};

TEST_F(DamagedNumberTest, TooHighHidesNoChunk) {
  make(220, 16'000);
  EXPECT_FALSE(scan(20));
  EXPECT_EQ(scan(21), Errc::store_corrupt);  // it would be the last of its slice
  EXPECT_EQ(scan(100), Errc::store_corrupt);
  const SalvageReport report = salvage("salvaged.db");
  EXPECT_EQ(report.chunks, 40u);
  EXPECT_EQ(report.lost_chunks, 1u);
  ASSERT_FALSE(salvaged_->scan_pending(0, 100, chunks_));
  EXPECT_EQ(chunks_.size(), 40u);
  EXPECT_EQ(chunks_.back().chunk, 240u);
  EXPECT_EQ(salvaged_->info().next_number, 16'100u);
}

TEST_F(DamagedNumberTest, ThatOfAnotherChunkIsNotTakenForIt) {
  make(220, 201);
  EXPECT_EQ(scan(100), Errc::store_corrupt);
  EXPECT_EQ(salvage("salvaged.db").chunks, 40u);
  ASSERT_FALSE(salvaged_->scan_pending(0, 100, chunks_));
  EXPECT_EQ(chunks_.size(), 40u);
}

TEST_F(DamagedNumberTest, ThatWasNeverHandedOutIsNotPending) {
  make(240, 16'200);
  EXPECT_EQ(scan(100), Errc::store_corrupt);
}

TEST_F(DamagedNumberTest, TooHighHidesNoFailedRow) {
  open();
  for (ChunkNumber number = 200; number <= 220; ++number) {
    fail(number, "body " + std::to_string(number));
  }
  store_.reset();
  renumber(path_, "body 210", failed_key(210, 0), failed_key(16'000, 0));
  open();
  FailedPage page;
  EXPECT_EQ(store_->list_failed({}, std::nullopt, {}, page), Errc::store_corrupt);
  SliceLimits eleven;
  eleven.rows = 11;
  EXPECT_EQ(store_->list_failed({}, std::nullopt, eleven, page), Errc::store_corrupt);
  // From the row before it to its number stood other rows, which went with it.
  std::uint64_t purged = 0;
  std::optional<FailedKey> next;
  EXPECT_TRUE(store_->purge_failed({}, std::nullopt, eleven, {}, purged, next));
  const SalvageReport report = salvage("salvaged.db");
  EXPECT_EQ(report.failed, 20u);
  EXPECT_EQ(report.lost_failed, 1u);
}

// Rows and a reservation that are damaged made the new store begin where ids have no bits left.
TEST_F(StoreDamageTest, SalvageBelievesNoNumberOfADamagedRow) {
  open();
  reserve(5'000);
  for (ChunkNumber number = 1; number <= 3; ++number) append(number, "blob");
  fail(9, "sound");
  fail(10, "damaged");
  alter("UPDATE chunk SET number = 1 << 60 WHERE number = 2");
  alter("UPDATE failed SET key = 1 << 62 WHERE key = 10 << 14");
  SalvageReport report = salvage("salvaged.db");
  EXPECT_EQ(report.chunks, 2u);
  EXPECT_EQ(report.failed, 1u);
  EXPECT_EQ(salvaged_->info().next_number, 5'000u);

  alter("UPDATE meta SET reserved_below = 1 << 60");
  try {
    open();
    ADD_FAILURE();
  } catch (const StoreError& error) {
    EXPECT_EQ(error.code(), Errc::store_corrupt);
  }
  report = salvage("again.db");
  EXPECT_EQ(report.chunks, 2u);
  EXPECT_GT(salvaged_->info().next_number, 9u);
  EXPECT_LT(salvaged_->info().next_number, 1ull << 40);
}

TEST(StorePermission, AFileThatMayOnlyBeReadIsNoFailureOfTheDisk) {
  constexpr uid_t nobody = 65534;
  const test::TempDirectory folder;
  const std::string path = folder.file("postbag.db");
  open_sqlite_store({.path = path}).reset();
  ASSERT_EQ(chmod(path.c_str(), 0400), 0);
  const bool is_root = geteuid() == 0;  // whom no mode keeps out
  if (is_root) {
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      if (chown(entry.path().c_str(), nobody, nobody) != 0) GTEST_SKIP() << "no other user here";
    }
    ASSERT_EQ(chmod(folder.path().c_str(), 0777), 0);
    ASSERT_EQ(seteuid(nobody), 0);
  }
  std::error_code error;
  try {
    open_sqlite_store({.path = path});
  } catch (const StoreError& failure) {
    error = failure.code();
  }
  if (is_root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  EXPECT_EQ(error, make_error_code(Errc::store_permission));
}

}  // namespace
}  // namespace postbag
