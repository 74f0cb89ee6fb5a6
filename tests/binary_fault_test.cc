// What the system can do to the real daemon: a disk that fails, threads that cannot be made, a stop
// in the middle, a log that nobody reads. Some need the preloaded library of crash/kill_shim.cc,
// which does not go together with a sanitizer.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/exit_codes.h"
#include "tests/support/binary_support.h"
#include "tests/support/eventually.h"
#include "tests/support/fault_receiver.h"

namespace postbag::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Target = BinaryTarget;

class BinaryFaultTest : public BinaryFixture {
 protected:
  void TearDown() override {
    if (pipe_ >= 0) close(pipe_);
  }

  // Null: it ended before it listened.
  std::unique_ptr<ChildProcess> try_serve(std::vector<std::string> settings, ProcessResult& ended) {
    settings.insert(settings.begin(), {"/usr/bin/env", std::string("LD_PRELOAD=") + POSTBAG_SHIM});
    settings.insert(settings.end(), {binary(), "serve", "--json"});
    auto daemon = std::make_unique<ChildProcess>(settings, folder_.path());
    if (daemon->wait_for_out("listening")) return daemon;
    ended = daemon->wait();
    return nullptr;
  }

  // A program that runs what stands behind it with so many descriptors, and none more to be had.
  static std::vector<std::string> with_descriptors(int count) {
    return {"/bin/sh", "-c", "ulimit -n " + std::to_string(count) + " && exec \"$@\"", "sh"};
  }

  // 202 answers, until there is another one or `calls` were made; the payloads of these calls.
  std::set<std::string> post_until_refused(const std::string& url, int calls) {
    std::set<std::string> accepted;
    try {
      ControlClient client = control();
      for (int i = 0; i < calls; ++i) {
        const std::string payload = std::to_string(next_payload_++);
        const ControlAnswer answer = post_hooks(client, hook(url, payload));
        if (answer.status != 202) {
          EXPECT_THAT(answer.status, AnyOf(503, 507)) << answer.body;
          break;
        }
        accepted.insert(payload);
      }
    } catch (const std::exception&) {
      // It ended before it could answer: that call is not accepted.
    }
    return accepted;
  }

  // Real work, at least for so long.
  void work_for(std::chrono::milliseconds time) const {
    const auto begin = std::chrono::steady_clock::now();
    while (std::chrono::steady_clock::now() - begin < time) run({"version"});
  }

  // A pipe beside the daemon, full to the brim, that nobody reads for now.
  void make_full_pipe() {
    ASSERT_EQ(mkfifo(folder_.file("log").c_str(), 0600), 0);
    pipe_ = open(folder_.file("log").c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(pipe_, 0);
    const std::string filler(4096, '-');
    while (write(pipe_, filler.data(), filler.size()) > 0) {
    }
  }
  // Reads the pipe until the text has come, or for half a minute.
  bool read_pipe_until(const std::string& text) {
    std::string all;
    pollfd waited{pipe_, POLLIN, 0};
    while (all.find(text) == std::string::npos && poll(&waited, 1, 30'000) > 0) {
      char buffer[16 << 10];
      const ssize_t got = read(pipe_, buffer, sizeof buffer);
      if (got > 0) all.append(buffer, static_cast<std::size_t>(got));
    }
    return all.find(text) != std::string::npos;
  }

  int next_payload_ = 0;
  int pipe_ = -1;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool has_shim = false;
#else
constexpr bool has_shim = true;
#endif

// P1 of the real daemon: exit code 74, and whatever was accepted is there at the next start.
TEST_F(BinaryFaultTest, ADiskThatFailsEndsTheDaemonWith74) {
  if (!has_shim) GTEST_SKIP() << "a preloaded library does not go together with a sanitizer";
  write_config();
  Target target;
  stop(*serve());  // the store is there
  std::set<std::string> accepted;
  int failed_at_start = 0, failed_later = 0;
  for (int nth = 1; nth <= 8; ++nth) {
    const std::string point = nth % 2 == 0 ? "wal.sync.before" : "wal.write.before";
    ProcessResult ended;
    auto daemon = try_serve({"POSTBAG_KILL_POINT=" + point, "POSTBAG_KILL_EIO=1",
                             "POSTBAG_KILL_NTH=" + std::to_string(nth * nth)},
                            ended);
    (daemon ? failed_later : failed_at_start) += 1;
    if (daemon) {
      accepted.merge(post_until_refused(target.url(), 1'000));
      ended = daemon->wait();
      const std::string operation = nth % 2 == 0 ? "sync" : "write";
      EXPECT_THAT(ended.err, HasSubstr("the store failed, nothing is accepted any more: "));
      EXPECT_THAT(ended.err,
                  HasSubstr("postbag.db-wal: " + operation + ": Input/output error (5)\n"));
      EXPECT_THAT(ended.err, HasSubstr("stopping at once, exit code 74"));
    }
    EXPECT_EQ(ended.exit_code, 74) << point << " " << nth << ": " << ended.err;
  }
  EXPECT_GT(failed_at_start, 0);
  EXPECT_GT(failed_later, 0);
  EXPECT_FALSE(accepted.empty());
  stop(*serve());
  const std::vector<std::string> payloads = target.payloads();
  const std::set<std::string> arrived(payloads.begin(), payloads.end());
  EXPECT_TRUE(std::includes(arrived.begin(), arrived.end(), accepted.begin(), accepted.end()));
}

// It ended with 0, said that they are stored, or that a drain of no time had timed out.
TEST_F(BinaryFaultTest, ADiskThatFailsAtTheEndIs74AndNoHookIsCalledStored) {
  if (!has_shim) GTEST_SKIP() << "a preloaded library does not go together with a sanitizer";
  Target target;
  target.answer_with(500);
  int lost = 0, kept = 0;
  for (const std::string durability : {"memory", "fsync"}) {
    write_config("[retry]\nretry_interval = \"1h\"\n[store]\ndurability = \"" + durability + "\"\n",
                 "time = 0");
    stop(*serve());  // the store is there
    for (int nth = 1; nth <= 12; ++nth) {
      ProcessResult ended;
      const auto daemon = try_serve({"POSTBAG_KILL_POINT=wal.write.before", "POSTBAG_KILL_EIO=1",
                                     "POSTBAG_KILL_NTH=" + std::to_string(nth)},
                                    ended);
      if (!daemon) continue;
      const bool is_accepted = post_until_refused(target.url(), 1).size() == 1;
      daemon->signal(SIGTERM);
      ended = daemon->wait();
      EXPECT_THAT(ended.err, Not(HasSubstr("timeout"))) << nth;
      const bool is_stored =
          durability == "fsync" || number(run({"status", "--json"}), "failed") > 0;
      EXPECT_EQ(run({"failed", "purge", "--all"}).exit_code, 0);
      if (ended.exit_code == 0) {
        kept += 1;
        EXPECT_TRUE(is_stored) << nth;
        continue;
      }
      EXPECT_EQ(ended.exit_code, 74) << nth << ended.err;
      if (durability == "fsync" || !is_accepted) continue;
      lost += is_stored ? 0 : 1;
      EXPECT_EQ(ended.err.find("hooks are lost") != std::string::npos, !is_stored) << ended.err;
      EXPECT_EQ(ended.err.find("stored as failed (shutdown)") != std::string::npos, is_stored);
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_GT(kept, 0);
}

// It hung for ever: the run waited for outcomes that a failed store never gives.
TEST_F(BinaryFaultTest, ADiskThatFailsWhileARetryIsOutEndsTheDaemonWith74) {
  if (!has_shim) GTEST_SKIP() << "a preloaded library does not go together with a sanitizer";
  ReceiverOptions options;
  options.reply = [](const FaultRequest& request) {
    return request.index == 0 ? FaultReply::status(503) : FaultReply::hang();
  };
  FaultReceiver receiver(options);
  write_config("[retry]\nretries = 0\n", "time = 0.01");
  stop(*serve());  // the store is there
  ProcessResult ended;
  const auto daemon = try_serve(
      {"POSTBAG_KILL_POINT=wal.write.before", "POSTBAG_KILL_EIO=1", "POSTBAG_KILL_NTH=300"}, ended);
  ASSERT_TRUE(daemon) << ended.err;
  ASSERT_EQ(post_until_refused(receiver.url(), 1).size(), 1u);
  EXPECT_TRUE(eventually([&] { return number(run({"status", "--json"}), "failed") > 0; }));
  ChildProcess retry({binary(), "retry-failed-hooks", "--json"}, folder_.path());
  ASSERT_TRUE(receiver.wait_for_requests(2));
  post_until_refused(receiver.url("/other"), 1'000);
  ended = daemon->wait();
  EXPECT_EQ(ended.exit_code, 74) << ended.err;
  EXPECT_NE(retry.wait().exit_code, 0);
}

// X5: the start fails with a code and a word, and leaves nothing behind.
TEST_F(BinaryFaultTest, AThreadThatCannotBeMadeEndsTheStart) {
  if (!has_shim) GTEST_SKIP() << "a preloaded library does not go together with a sanitizer";
  write_config();
  Target target;
  bool listens = false;
  int failed = 0;
  for (int nth = 1; !listens && nth < 100; ++nth) {
    ProcessResult ended;
    const auto daemon = try_serve({"POSTBAG_NO_THREAD_FROM=" + std::to_string(nth)}, ended);
    listens = daemon != nullptr;
    if (listens) {
      stop(*daemon);
      break;
    }
    ++failed;
    EXPECT_THAT(ended.exit_code, AnyOf(70, 71)) << "thread " << nth << ": " << ended.err;
    EXPECT_THAT(ended.err, HasSubstr("postbag: ")) << "thread " << nth;
  }
  EXPECT_TRUE(listens);
  EXPECT_GT(failed, 3);
  const auto daemon = serve();
  EXPECT_EQ(post_until_refused(target.url(), 1).size(), 1u);
  ASSERT_TRUE(target.wait_for_deliveries(1));
  stop(*daemon);
}

// K4: retries that became due while it was stopped go out under the same limits as ever.
TEST_F(BinaryFaultTest, StoppedAndContinuedIsNoBurst) {
  std::atomic<bool> is_back{false};
  std::atomic<int> at_once{0};
  ReceiverOptions options;
  options.reply = [&](const FaultRequest&) {
    if (!is_back) return FaultReply::status(503);
    ++at_once;
    return FaultReply::hang().then(FaultReply::status(200));
  };
  FaultReceiver receiver(options);
  write_config("[retry]\nretries = 1000\nretry_interval = 0.05\n[delivery]\nin_flight = 2\n",
               "time = 0.01");
  const auto daemon = serve();
  ControlClient client = control();
  std::string ndjson;
  for (int i = 0; i < 8; ++i) {
    ndjson += "{\"target\":\"" + receiver.url() + "\",\"data\":" + std::to_string(i) +
              ",\"group\":\"" + std::to_string(i) + "\"}\n";
  }
  ASSERT_EQ(post_hooks(client, ndjson).status, 202);
  ASSERT_TRUE(receiver.wait_for_requests(16));
  daemon->stop_and_wait();
  is_back = true;
  work_for(std::chrono::milliseconds(300));  // all intervals pass meanwhile
  daemon->signal(SIGCONT);
  // Counting those that were on the wire when it was stopped, and came to a receiver that was back.
  ASSERT_TRUE(eventually([&] { return at_once >= 2; }));
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 8u);
  EXPECT_EQ(at_once, 2);
  receiver.release();
  EXPECT_TRUE(eventually([&] { return at_once >= 8; }));
  stop(*daemon);
  EXPECT_EQ(number(run({"status", "--json"}), "pending"), 0u);
  EXPECT_EQ(at_once, 8) << "each of them is delivered once";
}

// X4: what nobody reads is dropped and counted; deliveries, commands and the end go on.
TEST_F(BinaryFaultTest, ALogThatNobodyReadsHoldsNothingUp) {
  make_full_pipe();
  write_config();
  Target target;
  const auto start = [&] { return serve({"/bin/sh", "-c", "exec \"$@\" 2>log", "sh"}); };
  auto daemon = start();
  EXPECT_EQ(post_until_refused(target.url(), 20).size(), 20u);
  ASSERT_TRUE(target.wait_for_deliveries(1));
  EXPECT_EQ(run({"status", "--json"}).exit_code, 0);
  stop(*daemon);
  daemon = start();
  work_for(std::chrono::seconds(2));  // far longer than a line waits
  char buffer[16 << 10];
  while (read(pipe_, buffer, sizeof buffer) > 0) {
  }
  daemon->signal(SIGHUP);
  EXPECT_TRUE(read_pipe_until("lines of the log were dropped"));
  stop(*daemon);
}

// More targets than there are descriptors: connections that are kept hold nobody back.
TEST_F(BinaryFaultTest, MoreTargetsThanDescriptorsAreAllServed) {
  write_config("[engine]\nthreads = 1\n");  // each takes some descriptors, too
  constexpr std::size_t count = 60;
  std::vector<std::unique_ptr<BinaryTarget>> targets;
  std::string hooks;
  for (std::size_t i = 0; i < count; ++i) {
    targets.push_back(std::make_unique<BinaryTarget>());
    hooks += hook(targets.back()->url(), std::to_string(i));
  }
  const auto daemon = serve(with_descriptors(64));
  EXPECT_TRUE(daemon->wait_for_err("max_connections is 1024"));
  ControlClient client = control();
  EXPECT_EQ(post_hooks(client, hooks).status, 202);
  for (const auto& target : targets) ASSERT_TRUE(target->wait_for_deliveries(1));
  EXPECT_EQ(run({"status"}).exit_code, 0);
  stop(*daemon);
}

// Nobody waits for it for ever.
TEST_F(BinaryFaultTest, ADaemonThatDoesNotAnswerIsUnreachable) {
  write_config();
  const auto daemon = serve();
  ControlClient client = control();
  client.give_up_after(std::chrono::milliseconds(20));
  daemon->stop_and_wait();
  ControlRequest request;
  request.path = "/v1/status";
  try {
    client.send(request);
    ADD_FAILURE() << "an answer of a stopped daemon";
  } catch (const CommandError& error) {
    EXPECT_EQ(error.exit_code(), 69);
    EXPECT_THAT(error.what(), HasSubstr("does not answer"));
  }
  daemon->signal(SIGCONT);
  stop(*daemon);
}

TEST_F(BinaryFaultTest, TooFewDescriptorsForTheStartAreNoBug) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP()
      << "UBSan looks at memory through a pipe, and without descriptors it sees bad objects";
#endif
  write_config();
  for (const int limit : {8, 10, 14}) {
    auto command = with_descriptors(limit);
    command.insert(command.end(), {binary(), "serve"});
    const ProcessResult result = run_process(command, folder_.path());
    EXPECT_EQ(result.exit_code, 71) << limit << result.err;
    EXPECT_THAT(result.err, HasSubstr("Too many open files")) << limit;
  }
}

}  // namespace
}  // namespace postbag::test
