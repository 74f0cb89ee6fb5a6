// The commands that open a store, of which somebody else may have to hear.
#include <SQLiteCpp/Database.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/crash/kill_points.h"
#include "tests/support/binary_support.h"

namespace postbag::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BinaryStoreTest : public BinaryFixture {
 protected:
  // A store with so many failed hooks.
  void make_failed(int hooks) {
    write_config("[retry]\nretries = 0\n");
    BinaryTarget target;
    target.answer_with(500);
    std::string lines;
    for (int i = 0; i < hooks; ++i) {
      lines += hook(target.url(), "\"" + std::string(300, 'x') + "\"");
    }
    EXPECT_EQ(run({"send"}, lines).exit_code, 1);
  }
};

// `status` took the only line that said it away: the start after it said nothing.
TEST_F(BinaryStoreTest, WhoLooksFirstSaysThatACopyWasPutBack) {
  make_failed(1);
  ASSERT_EQ(run({"store", "backup", "b.db"}).exit_code, 0);
  for (const std::vector<std::string>& look : {std::vector<std::string>{"status"},
                                               {"failed", "list"},
                                               {"retry-failed-hooks", "--dry-run"},
                                               {"failed", "purge", "--reason", "timeout"}}) {
    fs::copy_file(folder_.file("b.db"), folder_.file("postbag.db"),
                  fs::copy_options::overwrite_existing);
    for (const char* closed : {"check", "backup"}) {
      std::vector<std::string> command{"store", closed};
      if (command[1] == "backup") command.push_back("of " + look.back() + ".db");
      const ProcessResult before = run(command);
      EXPECT_EQ(before.exit_code, 0) << before.err;
      EXPECT_THAT(before.err, Not(HasSubstr("put back")));
    }
    const ProcessResult first = run(look);
    EXPECT_EQ(first.exit_code, 0) << first.err;
    EXPECT_THAT(first.err, HasSubstr("warning: store postbag.db: a copy was put back")) << look[0];
    EXPECT_THAT(run(look).err, Not(HasSubstr("put back"))) << look[0];
  }
}

// The epoch was in the store before the witness knew of it: a kill in between would make the next
// start say that the witness is missing.
TEST_F(BinaryStoreTest, AFirstStartThatIsKilledAnywhereMissesNoWitness) {
  int killed = 0;
  for (const std::string point : kill_points()) {
    const bool is_of_a_file =
        point.starts_with("w") || point.starts_with("db.") || point.starts_with("folder.");
    for (std::uint64_t nth = 1; is_of_a_file && nth <= 5; ++nth) {
      const TempDirectory folder;
      const ProcessResult first =
          run_process(with_kill_point(POSTBAG_SHIM, point, nth, {binary(), "send"}), folder.path());
      if (first.exit_code == 0) continue;
      ++killed;
      const ProcessResult then = run_process({binary(), "send"}, folder.path());
      EXPECT_EQ(then.exit_code, 0) << point << " " << nth;
      EXPECT_THAT(then.err, Not(HasSubstr("witness"))) << point << " " << nth;
    }
  }
  EXPECT_GT(killed, 20);
}

TEST_F(BinaryStoreTest, LookingAtAnOlderStoreLeavesItAndChangingItSaysSo) {
  make_failed(1);
  fs::remove(folder_.file("postbag.db.witness"));
  {
    SQLite::Database db(folder_.file("postbag.db"), SQLite::OPEN_READWRITE);
    for (const char* column : {"failed_bytes", "epoch", "sequence", "taken_hooks", "last_number"}) {
      db.exec(std::string("ALTER TABLE meta DROP COLUMN ") + column);
    }
    db.exec("PRAGMA user_version = 1");
  }
  const std::string before = read_file("postbag.db");
  for (const std::vector<std::string>& look : {std::vector<std::string>{"status"},
                                               {"failed", "list"},
                                               {"failed", "export", "-"},
                                               {"retry-failed-hooks", "--dry-run"}}) {
    const ProcessResult looked = run(look);
    EXPECT_EQ(looked.exit_code, 78) << look[0];
    EXPECT_THAT(looked.err, AllOf(HasSubstr("schema 1"), HasSubstr("postbag serve")));
  }
  EXPECT_EQ(run({"store", "backup", "b.db"}).exit_code, 0);
  EXPECT_EQ(run({"store", "check"}).exit_code, 0);
  EXPECT_EQ(read_file("postbag.db"), before);
  EXPECT_FALSE(fs::exists(folder_.file("postbag.db.before-v2")));
  const ProcessResult changed = run({"failed", "purge", "--reason", "timeout"});
  EXPECT_EQ(changed.exit_code, 0);
  EXPECT_THAT(changed.err,
              AllOf(HasSubstr("from schema 1 to 2"), HasSubstr("postbag.db.before-v2")));
}

TEST_F(BinaryStoreTest, SalvageSaysHowManyAreLostAndWhetherItKnows) {
  make_failed(300);
  std::string content = read_file("postbag.db");
  constexpr std::size_t page = 8192;
  content.replace(content.size() / 2 / page * page, 2 * page, 2 * page, '\0');
  write_file("postbag.db", content);
  const ProcessResult result = run({"store", "salvage", "s.db", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(number(result, "failed") + number(result, "lost_failed"), 300u);
  EXPECT_GT(number(result, "lost_failed"), 2u);
  EXPECT_THAT(result.out, HasSubstr("\"lost_failed_exact\":true"));
  EXPECT_THAT(result.err, HasSubstr("; lost 0 chunks and "));
  // What says how many there were is not believed where more are found.
  SQLite::Database(folder_.file("postbag.db"), SQLite::OPEN_READWRITE)
      .exec("UPDATE meta SET failed_hooks = 0");
  const ProcessResult unknown = run({"store", "salvage", "t.db", "--json"});
  EXPECT_THAT(unknown.out, HasSubstr("\"lost_failed_exact\":false"));
  EXPECT_THAT(unknown.err, HasSubstr("at least 1 failed hook"));
}

}  // namespace
}  // namespace postbag::test
