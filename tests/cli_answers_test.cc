// What the executable reads from the daemon and shows of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <type_traits>
#include <variant>
#include <vector>

#include "cli/control_client.h"
#include "cli/daemon_answers.h"
#include "cli/failed_text.h"
#include "cli/http_answer.h"
#include "cli/intake/answers.h"
#include "cli/intake/metrics.h"
#include "cli/masked_headers.h"
#include "cli/send_input.h"
#include "cli/status_table.h"
#include "postbag/error.h"
#include "postbag/json.h"
#include "postbag/target_match.h"

namespace postbag {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

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
  row.response_headers = "Server: x\r\nset-cookie: a=secret\r\nX-KEY: \"se\\cret\"\r\n";
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
  EXPECT_THAT(text, HasSubstr(target_log_name("https://example.com/h")));
  EXPECT_THAT(text, HasSubstr("Server: x"));
  EXPECT_THAT(text, HasSubstr("set-cookie: ***"));
  EXPECT_THAT(text, HasSubstr("X-KEY: ***"));
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
  const auto answer = parse_failed_page(failed_answer(page, {.header_values = true}).body);
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

// Cookies of a receiver, and the hook's own token where it sent that back, were shown to whoever
// looks at failed hooks.
TEST(FailedText, SecretsOfTheAnswerAreMaskedUnlessAskedFor) {
  FailedPage page;
  page.rows = {sample_row()};
  const std::string masked = failed_answer(page, {}).body;
  EXPECT_THAT(masked,
              HasSubstr(R"("response_headers":"Server: x\r\nset-cookie: ***\r\nX-KEY: ***\r\n")"));
  EXPECT_THAT(masked, ::testing::Not(HasSubstr("cret")));
  EXPECT_THAT(masked, HasSubstr(failed_json(sample_row())));
  EXPECT_EQ(
      mask_response_headers("Server: x\r\nWWW-Authenticate: Digest nonce=\"1\"\r\nSet-Cook", ""),
      "Server: x\r\nWWW-Authenticate: ***\r\n");
}

TEST(FailedText, BytesThatAreNotUtf8ComeThrough) {
  FailedPage page;
  page.rows = {sample_row()};
  page.rows[0].body = std::string("\xff\x00\x01 x", 5);
  const auto answer = parse_failed_page(failed_answer(page, {.header_values = true}).body);
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

// Some members came through four of the five places that named them, and were shown nowhere.
TEST(StatusTable, EveryMemberIsWrittenReadAndMeasured) {
  EngineStatus status;
  std::uint32_t next = 1000;
  for (const StatusMember& one : status_table()) {
    std::visit(
        [&](auto member) {
          auto& value = status.*member;
          if constexpr (std::is_same_v<decltype(value), bool&>) {
            value = !value;
          } else if constexpr (std::is_same_v<decltype(value), Durability&>) {
            value = Durability::fsync;
          } else {
            value = ++next;
          }
        },
        one.member);
  }
  const std::string json = status_answer(status).body;
  const auto read = parse_engine_status(json);
  ASSERT_TRUE(read);
  const std::string metrics = prometheus_text(status, {});
  std::set<std::string_view> names, helps;
  for (const StatusMember& one : status_table()) {
    std::visit([&](auto member) { EXPECT_EQ((*read).*member, status.*member) << one.json; },
               one.member);
    EXPECT_TRUE(names.insert(one.json).second) << one.json;
    EXPECT_THAT(json, HasSubstr("\"" + std::string(one.json) + "\":"));
    if (one.metric.empty()) continue;
    EXPECT_THAT(metrics, HasSubstr("\npostbag_" + std::string(one.metric) + " "));
    EXPECT_EQ(one.metric.ends_with("_total"), one.type == StatusMember::Type::counter)
        << one.metric;
    // Shown alone, in Grafana for one.
    EXPECT_TRUE(helps.insert(one.help).second) << one.help;
    EXPECT_TRUE(one.help.ends_with('.')) << one.help;
    for (const char* lean : {"Of those", "Since the start", "Over about", "max_"}) {
      EXPECT_FALSE(one.help.starts_with(lean)) << one.help;
    }
  }
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
  append_progress_line(line, RetryProgress{5, 4, 3, 20, {}, false, 2}, false);
  const auto progress = parse_retry_progress(line);
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->delivered, 5u);
  EXPECT_EQ(progress->failed, 4u);
  EXPECT_EQ(progress->skipped, 3u);
  EXPECT_EQ(progress->total, 20u);
  EXPECT_EQ(progress->claimed, 2u);
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

}  // namespace
}  // namespace postbag
