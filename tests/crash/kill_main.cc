// kill_test: kills a real daemon again and again and accounts for every hook.
//
//   kill_test --binary PATH [--kills N] [--seconds N] [--seed N] [--durability fsync|os]
//             [--points N --shim PATH]    each named point N times instead of random moments
//
// Prints one line. Exit code 0: nothing lost, nothing repeated without a reason. Otherwise 1, what
// is wrong and the seed on standard error, and the store is kept.
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <string_view>

#include "tests/crash/kill_harness.h"

namespace postbag::test {
namespace {

bool take_number(std::string_view text, std::uint64_t& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse(int argc, char** argv, KillPlan& plan) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i], value = argv[i + 1];
    bool good = true;
    if (name == "--kills") {
      good = take_number(value, plan.kills);
    } else if (name == "--seconds") {
      good = take_number(value, plan.seconds);
    } else if (name == "--seed") {
      good = take_number(value, plan.seed);
    } else if (name == "--binary") {
      plan.binary = std::filesystem::absolute(value);
    } else if (name == "--points") {
      good = take_number(value, plan.points_each);
    } else if (name == "--shim") {
      plan.shim = std::filesystem::absolute(value);
    } else if (name == "--durability") {
      plan.durability = value;
    } else {
      good = false;
    }
    if (!good) return false;
  }
  return argc % 2 == 1 && !plan.binary.empty() && (plan.points_each == 0 || !plan.shim.empty());
}

void print(const KillPlan& plan, const KillReport& report, double seconds) {
  const OracleCounts& counts = report.counts;
  std::cout << "kills " << report.kills << " (while starting " << report.kills_in_recovery
            << ", while ending " << report.terms_killed << ", at " << report.points
            << " named points " << report.kills_at_points << "), SIGTERM " << report.terms
            << ", seconds " << seconds << "; hooks offered " << counts.offered << ", accepted "
            << counts.accepted << ", delivered " << counts.delivered << ", failed rows "
            << counts.failed << ", lost answers " << counts.lost_answers
            << ", delivered without an answer to the producer " << counts.unaccepted_delivered
            << "; requests " << counts.requests << ", batches " << counts.batches
            << ", repeated after their 2xx " << counts.repeated_batches << ", at most a kill "
            << counts.most_repeats_a_kill << ", attempts forgotten " << counts.late_records
            << " by kills " << counts.late_kills << "; violations " << report.violations.size()
            << "; seed " << plan.seed << std::endl;
}

int kill_test(int argc, char** argv) {
  KillPlan plan;
  plan.seed = std::random_device()();
  if (const char* named = std::getenv("POSTBAG_BINARY")) plan.binary = named;
  if (!parse(argc, argv, plan)) {
    std::cerr << "usage: kill_test --binary PATH [--kills N] [--seconds N] [--seed N] "
                 "[--durability fsync|os] [--points N --shim PATH]\n";
    return 64;
  }
  std::string folder = (std::filesystem::temp_directory_path() / "postbag-kill-XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) return 73;
  plan.folder = folder;
  const auto begin = std::chrono::steady_clock::now();
  const KillReport report = KillHarness(plan).run();
  print(plan, report,
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  for (const std::string& violation : report.violations) std::cerr << violation << "\n";
  if (!report.violations.empty()) {
    std::cerr << "seed " << plan.seed << ", the store is kept in " << folder << "\n";
    return 1;
  }
  std::filesystem::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace postbag::test

int main(int argc, char** argv) {
  return postbag::test::kill_test(argc, argv);
}
