// Allocations that fail: the i-th of a scenario, once or from then on, of our own (operator new) or
// of SQLite's, for every i until the scenario gets through without meeting it. After each: every
// answer is a documented one or std::bad_alloc, nothing that was acknowledged is lost, what a kill
// and an orderly end leave is sound and opens, and SQLite got all its memory back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>

#include "tests/crash/io_bench.h"
#include "tests/crash/store_scenarios.h"
#include "tests/support/failing_new.h"
#include "tests/support/failing_sqlite_memory.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {
namespace {

constexpr std::uint64_t all_of_them = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t allocations_max = 200'000;  // in one scenario; far above any
constexpr std::uint64_t problems_max = 5;           // then the next kind

enum class Whose { ours, of_sqlite };

// Makes allocations fail within calls of the store, counted over all of them.
class MemoryFault : public AroundCalls {
 public:
  MemoryFault(Whose whose, std::uint64_t nth, std::uint64_t failures)
      : whose_(whose), left_(nth), failures_(failures) {}

  void begin() override {
    if (failures_ == 0) return;
    if (whose_ == Whose::ours) {
      FailingNew::arm(FailingNew::Who::this_thread, left_, failures_);
    } else {
      FailingSqliteMemory::arm(left_, failures_);
    }
  }
  void end() override {
    if (failures_ == 0) return;
    const bool ours = whose_ == Whose::ours;
    const std::uint64_t failed = ours ? FailingNew::disarm() : FailingSqliteMemory::disarm();
    const std::uint64_t seen =
        ours ? FailingNew::allocations() : FailingSqliteMemory::allocations();
    left_ -= std::min(left_, seen);
    if (failures_ != all_of_them) failures_ -= failed;
    met_ = met_ || failed > 0;
  }
  // From now on nothing fails.
  void stop() { failures_ = 0; }
  void go_on(std::uint64_t failures) {
    left_ = 0;
    failures_ = failures;
  }
  bool met() const { return met_; }

 private:
  Whose whose_;
  std::uint64_t left_, failures_;
  bool met_ = false;
};

struct Outcome {
  bool met = false;
  bool problem = false;
};

Outcome meet(const StoreTemplates& templates, const StoreScenario& scenario, Whose whose,
             std::uint64_t nth, bool for_ever) {
  const TempDirectory folder;
  templates.copy_to(scenario.begin, folder.path());
  const std::uint64_t failures = for_ever ? all_of_them : 1;
  MemoryFault fault(whose, nth, 0);
  const std::int64_t before = FailingSqliteMemory::outstanding();
  Outcome outcome;
  {
    IoBench bench(folder.path(), templates.model(scenario.begin), &fault);
    if (!scenario.opens_itself && !bench.open()) throw std::runtime_error("cannot be opened");
    fault = MemoryFault(whose, nth, failures);
    scenario.run(bench);
    fault.stop();
    outcome.met = fault.met();
    if (bench.failed()) bench.found("want of memory was taken for a disk that has failed");
    if (bench.was_low()) bench.found("want of memory was taken for want of room");
    bench.check_kill();
    bench.probe();
    if (for_ever) fault.go_on(failures);
    bench.close();
    fault.stop();
    bench.check_end();
    for (const std::string& problem : bench.problems()) {
      ADD_FAILURE() << scenario.name << ", allocation " << nth
                    << (whose == Whose::ours ? " of ours" : " of SQLite")
                    << (for_ever ? " and from then on: " : " once: ") << problem;
    }
    outcome.problem = !bench.problems().empty();
  }
  if (FailingSqliteMemory::outstanding() != before) {
    outcome.problem = true;
    ADD_FAILURE() << scenario.name << ", allocation " << nth << ": "
                  << FailingSqliteMemory::outstanding() - before << " pieces were not given back";
  }
  return outcome;
}

// Opening parses the schema in thousands of small pieces: of these every one is tried only if
// POSTBAG_EVERY is set.
std::uint64_t step_after(std::uint64_t nth) {
  static const bool every = std::getenv("POSTBAG_EVERY") != nullptr;
  return every || nth < 400 ? 1 : 13;
}

class StoreAllocFailureTest : public ::testing::TestWithParam<std::tuple<std::size_t, Whose>> {
 protected:
  void SetUp() override { FailingSqliteMemory::install(); }
};

TEST_P(StoreAllocFailureTest, UntilItIsNotMet) {
  const StoreTemplates templates;
  const auto [index, whose] = GetParam();
  const StoreScenario& scenario = store_scenarios()[index];
  std::uint64_t faults = 0;
  for (const bool for_ever : {false, true}) {
    std::uint64_t problems = 0;
    for (std::uint64_t nth = 0; problems < problems_max; nth += step_after(nth)) {
      const Outcome outcome = meet(templates, scenario, whose, nth, for_ever);
      problems += outcome.problem;
      if (!outcome.met) break;
      ++faults;
      ASSERT_LT(nth, allocations_max) << "no end in sight";
    }
  }
  std::cout << scenario.name << ": " << faults << " allocations\n";
  RecordProperty("allocations", std::to_string(faults));
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<std::size_t, Whose>>& info) {
  return std::string(store_scenarios()[std::get<0>(info.param)].name) +
         (std::get<1>(info.param) == Whose::ours ? "_ours" : "_sqlite");
}

INSTANTIATE_TEST_SUITE_P(Scenarios, StoreAllocFailureTest,
                         ::testing::Combine(::testing::Range<std::size_t>(0,
                                                                          store_scenarios().size()),
                                            ::testing::Values(Whose::ours, Whose::of_sqlite)),
                         name_of);

}  // namespace
}  // namespace postbag::test
