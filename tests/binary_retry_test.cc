// `postbag retry-failed-hooks` as a user has it: stopping it, and many ids.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <span>
#include <string>
#include <vector>

#include "cli/daemon_answers.h"
#include "tests/support/binary_support.h"
#include "tests/support/eventually.h"

namespace postbag::test {
namespace {

using ::testing::HasSubstr;

class BinaryRetryTest : public BinaryFixture {};
using Target = BinaryTarget;

constexpr const char* no_retries = "[retry]\nretries = 0\n";

// Each hook for that target goes by itself.
std::string single_hooks(const std::string& url) {
  return "[[target]]\nurl = \"" + url + "\"\nsize = 1\n";
}

// While a request is on the wire: all that was read already was sent all the same. No row is lost,
// none is sent twice.
TEST_F(BinaryRetryTest, RetryStopsOnASignalWithAndWithoutADaemon) {
  for (const bool with_daemon : {false, true}) {
    write_config(no_retries, "time = 0.01");
    Target target;
    target.answer_with(500);
    constexpr std::size_t hooks = 600;
    std::string lines;
    for (std::size_t i = 0; i < hooks; ++i) lines += hook(target.url(), std::to_string(i));
    EXPECT_EQ(run({"send"}, lines).exit_code, 1);
    write_config(no_retries + single_hooks(target.url()), "time = 0.01");
    target.answer_with(200);
    std::unique_ptr<ChildProcess> daemon;
    if (with_daemon) daemon = serve();
    target.hold();
    ChildProcess retry({binary(), "retry-failed-hooks", "--json"}, folder_.path());
    ASSERT_TRUE(target.wait_for_deliveries(1));
    retry.signal(SIGINT);
    if (!with_daemon) retry.signal(SIGTERM);  // and does not wait for what is on the wire
    const ProcessResult result = retry.wait();
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("stopped early"));
    EXPECT_THAT(result.out, HasSubstr("\"stopped\":true"));
    EXPECT_EQ(number(result, "delivered"), 0u);
    EXPECT_EQ(number(result, "failed"), 0u) << "of rows that were not sent";
    if (with_daemon) {
      EXPECT_TRUE(eventually([&] {
        return number(run({"status", "--json"}), "batches_held") == 1;
      }));
      target.release();
      stop(*daemon);
    }
    EXPECT_EQ(target.payloads(), std::vector<std::string>{"0"});
    EXPECT_EQ(number(run({"status", "--json"}), "failed"), with_daemon ? hooks - 1 : hooks);
    EXPECT_EQ(run({"failed", "purge", "--all"}).exit_code, 0);
    target.release();
  }
}

// Exit code 0 and "delivered 1", so who retried while the daemon was restarted read: all done.
TEST_F(BinaryRetryTest, ARunThatTheDaemonsEndCutsShortIsNoSuccess) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  EXPECT_EQ(run({"send"}, hook(target.url(), "0") + hook(target.url(), "1")).exit_code, 1);
  write_config("[engine]\ndrain_timeout = 0.1\n" + single_hooks(target.url()));
  target.answer_with(200);
  const auto daemon = serve();
  target.hold();
  ChildProcess retry({binary(), "retry-failed-hooks", "--json"}, folder_.path());
  ASSERT_TRUE(target.wait_for_deliveries(1));
  daemon->signal(SIGTERM);
  const ProcessResult result = retry.wait();
  EXPECT_EQ(result.exit_code, 69) << result.err;
  EXPECT_THAT(result.err, HasSubstr("cut short after 0 delivered, 0 failed again"));
  EXPECT_EQ(daemon->wait().exit_code, 0);
  EXPECT_EQ(number(run({"status", "--json"}), "failed"), 2u);
  target.release();
}

// "skipped 1", and nothing of why.
TEST_F(BinaryRetryTest, WhatIsSkippedIsExplained) {
  write_config(no_retries);
  Target target;
  target.answer_with(500);
  EXPECT_EQ(run({"send"}, hook(target.url(), "1")).exit_code, 1);
  EXPECT_THAT(run({"retry-failed-hooks", "--dry-run"}).err, ::testing::EndsWith("would skip 0\n"));
  write_file("strict.toml", "");
  for (const bool is_dry_run : {true, false}) {
    std::vector<std::string> command = {"retry-failed-hooks", "-c", "strict.toml"};
    if (is_dry_run) command.push_back("--dry-run");
    const ProcessResult result = run(command);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_THAT(result.err, HasSubstr("skip"));
    EXPECT_THAT(result.err, HasSubstr(" 1 ([network] forbids their targets by now"));
  }
}

// It went on for hours, through all retries of what it had read.
TEST_F(BinaryRetryTest, RetryStopsWhileItWaitsForRetries) {
  for (const bool with_daemon : {false, true}) {
    write_config(no_retries);
    Target target;
    target.answer_with(500);
    std::string lines;
    for (int i = 0; i < 30; ++i) lines += hook(target.url(), std::to_string(i));
    EXPECT_EQ(run({"send"}, lines).exit_code, 1);
    const std::size_t before = target.requests();
    write_config("[retry]\nretry_interval = \"1h\"\n" + single_hooks(target.url()));
    std::unique_ptr<ChildProcess> daemon;
    if (with_daemon) daemon = serve();
    ChildProcess retry({binary(), "retry-failed-hooks", "--json"}, folder_.path());
    ASSERT_TRUE(target.wait_for_requests(before + 16));  // max_retrying
    retry.signal(SIGINT);
    const ProcessResult result = retry.wait();
    EXPECT_THAT(result.err, HasSubstr("stopped early"));
    EXPECT_EQ(result.exit_code, 1) << result.err;
    if (!with_daemon) {
      EXPECT_EQ(number(result, "failed"), 16u);
    }
    if (with_daemon) {
      EXPECT_TRUE(eventually([&] {
        return number(run({"status", "--json"}), "batches_held") == 0;
      }));
      stop(*daemon);
    }
    EXPECT_EQ(target.requests(), before + 16);
    EXPECT_EQ(number(run({"status", "--json"}), "failed"), 30u);
    EXPECT_EQ(run({"failed", "purge", "--all"}).exit_code, 0);
  }
}

// Each of them held one of two places until its last retry.
TEST_F(BinaryRetryTest, TwoAbandonedRunsDoNotBlockAThird) {
  write_config(no_retries);
  Target targets[3];
  for (Target& target : targets) {
    target.answer_with(500);
    EXPECT_EQ(run({"send"}, hook(target.url(), "1")).exit_code, 1);
    target.answer_with(200);
    target.hold();
  }
  const auto daemon = serve();
  for (Target& target : std::span(targets).first(2)) {
    ChildProcess retry({binary(), "retry-failed-hooks", "--target", target.url()}, folder_.path());
    ASSERT_TRUE(target.wait_for_deliveries(1));
    retry.signal(SIGINT);
    EXPECT_EQ(retry.wait().exit_code, 1);
  }
  ChildProcess third({binary(), "retry-failed-hooks", "--json"}, folder_.path());
  EXPECT_TRUE(targets[2].wait_for_deliveries(1));
  for (Target& target : targets) target.release();
  const ProcessResult result = third.wait();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(number(result, "delivered"), 1u) << "the others are still under way";
  stop(*daemon);
  for (Target& target : targets) EXPECT_EQ(target.payloads().size(), 1u);
}

// They made a request head that the daemon refused.
TEST_F(BinaryRetryTest, ManyIdsAreAFilterWithAndWithoutADaemon) {
  constexpr int hooks = 600;
  for (const bool with_daemon : {false, true}) {
    write_config(no_retries);
    Target target;
    target.answer_with(500);
    std::string lines;
    std::vector<std::string> ids;
    for (int i = 0; i < hooks; ++i) {
      const std::string id = std::to_string(i) + std::string(40, '-');
      lines += R"({"target":")" + target.url() + R"(","data":)" + std::to_string(i) + R"(,"id":")" +
               id + "\"}\n";
      if (i % 10 != 0) ids.insert(ids.end(), {"--id", id});
    }
    EXPECT_EQ(run({"send"}, lines).exit_code, 1);
    target.answer_with(200);
    std::unique_ptr<ChildProcess> daemon;
    if (with_daemon) daemon = serve();
    const auto of_these = [&](std::vector<std::string> command) {
      command.insert(command.end(), ids.begin(), ids.end());
      return run(command);
    };
    EXPECT_THAT(of_these({"failed", "list", "--limit", "500"}).err,
                HasSubstr("500 failed hooks; there are more"));
    EXPECT_EQ(number(of_these({"retry-failed-hooks", "--dry-run", "--json"}), "hooks"), 540u);
    EXPECT_EQ(number(of_these({"retry-failed-hooks", "--json", "--limit", "300"}), "delivered"),
              300u);
    const std::vector<std::string> payloads = target.payloads();
    ASSERT_EQ(payloads.size(), 300u);
    EXPECT_EQ(payloads.front(), "1");
    EXPECT_EQ(payloads.back(), "333") << "the oldest first";
    EXPECT_EQ(number(of_these({"failed", "purge", "--json"}), "purged"), 240u);
    EXPECT_EQ(number(run({"status", "--json"}), "failed"), 60u);
    EXPECT_EQ(run({"failed", "purge", "--all"}).exit_code, 0);
    if (with_daemon) stop(*daemon);
  }
}

}  // namespace
}  // namespace postbag::test
