#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/kill_oracle.h"
#include "tests/crash/kill_producers.h"
#include "tests/crash/tally_receiver.h"
#include "tests/crash/timer.h"
#include "tests/support/child_process.h"

namespace postbag::test {

struct KillPlan {
  std::string binary;  // of postbag
  std::string folder;  // an empty one of our own
  std::uint64_t seed = 0;
  std::uint64_t kills = 15;    // ends after so many kills ...
  std::uint64_t seconds = 60;  // ... or after this time
  std::uint32_t producers = 4;
  std::string durability = "fsync";
  std::string shim;               // tests/crash/kill_shim.cc, for `points`
  std::uint64_t points_each = 0;  // 0: random moments; else each named point so often
};

struct KillReport {
  std::uint64_t kills = 0, kills_in_recovery = 0, terms = 0, terms_killed = 0;
  std::uint64_t points = 0, kills_at_points = 0;
  OracleCounts counts;
  std::vector<std::string> violations;  // empty: nothing was lost, nothing came without a reason
};

// Runs `postbag serve` on one store, with producers and targets of its own, and kills it at random
// moments, under load, while it starts, while it ends; or at named points. At the end it waits for
// the last hook and has the oracle account for all of them.
class KillHarness {
 public:
  explicit KillHarness(const KillPlan& plan);
  KillReport run();

 private:
  TallyAnswer answer(const ArrivedBatch& batch);
  void write_config() const;
  void spawn();
  bool start();
  void ended(const ProcessResult& result, bool killed);
  void kill_daemon();
  void terminate(bool then_kill);
  void one_round();
  void random_moments();
  void named_points();
  bool comes_to(const std::string& point);
  bool ends_at(const std::string& point, std::uint64_t nth);
  void listens(const std::string& ready_line);
  void wait_for_the_last();
  void take_failed_rows();
  std::uint64_t random(std::uint64_t below) { return random_() % below; }

  const KillPlan plan_;
  const HookNames names_;
  KillOracle oracle_;
  std::mt19937_64 random_;
  Timer timer_;
  TallyReceiver receiver_;
  DaemonAddress address_;
  std::unique_ptr<ChildProcess> daemon_;
  std::unique_ptr<KillProducers> producers_;
  KillReport report_;
};

}  // namespace postbag::test
