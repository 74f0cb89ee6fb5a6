// The parts of the executable that need no engine: arguments, filters, texts, tables, decoders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/console.h"
#include "cli/control_client.h"
#include "cli/daemon_answers.h"
#include "cli/demo/ledger.h"
#include "cli/demo/payloads.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"
#include "cli/failed_text.h"
#include "cli/http_answer.h"
#include "cli/intake/answers.h"
#include "cli/line_reader.h"
#include "cli/log.h"
#include "cli/log_limiter.h"
#include "cli/own_addresses.h"
#include "cli/progress.h"
#include "cli/recovery_progress.h"
#include "cli/send_input.h"
#include "cli/table.h"
#include "engine/pure/json.h"
#include "postbag/error.h"

namespace postbag {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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
      {"failed", "list", "--limit", "0"},
      {"failed", "list", "--limit", "-1"},
      {"failed", "list", "--limit", "many"},
      {"failed", "list", "--status", "99"},
      {"retry-failed-hooks", "--retries", "-1"},
      {"listen", "--port", "65536"},
      {"listen", "--status", "199"},
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
  }
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

// --- Failed hooks as text ---

FailedHook sample_row() {
  FailedHook row;
  row.id = "id-1";
  row.target = "https://example.com/h";
  row.event = "push";
  row.group = "g";
  row.headers = "X-A: 1\r\nX-Key: \"se\\cret\"\r\n";
  row.body = "{\"a\":\n 1}";
  row.reason = Reason::status;
  row.status = 503;
  row.attempts = 6;
  row.first_at = 1'700'000'000'000;
  row.last_at = 1'700'000'025'001;
  row.response_headers = "Server: x\r\n";
  row.response_excerpt = "sorry\x1b[2J";
  return row;
}

TEST(FailedText, ExportLineIsWhatSendReads) {
  const auto line = export_line(sample_row());
  ASSERT_TRUE(line);
  EXPECT_EQ(*line,
            R"({"target":"https://example.com/h","data":{"a":  1},"event":"push","group":"g",)"
            R"("id":"id-1","headers":{"X-A":"1","X-Key":"\"se\\cret\""}})");
  const ParsedCall call = parse_send_lines(*line + "\n");
  ASSERT_FALSE(call.error) << call.error->message;
  ASSERT_EQ(call.hooks.size(), 1u);
  EXPECT_EQ(call.hooks[0].body, "{\"a\":  1}");
  EXPECT_EQ(call.hooks[0].id, "id-1");
  ASSERT_EQ(call.hooks[0].headers.size(), 2u);
  EXPECT_EQ(call.hooks[0].headers[1].value, "\"se\\cret\"");
}

TEST(FailedText, DamagedBodyIsNotExported) {
  FailedHook row = sample_row();
  row.body = "{\"a\":";
  EXPECT_FALSE(export_line(row));
}

TEST(FailedText, DetailsShowTheBodyButNoSecretAndNoEscape) {
  const std::string text = failed_details(sample_row());
  EXPECT_THAT(text, HasSubstr("status_503"));
  EXPECT_THAT(text, HasSubstr("{\"a\":\\x0a 1}"));
  EXPECT_THAT(text, HasSubstr("X-Key: ***"));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("cret")));
  EXPECT_THAT(text, ::testing::Not(HasSubstr("\x1b")));
}

TEST(FailedText, JsonIsOneElementOfTheRoutesArrayAndReadsBack) {
  const FailedHook row = sample_row();
  const std::string json = failed_json(row);
  EXPECT_EQ(json.front(), '{');
  EXPECT_EQ(json.back(), '}');
  EXPECT_EQ(check_json(json, false), std::nullopt);
  FailedPage page;
  page.rows = {row, row};
  page.next = 12345;
  const auto answer = parse_failed_page(failed_answer(page, true).body);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->next, "12345");
  ASSERT_EQ(answer->rows.size(), 2u);
  const FailedHook& read = answer->rows[1];
  EXPECT_EQ(read.id, row.id);
  EXPECT_EQ(read.headers, row.headers);
  EXPECT_EQ(read.body, row.body);
  EXPECT_EQ(read.reason, Reason::status);
  EXPECT_EQ(read.status, 503);
  EXPECT_EQ(read.attempts, 6u);
  EXPECT_EQ(read.first_at, row.first_at);
  EXPECT_EQ(read.last_at, row.last_at);
  EXPECT_EQ(read.response_headers, row.response_headers);
  EXPECT_EQ(export_line(read), export_line(row));
}

TEST(FailedText, BytesThatAreNotUtf8ComeThrough) {
  FailedPage page;
  page.rows = {sample_row()};
  page.rows[0].body = std::string("\xff\x00\x01 x", 5);
  const auto answer = parse_failed_page(failed_answer(page, true).body);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->rows.at(0).body, page.rows[0].body);
}

// --- Answers of the daemon ---

TEST(DaemonAnswers, Errors) {
  const auto error =
      parse_daemon_error(R"({"error":{"code":"bad_hook","message":"no target","index":3}})");
  EXPECT_EQ(error.code, "bad_hook");
  EXPECT_EQ(error.message, "no target");
  EXPECT_EQ(error.index, 3u);
  EXPECT_EQ(parse_daemon_error("<html>").code, "");
  EXPECT_EQ(parse_daemon_error(R"({"error":{"code":"full"}})").index, std::nullopt);
}

TEST(DaemonAnswers, AcceptedHookAndNumbers) {
  const auto accepted = parse_accepted(R"({"accepted":2,"duplicates":1,"ids":["a","b","c"]})");
  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->accepted, 2u);
  EXPECT_EQ(accepted->duplicates, 1u);
  EXPECT_THAT(accepted->ids, ElementsAre("a", "b", "c"));
  EXPECT_FALSE(parse_accepted("[]"));
  EXPECT_EQ(json_number(R"({"bags":7})", "bags"), 7u);
  EXPECT_EQ(json_number(R"({"bags":"x"})", "bags"), 0u);
  EXPECT_EQ(parse_hook_status(R"({"id":"a","state":"retrying","attempts":2})")->state, "retrying");
}

TEST(DaemonAnswers, ReadWhatIntakeWrites) {
  EngineStatus status;
  status.pending = 3;
  status.delivered = 1ull << 40;
  status.delivered_per_second = 12.5;
  status.draining = true;
  const auto read = parse_engine_status(status_answer(status).body);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->pending, 3u);
  EXPECT_EQ(read->delivered, 1ull << 40);
  EXPECT_DOUBLE_EQ(read->delivered_per_second, 12.5);
  EXPECT_TRUE(read->draining);
  TargetStatus target;
  target.url = "http://a/";
  target.retrying = 4;
  target.last_reason = "timeout";
  const auto targets = parse_targets(targets_answer({target}).body);
  ASSERT_TRUE(targets);
  ASSERT_EQ(targets->size(), 1u);
  EXPECT_EQ(targets->at(0).retrying, 4u);
  EXPECT_EQ(targets->at(0).last_reason, "timeout");
  std::string line;
  append_progress_line(line, RetryProgress{5, 4, 3, 20}, false);
  const auto progress = parse_retry_progress(line);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->delivered, 5u);
  EXPECT_EQ(progress->failed, 4u);
  EXPECT_EQ(progress->skipped, 3u);
  EXPECT_EQ(progress->total, 20u);
  EXPECT_EQ(parse_retry_plan(plan_answer(RetryPlan{1, 2, 3, 4, 5}).body)->requests, 3u);
}

// --- HTTP answers ---

// Feeds the bytes in pieces of every size; the result must not depend on it.
void expect_decoded(const std::string& bytes, int status, const std::string& body, bool at_end) {
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    HttpAnswerDecoder decoder;
    std::string got;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      ASSERT_TRUE(decoder.feed(std::string_view(bytes).substr(at, piece), got)) << decoder.error();
    }
    if (at_end) {
      EXPECT_FALSE(decoder.done());
      EXPECT_TRUE(decoder.end());
    }
    EXPECT_TRUE(decoder.done()) << piece;
    EXPECT_EQ(decoder.status(), status);
    EXPECT_EQ(got, body) << piece;
  }
}

TEST(HttpAnswer, EveryBodyFraming) {
  expect_decoded("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false);
  expect_decoded("HTTP/1.1 204 No Content\r\n\r\n", 204, "", false);
  expect_decoded("HTTP/1.1 202 Accepted\r\ncontent-length:0\r\n\r\n", 202, "", false);
  expect_decoded(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n"
      "0\r\nX: y\r\n\r\n",
      200, "abc0123456789", false);
  expect_decoded("HTTP/1.1 503 Full\r\nConnection: close\r\n\r\nrest", 503, "rest", true);
  expect_decoded("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200,
                 "x", false);
}

TEST(HttpAnswer, RefusesWhatTheDaemonDoesNotSend) {
  for (const char* bytes :
       {"SSH-2.0-x\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nnofield\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"}) {
    HttpAnswerDecoder decoder;
    std::string body;
    EXPECT_FALSE(decoder.feed(bytes, body)) << bytes;
    EXPECT_NE(decoder.error(), "");
  }
  HttpAnswerDecoder decoder;
  std::string body;
  EXPECT_TRUE(decoder.feed("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", body));
  EXPECT_FALSE(decoder.end());
}

TEST(HttpAnswer, HeadFields) {
  HttpAnswerDecoder decoder;
  std::string body;
  ASSERT_TRUE(decoder.feed(
      "HTTP/1.1 503 x\r\nRetry-After: 7\r\nContent-Type: application/json\r\nConnection: close\r\n"
      "Content-Length: 0\r\n\r\n",
      body));
  EXPECT_EQ(decoder.retry_after_s(), 7u);
  EXPECT_EQ(decoder.content_type(), "application/json");
  EXPECT_FALSE(decoder.keep_alive());
}

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
  SendInput input(lines, "");
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
  SendInput input(lines, "https://a/?q=\"x\"");
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
  SendInput input(lines, "https://a/");
  const SendGroup group = input.next();
  ASSERT_TRUE(group.error);
  EXPECT_EQ(group.error->line, 3u);
}

TEST_F(LineReaderTest, BadIntakeObjectsAreNamed) {
  write_text("\n{\"target\":\"http://a/\",\"data\":1}\n{\"target\":\"http://a/\"}\n");
  end_input();
  LineReader lines(fds_[0], 1000);
  SendInput input(lines, "");
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
  SendInput input(lines, "https://a/");
  EXPECT_EQ(input.next().hooks.size(), SendInput::group_lines_max);
  EXPECT_EQ(input.next().hooks.size(), 1u);
}

// --- What people see ---

TEST(Printable, LeavesTextAndDefusesTheRest) {
  EXPECT_EQ(printable("zoë 🌙 \"x\""), "zoë 🌙 \"x\"");
  EXPECT_EQ(printable("a\x1b[2J\r\n\t"), "a\\x1b[2J\\x0d\\x0a\\x09");
  EXPECT_EQ(printable("\xff\xc0\xaf"), "\\xff\\xc0\\xaf");
  EXPECT_EQ(printable("\u202e"), "\\xe2\\x80\\xae");
  EXPECT_EQ(printable("\u0085"), "\\xc2\\x85");
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

TEST(LogTest, JsonStringsAreAlwaysJson) {
  for (const char* message : {"plain", "quote \" and \\", "line\nend\x01", "\xff\xfe", "zoë 🌙"}) {
    EXPECT_EQ(check_json(log_json_string(message), false), std::nullopt) << message;
  }
  EXPECT_EQ(log_json_string("a\"b\nc"), R"("a\"b\\x0ac")");
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
