#include "bench/intake_daemon.h"

#include <time.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "bench/raw_client.h"
#include "cli/intake/server.h"

namespace postbag {
namespace {

// "name: NUMBER" in a file of /proc.
std::uint64_t proc_number(const std::filesystem::path& file, std::string_view name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::strtoull(line.c_str() + name.size(), nullptr, 10);
  }
  return 0;
}

// An engine that lets everything go.
class ConstantBackend : public IntakeBackend {
 public:
  void submit(HookList hooks, SubmitOptions options, SubmitHandler done) override {
    SubmitResult result;
    result.accepted = hooks.size();
    if (options.want_ids) result.ids.assign(hooks.size(), HookId{0x0190a6f200007000, 1ull << 63});
    done(std::move(result));
  }
  EngineStatus status() const override { return {}; }
  std::vector<TargetStatus> targets(std::size_t) const override { return {}; }
  std::optional<HookStatus> find_hook(std::string_view) const override { return {}; }
  std::error_code list_failed(const FailedFilter&, std::optional<FailedKey>, const SliceLimits&,
                              FailedPage&) override {
    return {};
  }
  RetryProgress retry_failed(const RetryOptions&) override { return {}; }
  RetryPlan plan_retry(const RetryOptions&) override { return {}; }
  PurgeResult purge_failed(const FailedFilter&, std::optional<std::uint64_t>) override {
    return {};
  }
  std::uint64_t flush(std::optional<std::string_view>) override { return 0; }
  CancelResult cancel(std::string_view) override { return {}; }
  std::error_code backup(const std::string&, const std::stop_token&) override { return {}; }
};

int serve_constants(int port_pipe) {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
  ConstantBackend backend;
  IntakeServerOptions options;
  options.listen = "127.0.0.1:0";
  IntakeServer server(backend, options);
  server.start();
  const std::uint16_t port = server.port();
  if (write(port_pipe, &port, sizeof port) != sizeof port) return 1;
  close(port_pipe);
  int signal = 0;
  sigwait(&stop, &signal);
  server.stop();
  return 0;
}

// Of the program that this process becomes.
void slow_down_syncs(std::uint64_t sync_ms) {
  const std::filesystem::path here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::filesystem::path library = here / "libpostbag_slow_sync.so";
  // The loader would go on without it, and the figures would be wrong.
  if (!std::filesystem::exists(library)) throw std::runtime_error("no " + library.string());
  setenv("LD_PRELOAD", library.c_str(), 1);
  setenv("POSTBAG_SYNC_DELAY_MS", std::to_string(sync_ms).c_str(), 1);
}

}  // namespace

std::vector<ThreadUse> threads_of(pid_t pid) {
  std::vector<ThreadUse> threads;
  std::error_code error;
  const std::filesystem::path tasks = "/proc/" + std::to_string(pid) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks, error)) {
    ThreadUse use;
    std::getline(std::ifstream(task.path() / "comm"), use.name);
    std::ifstream runtime(task.path() / "schedstat");
    double cpu_ns = 0;
    runtime >> cpu_ns;
    use.cpu_s = cpu_ns * 1e-9;
    use.switches = proc_number(task.path() / "status", "voluntary_ctxt_switches:") +
                   proc_number(task.path() / "status", "nonvoluntary_ctxt_switches:");
    threads.push_back(std::move(use));
  }
  return threads;
}

double IntakeProcess::cpu_s() const {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(child_->pid(), &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Child::End IntakeProcess::stop() {
  child_->interrupt();
  return child_->wait();
}

ServeProcess::ServeProcess(const std::string& program, const std::string& durability, bool pin,
                           std::uint64_t sync_ms) {
  port_ = unused_port();
  const std::string config = (folder_.path() / "postbag.toml").string();
  std::ofstream(config) << "[store]\npath = \"" << (folder_.path() / "postbag.db").string()
                        << "\"\ndurability = \"" << durability
                        << "\"\n[intake]\nlisten = \"127.0.0.1:" << port_
                        << "\"\n[network]\nallow_http = true\nallow = "
                           "[\"127.0.0.1\"]\n[log]\nlevel = \"warning\"\n";
  child_ = std::make_unique<Child>([&] {
    if (pin) pin_to_core(0);
    if (sync_ms > 0) slow_down_syncs(sync_ms);
    execl(program.c_str(), program.c_str(), "serve", "-c", config.c_str(), nullptr);
    std::perror(program.c_str());
    return 66;
  });
  wait_ready();
}

// Before its folder goes.
ServeProcess::~ServeProcess() {
  child_.reset();
}

void ServeProcess::wait_ready() {
  for (const double start = now_s(); now_s() - start < 15 && child_->running();) {
    try {
      const std::string answer = exchange(
          port_, "GET /healthz/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
      if (answer.starts_with("HTTP/1.1 200")) return;
    } catch (const std::system_error&) {
      // Not listening yet.
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  throw std::runtime_error("the daemon did not become ready");
}

ConstantProcess::ConstantProcess(bool pin) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  child_ = std::make_unique<Child>([&] {
    close(ends[0]);
    if (pin) pin_to_core(0);
    return serve_constants(ends[1]);
  });
  close(ends[1]);
  const auto got = read(ends[0], &port_, sizeof port_);
  close(ends[0]);
  if (got != sizeof port_) throw std::runtime_error("the constant server did not start");
}

}  // namespace postbag
