#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "postbag/store.h"
#include "store/witness.h"

namespace postbag {

// Knows which commits of a store a power loss can still take, and tells the witness of a commit as
// soon as its loss would be the store's fault: at once if only the death of the process was to be
// survived, else once it is on disk. Shared by the committing and the syncing thread.
class SyncLedger {
 public:
  // `unsynced`: there may be commits from before. `sequence`: up to which none can be lost.
  SyncLedger(bool unsynced, std::uint64_t sequence);

  // False: the file cannot be opened or written.
  bool open_witness(const std::string& path, bool anew) { return witness_.open(path, anew); }
  void sync_witness() { witness_.sync(); }
  void sync_witness_if_due() { witness_.sync_if_due(); }

  bool unsynced() const { return commits_ != synced_commits_; }

  // The witness knows of an epoch in which nothing was committed yet; on disk.
  void announce(const WitnessRecord& record);

  // --- The thread that commits.
  // A commit ended. `record.synced` is filled in here. `advanced`: it took something over.
  // `frames`: how many are in the log now.
  void committed(const WitnessRecord& record, bool advanced, CommitLevel level,
                 std::uint64_t frames);
  // A change that no witness is told of.
  void changed() { ++commits_; }
  // All that was committed is on disk, in the file: the log begins anew. `record` is the newest.
  void log_is_copied(const WitnessRecord& record);
  // How many frames of the log are known to be on disk.
  std::uint64_t synced_frames();
  // All of it is on disk, and the witness hears of it in any case: at open and at close.
  void begin_or_end(const WitnessRecord& record);

  // --- The thread that syncs: what a sync that begins now covers, and that it ended well.
  struct Covered {
    std::uint64_t commits = 0;
    WitnessRecord newest;
    std::uint64_t log = 0, frames = 0;  // of which log, and how many
  };
  Covered covered();
  bool is_synced(const Covered& covered) const { return covered.commits <= synced_commits_; }
  void synced(const Covered& covered);

 private:
  void advance(std::uint64_t commits, const WitnessRecord& newest);
  void write(WitnessRecord record);

  std::atomic<std::uint64_t> commits_, synced_commits_{0};
  std::mutex mutex_;                              // of all below
  std::uint64_t synced_;                          // sequence
  WitnessRecord newest_;                          // of the last commit
  std::uint64_t logs_ = 0;                        // that were begun
  std::uint64_t frames_ = 0, synced_frames_ = 0;  // of this one
  std::vector<WitnessRecord> withheld_;           // until they are on disk
  WitnessWriter witness_;
};

}  // namespace postbag
