// What the engine says about targets in its log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "tests/support/engine_support.h"

namespace postbag::test {
namespace {

using testing::ElementsAre;
using testing::MatchesRegex;
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

}  // namespace
}  // namespace postbag::test
