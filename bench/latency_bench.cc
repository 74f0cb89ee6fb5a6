// What Postbag adds: the time from the instant at which a hook is due to be submitted until the
// receiver has its request, at fixed offered rates of unbatched hooks; beside it the raw client at
// the same rates.

#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/bench_table.h"
#include "bench/delivery_run.h"
#include "bench/log_histogram.h"
#include "bench/open_loop.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "latency_bench [--durability memory|os|fsync|all] [--peak N] [--shares N,N,...] [--seconds N]\n"
    "              [--pin] [--json] [--smoke]\n"
    "  --durability  all (default): memory and fsync\n"
    "  --peak        hooks/s; measured (best of 2 closed loops) where it is not given\n"
    "  --shares      percent of the peak that is offered (10,30,50,70,90)\n"
    "  --seconds     of each point (3), after half a second of warm-up\n"
    "  --pin         engine (or raw client) on core 0, feeder and receiver on core 1\n"
    "A hook's time starts at its instant of the schedule, so what waits is counted as waiting.\n"
    "Accepted: until submit() told that it is accepted (fsync: after the commit).\n";

constexpr double warm_up_s = 0.5;
constexpr std::uint64_t targets = 64;
constexpr std::size_t list_hooks_max = 1000;

struct LatencySetting {
  bool pin = false, json = false;
  double seconds = 3;
};

struct LatencyRun {
  LogHistogram received, accepted;
  std::uint64_t wanted = 0;
  std::atomic<std::uint64_t> refused{0};
  std::int64_t late_ns = 0;  // how far the feeder was behind its schedule at worst
  double engine_cpu_s = 0;
};

ReceiverProcessOptions stamping_receiver(const LatencySetting& setting, LatencyRun& run) {
  ReceiverProcessOptions options;
  options.pin = setting.pin;
  options.make_handler = [&run](ReceiverCounters&) {
    return [&run](const CountedRequest& request) {
      const std::int64_t stamp = StampedPayload::read(request.body);
      if (stamp > 0) run.received.add(now_ns() - stamp);
      return 200;
    };
  };
  return options;
}

Options latency_options(Durability durability) {
  Options options;
  options.store.durability = durability;
  options.defaults.batch.size = 1;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  return options;
}

void feed_open_loop(Engine& engine, std::uint16_t port, double per_second, double seconds,
                    LatencyRun& run) {
  // The feeder shares its core with the receiver: it sleeps exactly, and never spins.
  prctl(PR_SET_TIMERSLACK, 1);
  std::vector<std::string> urls;
  for (std::uint64_t i = 0; i < targets; ++i) {
    urls.push_back("http://127.0.0.1:" + std::to_string(port) + "/t/" + std::to_string(i));
  }
  StampedPayload payload;
  const OpenLoop loop = OpenLoop::make(per_second, warm_up_s, seconds);
  run.wanted = loop.hooks - loop.warm_up;
  for (std::uint64_t next = 0; next < loop.hooks;) {
    std::int64_t now = now_ns();
    if (loop.due_ns(next) > now) {
      sleep_until_ns(loop.due_ns(next));
      now = now_ns();
    }
    const std::int64_t first = loop.stamp_ns(next);
    if (first > 0) run.late_ns = std::max(run.late_ns, now - first);
    HookList list;
    for (; next < loop.hooks && loop.due_ns(next) <= now && list.size() < list_hooks_max; ++next) {
      list.add(urls[next % targets], payload.make(loop.stamp_ns(next)));
    }
    engine.submit(std::move(list), {}, [&run, first](const SubmitResult& result) {
      if (!result.ok()) ++run.refused;
      if (result.ok() && first > 0) run.accepted.add(now_ns() - first);
    });
  }
}

// In a process of its own.
int run_engine_point(const LatencySetting& setting, Durability durability, double per_second,
                     LatencyRun& run) {
  ReceiverProcess receiver(stamping_receiver(setting, run));
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
  if (setting.pin) pin_to_core(0);
  Engine engine(std::move(options), std::move(store));
  if (setting.pin) pin_to_core(1);
  const double cpu_start = process_cpu_s() - thread_cpu_s();
  feed_open_loop(engine, receiver.port(), per_second, setting.seconds, run);
  const bool idle = engine.wait_idle(std::chrono::seconds(20));
  run.engine_cpu_s = process_cpu_s() - thread_cpu_s() - cpu_start;
  engine.drain(std::chrono::seconds(1));
  receiver.stop();
  return idle && run.refused == 0 && run.received.count() == run.wanted ? 0 : 1;
}

int run_raw_point(const LatencySetting& setting, double per_second, LatencyRun& run) {
  ReceiverProcess receiver(stamping_receiver(setting, run));
  if (setting.pin) pin_to_core(0);
  prctl(PR_SET_TIMERSLACK, 1);
  run_raw_open_loop(receiver.port(), targets, per_second, warm_up_s, setting.seconds);
  receiver.stop();
  return 0;
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

bool run_point(const LatencySetting& setting, const LatencyPoint& point, BenchTable& table) {
  LatencyRun& raw = make_shared_value<LatencyRun>();
  LatencyRun& run = make_shared_value<LatencyRun>();
  const std::string name(durability_name(point.durability));
  show_progress("latency " + name + " at " + std::to_string(point.share) + " % of the peak, " +
                short_count(point.per_second) + "/s");
  const bool raw_ok =
      Child([&] { return run_raw_point(setting, point.per_second, raw); }).wait().exit_code == 0;
  Child child([&] { return run_engine_point(setting, point.durability, point.per_second, run); });
  const bool ok = child.wait().exit_code == 0 && raw_ok;
  const double busy = run.engine_cpu_s / (setting.seconds + warm_up_s);
  if (!setting.json) {
    table.add({name, std::to_string(point.share) + " %", short_count(point.per_second),
               fixed(run.received.quantile_us(0.5), 0), fixed(run.received.quantile_us(0.99), 0),
               fixed(run.received.quantile_us(0.999), 0), fixed(run.received.max_us(), 0),
               fixed(run.accepted.quantile_us(0.5), 0), fixed(run.accepted.quantile_us(0.99), 0),
               fixed(raw.received.quantile_us(0.5), 0), fixed(raw.received.quantile_us(0.99), 0),
               fixed(raw.received.quantile_us(0.999), 0), fixed(busy, 2), ok ? "" : "FAILED"});
    return ok;
  }
  Report(true)
      .text("case", "latency_" + name)
      .text("result", ok ? "ok" : "FAILED")
      .number("share_percent", static_cast<double>(point.share))
      .number("offered_per_s", point.per_second)
      .number("hooks", static_cast<double>(run.received.count()))
      .number("p50_us", run.received.quantile_us(0.5), 1)
      .number("p99_us", run.received.quantile_us(0.99), 1)
      .number("p999_us", run.received.quantile_us(0.999), 1)
      .number("max_us", run.received.max_us(), 1)
      .number("accepted_p50_us", run.accepted.quantile_us(0.5), 1)
      .number("accepted_p99_us", run.accepted.quantile_us(0.99), 1)
      .number("raw_p50_us", raw.received.quantile_us(0.5), 1)
      .number("raw_p99_us", raw.received.quantile_us(0.99), 1)
      .number("raw_p999_us", raw.received.quantile_us(0.999), 1)
      .number("feeder_late_max_us", static_cast<double>(run.late_ns) / 1000, 1)
      .number("engine_busy", busy, 2)
      .number("refused_calls", static_cast<double>(run.refused.load()))
      .print();
  return ok;
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
      argc, argv, {"durability=", "peak=", "shares=", "seconds=", "pin", "json", "smoke"}, usage);
  const bool smoke = arguments.has("smoke");
  LatencySetting setting;
  setting.pin = arguments.has("pin");
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
  BenchTable table({"durability", "offered", "hooks/s", "p50 us", "p99", "p99.9", "max",
                    "accepted p50", "p99", "raw p50", "raw p99", "raw p99.9", "busy", ""});
  bool ok = true;
  for (const Durability each : durabilities) {
    const double peak = static_cast<double>(arguments.number(
        "peak", smoke ? 2000 : static_cast<std::uint64_t>(measure_peak(setting, each))));
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
