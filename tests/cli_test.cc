// The other parts of the executable that need no engine: input lines, output, logs, the demo.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/console.h"
#include "cli/daemon_answers.h"
#include "cli/demo/ledger.h"
#include "cli/demo/payloads.h"
#include "cli/descriptors.h"
#include "cli/exit_codes.h"
#include "cli/line_reader.h"
#include "cli/log.h"
#include "cli/log_limiter.h"
#include "cli/own_addresses.h"
#include "cli/progress.h"
#include "cli/recovery_progress.h"
#include "cli/send_input.h"
#include "cli/store_access.h"
#include "cli/table.h"
#include "postbag/error.h"
#include "postbag/json.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// --- Lines ---

class LineReaderTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(pipe(fds_), 0); }
  void TearDown() override {
    close(fds_[0]);
    end_input();
  }
  void write_text(std::string_view text) {
    ASSERT_EQ(write(fds_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void end_input() {
    if (fds_[1] >= 0) close(fds_[1]);
    fds_[1] = -1;
  }
  int fds_[2] = {-1, -1};
};

TEST_F(LineReaderTest, LinesAndTheLastWithoutAnEnd) {
  write_text("one\r\n\ntwo\nlast");
  end_input();
  LineReader lines(fds_[0], 100);
  std::string_view line;
  ASSERT_EQ(lines.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "one");
  EXPECT_TRUE(lines.ready());
  ASSERT_EQ(lines.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "");
  ASSERT_EQ(lines.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "two");
  EXPECT_FALSE(lines.ready());
  ASSERT_EQ(lines.next(line), LineReader::Result::line);
  EXPECT_EQ(line, "last");
  EXPECT_EQ(lines.line_number(), 4u);
  EXPECT_EQ(lines.next(line), LineReader::Result::end);
  EXPECT_EQ(lines.next(line), LineReader::Result::end);
  EXPECT_EQ(lines.line_number(), 4u);
}

TEST_F(LineReaderTest, TooLongWithAndWithoutAnEnd) {
  write_text("12345\n123456\n");
  LineReader lines(fds_[0], 5);
  std::string_view line;
  ASSERT_EQ(lines.next(line), LineReader::Result::line);
  EXPECT_EQ(lines.next(line), LineReader::Result::too_long);
  EXPECT_EQ(lines.line_number(), 2u);
}

TEST_F(LineReaderTest, StopEndsAWaitForInput) {
  int stop[2];
  ASSERT_EQ(pipe(stop), 0);
  ASSERT_EQ(write(stop[1], "x", 1), 1);
  LineReader lines(fds_[0], 100, stop[0]);
  std::string_view line;
  EXPECT_EQ(lines.next(line), LineReader::Result::stopped);
  close(stop[0]);
  close(stop[1]);
}

TEST_F(LineReaderTest, GroupsOfIntakeObjects) {
  write_text("{\"target\":\"http://a/\",\"data\":1}\n \n{\"target\":\"http://b/\",\"data\":{}}\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "", 1 << 20);
  SendGroup group = input.next();
  ASSERT_FALSE(group.error);
  ASSERT_EQ(group.hooks.size(), 2u);
  EXPECT_EQ(group.hooks[1].target, "http://b/");
  EXPECT_THAT(group.line_numbers, ElementsAre(1, 3));
  group = input.next();
  EXPECT_TRUE(group.last);
  EXPECT_THAT(group.line_numbers, IsEmpty());
}

TEST_F(LineReaderTest, GroupsArePayloadsWithATarget) {
  write_text("{\"n\": 1.0}\n\"two\"\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "https://a/?q=\"x\"", 1 << 20);
  const SendGroup group = input.next();
  ASSERT_FALSE(group.error) << group.error->message;
  ASSERT_EQ(group.hooks.size(), 2u);
  EXPECT_EQ(group.hooks[0].body, "{\"n\": 1.0}");
  EXPECT_EQ(group.hooks[1].body, "\"two\"");
  EXPECT_EQ(group.hooks[0].target, "https://a/?q=\"x\"");
}

TEST_F(LineReaderTest, BadLinesAreNamed) {
  write_text("1\n\n2,\"event\":\"sneaked in\"\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "https://a/", 1 << 20);
  const SendGroup group = input.next();
  ASSERT_TRUE(group.error);
  EXPECT_EQ(group.error->line, 3u);
}

TEST_F(LineReaderTest, BadIntakeObjectsAreNamed) {
  write_text("\n{\"target\":\"http://a/\",\"data\":1}\n{\"target\":\"http://a/\"}\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "", 1 << 20);
  const SendGroup group = input.next();
  ASSERT_TRUE(group.error);
  EXPECT_EQ(group.error->line, 3u);
}

TEST_F(LineReaderTest, GroupsAreBounded) {
  std::string text;
  for (std::size_t i = 0; i < SendInput::group_lines_max + 1; ++i) text += "1\n";
  write_text(text);
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "https://a/", 1 << 20);
  EXPECT_EQ(input.next().hooks.size(), SendInput::group_lines_max);
  EXPECT_EQ(input.next().hooks.size(), 1u);
}

TEST_F(LineReaderTest, GroupsAreBoundedInBytesAndALongLineGoesAlone) {
  const std::string long_line = "\"" + std::string(100, 'x') + "\"";
  write_text("1\n2\n" + long_line + "\n3\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "https://a/", 70);
  std::vector<std::size_t> hooks;
  std::vector<std::uint64_t> first_lines;
  for (SendGroup group = input.next(); !group.line_numbers.empty(); group = input.next()) {
    ASSERT_FALSE(group.error);
    hooks.push_back(group.hooks.size());
    first_lines.push_back(group.line_numbers.front());
  }
  EXPECT_THAT(hooks, ElementsAre(2, 1, 1));
  EXPECT_THAT(first_lines, ElementsAre(1, 3, 4));
}

// --- What people see ---

TEST(Printable, LeavesTextAndDefusesTheRest) {
  EXPECT_EQ(printable("zoë 🌙 \"x\""), "zoë 🌙 \"x\"");
  EXPECT_EQ(printable("a\x1b[2J\r\n\t"), "a\\x1b[2J\\x0d\\x0a\\x09");
  EXPECT_EQ(printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(printable("\u202e"), "\\xe2\\x80\\xae");
  EXPECT_EQ(printable("\u0085"), "\\xc2\\x85");
}

TEST(Counted, OneHasNoS) {
  EXPECT_EQ(counted(1, "failed hook"), "1 failed hook");
  EXPECT_EQ(counted(0, "hook"), "0 hooks");
  EXPECT_EQ(counted(12'000, "hook"), "12000 hooks");
}

TEST(ConsoleTest, PeopleOnOneStreamProgramsOnTheOther) {
  char *out_text = nullptr, *err_text = nullptr;
  std::size_t out_size = 0, err_size = 0;
  std::FILE* out = open_memstream(&out_text, &out_size);
  std::FILE* err = open_memstream(&err_text, &err_size);
  {
    Console console(out, err, false);
    console.print_line("{}");
    console.say("done");
    ProgressBar bar(console, "work");
    bar.update(1, 2);  // no terminal: nothing
  }
  std::fclose(out);
  std::fclose(err);
  EXPECT_EQ(std::string(out_text, out_size), "{}\n");
  EXPECT_EQ(std::string(err_text, err_size), "done\n");
  std::free(out_text);
  std::free(err_text);
}

TEST(ConsoleTest, ProgressIsDrawnOnATerminalAndWiped) {
  char* err_text = nullptr;
  std::size_t err_size = 0;
  std::FILE* err = open_memstream(&err_text, &err_size);
  {
    Console console(stdout, err, true);
    ProgressBar bar(console, "work");
    bar.update(1, 2);
  }
  std::fclose(err);
  const std::string text(err_text, err_size);
  EXPECT_THAT(text, HasSubstr("work ["));
  EXPECT_THAT(text, ::testing::EndsWith("\r\x1b[2K"));
  std::free(err_text);
}

TEST(Progress, BarRateAndTimeLeft) {
  const std::string line = render_progress("retry", 500, 1000, seconds(5), 80);
  EXPECT_THAT(line, ::testing::StartsWith("retry [###"));
  EXPECT_THAT(line, HasSubstr("50% 500/1000  100/s  5s left"));
  EXPECT_LE(line.size(), 80u);
  EXPECT_EQ(render_progress("retry", 30, 0, seconds(10), 80), "retry 30  3.0/s");
  EXPECT_THAT(render_progress("retry", 0, 1000, seconds(1), 80), HasSubstr("0% 0/1000  0/s"));
  EXPECT_THAT(render_progress("retry", 1000, 1000, seconds(5), 80), HasSubstr("100% 1000/1000"));
  EXPECT_THAT(render_progress("retry", 2000, 1000, seconds(5), 80), HasSubstr("100%"));
  EXPECT_EQ(render_progress("x", 1, 10, seconds(1), 20).find('['), 2u);
}

TEST(Progress, ShortDurations) {
  EXPECT_EQ(short_duration(milliseconds(950)), "950ms");
  EXPECT_EQ(short_duration(seconds(59)), "59s");
  EXPECT_EQ(short_duration(seconds(130)), "2m10s");
  EXPECT_EQ(short_duration(seconds(11'100)), "3h05m");
  EXPECT_EQ(short_duration(milliseconds(-5)), "0ms");
}

TEST(Progress, ShortBytes) {
  EXPECT_EQ(short_bytes(400 << 10), "0.4 MiB");
  EXPECT_EQ(short_bytes(1023 << 20), "1023.0 MiB");
  EXPECT_EQ(short_bytes(10ull << 30), "10.0 GiB");
}

TEST(Table, ColumnsAreAsWideAsTheirCells) {
  EXPECT_EQ(render_table({{"NAME", "N"}, {"zoë", "10"}, {"a", "7"}}, {1}),
            "NAME   N\nzoë   10\na      7\n");
  EXPECT_EQ(render_table({}), "");
  EXPECT_EQ(shortened("abcdefgh", 6), "abc...");
  EXPECT_EQ(shortened("ëëëëëë", 6), "ëëëëëë");
  EXPECT_EQ(shortened("ëëëëëëë", 6), "ëëë...");
}

// --- Log ---

TEST(LogLimiterTest, HoldsBackAFloodAndSaysHowMuch) {
  LogLimiter limiter(2);
  std::vector<LogLimiter::Suppressed> suppressed;
  const TimePoint start{seconds(100)};
  EXPECT_TRUE(limiter.admit("target 1 refused", start, suppressed));
  EXPECT_TRUE(limiter.admit("target 2 refused", start, suppressed));
  EXPECT_FALSE(limiter.admit("target 3 refused", start, suppressed));
  EXPECT_FALSE(limiter.admit("target 4 refused", start + milliseconds(999), suppressed));
  EXPECT_TRUE(limiter.admit("another kind", start, suppressed));
  EXPECT_THAT(suppressed, IsEmpty());
  EXPECT_TRUE(limiter.admit("unrelated", start + seconds(1), suppressed));
  ASSERT_EQ(suppressed.size(), 1u);
  EXPECT_EQ(suppressed[0].kind, "target ");
  EXPECT_EQ(suppressed[0].lines, 2u);
  EXPECT_TRUE(limiter.admit("target 5 refused", start + seconds(1), suppressed));
}

TEST(LogLimiterTest, KindsAreBoundedAndTheRestIsTold) {
  LogLimiter limiter(1);
  std::vector<LogLimiter::Suppressed> suppressed;
  const TimePoint start{seconds(100)};
  for (std::size_t i = 0; i < 2 * LogLimiter::kinds_max; ++i) {
    EXPECT_TRUE(limiter.admit(std::string(1 + i % 40, 'a') + std::string(1 + i / 40, 'b'), start,
                              suppressed));
  }
  EXPECT_FALSE(limiter.admit("ab", start, suppressed));
  const auto rest = limiter.take_all();
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].kind, "ab");
}

// One that failed all the time hid every other.
TEST(LogLimiterTest, OneTargetDoesNotHideTheOthers) {
  LogLimiter limiter(20, 4);
  std::vector<LogLimiter::Suppressed> suppressed;
  const TimePoint start{seconds(100)};
  int passed = 0;
  for (int i = 0; i < 1'000; ++i) {
    passed += limiter.admit("given up: https://a:1/#12345678 timeout, batch " + std::to_string(i),
                            start, suppressed);
  }
  EXPECT_EQ(passed, 4);
  EXPECT_TRUE(limiter.admit("given up: https://a:1/#12345679 timeout", start, suppressed));
  EXPECT_TRUE(limiter.admit("given up: https://b/ timeout", start, suppressed));
  EXPECT_TRUE(limiter.admit("works again: https://a:1/#12345678 after 9", start, suppressed));
  const auto rest = limiter.take_all();
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].kind, "given up: https://a:1/#12345678");
  EXPECT_EQ(rest[0].lines, 996u);
}

TEST(LogLimiterTest, HundredThousandTargetsAreNoFlood) {
  LogLimiter limiter(20, 4);
  std::vector<LogLimiter::Suppressed> suppressed;
  const TimePoint start{seconds(100)};
  int passed = 0;
  std::uint64_t said = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string target = "https://" + std::to_string(i) + ".example/";
    passed +=
        limiter.admit("fails: " + target + " timeout", start + milliseconds(i / 50), suppressed);
  }
  EXPECT_EQ(passed, 40);
  for (const auto& held : limiter.take_all()) suppressed.push_back(held);
  for (const auto& held : suppressed) said += held.lines;
  EXPECT_EQ(said, 100'000u - 40u);
  EXPECT_LE(suppressed.size(), 2u);
}

TEST(LogLimiterTest, KnowsWhichLinesAreAboutATarget) {
  EXPECT_EQ(LogLimiter::target_kind_of("fails: http://a:8/#1 x"), "fails: http://a:8/#1");
  EXPECT_EQ(LogLimiter::target_kind_of("fails: http://a/"), "fails: http://a/");
  for (const char* other :
       {"", "fails", "fails:", "fails: ", "a 1: https://a/", "x: y https://a/"}) {
    EXPECT_EQ(LogLimiter::target_kind_of(other), "") << other;
  }
}

TEST(LogTest, JsonStringsAreAlwaysJson) {
  for (const char* message : {"plain", "quote \" and \\", "line\nend\x01", "\xff\xfe", "zoë 🌙"}) {
    EXPECT_EQ(check_json(log_json_string(message), false), std::nullopt) << message;
  }
  EXPECT_EQ(log_json_string("a\"b\nc"), R"("a\"b\\x0ac")");
}

// Who reads the log by program had to parse English.
TEST(LogTest, JsonLinesHaveTheirFieldsAsMembers) {
  const LogField fields[] = {{"event", "given_up"},
                             {"target", "https://a/#1"},
                             {"hooks", std::uint64_t{18446744073709551615u}},
                             {"detail", ""},
                             {"reason", "a\"b\n"}};
  const std::string members = log_json_members("given up: \"x\"", fields);
  EXPECT_EQ(members, R"("message":"given up: \"x\"","event":"given_up","target":"https://a/#1",)"
                     R"("hooks":18446744073709551615,"reason":"a\"b\\x0a")");
  EXPECT_EQ(check_json("{" + members + "}", false), std::nullopt);
  EXPECT_EQ(log_json_members("plain", {}), R"("message":"plain")");
}

// --- Others ---

TEST(ExitCodes, OfErrors) {
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_busy)), 75);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_corrupt)), 65);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_newer)), 78);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_cannot_create)), 73);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_permission)), 77);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::store_failed)), 74);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::not_found)), 66);
  EXPECT_EQ(exit_code_of(make_error_code(Errc::target_forbidden)), 65);
  EXPECT_EQ(exit_code_of(std::make_error_code(std::errc::permission_denied)), 77);
  EXPECT_EQ(exit_code_of(std::make_error_code(std::errc::address_in_use)), 71);
}

TEST(ExitCodes, ADaemonWhoseStoreFailsIsNoFaultOfTheSystem) {
  EXPECT_EQ(exit_code_of_daemon("store_failed", 500), 74);
  EXPECT_EQ(exit_code_of_daemon("store_io", 500), 74);
  EXPECT_EQ(exit_code_of_daemon("disk_low", 507), 74);
  EXPECT_EQ(exit_code_of_daemon("store_corrupt", 500), 65);
  EXPECT_EQ(exit_code_of_daemon("internal", 500), 71);
  EXPECT_EQ(exit_code_of_daemon("full", 503), 69);
  EXPECT_EQ(exit_code_of_daemon("not_found", 404), 66);
  EXPECT_EQ(exit_code_of_daemon("", 401), 77);
}

TEST(Descriptors, AreSharedOut) {
  const auto shares = [](std::uint64_t limit, std::uint32_t targets, std::uint32_t intake) {
    const DescriptorShares got = share_descriptors(limit, targets, intake);
    EXPECT_LE(got.to_targets + got.of_intake, std::max<std::uint64_t>(2, limit - limit / 20));
    return std::vector<std::uint32_t>{got.to_targets, got.of_intake};
  };
  EXPECT_THAT(shares(1'048'576, 1024, 1024), ElementsAre(1024, 1024));
  EXPECT_THAT(shares(2176, 1024, 1024), ElementsAre(1024, 1024));
  EXPECT_THAT(shares(1024, 1024, 1024), ElementsAre(448, 448));
  EXPECT_THAT(shares(1024, 100, 1024), ElementsAre(100, 796));
  EXPECT_THAT(shares(1024, 1024, 0), ElementsAre(896, 0));
  EXPECT_THAT(shares(64, 1024, 1024), ElementsAre(16, 16));
  EXPECT_THAT(shares(1, 1024, 1024), ElementsAre(1, 1));
}

TEST(Descriptors, TheLimitIsRaisedToTheHardOne) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit low = before;
  low.rlim_cur = std::min<rlim_t>(before.rlim_max, 64);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  EXPECT_EQ(raise_descriptor_limit(), before.rlim_max);
  rlimit now{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
  EXPECT_EQ(now.rlim_cur, before.rlim_max);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST(Descriptors, FewerConnectionsThanAskedForAreSaid) {
  Options options;
  options.engine.max_connections = 1000;
  std::uint32_t intake = 1024;
  EXPECT_FALSE(fit_to_descriptors(options, 4096, intake));
  EXPECT_EQ(options.engine.max_connections, 1000u);
  const auto warning = fit_to_descriptors(options, 1024, intake);
  ASSERT_TRUE(warning);
  EXPECT_THAT(*warning, HasSubstr("max_connections is 1000"));
  EXPECT_EQ(options.engine.max_connections, 448u);
  EXPECT_EQ(intake, 448u);
}

// `send` has no intake, and warned of having too little room for it.
TEST(Descriptors, NoIntakeIsNothingToWarnOf) {
  Options options;
  std::uint32_t none = 0;
  EXPECT_EQ(fit_to_descriptors(options, 20'000, none), std::nullopt);
  EXPECT_EQ(none, 0u);
}

TEST(OwnAddresses, ListenIsParsedStrictly) {
  const auto v4 = parse_listen("127.0.0.1:8420");
  ASSERT_TRUE(v4);
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 8420);
  const auto v6 = parse_listen("[::1]:0");
  ASSERT_TRUE(v6);
  EXPECT_EQ(format_listen(*v6), "[::1]:0");
  for (const char* bad : {"", ":1", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "localhost:1",
                          "::1:80", "[::1]", "127.0.0.1:80x", "127.0.0.1:-1"}) {
    EXPECT_FALSE(parse_listen(bad)) << bad;
  }
  EXPECT_THAT(own_addresses_of({"127.0.0.1", 99}), ElementsAre("127.0.0.1:99"));
  const std::uint16_t port = find_free_port({"127.0.0.1", 0});
  EXPECT_NE(port, 0);
  EXPECT_NO_THROW(check_can_listen({"127.0.0.1", port}));
  EXPECT_THAT(own_addresses_of({"0.0.0.0", 99}),
              ::testing::IsSupersetOf({"127.0.0.1:99", "[::1]:99"}));
}

TEST(DemoTest, PayloadsAreValidDifferentAndRepeatable) {
  std::vector<std::string> seen;
  for (std::uint64_t i = 0; i < 30; ++i) {
    for (const DemoPayload& payload : {demo_push(i), demo_issue(i), demo_release(i)}) {
      EXPECT_EQ(check_json(payload.body, false), std::nullopt) << payload.body;
      EXPECT_THAT(seen, ::testing::Not(::testing::Contains(payload.body)));
      seen.push_back(payload.body);
    }
  }
  EXPECT_EQ(demo_push(3).body, seen[9]);
}

TEST(DemoTest, ArraysAreSplitByteForByte) {
  const auto parts = split_json_array(R"([{"a":[1,2],"b":"],\","},"x, \\", [ ] ,3])");
  ASSERT_TRUE(parts);
  EXPECT_THAT(*parts, ElementsAre(R"({"a":[1,2],"b":"],\","})", R"("x, \\")", " [ ] ", "3"));
  EXPECT_THAT(*split_json_array("[]"), IsEmpty());
  EXPECT_FALSE(split_json_array("{}"));
  EXPECT_FALSE(split_json_array("[1,]"));
}

TEST(DemoTest, LedgerFindsWhatDoesNotAddUp) {
  const auto problems_after = [](const std::function<void(DemoLedger&)>& play) {
    DemoLedger ledger;
    ledger.add_target("t", 2);
    ledger.submitted(0, "1");
    ledger.submitted(0, "2");
    ledger.submitted(0, "3");
    play(ledger);
    return check_ledger(ledger.rows());
  };
  EXPECT_THAT(problems_after([](DemoLedger& ledger) {
                EXPECT_TRUE(ledger.arrived(0, "a", "[1,2]", false).full);
                EXPECT_FALSE(ledger.arrived(0, "a", "[1,2]", true).first);
                EXPECT_FALSE(ledger.arrived(0, "b", "[3]", true).full);
              }),
              IsEmpty());
  EXPECT_THAT(problems_after([](DemoLedger& ledger) { ledger.arrived(0, "a", "[1,2]", true); }),
              ElementsAre(HasSubstr("delivered")));
  EXPECT_THAT(problems_after([](DemoLedger& ledger) {
                ledger.arrived(0, "a", "[1,2]", true);
                ledger.arrived(0, "b", "[3]", true);
                ledger.arrived(0, "c", "[3]", true);
              }),
              ElementsAre(HasSubstr("twice")));
  EXPECT_THAT(problems_after([](DemoLedger& ledger) {
                ledger.arrived(0, "a", "[1,2]", false);
                ledger.arrived(0, "a", "[2,1]", true);
                ledger.arrived(0, "b", "[3]", true);
              }),
              ElementsAre(HasSubstr("other bytes")));
  EXPECT_THAT(problems_after([](DemoLedger& ledger) {
                ledger.failed(0, 1);
                ledger.arrived(0, "a", "[1,2]", true);
                ledger.arrived(0, "b", "[3]", true);
              }),
              ElementsAre(HasSubstr("retried")));
}

TEST(DemoTest, TableSumsItsRows) {
  LedgerRow row;
  row.name = "a";
  row.submitted = row.delivered = 7;
  row.batches = row.attempts = 2;
  EXPECT_THAT(render_ledger({row, row}), HasSubstr("14"));
}

// --- recovery_progress.h

TEST(RecoveryProgress, SaysAtMostOneLineASecondWithCountAndRate) {
  const TimePoint begin{seconds(5)};
  RecoveryProgress progress(begin);
  EXPECT_EQ(progress.found(100'000, begin + milliseconds(999)), std::nullopt);
  EXPECT_EQ(progress.found(200'000, begin + milliseconds(1000)),
            "recovering: 200000 pending hooks read, 200000/s");
  EXPECT_EQ(progress.found(300'000, begin + milliseconds(1999)), std::nullopt);
  EXPECT_EQ(progress.found(300'000, begin + milliseconds(2000)),
            "recovering: 300000 pending hooks read, 150000/s");
  EXPECT_EQ(progress.done(1'000'000, begin + milliseconds(2500)),
            "recovered 1000000 hooks of an earlier run, 400000/s");
}

TEST(RecoveryProgress, WhatTakesNoTimeHasARateToo) {
  const TimePoint begin{};
  EXPECT_EQ(RecoveryProgress(begin).done(7, begin), "recovered 7 hooks of an earlier run, 7000/s");
}

}  // namespace
}  // namespace postbag
