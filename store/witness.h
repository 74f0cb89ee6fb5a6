#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "postbag/store.h"

namespace postbag {

// What a store said about a commit, beside the store: SQLite takes a log that lost its end, or an
// old copy of the file, for a sound database, and only somebody else can know better.
struct WitnessRecord {
  std::uint64_t epoch = 0;          // of the store, never 0: which life of which file this is about
  std::uint64_t sequence = 0;       // commits that took something over, up to this one
  std::uint64_t synced = 0;         // of those, how many no power loss can take
  std::uint64_t hooks = 0;          // appended up to this commit
  ChunkNumber first = 0, last = 0;  // chunk numbers that this commit appended; 0: none
  ChunkNumber reserved_below = 1;
  std::uint16_t store_tag = 0;
  bool empty = false;  // closed with nothing pending and nothing failed
};

// Everything valid in a witness file.
struct WitnessReading {
  std::vector<WitnessRecord> records;  // by sequence, ascending; all of the newest epoch

  const WitnessRecord* newest() const { return records.empty() ? nullptr : &records.back(); }
  std::uint64_t synced() const;
};
WitnessReading read_witness(const std::string& path);

// What a store that is at `sequence` lacks of what its witness saw.
struct WitnessedLoss {
  std::uint64_t commits = 0, hooks = 0;
  ChunkNumber first = 0, last = 0;  // of the chunks; 0: none
  bool within_window = false;       // no synced commit is among them: the power loss of level `os`
};
// `last_number` is the highest chunk number that the store has ever taken.
std::optional<WitnessedLoss> witnessed_loss(const WitnessReading& reading, std::uint64_t sequence,
                                            std::uint64_t hooks, ChunkNumber last_number);

// Writes the file: a ring of records, one sector at most each, so that a torn write costs the
// newest one alone. Write errors are not reported: a witness that lags behind accuses nobody.
class WitnessWriter {
 public:
  WitnessWriter() = default;
  ~WitnessWriter();
  WitnessWriter(const WitnessWriter&) = delete;
  WitnessWriter& operator=(const WitnessWriter&) = delete;

  // Continues a file, or begins a new one if `anew` or there is none. False: the file cannot be
  // opened or written.
  bool open(const std::string& path, bool anew);
  void write(const WitnessRecord& record);
  void sync();
  // A sync, but at most one a second. Any thread, as sync().
  void sync_if_due();

 private:
  int file_ = -1;
  std::uint64_t next_slot_ = 0;
  std::atomic<std::chrono::steady_clock::time_point> last_sync_{};
};

}  // namespace postbag
