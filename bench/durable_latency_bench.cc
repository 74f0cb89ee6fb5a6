// How long a call waits for its acknowledgement in a durable mode: calls are offered at a fixed
// rate, whatever became of those before, and each counts from the instant it was due (so a feeder
// that is held up hides nothing). Beside it nothing else happens, or failed rows are listed, or
// purged.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "bench/batch_check.h"
#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/slow_sync.h"
#include "bench/store_seed.h"
#include "postbag/engine.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "durable_latency_bench [--rate N] [--call N] [--sync-ms N,N...] [--beside nothing|list|purge]\n"
    "                      [--rows N] [--payload BYTES] [--durability fsync|os] [--seconds N]\n"
    "                      [--pin] [--json] [--smoke]\n"
    "  --rate     hooks a second that are offered (340000: 0.8 of the floor of durable_bench)\n"
    "  --call     hooks of each call (100)\n"
    "  --sync-ms  what is added to each sync, a case each (0,2,5)\n"
    "  --beside   what happens to the failed rows meanwhile; --rows of them (1000000)\n"
    "  --pin      engine and store on core 0, feeder and receiver on core 1\n";

constexpr std::uint64_t targets = 64;
constexpr double warm_up_s = 1;

struct Setting {
  std::uint64_t rate = 340'000, call = 100, rows = 1'000'000, payload = 256, seconds = 5;
  std::string beside = "nothing";
  Durability durability = Durability::fsync;
  bool pin = false, json = false;
};

// Steps that grow by 2 %, from 10 us to over a minute.
class LatencySteps {
 public:
  void add(double seconds) {
    const double step = std::log(std::max(seconds, 1e-5) / 1e-5) / std::log(1.02);
    steps_[std::min(static_cast<std::size_t>(step), steps_.size() - 1)].fetch_add(1);
    count_.fetch_add(1);
    if (seconds > max_s_) max_s_ = seconds;  // one writer
  }
  double quantile_ms(double share) const {
    const double wanted = share * static_cast<double>(count_.load());
    double seen = 0;
    for (std::size_t step = 0; step < steps_.size(); ++step) {
      seen += static_cast<double>(steps_[step].load());
      if (seen >= wanted) return 1e-2 * std::pow(1.02, static_cast<double>(step + 1));
    }
    return 0;
  }
  double max_ms() const { return max_s_ * 1000; }
  std::uint64_t count() const { return count_; }

 private:
  std::array<std::atomic<std::uint64_t>, 800> steps_{};
  std::atomic<std::uint64_t> count_{0};
  std::atomic<double> max_s_{0};
};

struct Measured {
  LatencySteps steps;
  std::uint64_t refused = 0, syncs = 0, rows_done = 0, left = 0;
  double behind_ms = 0;  // the longest that the feeder was behind its schedule
  double beside_s = 0, sync_s = 0, sync_max_s = 0;
};

// Offers calls when they are due, on the caller's thread.
class OpenLoopFeeder {
 public:
  OpenLoopFeeder(Engine& engine, std::uint16_t port, const Setting& setting, Measured& measured)
      : engine_(engine), setting_(setting), measured_(measured), maker_(setting.payload) {
    for (std::uint64_t i = 0; i < targets; ++i) {
      urls_.push_back("http://127.0.0.1:" + std::to_string(port) + "/t/" + std::to_string(i));
    }
  }

  void feed() {
    const double each_s = static_cast<double>(setting_.call) / static_cast<double>(setting_.rate);
    const double start = now_s();
    const double end = start + warm_up_s + static_cast<double>(setting_.seconds);
    bool warmed_up = false;
    for (double due = start; due < end; due += each_s) {
      const double now = now_s();
      if (due > now) std::this_thread::sleep_for(std::chrono::duration<double>(due - now));
      const double behind_ms = (now - due) * 1000;
      if (!warmed_up && due - start > warm_up_s) {
        warmed_up = true;
        slow_sync_longest_s();  // that of the warm-up
      }
      if (due - start > warm_up_s) measured_.behind_ms = std::max(measured_.behind_ms, behind_ms);
      offer(due, due - start > warm_up_s);
    }
  }
  bool all_answered() const { return answered_ == calls_; }
  std::uint64_t refused() const { return refused_; }

 private:
  void offer(double due, bool is_counted) {
    HookList list;
    for (std::uint64_t i = 0; i < setting_.call; ++i) {
      const std::uint64_t target = next_ % targets;
      list.add(urls_[target], maker_.make(target, next_ / targets));
      ++next_;
    }
    ++calls_;
    engine_.submit(std::move(list), {}, [this, due, is_counted](const SubmitResult& result) {
      if (!result.ok()) ++refused_;
      if (result.ok() && is_counted) measured_.steps.add(now_s() - due);
      ++answered_;
    });
  }

  Engine& engine_;
  const Setting& setting_;
  Measured& measured_;
  PayloadMaker maker_;
  std::vector<std::string> urls_;
  std::uint64_t next_ = 0;
  std::atomic<std::uint64_t> calls_{0}, answered_{0}, refused_{0};
};

// Until told to stop: pages through all failed rows, again and again; or deletes them all, once.
void work_beside(Engine& engine, const Setting& setting, const std::atomic<bool>& stop,
                 Measured& measured) {
  const double start = now_s();
  if (setting.beside == "purge") measured.rows_done = engine.purge_failed({}).purged;
  std::optional<FailedKey> after;
  while (setting.beside == "list" && !stop) {
    FailedPage page;
    if (engine.list_failed({}, after, {}, page)) break;
    measured.rows_done += page.rows.size();
    after = page.next;
  }
  measured.beside_s = now_s() - start;
}

Options engine_options(const Setting& setting) {
  Options options;
  options.defaults.batch.size = 100;
  options.defaults.delivery.in_flight = 16;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  options.store.durability = setting.durability;
  return options;
}

// In the process of the case.
int run_measured(const Setting& setting, std::uint64_t sync_ms, Measured& measured) {
  const BenchFolder folder;
  const std::string store = (folder.path() / "postbag.db").string();
  if (setting.beside != "nothing") seed_failed(store, setting.rows, setting.payload);
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  if (setting.pin) pin_to_core(0);
  set_sync_delay_ms(sync_ms);
  bool idle = false;
  {
    Engine engine(engine_options(setting), open_sqlite_store({.path = store}));
    OpenLoopFeeder feeder(engine, receiver.port(), setting, measured);
    std::atomic<bool> stop = false;
    std::thread beside([&] {
      if (setting.pin) pin_to_core(1);
      work_beside(engine, setting, stop, measured);
    });
    std::thread thread([&] {
      if (setting.pin) pin_to_core(1);
      feeder.feed();
    });
    thread.join();
    for (int i = 0; i < 3000 && !feeder.all_answered(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    stop = true;
    beside.join();
    measured.refused = feeder.refused();
    measured.syncs = slow_sync_count();
    measured.sync_s = slow_sync_seconds();
    measured.sync_max_s = slow_sync_longest_s();
    engine.flush();
    idle = engine.wait_idle(std::chrono::seconds(30));
    engine.drain(std::chrono::seconds(5));
  }
  set_sync_delay_ms(0);
  measured.left = open_sqlite_store({.path = store})->info().pending_hooks;
  receiver.stop();
  return idle && measured.left == 0 && measured.steps.count() > 0 ? 0 : 1;
}

bool run_case(const Setting& setting, std::uint64_t sync_ms) {
  Measured& measured = make_shared_value<Measured>();
  Child child([&] { return run_measured(setting, sync_ms, measured); });
  const Child::End end = child.wait();
  Report(setting.json)
      .text("case", "ack_beside_" + setting.beside)
      .text("result", end.exit_code == 0 ? "ok" : "FAILED")
      .number("payload", static_cast<double>(setting.payload))
      .number("sync_ms", static_cast<double>(sync_ms))
      .number("hooks_per_s", static_cast<double>(setting.rate))
      .number("p50_ms", measured.steps.quantile_ms(0.5), 2)
      .number("p99_ms", measured.steps.quantile_ms(0.99), 2)
      .number("p999_ms", measured.steps.quantile_ms(0.999), 2)
      .number("max_ms", measured.steps.max_ms(), 2)
      .number("calls", static_cast<double>(measured.steps.count()))
      .number("refused", static_cast<double>(measured.refused))
      .number("feeder_behind_ms", measured.behind_ms, 2)
      .number("syncs", static_cast<double>(measured.syncs))
      .number(
          "sync_ms_each",
          measured.sync_s * 1000 / static_cast<double>(std::max<std::uint64_t>(1, measured.syncs)),
          2)
      .number("sync_ms_max", measured.sync_max_s * 1000, 2)
      .number("rows_done", static_cast<double>(measured.rows_done))
      .number("beside_s", measured.beside_s, 2)
      .number("peak_rss_mb", end.peak_rss_mb, 1)
      .print();
  return end.exit_code == 0;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"rate=", "call=", "sync-ms=", "beside=", "rows=", "payload=",
                             "durability=", "seconds=", "pin", "json", "smoke"},
                            usage);
  Setting setting;
  const bool smoke = arguments.has("smoke");
  setting.rate = arguments.at_least_1("rate", smoke ? 5000 : setting.rate);
  setting.call = arguments.at_least_1("call", setting.call);
  setting.rows = arguments.at_least_1("rows", smoke ? 2000 : setting.rows);
  setting.payload = arguments.at_least_1("payload", setting.payload);
  setting.seconds = arguments.at_least_1("seconds", smoke ? 1 : setting.seconds);
  setting.beside = arguments.text("beside", smoke ? "list" : "nothing");
  setting.pin = arguments.has("pin");
  setting.json = arguments.has("json");
  if (arguments.text("durability", "fsync") == "os") setting.durability = Durability::os;
  bool ok = true;
  std::istringstream delays(arguments.text("sync-ms", smoke ? "1" : "0,2,5"));
  for (std::string delay; std::getline(delays, delay, ',');) {
    ok = run_case(setting, std::strtoull(delay.c_str(), nullptr, 10)) && ok;
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("durable_latency_bench", postbag::run, argc, argv);
}
