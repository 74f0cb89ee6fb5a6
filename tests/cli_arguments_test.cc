// What the executable is told: arguments and filters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"
#include "postbag/error.h"

namespace postbag {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

ParsedArguments parse(const std::vector<const char*>& arguments) {
  std::vector<const char*> argv = {"postbag"};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return parse_arguments(static_cast<int>(argv.size()), argv.data());
}

template <typename Arguments>
Arguments parsed(const std::vector<const char*>& arguments) {
  const ParsedArguments all = parse(arguments);
  EXPECT_EQ(all.err, "");
  const auto* found = std::get_if<Arguments>(&all.command);
  EXPECT_NE(found, nullptr);
  return found == nullptr ? Arguments() : *found;
}

// --- Arguments ---

TEST(Arguments, NoneAtAllIsHelpAndUsage) {
  const ParsedArguments none = parse({});
  EXPECT_EQ(none.exit_code, 64);
  EXPECT_THAT(none.err, HasSubstr("retry-failed-hooks"));
  EXPECT_EQ(none.command.index(), 0u);
}

TEST(Arguments, AWordThatIsNoCommandIsNamed) {
  EXPECT_EQ(parse({"nope"}).err,
            "postbag: there is no command \"nope\"; postbag --help lists them\n");
  EXPECT_EQ(parse({"failed", "lsit"}).err,
            "postbag: there is no command \"lsit\"; postbag failed --help lists them\n");
  EXPECT_THAT(parse({"-c", "x.toml", "status"}).err, HasSubstr("postbag COMMAND -c"));
  EXPECT_THAT(parse({"serve", "--nonsense"}).err, ::testing::StartsWith("postbag: "));
  EXPECT_EQ(parse({"-c", "x.toml", "status"}).exit_code, 64);
}

TEST(Arguments, VersionIsAFlagToo) {
  const ParsedArguments flag = parse({"--version"});
  EXPECT_EQ(flag.exit_code, 0);
  EXPECT_THAT(flag.out, ::testing::StartsWith("postbag "));
}

TEST(Arguments, AGroupShowsItsOwnExamples) {
  EXPECT_THAT(parse({"failed", "--help"}).out, HasSubstr("postbag failed purge --until 30d"));
}

TEST(Arguments, WhatIsWrongIsUsage) {
  const std::vector<std::vector<const char*>> wrong = {
      {"nonsense"},
      {"serve", "--nonsense"},
      {"serve", "extra"},
      {"failed"},
      {"config"},
      {"store"},
      {"store", "backup"},
      {"failed", "show"},
      {"cancel"},
      // A variable of a script that is not set.
      {"failed", "purge", "--target", ""},
      {"failed", "purge", "--group", "g", "--since", ""},
      {"failed", "purge", "--group", "g", "--reason", ""},
      {"retry-failed-hooks", "--id", ""},
      {"flush", "--target", ""},
      {"store", "backup", ""},
      {"store", "salvage", ""},
      {"send", "--target", ""},
      {"listen", "--port", "65536"},
      {"failed", "list", "--limit", "0"},
      {"failed", "list", "--limit", "-1"},
      {"failed", "list", "--limit", "many"},
      {"failed", "list", "--status", "99"},
      {"retry-failed-hooks", "--retries", "-1"},
      {"listen", "--port", "65536"},
      {"listen", "--status", "199"},
      {"listen", "--fail-first", "-1"},  // were taken: all requests failed, no one knew which
      {"listen", "--hang", "--drop"},
      {"send", "a", "b"},
      {"serve", "-c"},
  };
  for (const auto& arguments : wrong) {
    const ParsedArguments result = parse(arguments);
    EXPECT_EQ(result.exit_code, 64) << arguments.front();
    EXPECT_EQ(result.command.index(), 0u) << arguments.front();
    EXPECT_NE(result.err, "");
    EXPECT_EQ(result.out, "");
  }
}

TEST(Arguments, EveryCommandHasHelpWithExamplesAndTheCommonOptions) {
  const std::vector<std::vector<const char*>> commands = {
      {"serve"},
      {"send"},
      {"listen"},
      {"demo"},
      {"retry-failed-hooks"},
      {"failed", "list"},
      {"failed", "show"},
      {"failed", "export"},
      {"failed", "purge"},
      {"cancel"},
      {"store", "check"},
      {"store", "salvage"},
      {"store", "backup"},
      {"status"},
      {"flush"},
      {"config", "init"},
      {"config", "check"},
      {"config", "show"},
      {"version"},
  };
  for (const auto& command : commands) {
    std::vector<const char*> argv = {"postbag"};
    argv.insert(argv.end(), command.begin(), command.end());
    argv.push_back("--help");
    const ParsedArguments help = parse_arguments(static_cast<int>(argv.size()), argv.data());
    EXPECT_EQ(help.exit_code, 0) << command.back();
    EXPECT_THAT(help.out, HasSubstr("Examples:")) << command.back();
    EXPECT_THAT(help.out, HasSubstr("--config")) << command.back();
    EXPECT_THAT(help.out, HasSubstr("--json")) << command.back();
    EXPECT_THAT(help.out, ::testing::Not(HasSubstr("\n\n\n"))) << command.back();
  }
}

// It was "FILE FILE", "ID ID REQUIRED" and "N:UINT in [1 - 18446744073709551614]".
TEST(Arguments, HelpNamesWhatAnOptionTakesOnceAndNoType) {
  const auto help = [](std::vector<const char*> command) {
    command.push_back("--help");
    return parse(command).out;
  };
  EXPECT_THAT(help({"send"}), HasSubstr("\n  FILE  "));
  EXPECT_THAT(help({"failed", "show"}), HasSubstr("\n  ID  "));
  EXPECT_THAT(help({"cancel"}), HasSubstr("--target GLOB (required)"));
  const std::string list = help({"failed", "list"});
  EXPECT_THAT(list, HasSubstr("--limit N  "));
  EXPECT_THAT(list, HasSubstr("--id ID ..."));
  EXPECT_THAT(list, ::testing::Not(HasSubstr(" in [")));
}

TEST(Arguments, Send) {
  const auto send =
      parsed<SendArguments>({"send", "--durable", "--target", "http://h/", "-c", "a"});
  EXPECT_TRUE(send.durable);
  EXPECT_EQ(send.target, "http://h/");
  EXPECT_EQ(send.file, "-");
  EXPECT_EQ(send.config, "a");
  EXPECT_FALSE(send.json);
  EXPECT_EQ(parsed<SendArguments>({"send", "in.ndjson"}).file, "in.ndjson");
  EXPECT_EQ(parsed<SendArguments>({"send", "-"}).file, "-");
}

TEST(Arguments, Retry) {
  const auto retry = parsed<RetryArguments>({"retry-failed-hooks",
                                             "--target",
                                             "https://a/*",
                                             "--group",
                                             "g",
                                             "--event",
                                             "",
                                             "--status",
                                             "503",
                                             "--reason",
                                             "timeout",
                                             "--since",
                                             "1h",
                                             "--limit",
                                             "7",
                                             "--retries",
                                             "0",
                                             "--id",
                                             "a",
                                             "--id",
                                             "b",
                                             "--dry-run",
                                             "--json"});
  EXPECT_EQ(retry.filter.target, "https://a/*");
  EXPECT_EQ(retry.filter.group, "g");
  EXPECT_EQ(retry.filter.event, "");
  EXPECT_EQ(retry.filter.status, 503);
  EXPECT_EQ(retry.filter.limit, 7u);
  EXPECT_EQ(retry.retries, 0u);
  EXPECT_THAT(retry.filter.ids, ElementsAre("a", "b"));
  EXPECT_TRUE(retry.dry_run);
  EXPECT_TRUE(retry.json);
  EXPECT_EQ(parsed<RetryArguments>({"retry-failed-hooks"}).retries, std::nullopt);
}

// --- Filters ---

constexpr WallMs now_ms = 1'700'000'000'000;

TEST(FailedFilterTest, AgesAndTimes) {
  FilterArguments arguments;
  arguments.since = "1h";
  arguments.until = "2023-11-14T22:13:20Z";
  const FailedFilter filter = to_failed_filter(arguments, now_ms);
  EXPECT_EQ(filter.since, now_ms - 3'600'000);
  EXPECT_EQ(filter.until, now_ms);
}

TEST(FailedFilterTest, AUrlIsMadeCanonicalAsTargetsAre) {
  const auto pattern = [](const std::string& target) {
    FilterArguments arguments;
    arguments.target = target;
    return to_failed_filter(arguments, now_ms).target;
  };
  EXPECT_EQ(pattern("HTTPS://Example.com:443"), "https://example.com/");
  EXPECT_EQ(pattern("https://Example.com./*"), "https://example.com/*");
  EXPECT_EQ(pattern("https://Example.com*"), "https://Example.com*");
  EXPECT_EQ(pattern("*example*"), "*example*");
  EXPECT_EQ(pattern("http://localhos?:1/x"), "http://localhos?:1/x");
  EXPECT_EQ(pattern(""), "");
}

TEST(FailedFilterTest, RefusesWhatCannotMatchAsMeant) {
  const auto refused = [](FilterArguments arguments) {
    try {
      to_failed_filter(arguments, now_ms);
    } catch (const CommandError& error) {
      return error.exit_code();
    }
    return 0;
  };
  FilterArguments arguments;
  arguments.since = "yesterday";
  EXPECT_EQ(refused(arguments), 64);
  arguments = {};
  arguments.reason = "no_such_reason";
  EXPECT_EQ(refused(arguments), 64);
  arguments = {};
  arguments.ids = {"has space"};
  EXPECT_EQ(refused(arguments), 64);
  arguments = {};
  arguments.reason = "status_503";
  EXPECT_EQ(refused(arguments), 0);
}

TEST(FailedFilterTest, QueryEscapesAndLeavesOutWhatIsNotSet) {
  EXPECT_EQ(filter_query({}), "");
  FailedFilter filter;
  filter.target = "https://a/*?x=1&y";
  filter.group = "";
  filter.status = 503;
  filter.since = 0;
  filter.ids = {"a", "b"};
  EXPECT_EQ(filter_query(filter),
            "target=https%3A%2F%2Fa%2F%2A%3Fx%3D1%26y&group=&status=503&"
            "since=1970-01-01T00%3A00%3A00.000Z&id=a&id=b");
}

}  // namespace
}  // namespace postbag
