#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/crash/disk_log.h"

namespace postbag::test {

// What a disk can be made to refuse.
enum class DiskCall : unsigned {
  read = 1,
  write = 2,
  truncate = 4,
  sync = 8,
  open = 16,
  remove = 32,
  size = 64,
};

// The `nth` call (from 1) of one of `calls` fails with `error`, once or from then on.
struct DiskFault {
  unsigned calls = 0;  // of DiskCall
  std::uint64_t nth = 0;
  bool for_ever = false;
  int error = 0;         // EIO, ENOSPC, EDQUOT
  bool in_part = false;  // a write or read does half of its work first
};

// An SQLite VFS in front of the system's: every file really is where it is said to be, but the disk
// under it can be told to fail, and what is done to it can be recorded. Nothing is really synced.
// One for the process; not for several threads.
class FaultVfs {
 public:
  // Makes it the default for every database opened from now on.
  static void install();

  static void arm(const DiskFault& fault);
  static void disarm();
  static std::uint64_t failures();  // since arm()

  // Called at the start of each sync with the file's name, on the thread that syncs; true: it
  // fails. Empty: no more. What it does to files is not covered by that sync. Without a fault or a
  // log, two threads may be at work then.
  static void on_sync(std::function<bool(const std::string& path)> call);

  // Everything done from now on goes to `log`; nullptr ends it.
  static void record(DiskLog* log);
};

}  // namespace postbag::test
