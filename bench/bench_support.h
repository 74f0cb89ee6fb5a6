#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bench/counting_receiver.h"

namespace postbag {

// `--name value` and `--flag` arguments. Prints the usage and ends the program with 64 on any
// other.
class Arguments {
 public:
  // `names`: "name" for a flag, "name=" for one with a value.
  Arguments(int argc, char** argv, const std::vector<std::string>& names, const char* usage);
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string text(const std::string& name, std::string otherwise = {}) const;
  std::uint64_t number(const std::string& name, std::uint64_t otherwise) const;
  // 0 is taken for 1.
  std::uint64_t at_least_1(const std::string& name, std::uint64_t otherwise) const {
    return std::max<std::uint64_t>(1, number(name, otherwise));
  }

 private:
  void refuse(const std::string& why) const;
  std::map<std::string, std::string> values_;
  const char* usage_;
};

double now_s();                   // steady
double thread_cpu_s();            // of the calling thread
double process_cpu_s();           // of all threads of this process
double peak_rss_mb(pid_t pid);    // of another process; 0 if it is gone
void pin_to_core(unsigned core);  // the calling thread and those it starts
void ignore_broken_pipes();
// main() of a benchmark: broken pipes are ignored, an exception is a line on standard error and
// exit code 71.
int run_program(const char* name, int (*run)(int argc, char** argv), int argc, char** argv);

// Zeroed memory that this process shares with those it forks; never freed.
void* shared_memory(std::size_t bytes);
template <typename T>
T& make_shared_value() {
  return *new (shared_memory(sizeof(T))) T();
}

// A process of its own, so that its processor time and memory are measured apart. Fork before any
// thread is started.
class Child {
 public:
  // Runs `body` in a forked process, which ends with its result.
  explicit Child(const std::function<int()>& body);
  ~Child();  // kills it if it still runs
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  struct End {
    int exit_code = -1;  // -1: ended by a signal
    double cpu_s = 0;
    double peak_rss_mb = 0;
  };
  End wait();
  void interrupt();  // SIGTERM
  bool running();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// A CountingReceiver in a process of its own, optionally pinned.
struct ReceiverProcessOptions {
  bool pin = false;
  unsigned core = 1;
  const TlsIdentity* tls = nullptr;
  // Made in the child; may be empty.
  std::function<std::function<int(const CountedRequest&)>(ReceiverCounters&)> make_handler;
};

class ReceiverProcess {
 public:
  explicit ReceiverProcess(const ReceiverProcessOptions& options);
  std::uint16_t port() const { return port_; }
  ReceiverCounters& counters() { return counters_; }
  // Stopped it still completes connections (the kernel does), but never answers.
  void pause();
  void resume();
  // Ends it; processor time used.
  double stop();

 private:
  ReceiverCounters& counters_;
  std::uint16_t port_ = 0;
  std::unique_ptr<Child> child_;
};

// Waits until `hooks` were received. False if there was no progress for `patience_s`.
bool wait_for_hooks(const ReceiverCounters& counters, std::uint64_t hooks, double patience_s = 20);

// One line of JSON from names and values that are JSON already, or a table row for people.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}
  Report& text(const char* name, std::string_view value);
  Report& number(const char* name, double value, int decimals = 0);
  void print();

 private:
  bool json_;
  std::string line_;
};

}  // namespace postbag
