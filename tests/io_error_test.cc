// I/O errors: the i-th read, write, sync, truncation ... of a scenario fails, once or from then on,
// for every i until the scenario gets through without meeting the fault. After each: every answer
// is one of the documented ones, and what a kill, a power loss and an orderly end leave is sound
// and holds all that was acknowledged.
#include <gtest/gtest.h>

#include <cerrno>
#include <iostream>
#include <stdexcept>
#include <string>

#include "postbag/error.h"
#include "tests/crash/fault_vfs.h"
#include "tests/crash/io_bench.h"
#include "tests/crash/store_scenarios.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

constexpr std::uint64_t faults_max = 3'000;  // of one kind in one scenario; far above any
constexpr std::uint64_t problems_max = 5;    // then the next kind

struct FaultKind {
  const char* name;
  DiskCall call;
  int error;
  bool in_part = false;
  bool no_room = false;  // the disk is full, not broken
};
constexpr FaultKind fault_kinds[] = {
    {"read EIO", DiskCall::read, EIO},
    {"write EIO", DiskCall::write, EIO},
    {"half a write, then EIO", DiskCall::write, EIO, true},
    {"write ENOSPC", DiskCall::write, ENOSPC, false, true},
    {"half a write, then ENOSPC", DiskCall::write, ENOSPC, true, true},
    {"write EDQUOT", DiskCall::write, EDQUOT, false, true},
    {"sync EIO", DiskCall::sync, EIO},
    {"truncate EIO", DiskCall::truncate, EIO},
    {"open EACCES", DiskCall::open, EACCES},
    {"remove EIO", DiskCall::remove, EIO},
    {"size EIO", DiskCall::size, EIO},
};

struct Met {
  bool fault = false;
  bool problem = false;
};

// One fault in one scenario.
Met meet(const StoreTemplates& templates, const StoreScenario& scenario, const FaultKind& kind,
         const DiskFault& fault) {
  const TempDirectory folder;
  templates.copy_to(scenario.begin, folder.path());
  IoBench bench(folder.path(), templates.model(scenario.begin));
  if (!scenario.opens_itself && !bench.open()) throw std::runtime_error("cannot be opened");
  FaultVfs::arm(fault);
  scenario.run(bench);
  Met met;
  met.fault = FaultVfs::failures() > 0;
  FaultVfs::disarm();
  if (kind.no_room && bench.failed()) bench.found("a full disk was taken for a broken one");
  if (bench.failed() && bench.failure().empty()) bench.found("it does not say what failed");
  if (bench.was_short_of_memory()) bench.found("a broken disk was taken for want of memory");
  if (!kind.no_room && bench.was_low()) bench.found("a broken disk was taken for a full one");
  bench.check_kill();
  if (fault.nth % 2 == 0) bench.check_power_loss(fault.nth);
  bench.probe();
  if (fault.for_ever) FaultVfs::arm(fault);
  bench.close();
  FaultVfs::disarm();
  bench.check_end();
  for (const std::string& problem : bench.problems()) {
    ADD_FAILURE() << scenario.name << ", " << kind.name << " at " << fault.nth
                  << (fault.for_ever ? " and from then on: " : " once: ") << problem;
  }
  met.problem = !bench.problems().empty();
  return met;
}

class IoErrorTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override { FaultVfs::install(); }
};

TEST_P(IoErrorTest, UntilItIsNotMet) {
  const StoreTemplates templates;
  const StoreScenario& scenario = store_scenarios()[GetParam()];
  std::uint64_t faults = 0;
  for (const FaultKind& kind : fault_kinds) {
    for (const bool for_ever : {false, true}) {
      std::uint64_t problems = 0;
      DiskFault fault;
      fault.calls = static_cast<unsigned>(kind.call);
      fault.error = kind.error;
      fault.in_part = kind.in_part;
      fault.for_ever = for_ever;
      for (fault.nth = 1; problems < problems_max; ++fault.nth) {
        const Met met = meet(templates, scenario, kind, fault);
        problems += met.problem;
        if (!met.fault) break;
        ++faults;
        ASSERT_LT(fault.nth, faults_max) << "no end in sight";
      }
    }
  }
  std::cout << scenario.name << ": " << faults << " faults\n";
  RecordProperty("faults", std::to_string(faults));
}

INSTANTIATE_TEST_SUITE_P(Scenarios, IoErrorTest,
                         ::testing::Range<std::size_t>(0, store_scenarios().size()),
                         [](const auto& param) { return store_scenarios()[param.param].name; });

}  // namespace
}  // namespace postbag::test
