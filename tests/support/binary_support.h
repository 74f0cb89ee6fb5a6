#pragma once

#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cli/control_client.h"
#include "cli/daemon_answers.h"
#include "cli/demo/ledger.h"
#include "cli/local_receiver.h"
#include "postbag/json.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {

// The executable under test: POSTBAG_BINARY of the environment, or the one that was built along.
inline std::string binary() {
  const char* named = std::getenv("POSTBAG_BINARY");
  if (named != nullptr) return named;
#ifdef POSTBAG_BINARY
  return POSTBAG_BINARY;
#else
  return "";
#endif
}

// A target on this machine that remembers what it got.
class BinaryTarget {
 public:
  BinaryTarget()
      : receiver_(0, [this](const ReceivedRequest& request) { return on_request(request); }) {}

  std::string url(const std::string& path = "h") const {
    return "http://127.0.0.1:" + std::to_string(receiver_.port()) + "/" + path;
  }
  void answer_with(int status) { status_ = status; }
  // Requests wait for their answer until release().
  void hold() { held_ = true; }
  void release() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    arrived_.notify_all();
  }
  // Bodies of the requests that were answered with 200, in order.
  std::vector<std::string> bodies() const {
    const std::lock_guard lock(mutex_);
    return bodies_;
  }
  // The payloads in them.
  std::vector<std::string> payloads() const {
    std::vector<std::string> all;
    for (const std::string& body : bodies()) {
      for (const auto payload : split_json_array(body).value_or(std::vector<std::string_view>{})) {
        all.emplace_back(payload);
      }
    }
    return all;
  }
  bool wait_for_requests(std::size_t count) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, std::chrono::seconds(30), [&] { return requests_ >= count; });
  }
  std::size_t requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  bool wait_for_deliveries(std::size_t count) {
    std::unique_lock lock(mutex_);
    return arrived_.wait_for(lock, std::chrono::seconds(30),
                             [&] { return bodies_.size() >= count; });
  }

 private:
  ReceiverAnswer on_request(const ReceivedRequest& request) {
    std::unique_lock lock(mutex_);
    ReceiverAnswer answer;
    answer.status = status_;
    ++requests_;
    if (answer.status == 200) bodies_.emplace_back(request.body);
    arrived_.notify_all();
    arrived_.wait_for(lock, std::chrono::seconds(30), [this] { return !held_; });
    return answer;
  }

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::atomic<int> status_{200};
  std::atomic<bool> held_{false};
  std::size_t requests_ = 0;
  std::vector<std::string> bodies_;
  LocalReceiver receiver_;
};

// In a folder of its own, with its own configuration.
class BinaryFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    if (binary().empty()) GTEST_SKIP() << "no binary: set POSTBAG_BINARY";
  }

  ProcessResult run(std::vector<std::string> arguments, const std::string& input = "") const {
    arguments.insert(arguments.begin(), binary());
    return run_process(arguments, folder_.path(), input);
  }
  // A daemon that is ready. `before`: a program that starts it, with its arguments.
  std::unique_ptr<ChildProcess> serve(std::vector<std::string> before = {}) const {
    before.insert(before.end(), {binary(), "serve", "--json"});
    auto daemon = std::make_unique<ChildProcess>(before, folder_.path());
    const auto ready = daemon->wait_for_out("listening");
    if (!ready) {
      ADD_FAILURE() << "the daemon did not start: " << daemon->wait().err;
    }
    return daemon;
  }
  void write_file(const std::string& name, const std::string& text) const {
    std::ofstream(folder_.file(name)) << text;
  }
  std::string read_file(const std::string& name) const {
    std::ostringstream text;
    text << std::ifstream(folder_.file(name)).rdbuf();
    return text.str();
  }
  // Targets on this machine, any free port, short intervals.
  void write_config(const std::string& more = "", const std::string& batch = "time = 0.05") const {
    write_file("postbag.toml",
               "[intake]\nlisten = \"127.0.0.1:0\"\n[network]\nallow_http = true\n"
               "allow = [\"127.0.0.1\"]\n[batch]\nsize = 100\n" +
                   batch + "\n" + more);
  }
  ControlClient control() const {
    auto client = ControlClient::connect(folder_.file("postbag.db.sock"));
    if (!client) throw std::runtime_error("no daemon answers");
    return std::move(*client);
  }
  static ControlAnswer post_hooks(ControlClient& client, const std::string& ndjson) {
    ControlRequest request;
    request.method = "POST";
    request.path = "/v1/hooks";
    request.content_type = "application/x-ndjson";
    request.body = ndjson;
    return client.send(request);
  }
  static std::string hook(const std::string& target, const std::string& data) {
    return "{\"target\":\"" + target + "\",\"data\":" + data + "}\n";
  }
  static std::uint64_t number(const ProcessResult& result, const char* name) {
    EXPECT_EQ(check_json(result.out, false), std::nullopt) << result.out << result.err;
    return json_number(result.out, name);
  }
  // Ends a daemon as an operator does.
  static void stop(ChildProcess& daemon) {
    daemon.signal(SIGTERM);
    const ProcessResult result = daemon.wait();
    EXPECT_EQ(result.exit_code, 0) << result.err;
  }

  TempDirectory folder_;
};

}  // namespace postbag::test
