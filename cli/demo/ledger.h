#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postbag {

// The elements of a JSON array as they stand there, byte for byte; nothing if the text is no array
// (of valid JSON). Pure.
std::optional<std::vector<std::string_view>> split_json_array(std::string_view array);

// What the demo knows of one target, from both ends: what was given to the engine and what came out
// of the wire.
struct LedgerRow {
  std::string name;
  std::uint64_t submitted = 0;  // hooks
  std::uint64_t batches = 0;    // different batch ids that came in
  std::uint64_t by_size = 0;    // of those, full ones
  std::uint64_t by_time = 0;    // of those, the others
  std::uint64_t attempts = 0;   // requests
  std::uint64_t repeats = 0;    // of those, further ones of the same batch
  std::uint64_t delivered = 0;  // hooks in those answered with 200
  std::uint64_t failed = 0;     // hooks given up, from the failed rows
  std::uint64_t retried = 0;    // hooks that retry-failed-hooks delivered
  std::uint64_t wrong = 0;      // payloads that came twice or were never sent
  bool retries_equal = true;    // every attempt of a batch had the same bytes
};

// Compares, payload by payload, what targets get with what they should get. Any thread.
class DemoLedger {
 public:
  // `size`: hooks that make a batch full.
  std::size_t add_target(std::string name, std::size_t size);
  void submitted(std::size_t target, std::string_view payload);
  void failed(std::size_t target, std::uint64_t hooks);

  struct Arrival {
    std::size_t hooks = 0;
    bool full = false;
    bool first = false;  // of its batch id
  };
  // A request came in and is answered with success or not.
  Arrival arrived(std::size_t target, const std::string& batch_id, std::string_view body,
                  bool success);
  // From now on deliveries count as retried.
  void begin_retry_command();

  std::vector<LedgerRow> rows() const;

 private:
  struct Target {
    LedgerRow row;
    std::size_t size = 0;
    std::unordered_map<std::string, int> open;            // payload -> times still to come
    std::unordered_map<std::string, std::string> bodies;  // batch id -> body of its first attempt
  };
  mutable std::mutex mutex_;
  std::vector<Target> targets_;
  bool retry_command_ = false;
};

// What does not add up, for people; empty if all does.
std::vector<std::string> check_ledger(const std::vector<LedgerRow>& rows);
std::string render_ledger(const std::vector<LedgerRow>& rows);

}  // namespace postbag
