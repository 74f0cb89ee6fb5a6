// What the engine says in its log about targets and about what operators did, and its numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "engine/shell/log_text.h"
#include "postbag/target_match.h"
#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;
using testing::StartsWith;

class EngineLog : public testing::Test {
 protected:
  EngineLog() {
    options.defaults.batch.size = 1;
    options.defaults.retry.retries = 9;
  }

  Options options = loopback_options();
  Logger logger;
};

// One line an attempt hid what matters, and none said that it was over.
TEST_F(EngineLog, ATargetIsSaidToFailAndToWorkAgain) {
  FaultReceiver receiver(replying([](const FaultRequest& request) {
    return FaultReply::status(request.index < 5 ? 503 : 200);
  }));
  LoggedLines lines(logger, LogLevel::info);
  Engine engine(options, make_memory_store(), logger);
  ASSERT_TRUE(engine.submit(receiver.url("/secret"), "1").ok());
  ASSERT_TRUE(engine.wait_idle(patience));
  const std::string name = engine.targets().at(0).log_name;
  EXPECT_THAT(name, MatchesRegex("http://127.0.0.1:[0-9]+/#[0-9a-f]{8}"));
  EXPECT_THAT(lines.all(),
              ElementsAre(StartsWith("fails: " + name + " status_503, batch "),
                          StartsWith("works again: " + name + " after 5 failed attempts, in ")));
}

TEST_F(EngineLog, EachAttemptIsSaidAtDebugAndWhatIsGivenUpAsAWarning) {
  options.defaults.retry.retries = 2;
  FaultReceiver receiver(replying([](const FaultRequest&) { return FaultReply::status(500); }));
  LoggedLines lines(logger, LogLevel::debug);
  Engine engine(options, make_memory_store(), logger);
  ASSERT_TRUE(engine.submit(receiver.url(), "1").ok());
  ASSERT_TRUE(engine.wait_idle(patience));
  EXPECT_THAT(lines.all(), ElementsAre(StartsWith("fails: "), StartsWith("attempt failed: "),
                                       StartsWith("given up: ")));
}

// What programs look for need not be found in the words.
TEST_F(EngineLog, LinesAboutATargetHaveFields) {
  options.defaults.retry.retries = 1;
  FaultReceiver receiver(replying([](const FaultRequest& request) {
    return FaultReply::status(request.index < 2 ? 503 : 200);
  }));
  std::mutex mutex;
  std::vector<std::string> lines;
  logger.level = LogLevel::info;
  logger.write_fields = [&](LogLevel, std::string_view, std::span<const LogField> fields) {
    std::string line;
    for (const LogField& field : fields) {
      const auto* text = std::get_if<std::string_view>(&field.value);
      line.append(field.name).append("=");
      line.append(text != nullptr ? *text : std::to_string(std::get<std::uint64_t>(field.value)));
      line += ' ';
    }
    const std::lock_guard lock(mutex);
    lines.push_back(std::move(line));
  };
  {
    Engine engine(options, make_memory_store(), logger);
    for (const char* payload : {"1", "2"}) {
      ASSERT_TRUE(engine.submit(receiver.url(), payload).ok());
      ASSERT_TRUE(engine.wait_idle(patience));
    }
  }
  const std::string url = receiver.url();
  const std::string batch = "target=" + url + " reason=status_503 batch_id=[0-9a-f-]+ hooks=1 ";
  EXPECT_THAT(
      lines,
      ElementsAre(
          MatchesRegex("event=fails " + batch + "attempt=1 attempts_max=2 detail=.*status=503 "),
          MatchesRegex("event=given_up " + batch + "attempt=2 attempts_max=2 detail=.*status=503 "),
          MatchesRegex("event=works_again target=" + url + " failed_attempts=2 seconds=[0-9]+ ")));
}

// It was called an attempt that failed, with more to come.
TEST_F(EngineLog, WhatAStoppedRetryRunGivesUpIsSaid) {
  FaultReceiver receiver(replying([](const FaultRequest& request) {
    return request.index < 2 ? FaultReply::status(503)
                             : FaultReply::hang().then(FaultReply::status(503));
  }));
  options.defaults.batch.size = 1;
  options.defaults.retry.retries = 0;
  LoggedLines lines(logger, LogLevel::warning);
  Engine engine(options, make_memory_store(), logger);
  ASSERT_TRUE(engine.submit(hooks_to(receiver.url(), {"1", "2"})).ok());
  ASSERT_TRUE(engine.wait_idle(patience));
  options.defaults.retry.retries = 5;
  engine.reload(options);
  std::stop_source stop;
  RetryOptions retry;
  retry.stop = stop.get_token();
  auto run = std::async(std::launch::async, [&] { return engine.retry_failed(retry); });
  ASSERT_TRUE(receiver.wait_for_requests(3));
  ASSERT_TRUE(eventually([&] { return engine.status().batches_held == 2; }));
  stop.request_stop();
  EXPECT_TRUE(eventually([&] { return engine.status().batches_held == 1; }));
  receiver.release();
  EXPECT_EQ(run.get().failed, 1u);
  EXPECT_THAT(lines.all(), ElementsAre(StartsWith("given up: "), StartsWith("given up: "),
                                       StartsWith("given up: ")));
}

// Rows were gone for good and nothing said by whose wish: no line at any level, no number.
TEST_F(EngineLog, APurgeACancelAndARetryRunLeaveATrace) {
  options.defaults.retry.retries = 0;
  options.defaults.batch.size = 1000;
  FaultReceiver receiver(always(503));
  LoggedLines lines(logger, LogLevel::info);
  Engine engine(options, make_memory_store(), logger);
  const std::string url = receiver.url("/secret");
  ASSERT_TRUE(engine.submit(hooks_to(url, {"1", "2", "3"})).ok());
  engine.flush();
  ASSERT_TRUE(engine.wait_idle(patience));
  ASSERT_TRUE(engine.submit(hooks_to(url, {"4", "5"})).ok());
  EXPECT_EQ(engine.cancel(url).cancelled, 2u);
  RetryOptions retry;
  retry.filter.reason = "status_503";
  retry.limit = 2;
  EXPECT_EQ(engine.retry_failed(retry).failed, 2u);
  FailedFilter cancelled;
  cancelled.target = receiver.url("/sec*");
  cancelled.reason = "cancelled";
  EXPECT_EQ(engine.purge_failed(cancelled).purged, 2u);
  EXPECT_EQ(engine.purge_failed({}, 5).purged, 3u);

  const EngineStatus status = engine.status();
  EXPECT_EQ(status.cancelled, 2u);
  EXPECT_EQ(status.purged, 5u);
  EXPECT_EQ(status.retry_failed, 2u);
  const auto all = lines.all();
  EXPECT_THAT(
      all, Contains("cancel: 2 waiting hooks made failed ones, of target " + target_log_name(url)));
  EXPECT_THAT(all, Contains("retry run 1 of failed hooks begins: reason status_503, limit 2"));
  EXPECT_THAT(all, Contains("retry run 1 ended: 0 delivered, 2 failed again, 0 skipped"));
  EXPECT_THAT(all, Contains("purge: 2 failed hooks deleted (target " + receiver.url("/...") +
                            ", reason cancelled)"));
  EXPECT_THAT(all, Contains("purge: 3 failed hooks deleted (all, limit 5)"));
  EXPECT_THAT(all, Not(Contains(HasSubstr("sec"))));
}

// A target counted rows that failed again, the status did not; what a waiting call took back and
// what a retry run delivered were in no number of their own.
TEST(EngineStatusNumbers, AddUp) {
  std::atomic<bool> healed = false;
  FaultReceiver receiver(replying([&](const FaultRequest& request) {
    return FaultReply::status(healed || request.path == "/ok" ? 200 : 503);
  }));
  const auto engine = make_engine();
  const auto submit = [&](const std::string& path, int count, SubmitOptions options = {}) {
    ASSERT_TRUE(engine->submit(hooks_to(receiver.url(path), numbers(count)), options).ok());
  };
  submit("/ok", 2);
  submit("/bad", 3);
  engine->flush();
  ASSERT_TRUE(engine->wait_idle(patience));
  SubmitOptions waits;
  waits.listener = std::make_shared<Outcomes>(true);
  submit("/bad", 1, waits);
  engine->flush();
  ASSERT_TRUE(engine->wait_idle(patience));
  EXPECT_EQ(engine->retry_failed({}).failed, 3u);
  healed = true;
  RetryOptions two;
  two.limit = 2;
  EXPECT_EQ(engine->retry_failed(two).delivered, 2u);
  submit("/ok", 1);
  EXPECT_EQ(engine->cancel("*/ok").cancelled, 1u);
  EXPECT_EQ(engine->purge_failed({}, 1).purged, 1u);

  const EngineStatus status = engine->status();
  EXPECT_EQ(status.accepted, 7u);
  EXPECT_EQ(status.accepted,
            status.pending + status.delivered - status.retry_delivered + status.given_up);
  EXPECT_EQ(status.failed, 1u);
  EXPECT_EQ(status.failed, status.given_up - status.discarded - status.handed_back -
                               status.retry_delivered - status.purged - status.retention_purged);
  EXPECT_EQ(status.handed_back, 1u);
  EXPECT_EQ(status.retry_failed, 3u);
  std::uint64_t given_up = 0, delivered = 0;
  for (const TargetStatus& target : engine->targets()) {
    given_up += target.given_up;
    delivered += target.delivered;
  }
  EXPECT_EQ(given_up, status.given_up);
  EXPECT_EQ(delivered, status.delivered);
}

TEST(LogText, AGlobIsShownWithoutItsPath) {
  const auto expect = [](std::string_view glob, std::string_view shown) {
    EXPECT_EQ(log_glob(glob), shown) << glob;
  };
  expect("*", "*");
  expect("https://a.example/*", "https://a.example/*");
  expect("https://a.example*", "https://a.example*");
  expect("https://a.example/secret*", "https://a.example/...");
  expect("https://a.example*secret*", "https://a.example*...");
  expect("https://*.example/secret", "https://*...");
  expect("*secret*", "*...");
  expect("http*://a.example/secret", "*...");
  expect("https://me:secret@a.example/*", "*...");
  expect("https://a.example/secret", target_log_name("https://a.example/secret"));
  expect("https://a.example/?key=secret", target_log_name("https://a.example/?key=secret"));
  expect("#2373a219", "#2373a219");
}

TEST(LogText, AFilterIsSaidWhole) {
  FailedFilter filter;
  EXPECT_EQ(log_filter(filter), "all");
  filter.group = "g\n";
  filter.event = "";
  filter.status = 503;
  filter.since = 1'767'323'045'678;
  filter.until = 0;
  filter.ids = {"a"};
  EXPECT_EQ(log_filter(filter),
            "group \"g\\x0a\", event \"\", status 503, since 2026-01-02T03:04:05Z, "
            "until 1970-01-01T00:00:00Z, id a");
  filter = {};
  filter.ids = {"a", "b"};
  EXPECT_EQ(log_filter(filter), "ids 2");
}

}  // namespace
}  // namespace postbag::test
