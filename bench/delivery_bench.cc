// Hooks through the library to a receiver in a process of its own. Every run of a case is a fresh
// process, beside a run of the raw epoll client that does the same requests without an engine;
// rounds go over all cases, so that what is compared was measured in the same minute.

#include <algorithm>
#include <cstdio>

#include "bench/bench_support.h"
#include "bench/bench_table.h"
#include "bench/delivery_report.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "delivery_bench [--set quick|plots|full] [--case GLOB] [--repeat N] [--pin] [--json] "
    "[--smoke]\n"
    "               [--hooks N] [--threads N] [--in-flight N] [--backlog N] [--max-memory-mb N]\n"
    "               [--check|--unchecked] [--without-raw] [--soak] [--list]\n"
    "  --set      quick (default): what the goals speak of, about two minutes with 3 rounds;\n"
    "             plots: what bench/plot draws, about two minutes a round, one --without-raw;\n"
    "             full: the whole matrix, about half an hour a round\n"
    "  --case     a name, in a set or not, or a pattern over the set (quote it):\n"
    "             unbatched|batchN _targetsN [_inflightN] [_tls] [_os|_fsync] [_failing]\n"
    "             in_flight is 16 unless named (unbatched: 64 requests over all targets)\n"
    "  --repeat   rounds (3); medians are shown\n"
    "  --pin      engine on core 0, feeder and receiver on core 1\n"
    "  --backlog  hooks submitted and not received yet, at most; so many that the engine always\n"
    "             has work, but is not full\n"
    "  --check    the receiver verifies every payload's place in its target's sequence (costs it\n"
    "             time); otherwise a run before the measured ones does, and those verify counts\n"
    "             and bytes; --unchecked leaves that run out\n"
    "  --without-raw  no runs of the raw client\n"
    "  --soak     one round of one case (batch100_targets1) with 100,000,000 hooks; resident\n"
    "             memory at every percent, its growth from 10 % to the end\n"
    "  --smoke    tiny counts, to see that it works\n"
    "busy is engine CPU per second of wall time: below 1 the engine waited for others.\n";

constexpr std::uint64_t checked_hooks_max = 300'000;
constexpr const char* smoke_cases[] = {
    "batch100_targets1",         "batch10_targets1000",      "unbatched_targets64",
    "batch100_targets1_tls",     "batch10_targets16_fsync",  "unbatched_targets16_os_failing",
    "batch100_targets100000_os", "batch10_targets1_failing",
};

struct DeliveryPlan {
  DeliverySetting setting;
  std::uint64_t repeat = 3;
  bool json = false, with_raw = true;
  std::vector<DeliveryRuns> cases;
};

void check_content(DeliveryRuns& runs, DeliverySetting setting) {
  show_progress("verifying content: " + runs.what.name);
  DeliveryCase what = runs.what;
  what.hooks = std::min(what.hooks, checked_hooks_max);
  setting.check = true;
  const DeliveryMeasure measure = measure_delivery(what, setting);
  runs.checked = what.hooks;
  runs.checked_wrong = measure.wrong;
  runs.ok = runs.ok && measure.ok;
}

void run_round(DeliveryPlan& plan, std::uint64_t round) {
  for (DeliveryRuns& runs : plan.cases) {
    const bool raw_first = plan.with_raw && round % 2 == 0;
    const bool raw_last = plan.with_raw && !raw_first;
    if (raw_first) runs.raw.push_back(measure_raw(runs.what, plan.setting));
    runs.engine.push_back(measure_delivery(runs.what, plan.setting));
    if (raw_last) runs.raw.push_back(measure_raw(runs.what, plan.setting));
    runs.ok = runs.ok && runs.engine.back().ok && (!plan.with_raw || runs.raw.back().ok);
    show_progress("round " + std::to_string(round + 1) + "/" + std::to_string(plan.repeat) + "  " +
                  runs.what.name + ": " + describe_run(runs));
  }
}

int run_soak(DeliveryPlan& plan) {
  plan.setting.soak = true;
  const DeliveryMeasure measure = measure_delivery(plan.cases.front().what, plan.setting);
  Report(plan.json)
      .text("case", plan.cases.front().what.name)
      .text("result", measure.ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(measure.hooks))
      .number("hooks_per_s", measure.hooks_per_s())
      .number("peak_rss_mb", measure.peak_rss_mb, 1)
      .number("growth_mb", measure.soak_growth_mb, 1)
      .number("wrong", static_cast<double>(measure.wrong))
      .print();
  return measure.ok ? 0 : 1;
}

std::vector<DeliveryCase> choose_cases(const Arguments& arguments) {
  const std::string set = arguments.text("set", "quick");
  if (arguments.has("case")) return find_delivery_cases(set, arguments.text("case"));
  if (arguments.has("soak")) return find_delivery_cases(set, "batch100_targets1");
  if (!arguments.has("smoke")) return delivery_case_set(set);
  std::vector<DeliveryCase> cases;
  for (const char* name : smoke_cases) cases.push_back(*parse_delivery_case(name));
  return cases;
}

int run(int argc, char** argv) {
  const Arguments arguments(
      argc, argv,
      {"set=", "case=", "repeat=", "pin", "json", "smoke", "hooks=", "threads=", "in-flight=",
       "backlog=", "max-memory-mb=", "check", "unchecked", "without-raw", "soak", "list"},
      usage);
  DeliveryPlan plan;
  const bool smoke = arguments.has("smoke");
  plan.setting.pin = arguments.has("pin");
  plan.setting.check = arguments.has("check");
  plan.setting.threads = static_cast<std::uint32_t>(arguments.number("threads", 1));
  plan.setting.max_memory = arguments.number("max-memory-mb", 256) << 20;
  plan.setting.backlog = arguments.number("backlog", 0);
  plan.repeat = std::max<std::uint64_t>(1, arguments.number("repeat", smoke ? 1 : 3));
  plan.json = arguments.has("json");
  plan.with_raw = !arguments.has("without-raw");
  for (DeliveryCase& what : choose_cases(arguments)) {
    if (smoke) what.hooks = what.batch == 1 ? 640 : 5000;
    if (arguments.has("soak")) what.hooks = 100'000'000;
    what.hooks = std::max<std::uint64_t>(1, arguments.number("hooks", what.hooks));
    what.in_flight = static_cast<std::uint32_t>(arguments.number("in-flight", what.in_flight));
    if (arguments.has("list")) std::printf("%s\n", what.name.c_str());
    plan.cases.emplace_back().what = std::move(what);
  }
  if (plan.cases.empty()) {
    std::fprintf(stderr, "no such case\n%s", usage);
    return 64;
  }
  if (arguments.has("list")) return 0;
  if (arguments.has("soak")) return run_soak(plan);
  for (DeliveryRuns& runs : plan.cases) {
    if (!plan.setting.check && !arguments.has("unchecked")) check_content(runs, plan.setting);
  }
  for (std::uint64_t round = 0; round < plan.repeat; ++round) run_round(plan, round);
  clear_progress();
  report_deliveries(plan.cases, plan.json);
  const bool ok = std::all_of(plan.cases.begin(), plan.cases.end(),
                              [](const DeliveryRuns& runs) { return runs.ok; });
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("delivery_bench", postbag::run, argc, argv);
}
