#pragma once

#include <cstdint>

namespace postbag::test {

// Replaces operator new and delete in the test program that links failing_new.cc, so that chosen
// allocations fail with std::bad_alloc (or null where the caller asked for that). Nothing fails
// until it is armed. One test at a time; the functions may be called from any thread.
class FailingNew {
 public:
  enum class Who {
    this_thread,  // only allocations of the thread that calls arm()
    every_thread,
  };

  // From now on `nth` more allocations succeed and then `failures` fail, one after the other.
  static void arm(Who who, std::uint64_t nth, std::uint64_t failures = 1);
  // Nothing fails any more. Returns how many have failed since arm().
  static std::uint64_t disarm();
  // Since arm(), of those that count, the failed ones too.
  static std::uint64_t allocations();
};

}  // namespace postbag::test
