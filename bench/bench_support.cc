#include "bench/bench_support.h"

#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <fstream>
#include <system_error>
#include <thread>

namespace postbag {
namespace {

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

double clock_s(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

CountingReceiver* receiver_to_stop = nullptr;
void stop_receiver(int) {
  receiver_to_stop->stop();
}

int run_receiver(const ReceiverProcessOptions& options, ReceiverCounters& counters, int port_pipe) {
  if (options.pin) pin_to_core(options.core);
  CountingReceiverOptions receiver_options;
  receiver_options.tls = options.tls;
  receiver_options.counters = &counters;
  if (options.make_handler) receiver_options.handler = options.make_handler(counters);
  CountingReceiver receiver(std::move(receiver_options));
  receiver_to_stop = &receiver;
  std::signal(SIGTERM, stop_receiver);
  const std::uint16_t port = receiver.port();
  if (write(port_pipe, &port, sizeof port) != sizeof port) return 1;
  close(port_pipe);
  receiver.run();
  return 0;
}

}  // namespace

Arguments::Arguments(int argc, char** argv, const std::vector<std::string>& names,
                     const char* usage)
    : usage_(usage) {
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--help") {
      std::printf("%s", usage_);
      std::exit(0);
    }
    if (!argument.starts_with("--")) refuse("'" + argument + "' is not an option");
    argument.erase(0, 2);
    bool known = false;
    for (const std::string& name : names) {
      if (name == argument) {
        values_[argument] = "1";
        known = true;
      } else if (name == argument + "=") {
        if (i + 1 == argc) refuse("--" + argument + " needs a value");
        values_[argument] = argv[++i];
        known = true;
      }
    }
    if (!known) refuse("--" + argument + " is not known");
  }
}

void Arguments::refuse(const std::string& why) const {
  std::fprintf(stderr, "%s\n%s", why.c_str(), usage_);
  std::exit(64);
}

std::string Arguments::text(const std::string& name, std::string otherwise) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::move(otherwise) : found->second;
}

std::uint64_t Arguments::number(const std::string& name, std::uint64_t otherwise) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return otherwise;
  const std::string& value = found->second;
  std::uint64_t result = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size()) {
    refuse("--" + name + " wants a number, not '" + value + "'");
  }
  return result;
}

double now_s() {
  return clock_s(CLOCK_MONOTONIC);
}
double thread_cpu_s() {
  return clock_s(CLOCK_THREAD_CPUTIME_ID);
}
double process_cpu_s() {
  return clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

double peak_rss_mb(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

void pin_to_core(unsigned core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core % std::max(1u, std::thread::hardware_concurrency()), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) std::perror("cannot pin to a core");
}

void ignore_broken_pipes() {
  std::signal(SIGPIPE, SIG_IGN);
}

int run_program(const char* name, int (*run)(int argc, char** argv), int argc, char** argv) {
  try {
    ignore_broken_pipes();
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 71;
  }
}

void* shared_memory(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::system_category(), "mmap");
  return memory;
}

Child::Child(const std::function<int()>& body) {
  std::fflush(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::system_error(errno, std::system_category(), "fork");
  if (pid_ != 0) return;
  // Nothing is left behind when the parent is killed, by a test's time limit for example.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int code = 70;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
  std::fflush(nullptr);
  _exit(code);
}

Child::~Child() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  wait();
}

Child::End Child::wait() {
  End end;
  int status = 0;
  rusage usage{};
  while (wait4(pid_, &status, 0, &usage) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  end.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  end.cpu_s = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  end.peak_rss_mb = static_cast<double>(usage.ru_maxrss) / 1024;
  return end;
}

void Child::interrupt() {
  if (pid_ > 0) kill(pid_, SIGTERM);
}

bool Child::running() {
  siginfo_t info{};
  return pid_ > 0 &&
         waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

ReceiverProcess::ReceiverProcess(const ReceiverProcessOptions& options)
    : counters_(make_shared_value<ReceiverCounters>()) {
  int ends[2];
  if (pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  child_ = std::make_unique<Child>([&] {
    close(ends[0]);
    return run_receiver(options, counters_, ends[1]);
  });
  close(ends[1]);
  const auto got = read(ends[0], &port_, sizeof port_);
  close(ends[0]);
  if (got != sizeof port_) throw std::runtime_error("the receiver did not start");
}

void ReceiverProcess::pause() {
  kill(child_->pid(), SIGSTOP);
}

void ReceiverProcess::resume() {
  kill(child_->pid(), SIGCONT);
}

double ReceiverProcess::stop() {
  child_->interrupt();
  return child_->wait().cpu_s;
}

bool wait_for_hooks(const ReceiverCounters& counters, std::uint64_t hooks, double patience_s) {
  std::uint64_t before = 0;
  double last_progress = now_s();
  while (true) {
    const std::uint64_t now = counters.hooks.load(std::memory_order_acquire);
    if (now >= hooks) return true;
    if (now != before) {
      before = now;
      last_progress = now_s();
    }
    if (now_s() - last_progress > patience_s) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

Report& Report::text(const char* name, std::string_view value) {
  if (json_) {
    line_ +=
        (line_.empty() ? "{\"" : ",\"") + std::string(name) + "\":\"" + std::string(value) + "\"";
  } else {
    line_ += (line_.empty() ? "" : "  ") + std::string(value);
  }
  return *this;
}

Report& Report::number(const char* name, double value, int decimals) {
  char digits[64];
  std::snprintf(digits, sizeof digits, "%.*f", decimals, value);
  if (json_) {
    line_ += (line_.empty() ? "{\"" : ",\"") + std::string(name) + "\":" + digits;
  } else {
    line_ += (line_.empty() ? "" : "  ") + std::string(name) + "=" + digits;
  }
  return *this;
}

void Report::print() {
  std::printf("%s%s\n", line_.c_str(), json_ ? "}" : "");
  std::fflush(stdout);
  line_.clear();
}

}  // namespace postbag
