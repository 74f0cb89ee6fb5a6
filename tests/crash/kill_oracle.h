#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "postbag/store.h"
#include "tests/crash/hook_names.h"

namespace postbag::test {

struct OracleLimits {
  std::uint32_t producers = 0;
  std::uint32_t batch_size = 0;
  std::uint32_t attempts = 0;        // of a batch
  std::uint32_t repeats_a_kill = 0;  // batches that may come again after their 2xx
};

// A request that reached a target whole.
struct ArrivedBatch {
  std::uint32_t target = 0;
  std::string batch_id;
  std::uint32_t size = 0, attempt = 0;  // as its header fields say
  std::string_view body;
  bool answered_ok = false;  // the target answers 2xx
  bool dropped = false;      // the target closes the connection without an answer
};

// What came of a producer's call.
enum class CallOutcome { accepted, refused, lost };

struct OracleCounts {
  std::uint64_t offered = 0, accepted = 0, lost_answers = 0, delivered = 0, failed = 0;
  std::uint64_t requests = 0, batches = 0, repeated_batches = 0, most_repeats_a_kill = 0;
  std::uint64_t unaccepted_delivered = 0;  // stored, but the answer was lost
  std::uint64_t kills = 0;
  // Attempts that were forgotten beyond the one in flight, and the kills that made them be.
  std::uint64_t late_records = 0, late_kills = 0;
};

// Accounts every hook of a run with crashes, as a multiset: what was offered, what was accepted,
// where it arrived, what failed. Says what breaks the contract:
//   - an accepted hook is neither delivered nor failed;
//   - something arrives that was not offered (or was refused), for another target, or altered;
//   - a hook arrives in more batches than it was offered (with a producer's id: in more than one);
//   - a batch comes again after its 2xx although no kill lies between (D2), or too many do;
//   - a batch changes its bytes, target or members, or its attempts repeat or are too many;
//   - kills make more attempts be forgotten than the one in flight, other than now and then (the
//     record of an attempt is committed with others; a kill in a slow commit can take it, and with
//     it those of all batches whose records were in that commit);
//   - first attempts of a bag are out of order.
// Any thread.
class KillOracle {
 public:
  KillOracle(const HookNames& names, const OracleLimits& limits);

  // A call with these hooks of one producer is about to be sent: `first` and the `count` after it.
  void offering(HookName first, std::uint32_t count, bool with_ids);
  void outcome(HookName first, std::uint32_t count, CallOutcome outcome);

  // A run of the daemon begins, after everything of the one before has arrived.
  void run_begins();
  void run_ended(bool killed);
  void arrived(const ArrivedBatch& batch);
  // At the end, each row that is left.
  void failed_row(const FailedHook& row, std::uint32_t target);
  void violation(const std::string& what);

  // At the end: everything that was found, the first hundred.
  std::vector<std::string> verdict();
  OracleCounts counts() const;
  bool has_violations() const;

 private:
  struct Hook {
    std::uint8_t sent = 0;  // calls that may have been taken
    std::uint8_t accepted = 0;
    std::uint8_t places = 0;     // batches, or places in them, in which it arrived
    std::uint8_t delivered = 0;  // of those, with a 2xx
    std::uint8_t failed = 0;     // rows
    bool with_id = false;
    std::uint32_t batch = 0;  // the first
  };
  struct Batch {
    std::uint64_t body_hash = 0;
    std::uint32_t target = 0, body_size = 0, attempt = 0, run = 0, ok_run = 0;  // runs from 1
    bool repeated_after_ok = false, dropped = false;
    std::vector<HookName> members;
  };

  void first_arrival(const ArrivedBatch& arrived, Batch& batch, std::uint32_t index);
  void later_arrival(const ArrivedBatch& arrived, Batch& batch);
  Hook* find(HookName name);
  void found(const std::string& what);
  std::uint32_t run() const { return static_cast<std::uint32_t>(killed_.size()); }

  const HookNames& names_;
  const OracleLimits limits_;
  mutable std::mutex mutex_;
  std::vector<std::vector<Hook>> hooks_;  // by producer and number
  std::unordered_map<std::string, std::uint32_t> batch_index_;
  std::vector<Batch> batches_;
  std::vector<bool> killed_;                       // by run
  std::vector<bool> forgot_;                       // by run: its kill made attempts be forgotten
  std::vector<std::vector<std::int64_t>> newest_;  // first arrivals, by target and producer
  std::uint64_t repeats_this_run_ = 0;
  OracleCounts counts_;
  std::vector<std::string> violations_;
  std::uint64_t violations_count_ = 0;
};

}  // namespace postbag::test
