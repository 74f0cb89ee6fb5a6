#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/bench_folder.h"
#include "bench/bench_support.h"

namespace postbag {

// What the threads of a process did so far.
struct ThreadUse {
  std::string name;
  double cpu_s = 0;
  std::uint64_t switches = 0;  // context switches, given up and taken away
};
std::vector<ThreadUse> threads_of(pid_t pid);

// A program that serves the intake on 127.0.0.1, in a process of its own.
class IntakeProcess {
 public:
  virtual ~IntakeProcess() = default;
  std::uint16_t port() const { return port_; }
  double cpu_s() const;
  std::vector<ThreadUse> threads() const { return threads_of(child_->pid()); }
  Child::End stop();

 protected:
  std::unique_ptr<Child> child_;
  std::uint16_t port_ = 0;
};

// `postbag serve` with a store of its own, allowed to deliver to 127.0.0.1. Throws
// std::runtime_error if it does not become ready. `sync_ms` is added to each of its syncs, by the
// shared object of slow_sync.cc beside this program.
class ServeProcess : public IntakeProcess {
 public:
  ServeProcess(const std::string& program, const std::string& durability, bool pin,
               std::uint64_t sync_ms = 0);
  ~ServeProcess() override;

 private:
  void wait_ready();
  BenchFolder folder_;
};

// The same intake server in front of an engine that does nothing: the ceiling. A request to
// /healthz/live is read whole and answered with a constant; a POST /v1/hooks is parsed too and its
// hooks are let go.
class ConstantProcess : public IntakeProcess {
 public:
  explicit ConstantProcess(bool pin);
};

}  // namespace postbag
