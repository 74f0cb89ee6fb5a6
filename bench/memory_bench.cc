// What waiting costs, and whether the cost of a hook grows with the number of targets: hooks are
// submitted while nothing can be delivered (their bags stay open, or the receiver is stopped), the
// process is measured, then all of them are delivered and it is measured again.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/bench_table.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "memory_bench [--set memory|scale|all] [--case NAME] [--repeat N] [--pin] [--json] [--smoke]\n"
    "  --set   memory: bytes per waiting hook and per target; scale: one hook a request to 100 to\n"
    "          1,000,000 targets, and 1,000,000 or 10,000,000 waiting hooks, in memory that was\n"
    "          touched by another process before; all (default): both\n"
    "  --pin   engine on core 0, feeder and receiver on core 1\n"
    "beyond payload: resident memory less the payloads, per waiting hook; counted: the same by "
    "the\n"
    "engine's own count; idle: what the engine counts per target it was given, after delivery.\n";

constexpr std::uint64_t payload_bytes = 300;
constexpr std::uint64_t list_hooks = 1000;
constexpr std::size_t waiting_overhead_bytes = 30, target_bytes = 1024, page_bytes = 4096;

struct MemoryCase {
  const char* name;
  bool scale;
  std::uint64_t targets, hooks;
  std::uint32_t batch;
  bool open_bags;  // they wait in bags that only a flush cuts; otherwise the receiver is stopped
  std::uint64_t max_memory_mib;
};

constexpr MemoryCase memory_cases[] = {
    {"full_bags_targets1", false, 1, 1'000'000, 100, false, 2048},
    {"full_bags_targets1000", false, 1000, 1'000'000, 100, false, 2048},
    {"half_bags_targets20000", false, 20'000, 1'000'000, 100, true, 2048},
    {"unbatched_targets64", false, 64, 1'000'000, 1, false, 2048},
    {"one_hook_bags_targets1000000", false, 1'000'000, 1'000'000, 100, true, 2048},
    {"scale_targets100", true, 100, 1'000'000, 1, false, 2048},
    {"scale_targets10000", true, 10'000, 1'000'000, 1, false, 2048},
    {"scale_targets100000", true, 100'000, 1'000'000, 1, false, 2048},
    {"scale_targets1000000", true, 1'000'000, 1'000'000, 1, false, 2048},
    {"scale_hooks1000000_targets100", true, 100, 1'000'000, 100, false, 8192},
    {"scale_hooks10000000_targets100", true, 100, 10'000'000, 100, false, 8192},
};

// Filled in by the process of the case.
struct MemoryRun {
  double base = 0, waiting = 0, after = 0;  // resident bytes
  double counted = 0, counted_after = 0;    // by the engine
  double take_cpu_s = 0, deliver_cpu_s = 0, deliver_s = 0;
  std::uint64_t targets_after = 0;
};

double resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return static_cast<double>(resident * page_bytes);
}

// Of the engine: the calling thread is the feeder.
double engine_cpu_s() {
  return process_cpu_s() - thread_cpu_s();
}

Options memory_options(const MemoryCase& what) {
  Options options;
  options.defaults.batch.size = what.batch;
  options.defaults.batch.time = what.open_bags ? std::chrono::hours(1) : std::chrono::seconds(1);
  options.defaults.delivery.timeout = std::chrono::minutes(10);
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  options.engine.max_memory = what.max_memory_mib << 20;
  // The same number of requests on the wire, however many targets there are.
  options.engine.max_connections = 64;
  return options;
}

bool fill(Engine& engine, const MemoryCase& what, std::uint16_t port) {
  const std::string prefix = "http://127.0.0.1:" + std::to_string(port) + "/t/";
  PayloadMaker maker(payload_bytes);
  HookList list;
  for (std::uint64_t i = 0; i < what.hooks; ++i) {
    list.add(prefix + std::to_string(i % what.targets),
             maker.make(i % what.targets, i / what.targets));
    if (list.size() < list_hooks && i + 1 < what.hooks) continue;
    const SubmitResult result = engine.submit(std::move(list));
    if (!result.ok()) {
      std::fprintf(stderr, "refused: %s\n", result.message.c_str());
      return false;
    }
    list = HookList();
  }
  return true;
}

// In a process of its own.
int run_memory_case(const MemoryCase& what, bool pin, MemoryRun& run) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = pin;
  ReceiverProcess receiver(receiver_options);
  if (pin) pin_to_core(0);
  Engine engine(memory_options(what), make_memory_store());
  if (pin) pin_to_core(1);
  if (!what.open_bags) receiver.pause();
  run.base = resident_bytes();
  const double cpu_start = engine_cpu_s();
  if (!fill(engine, what, receiver.port())) return 1;
  // Its answer comes behind everything that was handed over.
  if (!what.open_bags) engine.flush();
  run.take_cpu_s = engine_cpu_s() - cpu_start;
  run.waiting = resident_bytes();
  run.counted = static_cast<double>(engine.status().memory_bytes);
  const double start = now_s();
  receiver.resume();
  if (what.open_bags) engine.flush();
  const bool received = wait_for_hooks(receiver.counters(), what.hooks);
  const bool idle = received && engine.wait_idle(std::chrono::seconds(20));
  run.deliver_s = now_s() - start;
  run.deliver_cpu_s = engine_cpu_s() - cpu_start - run.take_cpu_s;
  run.after = resident_bytes();
  const EngineStatus status = engine.status();
  run.counted_after = static_cast<double>(status.memory_bytes);
  run.targets_after = status.targets;
  engine.drain(std::chrono::seconds(1));
  const bool exact = receiver.counters().hooks == what.hooks && status.delivered == what.hooks;
  receiver.stop();
  return idle && exact ? 0 : 1;
}

// A virtual machine's host may take back what is free, and fetches it again when it is touched: up
// to 8 us a page, as much as the engine needs for ten hooks. So memory is touched before, by a
// process that ends, and a case with more of it is not charged for its host.
void fetch_memory(const MemoryCase& what) {
  Child child([&what] {
    const std::size_t bytes =
        what.hooks * (payload_bytes + waiting_overhead_bytes) + what.targets * target_bytes;
    char* const memory = static_cast<char*>(shared_memory(bytes));
    for (std::size_t i = 0; i < bytes; i += page_bytes) memory[i] = 1;
    return 0;
  });
  child.wait();
}

double per(double bytes, std::uint64_t count) {
  return bytes / static_cast<double>(count);
}

void report_memory(const MemoryCase& what, const MemoryRun& run, bool ok, bool json,
                   BenchTable& table) {
  const double resident = run.waiting - run.base;
  const double beyond = per(resident, what.hooks) - payload_bytes;
  const double counted = per(run.counted, what.hooks) - payload_bytes;
  const double take_us = per(run.take_cpu_s * 1e6, what.hooks);
  const double deliver_us = per(run.deliver_cpu_s * 1e6, what.hooks);
  const double mib = 1 << 20;
  if (!json) {
    table.add({what.name, short_count(static_cast<double>(what.hooks)), fixed(beyond, 1),
               fixed(counted, 1), fixed(per(resident, what.targets), 0), fixed(take_us, 3),
               fixed(deliver_us, 3), fixed(take_us + deliver_us, 3), fixed(run.waiting / mib, 0),
               fixed(run.after / mib, 0), fixed(per(run.counted_after, what.targets), 1),
               ok ? "" : "FAILED"});
    return;
  }
  Report(true)
      .text("case", what.name)
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(what.hooks))
      .number("targets", static_cast<double>(what.targets))
      .number("batch", what.batch)
      .number("beyond_payload_bytes_per_hook", beyond, 1)
      .number("counted_beyond_payload_bytes_per_hook", counted, 1)
      .number("resident_bytes_per_target", per(resident, what.targets), 1)
      .number("take_cpu_us_per_hook", take_us, 3)
      .number("deliver_cpu_us_per_hook", deliver_us, 3)
      .number("delivered_per_s", static_cast<double>(what.hooks) / run.deliver_s)
      .number("base_mb", run.base / mib, 1)
      .number("waiting_mb", run.waiting / mib, 1)
      .number("after_mb", run.after / mib, 1)
      .number("idle_bytes_per_target", per(run.counted_after, what.targets), 1)
      .number("targets_known_after", static_cast<double>(run.targets_after))
      .print();
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, {"set=", "case=", "repeat=", "pin", "json", "smoke"},
                            usage);
  const std::string set = arguments.text("set", "all");
  const bool json = arguments.has("json");
  BenchTable table({"case", "hooks", "beyond payload", "counted", "B/target", "take us",
                    "deliver us", "both", "waiting MB", "after MB", "idle B/target", ""});
  bool ok = true, any = false;
  const std::uint64_t repeat = std::max<std::uint64_t>(1, arguments.number("repeat", 1));
  for (std::uint64_t round = 0; round < repeat; ++round) {
    for (MemoryCase what : memory_cases) {
      if (set != "all" && set != (what.scale ? "scale" : "memory")) continue;
      if (arguments.text("case", what.name) != what.name) continue;
      any = true;
      if (arguments.has("smoke")) {
        what.targets = std::max<std::uint64_t>(1, what.targets / 1000);
        what.hooks /= 1000;
      }
      show_progress(std::string(what.name) + ", round " + std::to_string(round + 1));
      if (what.scale) fetch_memory(what);
      MemoryRun& result = make_shared_value<MemoryRun>();
      Child child([&] { return run_memory_case(what, arguments.has("pin"), result); });
      const bool case_ok = child.wait().exit_code == 0;
      report_memory(what, result, case_ok, json, table);
      ok = ok && case_ok;
    }
  }
  clear_progress();
  if (!any) {
    std::fprintf(stderr, "no such case\n%s", usage);
    return 64;
  }
  if (!json) table.print();
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("memory_bench", postbag::run, argc, argv);
}
