#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/crash/kill_oracle.h"
#include "tests/support/intake_client.h"

namespace postbag::test {

// Where the daemon of the moment listens.
class DaemonAddress {
 public:
  void up(std::uint16_t port);
  void down();
  struct Place {
    std::uint16_t port = 0;
    std::uint64_t generation = 0;  // of the daemon
  };
  // Waits for a daemon that came up after `generation`. Port 0: none came within a minute.
  Place next(std::uint64_t generation);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Place place_;
};

// Threads that put hooks in as producers do: one a call, arrays, NDJSON, raw payloads; with ids and
// without. After a lost answer a call with ids is repeated until it has an answer; of those without
// ids half are repeated (D4), half given up. The oracle is told of everything.
class KillProducers {
 public:
  KillProducers(KillOracle& oracle, const HookNames& names, DaemonAddress& address,
                std::uint16_t target_port, std::uint32_t threads, std::uint64_t seed);
  ~KillProducers();

  // They end as soon as the call they are at has its answer. Needs a daemon that is up.
  void finish();

 private:
  enum class Form { object, array, ndjson, raw };
  struct Call {
    HookName first;
    std::uint32_t hooks = 1;
    Form form = Form::object;
    bool with_ids = false, repeats = false;
    std::string bytes;
  };

  void run(std::uint32_t producer, std::uint64_t seed);
  Call make_call(HookName first, std::mt19937_64& random) const;
  std::string make_bytes(const Call& call) const;
  std::string hook_object(HookName name, bool with_id) const;
  std::string target_url(HookName name) const;
  CallOutcome read_answer(IntakeClient& client, const Call& call);

  KillOracle& oracle_;
  const HookNames& names_;
  DaemonAddress& address_;
  const std::uint16_t target_port_;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace postbag::test
