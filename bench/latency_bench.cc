// What Postbag adds: the time from the instant at which a hook is due to be submitted until the
// receiver has its request, at fixed offered rates of unbatched hooks; beside it the raw client at
// the same rates, handed its hooks in the same way.

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/bench_table.h"
#include "bench/delivery_run.h"
#include "bench/log_histogram.h"
#include "bench/open_loop.h"
#include "bench/raw_open_loop.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "latency_bench [--durability memory|os|fsync|all] [--peak N] [--shares N,N,...] [--seconds N]\n"
    "              [--pin] [--fifo] [--json] [--smoke]\n"
    "  --durability  all (default): memory and fsync\n"
    "  --peak        hooks/s; measured (best of 2 closed loops) where it is not given\n"
    "  --shares      percent of the peak that is offered (10,30,50,70,90)\n"
    "  --seconds     of each point (3), after half a second of warm-up\n"
    "  --pin         engine (or raw client) on core 0, what offers and receives on core 1\n"
    "  --fifo        all measured threads under SCHED_FIFO (for root): no other program and few\n"
    "                threads of the kernel interrupt them, so what is left is their own\n"
    "A hook's time starts at its instant of the schedule, so what waits is counted as waiting.\n"
    "Usual p99: the median of the p99 of each tenth of a second, so that pauses of the machine "
    "are\n"
    "in few of them.\n"
    "Accepted: until submit() told that it is accepted (fsync: after the commit).\n"
    "Late: until it was offered; the thread that offers is the one that receives, so a busy\n"
    "receiver is late, and what it is late by is in all other times of the row.\n"
    "saturated: the rate is more than was done, so the times say how long it was offered. Exit\n"
    "code 1: a hook was lost, or refused for another reason than want of room (FAILED).\n";

constexpr double warm_up_s = 0.5;
constexpr std::uint64_t targets = 64;

struct LatencySetting {
  bool pin = false, fifo = false, json = false;
  double seconds = 3;
};

struct LatencyRun {
  OpenLoopTimes times;
  LogHistogram accepted;
  std::atomic<std::uint64_t> refused{0};  // calls
  std::atomic<bool> failed{true};         // until its process says otherwise
  LoadResult result = LoadResult::lost;
  double sender_cpu_s = 0;  // of all threads but the load's
};

Options latency_options(Durability durability) {
  Options options;
  options.store.durability = durability;
  options.defaults.batch.size = 1;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  return options;
}

const char* result_name(const LatencyRun& run) {
  if (run.failed || run.result == LoadResult::lost) return "FAILED";
  return run.result == LoadResult::held ? "ok" : "saturated";
}

OpenLoopLoad::Offer submit_to(Engine& engine, OpenLoopLoad& load, LatencyRun& run) {
  std::vector<std::string> urls;
  for (std::uint64_t i = 0; i < targets; ++i) {
    urls.push_back("http://127.0.0.1:" + std::to_string(load.port()) + "/t/" + std::to_string(i));
  }
  return [&engine, &load, &run, urls = std::move(urls), payload = StampedPayload()](
             const OpenLoop& loop, std::uint64_t first, std::uint64_t end) mutable {
    HookList list;
    for (std::uint64_t next = first; next < end; ++next) {
      list.add(urls[next % targets], payload.make(loop.stamp_ns(next)));
    }
    const std::int64_t stamp = loop.stamp_ns(first);
    const std::uint64_t hooks = end - first;
    engine.submit(std::move(list), {}, [&load, &run, stamp, hooks](const SubmitResult& result) {
      if (!result.ok()) ++run.refused;
      if (result.error == Errc::full) load.refused(hooks);
      if (result.ok() && stamp > 0) run.accepted.add(now_ns() - stamp);
    });
  };
}

// The calling thread and those it starts.
void schedule_first_in_first_out(bool on) {
  sched_param priority{};
  priority.sched_priority = on ? 1 : 0;
  if (sched_setscheduler(0, on ? SCHED_FIFO : SCHED_OTHER, &priority) != 0) {
    throw std::system_error(errno, std::system_category(), "SCHED_FIFO is not to be had");
  }
}

// In a process of its own, as the next.
int run_engine_point(const LatencySetting& setting, Durability durability, double per_second,
                     LatencyRun& run) {
  if (setting.fifo) schedule_first_in_first_out(true);
  std::optional<BenchFolder> folder;
  Options options = latency_options(durability);
  std::unique_ptr<Store> store;
  if (durability == Durability::memory) {
    store = make_memory_store();
  } else {
    folder.emplace();
    SqliteStoreOptions store_options;
    store_options.path = options.store.path = (folder->path() / "postbag.db").string();
    store = open_sqlite_store(store_options);
  }
  OpenLoopLoad load(run.times);
  if (setting.pin) pin_to_core(0);
  Engine engine(std::move(options), std::move(store));
  if (setting.pin) pin_to_core(1);
  const double cpu_start = process_cpu_s() - thread_cpu_s();
  run.result = load.run(OpenLoop::make(per_second, warm_up_s, setting.seconds),
                        submit_to(engine, load, run));
  run.sender_cpu_s = process_cpu_s() - thread_cpu_s() - cpu_start;
  const bool idle = engine.wait_idle(std::chrono::seconds(20));
  engine.drain(std::chrono::seconds(1));
  run.failed = run.result == LoadResult::lost || !idle;
  return run.failed ? 1 : 0;
}

int run_raw_point(const LatencySetting& setting, double per_second, LatencyRun& run) {
  if (setting.fifo) schedule_first_in_first_out(true);
  OpenLoopLoad load(run.times);
  if (setting.pin) pin_to_core(0);
  RawOpenLoopClient client(load.port(), targets);
  if (setting.pin) pin_to_core(1);
  const double cpu_start = process_cpu_s() - thread_cpu_s();
  const auto offer = [&client](const OpenLoop& loop, std::uint64_t first, std::uint64_t end) {
    client.offer(loop, first, end);
  };
  run.result = load.run(OpenLoop::make(per_second, warm_up_s, setting.seconds), offer);
  run.sender_cpu_s = process_cpu_s() - thread_cpu_s() - cpu_start;
  run.failed = run.result == LoadResult::lost;
  return run.failed ? 1 : 0;
}

double measure_peak(const LatencySetting& setting, Durability durability) {
  DeliveryCase what = *parse_delivery_case(std::string("unbatched_targets64") +
                                           (durability == Durability::fsync ? "_fsync"
                                            : durability == Durability::os  ? "_os"
                                                                            : ""));
  DeliverySetting delivery;
  delivery.pin = setting.pin;
  double best = 0;
  for (int i = 0; i < 2; ++i) best = std::max(best, measure_delivery(what, delivery).hooks_per_s());
  if (best == 0) throw std::runtime_error("the peak could not be measured");
  return best;
}

struct LatencyPoint {
  Durability durability;
  std::uint64_t share;
  double per_second;
};

// The rows of a point: of the engine, and of the raw client below it.
void add_rows(BenchTable& table, const LatencySetting& setting, const LatencyPoint& point,
              const LatencyRun& run, const LatencyRun& raw) {
  const auto us = [](const LogHistogram& times, double share) {
    return times.count() == 0 ? std::string() : fixed(times.quantile_us(share), 0);
  };
  const double seconds = setting.seconds + warm_up_s;
  for (const LatencyRun* each : {&run, &raw}) {
    const bool is_raw = each == &raw;
    const LogHistogram& received = each->times.received;
    const LogHistogram& late = each->times.late;
    const std::string_view result = result_name(*each);
    table.add({is_raw ? "  raw client" : std::string(durability_name(point.durability)),
               is_raw ? "" : std::to_string(point.share) + " %", short_count(point.per_second),
               us(received, 0.5), us(received, 0.99), fixed(each->times.tail.median_p99_us(), 0),
               us(received, 0.999), fixed(received.max_us(), 0), us(each->accepted, 0.5),
               us(each->accepted, 0.99), us(late, 0.5), us(late, 0.99), fixed(late.max_us(), 0),
               fixed(each->sender_cpu_s / seconds, 2), result == "ok" ? "" : std::string(result)});
  }
}

void print_line(const LatencySetting& setting, const LatencyPoint& point, const LatencyRun& run,
                const LatencyRun& raw) {
  Report line(true);
  line.text("case", "latency_" + std::string(durability_name(point.durability)))
      .text("result", raw.failed ? "FAILED" : result_name(run))
      .text("raw_result", result_name(raw))
      .number("share_percent", static_cast<double>(point.share))
      .number("offered_per_s", point.per_second)
      .number("hooks", static_cast<double>(run.times.received.count()));
  const auto add = [&line](const std::string& name, double value) {
    line.number((name + "_us").c_str(), value, 1);
  };
  for (const LatencyRun* each : {&run, &raw}) {
    const std::string prefix = each == &raw ? "raw_" : "";
    add(prefix + "p50", each->times.received.quantile_us(0.5));
    add(prefix + "p99", each->times.received.quantile_us(0.99));
    add(prefix + "usual_p99", each->times.tail.median_p99_us());
    add(prefix + "p999", each->times.received.quantile_us(0.999));
    add(prefix + "max", each->times.received.max_us());
    add(prefix + "late_p99", each->times.late.quantile_us(0.99));
    add(prefix + "late_max", each->times.late.max_us());
    line.number((prefix + "busy").c_str(), each->sender_cpu_s / (setting.seconds + warm_up_s), 2);
  }
  add("accepted_p50", run.accepted.quantile_us(0.5));
  add("accepted_p99", run.accepted.quantile_us(0.99));
  line.number("refused_calls", static_cast<double>(run.refused.load())).print();
}

bool run_point(const LatencySetting& setting, const LatencyPoint& point, BenchTable& table) {
  LatencyRun& raw = make_shared_value<LatencyRun>();
  LatencyRun& run = make_shared_value<LatencyRun>();
  show_progress("latency " + std::string(durability_name(point.durability)) + " at " +
                std::to_string(point.share) + " % of the peak, " + short_count(point.per_second) +
                "/s");
  const bool raw_ok =
      Child([&] { return run_raw_point(setting, point.per_second, raw); }).wait().exit_code == 0;
  Child child([&] { return run_engine_point(setting, point.durability, point.per_second, run); });
  const bool ok = child.wait().exit_code == 0;
  if (setting.json) {
    print_line(setting, point, run, raw);
  } else {
    add_rows(table, setting, point, run, raw);
  }
  return ok && raw_ok;
}

std::vector<std::uint64_t> parse_shares(std::string_view text) {
  std::vector<std::uint64_t> shares;
  while (!text.empty()) {
    const std::string part(text.substr(0, text.find(',')));
    shares.push_back(std::strtoull(part.c_str(), nullptr, 10));
    if (shares.back() == 0) throw std::invalid_argument("--shares wants numbers, as in 10,50,90");
    text.remove_prefix(std::min(text.size(), part.size() + 1));
  }
  return shares;
}

int run(int argc, char** argv) {
  const Arguments arguments(
      argc, argv, {"durability=", "peak=", "shares=", "seconds=", "pin", "fifo", "json", "smoke"},
      usage);
  const bool smoke = arguments.has("smoke");
  LatencySetting setting;
  setting.pin = arguments.has("pin");
  setting.fifo = arguments.has("fifo");
  if (setting.fifo) {  // said now if it is not to be had, used for the points alone
    schedule_first_in_first_out(true);
    schedule_first_in_first_out(false);
  }
  setting.json = arguments.has("json");
  setting.seconds = static_cast<double>(arguments.number("seconds", smoke ? 1 : 3));
  const std::string wanted = arguments.text("durability", "all");
  std::vector<Durability> durabilities;
  for (const Durability each : {Durability::memory, Durability::os, Durability::fsync}) {
    const bool usual = wanted == "all" && each != Durability::os;
    if (usual || durability_name(each) == wanted) durabilities.push_back(each);
  }
  if (durabilities.empty()) {
    std::fprintf(stderr, "--durability is memory, os, fsync or all\n%s", usage);
    return 64;
  }
  BenchTable table({"durability", "offered", "hooks/s", "p50 us", "p99", "usual p99", "p99.9",
                    "max", "accepted p50", "p99", "late p50", "p99", "max", "busy", ""});
  bool ok = true;
  for (const Durability each : durabilities) {
    const double peak = smoke || arguments.has("peak")
                            ? static_cast<double>(arguments.number("peak", 2000))
                            : measure_peak(setting, each);
    for (const std::uint64_t share :
         parse_shares(arguments.text("shares", smoke ? "50" : "10,30,50,70,90"))) {
      const LatencyPoint point{each, share, peak * static_cast<double>(share) / 100};
      ok = run_point(setting, point, table) && ok;
    }
  }
  clear_progress();
  if (!setting.json) table.print();
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("latency_bench", postbag::run, argc, argv);
}
