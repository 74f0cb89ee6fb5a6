#pragma once

#include <cstdint>

namespace postbag::test {

// An allocator under SQLite of which chosen allocations fail; the counterpart of FailingNew, which
// SQLite knows nothing of. One for the process; not for several threads.
class FailingSqliteMemory {
 public:
  // Before the first database of the process is opened. Without the pools that SQLite would take
  // most of its small pieces from. Throws std::runtime_error.
  static void install();

  // From now on `nth` more allocations succeed and then `failures` fail, one after the other.
  static void arm(std::uint64_t nth, std::uint64_t failures);
  // Nothing fails any more. Returns how many have failed since arm().
  static std::uint64_t disarm();
  // Since arm(), the failed ones too.
  static std::uint64_t allocations();
  // That were not given back yet.
  static std::int64_t outstanding();
};

}  // namespace postbag::test
