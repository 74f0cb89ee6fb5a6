// Intake when an allocation fails: for each request the i-th one of the process fails, for every i
// until a pass in which none does. The client gets its answer, 503, 500 or a closed connection; a
// 202 is kept; the server goes on.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <limits>
#include <mutex>
#include <new>
#include <string>
#include <thread>

#include "cli/intake/server.h"
#include "cli/intake/worker_pool.h"
#include "tests/support/failing_new.h"
#include "tests/support/intake_client.h"

namespace postbag {
namespace {

using test::FailingNew;
using test::IntakeClient;

constexpr std::uint64_t forever = std::numeric_limits<std::uint64_t>::max();

// Accepts everything, and answers on a thread of its own, as an engine does. One call at a time.
class MailboxBackend : public IntakeBackend {
 public:
  MailboxBackend() : thread_([this] { run(); }) {}
  ~MailboxBackend() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void submit(HookList hooks, SubmitOptions options, SubmitHandler done) override {
    SubmitResult result;
    result.accepted = hooks.size();
    result.ids.assign(hooks.size(), HookId{0x0190a6f200007000, 1ull << 63});
    const std::lock_guard lock(mutex_);
    accepted_ += hooks.size();
    result_ = std::move(result);
    listener_ = std::move(options.listener);
    done_ = std::move(done);
    changed_.notify_all();
  }
  std::uint64_t accepted() {
    const std::lock_guard lock(mutex_);
    return accepted_;
  }

  // Runs of retry-failed-hooks, and calls of targets(), wait as long as they are held.
  void hold(bool runs, bool targets) {
    const std::lock_guard lock(mutex_);
    holds_runs_ = runs;
    holds_targets_ = targets;
    changed_.notify_all();
  }
  std::uint64_t runs_begun() {
    const std::lock_guard lock(mutex_);
    return runs_begun_;
  }

  EngineStatus status() const override { return {}; }
  std::vector<TargetStatus> targets(std::size_t) const override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !holds_targets_; });
    return std::vector<TargetStatus>(3);
  }
  std::optional<HookStatus> find_hook(std::string_view) const override { return HookStatus{}; }
  std::error_code list_failed(const FailedFilter&, std::optional<FailedKey>, const SliceLimits&,
                              FailedPage& page) override {
    page.rows.resize(1);
    return {};
  }
  RetryProgress retry_failed(const RetryOptions& options) override {
    {
      std::unique_lock lock(mutex_);
      runs_begun_ += 1;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !holds_runs_; });
    }
    RetryProgress progress;
    for (int i = 0; i < 3; ++i) options.progress(progress);
    return progress;
  }
  RetryPlan plan_retry(const RetryOptions&) override { return {}; }
  PurgeResult purge_failed(const FailedFilter&, std::optional<std::uint64_t>) override {
    return {};
  }
  std::uint64_t flush(std::optional<std::string_view>) override { return 0; }
  CancelResult cancel(std::string_view) override { return {}; }
  std::error_code backup(const std::string&, const std::stop_token&) override { return {}; }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return done_ || stop_; });
      if (!done_) return;
      const SubmitHandler done = std::exchange(done_, nullptr);
      const auto listener = std::exchange(listener_, nullptr);
      SubmitResult result = std::move(result_);
      const std::size_t hooks = result.accepted;
      lock.unlock();
      done(std::move(result));
      for (std::size_t i = 0; listener && i < hooks; ++i) listener->hook_done(i, {true, {}, 0});
      lock.lock();
    }
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool holds_runs_ = false, holds_targets_ = false;
  std::uint64_t runs_begun_ = 0;
  std::uint64_t accepted_ = 0;
  SubmitResult result_;
  std::shared_ptr<OutcomeListener> listener_;
  SubmitHandler done_;
  bool stop_ = false;
  std::thread thread_;
};

struct Outcome {
  int status = 0;  // 0: closed without an answer
  bool hung = false;
};

// One request on a connection of its own, sent and read without an allocation of this thread's.
Outcome ask_without_memory(const sockaddr_in& address, const std::string& request) {
  Outcome outcome;
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  char answer[4096];
  std::size_t got = 0;
  while (got < sizeof answer) {
    pollfd wait{fd, POLLIN, 0};
    outcome.hung = ::poll(&wait, 1, 20'000) <= 0;
    if (outcome.hung) break;
    const ssize_t bytes = ::recv(fd, answer + got, sizeof answer - got, 0);
    if (bytes <= 0) break;  // every request asks for the end of the connection
    got += static_cast<std::size_t>(bytes);
  }
  ::close(fd);
  const std::string_view line(answer, got);
  if (line.starts_with("HTTP/1.1 ") && got > 12) {
    outcome.status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  }
  return outcome;
}

std::string request_of(const std::string& line, const std::string& fields,
                       const std::string& body) {
  return line + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields +
         (body.empty() ? "" : "Content-Length: " + std::to_string(body.size()) + "\r\n") + "\r\n" +
         body;
}

class IntakeAllocFailureTest : public testing::Test {
 protected:
  void SetUp() override {
    IntakeServerOptions options;
    options.listen = "127.0.0.1:0";
    options.sweep_interval = std::chrono::milliseconds(5);
    options.limits.idle_timeout = std::chrono::milliseconds(200);
    server_ = std::make_unique<IntakeServer>(backend_, options);
    server_->start();
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address_.sin_port = htons(server_->port());
    // It is up: to begin takes memory.
    ASSERT_EQ(ask_without_memory(address_, request_of("GET /healthz/live", "", "")).status, 200);
  }

  // `good`: the status without a failure. `hooks`: how many it brings.
  void fail_everywhere(const std::string& request, int good, std::uint64_t hooks,
                       std::uint64_t failures) {
    std::uint64_t dropped = 0;
    for (std::uint64_t nth = 0; nth < 5000; ++nth) {
      const std::uint64_t before = backend_.accepted();
      FailingNew::arm(FailingNew::Who::every_thread, nth, failures);
      const Outcome outcome = ask_without_memory(address_, request);
      const bool clean = FailingNew::disarm() == 0;
      ASSERT_FALSE(outcome.hung) << "allocation " << nth;
      const std::uint64_t accepted = backend_.accepted() - before;
      if (clean) {
        ASSERT_EQ(outcome.status, good);
        EXPECT_GT(nth, 3u);  // else nothing was tried
        EXPECT_GE(dropped_in_metrics() * failures, dropped);
        return;
      }
      dropped += outcome.status == 0 ? 1 : 0;
      if (outcome.status == good) {
        ASSERT_EQ(accepted, hooks) << "allocation " << nth;
      } else if (outcome.status == 503 || outcome.status == 500) {
        ASSERT_EQ(accepted, 0u) << "allocation " << nth;
      } else {
        ASSERT_EQ(outcome.status, 0) << "allocation " << nth;
      }
      ASSERT_EQ(ask_without_memory(address_, request).status, good) << "after allocation " << nth;
    }
    FAIL() << "there is always one more allocation";
  }
  std::uint64_t dropped_in_metrics() {
    IntakeClient client(server_->port());
    client.send(request_of("GET /metrics", "", ""));
    const std::string text = client.read_response().body;
    const std::string name = "\npostbag_intake_dropped_total ";
    return std::stoull(text.substr(text.find(name) + name.size()));
  }

  MailboxBackend backend_;
  std::unique_ptr<IntakeServer> server_;
  sockaddr_in address_{};
};

const std::string json_fields = "Content-Type: application/json\r\n";
const std::string one_hook_with_id =
    R"({"target":"https://a/","id":"my\u002did","data":{"n":[1]}})";

TEST_F(IntakeAllocFailureTest, OneHook) {
  const std::string request = request_of("POST /v1/hooks", json_fields, one_hook_with_id);
  fail_everywhere(request, 202, 1, 1);
  fail_everywhere(request, 202, 1, 3);
}

TEST_F(IntakeAllocFailureTest, Lines) {
  std::string lines;
  for (int i = 0; i < 100; ++i)
    lines += R"({"target":"https://a/","data":{"n":1}})"
             "\n";
  fail_everywhere(request_of("POST /v1/hooks", "Content-Type: application/x-ndjson\r\n", lines),
                  202, 100, 1);
}

TEST_F(IntakeAllocFailureTest, AChunkedBody) {
  const std::string body =
      "26\r\n" + std::string(R"({"target":"https://a/","data":{"n":1}})") + "\r\n0\r\n\r\n";
  fail_everywhere(
      request_of("POST /v1/hooks", json_fields + "Transfer-Encoding: chunked\r\n", "") + body, 202,
      1, 1);
}

TEST_F(IntakeAllocFailureTest, WaitingForTheOutcome) {
  fail_everywhere(
      request_of("POST /v1/hooks?wait=delivered&timeout=10s", json_fields, one_hook_with_id), 200,
      1, 1);
}

TEST_F(IntakeAllocFailureTest, CallsThatBlock) {
  fail_everywhere(request_of("GET /v1/targets", "", ""), 200, 0, 1);
  fail_everywhere(request_of("GET /v1/failed", "", ""), 200, 0, 1);
}

TEST_F(IntakeAllocFailureTest, ARunOfRetryAndItsStream) {
  fail_everywhere(request_of("POST /v1/failed/retry", "", ""), 200, 0, 1);
  fail_everywhere(request_of("POST /v1/failed/retry", "Accept: application/x-ndjson\r\n", ""), 200,
                  0, 1);
}

// A run that had begun when memory ran out went on though its request was refused, and answered the
// next request of the connection.
TEST_F(IntakeAllocFailureTest, ARefusedRunOfRetryAnswersNoOtherRequest) {
  const std::string retry = "POST /v1/failed/retry HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string targets = "GET /v1/targets HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string live = request_of("GET /healthz/live", "", "");
  std::uint64_t refused = 0;
  for (std::uint64_t nth = 0; nth < 5000; ++nth) {
    const std::uint64_t before = backend_.runs_begun();
    backend_.hold(true, true);
    IntakeClient client(server_->port());
    FailingNew::arm(FailingNew::Who::every_thread, nth);
    client.send(retry);
    ask_without_memory(address_, live);  // then intake is done with the first
    const bool clean = FailingNew::disarm() == 0;
    client.send(targets);  // waits for the answer to the first, or is under way after a refusal
    backend_.hold(false, true);
    ask_without_memory(address_, live);
    backend_.hold(false, false);
    const test::Response first = client.read_response();
    ASSERT_TRUE(first.status != 0 || !clean);
    if (first.status == 0) continue;
    const bool ran = backend_.runs_begun() > before;
    EXPECT_EQ(ran, first.status == 200) << "allocation " << nth;
    ASSERT_NE(client.read_response().body.find("targets"), std::string::npos) << nth;
    refused += ran ? 0 : 1;
    if (!clean) continue;
    EXPECT_TRUE(ran);
    EXPECT_GT(refused, 0u);
    return;
  }
  FAIL() << "there is always one more allocation";
}

// What keeps intake going needs no memory: it accepts and it sweeps when there is some again.
TEST_F(IntakeAllocFailureTest, NoMemoryAtAllForAWhile) {
  const std::string request = request_of("POST /v1/hooks", json_fields, one_hook_with_id);
  FailingNew::arm(FailingNew::Who::every_thread, 0, forever);
  for (int i = 0; i < 20; ++i) {
    if (ask_without_memory(address_, request).hung) {
      FailingNew::disarm();
      FAIL() << "no answer and no end";
    }
  }
  FailingNew::disarm();
  EXPECT_EQ(backend_.accepted(), 0u);
  EXPECT_EQ(ask_without_memory(address_, request).status, 202);
  IntakeClient idle(server_->port());
  EXPECT_TRUE(idle.at_end());  // closed by the sweep
}

TEST_F(IntakeAllocFailureTest, TheEndNeedsNoMemory) {
  IntakeClient idle(server_->port());
  idle.send("POST ");
  FailingNew::arm(FailingNew::Who::every_thread, 0, forever);
  server_->stop();
  FailingNew::disarm();
  EXPECT_TRUE(idle.at_end());
}

// Threads that were made before one could not be must not be destroyed while they run.
TEST(WorkerPoolAllocFailureTest, APoolThatCannotBeMadeThrows) {
  for (std::uint64_t nth = 0; nth < 100; ++nth) {
    FailingNew::arm(FailingNew::Who::this_thread, nth);
    bool is_made = true;
    try {
      const WorkerPool pool(3, 1);
    } catch (const std::bad_alloc&) {
      is_made = false;
    }
    const bool clean = FailingNew::disarm() == 0;
    ASSERT_EQ(is_made, clean) << "allocation " << nth;
    if (!clean) continue;
    EXPECT_GE(nth, 4u);
    return;
  }
  FAIL() << "there is always one more allocation";
}

}  // namespace
}  // namespace postbag
