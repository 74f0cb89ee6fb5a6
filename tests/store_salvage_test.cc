// What salvage saves of files that SQLite does not open as they are, and how it counts the rest.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "store/sqlite_schema.h"
#include "tests/support/sqlite_store_fixture.h"

namespace postbag {
namespace {

using test::open_fails;
using test::read_file;
using test::write_file;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class SalvageTest : public test::SqliteStoreFixture {
 protected:
  static constexpr std::uint32_t rows = 400;

  // A closed store with so many pending chunks and failed rows, of many pages each.
  void make() {
    open();
    test::GroupBuilder chunks;
    for (ChunkNumber number = 1; number <= rows; ++number) {
      chunks.append(number, number, {"blob " + std::to_string(number) + std::string(300, '.')});
    }
    commit(chunks.group());
    StoreGroup group;
    FailBatch& batch = group.fail.emplace_back();
    batch.batch = 1'000;
    batch.key.target = "https://a.example/";
    batch.reason = Reason::timeout;
    batch.each_hook = [](const std::function<void(const FailedHookView&)>& each) {
      for (std::uint32_t i = 0; i < rows; ++i) {
        const std::string id = "id" + std::to_string(i);
        const std::string body = "body " + std::to_string(i) + std::string(300, '.');
        each({failed_key(1'000, i), id, "push", "", body, 1});
      }
    };
    commit(group);
    store_.reset();
  }

  // Also opens what was saved.
  SalvageReport salvage() {
    const std::string to = directory_.file("salvaged.db");
    std::filesystem::remove(to);
    const SalvageReport report = salvage_sqlite_store(path_, to);
    EXPECT_THAT(check_sqlite_store(to), IsEmpty());
    store_ = open_sqlite_store({.path = to});
    EXPECT_EQ(pending().size(), report.chunks);
    EXPECT_EQ(store_->info().failed_hooks, report.failed);
    store_.reset();
    return report;
  }

  // Of pages, from the one that `text` stands in.
  void zero(const std::string& text, std::size_t pages) {
    std::string content = read_file(path_);
    const std::size_t at = content.find(text) / sqlite_page_bytes * sqlite_page_bytes;
    ASSERT_LT(at + pages * sqlite_page_bytes, content.size());
    content.replace(at, pages * sqlite_page_bytes, pages * sqlite_page_bytes, '\0');
    write_file(path_, content);
  }
};

// SQLite takes no file that is shorter than its first page says, and so salvage saved nothing and
// advised to salvage.
TEST_F(SalvageTest, SavesTheRestOfAFileThatWasCutShort) {
  make();
  const std::string whole = read_file(path_);
  // Rows in ascending order, so the last are gone.
  const std::size_t last = whole.find("body 300.") / sqlite_page_bytes * sqlite_page_bytes;
  for (const std::size_t size : {last, last + 100}) {
    write_file(path_, whole.substr(0, size));
    std::string what;
    EXPECT_EQ(open_error(&what), Errc::store_corrupt);
    EXPECT_THAT(what, HasSubstr("store salvage"));
    const auto findings = check_sqlite_store(path_);
    ASSERT_THAT(findings, Not(IsEmpty()));
    EXPECT_THAT(findings.front(), HasSubstr("structure: "));
    const SalvageReport report = salvage();
    EXPECT_EQ(report.chunks, rows);
    EXPECT_EQ(report.lost_chunks, 0u);
    EXPECT_TRUE(report.lost_chunks_exact);
    EXPECT_GT(report.failed, 200u);
    EXPECT_LE(report.failed, 300u);
    EXPECT_EQ(report.failed + report.lost_failed, rows);
    EXPECT_TRUE(report.lost_failed_exact);
  }
}

// The advice was to do what had just failed.
TEST_F(SalvageTest, WithoutAFirstPageItSaysThatNothingCanBeSaved) {
  make();
  const std::string whole = read_file(path_);
  std::string headless = whole, garbage = whole;
  headless.replace(0, 100, 100, '\0');
  garbage.replace(100, sqlite_page_bytes - 100, sqlite_page_bytes - 100, '\x55');
  for (const std::string& damaged : {headless, garbage}) {
    write_file(path_, damaged);
    const std::string to = directory_.file("salvaged.db");
    std::string what;
    EXPECT_EQ(open_fails([&] { (void)salvage_sqlite_store(path_, to); }, &what),
              Errc::store_corrupt);
    EXPECT_THAT(what, HasSubstr("go on with a backup"));
    EXPECT_THAT(what, Not(HasSubstr("store salvage")));
    EXPECT_FALSE(std::filesystem::exists(to));
    const auto findings = check_sqlite_store(path_);
    ASSERT_EQ(findings.size(), 1u);
    EXPECT_THAT(findings.front(), Not(HasSubstr("store salvage")));
  }
}

// A damaged stretch counted as one row, whatever it had held.
TEST_F(SalvageTest, CountsEveryFailedHookOfADamagedStretch) {
  make();
  zero("body 100.", 4);
  const SalvageReport report = salvage();
  EXPECT_GT(report.failed, 200u);
  EXPECT_LT(report.failed, rows - 20);
  EXPECT_EQ(report.failed + report.lost_failed, rows);
  EXPECT_TRUE(report.lost_failed_exact);
  EXPECT_EQ(report.chunks, rows);
  EXPECT_EQ(report.lost_chunks, 0u);
  EXPECT_TRUE(report.lost_chunks_exact);
}

TEST_F(SalvageTest, SaysAtLeastWhereNobodyKnowsHowManyAreLost) {
  make();
  zero("blob 100.", 4);
  SalvageReport report = salvage();
  EXPECT_LT(report.chunks, rows - 20);
  EXPECT_GE(report.lost_chunks, 1u);
  EXPECT_FALSE(report.lost_chunks_exact);
  EXPECT_EQ(report.failed, rows);
  EXPECT_TRUE(report.lost_failed_exact);
  // A number that is less than what is there is none.
  {
    SQLite::Database db = open_database(path_, OpenFor::writing);
    db.exec("UPDATE meta SET failed_hooks = 7");
  }
  zero("body 100.", 2);
  report = salvage();
  EXPECT_LT(report.failed, rows - 10);
  EXPECT_GE(report.lost_failed, 1u);
  EXPECT_FALSE(report.lost_failed_exact);
}

}  // namespace
}  // namespace postbag
