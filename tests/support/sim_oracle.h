#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/support/core_world.h"

namespace postbag::test {

// What the simulation knows of a target: the widest of the policies that it ever had, so that a
// reload is no violation.
struct SimTarget {
  std::string url;
  std::uint32_t size_max = 0, size_min = 0, in_flight_max = 0, retrying_max = 0, retries = 0;
  std::uint64_t bytes_max = 0, bytes_min = 0;
  Duration time_min{}, interval_min{};
  bool ordered = false;
  TimePoint disturbed{};  // last flush, reload or drain: batches may be cut early
  std::uint32_t in_flight = 0;
};

// Accounts for every hook as a multiset: offered, accepted, sent, delivered, failed; and checks
// each request against what is promised:
//
//   - I1: what was accepted is delivered at least once or stored as failed;
//   - I2: nothing is delivered that was not offered, with the same target, byte for byte;
//   - I3: repeats only for the reasons that engine/README.md names (D1 to D5), with the same id;
//   - I4: what was not accepted may be delivered all the same, but is never claimed to be;
//   - I5: everything is bounded as configured, attempts and batches that wait for a retry, too.
class SimOracle {
 public:
  SimOracle(CoreWorld& world, bool is_durable, std::uint32_t max_connections);

  std::vector<SimTarget> targets;
  bool draining = false;
  bool has_shed = false;  // hooks were dropped from memory, and have to be read
  bool reads_fail =
      false;  // a batch that cannot be read waits like for a retry, and newer ones overtake it

  // A hook about to be offered; returns its payload.
  WorldHook offer(std::size_t target, const std::string& group, std::size_t padding);
  void watch(WorldCall& call, std::vector<std::uint64_t> numbers);
  std::uint64_t next_number() const { return hooks_.size(); }
  // The process died: what is on the wire is forgotten, hooks without an answer may be lost.
  void crashed();
  void cancelled(std::size_t target);
  void retries_stopped();  // all runs of retry-failed-hooks
  // After every event.
  void check_counts();
  // When everything should be over.
  void check_end();
  void wrong(std::string what);

  const std::vector<std::string>& violations() const { return violations_; }
  std::uint64_t offered() const { return hooks_.size(); }
  std::uint64_t repeats() const { return repeats_; }
  std::uint64_t rows() const { return rows_; }

 private:
  // unclear: the call was refused, but maybe by another shard: this part may be kept, and is not
  // claimed (I4).
  enum class Answer : std::uint8_t { none, accepted, refused, unclear };
  struct Hook {
    std::uint32_t target = 0;
    std::uint32_t life = 0;
    Answer answer = Answer::none;
    bool has_row = false, was_cancelled = false;
    std::uint32_t deliveries = 0;
    BatchNumber batch = 0;
    TimePoint offered{};
    std::string body, group;
  };
  struct SentBatch {
    std::vector<std::uint64_t> members;
    std::string body, group;
    bool is_retried_rows = false, is_stopped = false;
    std::uint32_t target = 0, attempt = 0, life = 0;
    bool in_flight = false, delivered = false, counted = true, resolved = false;
    TimePoint ended{};
  };
  // What the store said at the last start of a batch that has not been sent since.
  struct Recovered {
    std::uint32_t attempts = 0;
    TimePoint not_before{};
  };
  struct BagState {
    std::uint64_t next_number = 0;  // first sends only go up
    std::set<std::string> unresolved;
  };

  void on_request(const WorldRequest& request);
  void on_reply(const WorldRequest& request);
  void on_failed_row(const FailedHook& row, bool is_new);
  std::vector<std::uint64_t> parse(const WorldRequest& request);
  void check_first_send(const WorldRequest& request, SentBatch& batch);
  void check_repeat(const WorldRequest& request, const SentBatch& batch);
  void check_recovered(const WorldRequest& request);
  void check_limits(const WorldRequest& request, const SentBatch& batch);
  void check_cut(const WorldRequest& request, const SentBatch& batch);
  std::uint64_t number_in(std::string_view body) const;

  CoreWorld& world_;
  bool is_durable_;
  std::uint32_t max_connections_;
  std::vector<Hook> hooks_;
  std::unordered_map<std::string, SentBatch> batches_;
  std::map<std::pair<std::uint32_t, std::string>, BagState> bags_;
  std::map<std::string, std::uint32_t> target_index_;
  std::vector<std::uint32_t> shard_in_flight_;
  std::vector<std::uint32_t> unresolved_;  // by target
  std::unordered_map<BatchNumber, Recovered> recovered_;
  std::vector<std::uint32_t> recovered_retrying_;  // by target: found at the last start
  std::uint64_t added_in_life_ = 0, delivered_in_life_ = 0, in_flight_hooks_ = 0;
  bool was_drained_ = false;
  std::uint64_t repeats_ = 0, rows_ = 0;
  std::vector<std::string> violations_;
};

}  // namespace postbag::test
