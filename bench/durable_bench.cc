// Durable throughput in steady state: hooks accepted, delivered and settled through an SQLite store
// on the real disk, with time added to every sync. Hooks under way are held at a fixed number, and
// rates are taken over a window after a warm-up, so that what is accepted is what is delivered. At
// the end the store is opened again: nothing may be left in it.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "bench/batch_check.h"
#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/slow_sync.h"
#include "postbag/engine.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "durable_bench [--payload BYTES] [--sync-ms N,N...] [--durability fsync|os] [--seconds N]\n"
    "              [--under-way N] [--repeat N] [--pin] [--json] [--smoke]\n"
    "  --payload    bytes of a hook (256)\n"
    "  --sync-ms    what is added to each sync, a case each (0,2,5)\n"
    "  --seconds    of the window that is measured (5)\n"
    "  --under-way  hooks accepted and not delivered yet (200000, less for large payloads)\n"
    "  --pin        engine and store on core 0, feeder and receiver on core 1\n"
    "The store is in TMPDIR, which must be a real disk for figures that mean something.\n";

constexpr std::uint64_t list_hooks = 1000;
constexpr std::uint64_t targets = 64;
constexpr std::uint64_t under_way_bytes_max = 96 << 20;  // so that nothing is put out of memory

struct Setting {
  std::uint64_t payload = 256, seconds_ms = 5000, warm_up_ms = 2000, under_way = 200'000;
  bool pin = false;
  Durability durability = Durability::fsync;
};

// At one instant of a run.
struct Sample {
  double at_s = 0, sync_s = 0, store_cpu_s = 0, engine_cpu_s = 0;
  std::uint64_t accepted = 0, delivered = 0, syncs = 0, pending = 0, store_bytes = 0;
};

// Filled in by the process of the case, read by its parent.
struct Measured {
  Sample from, to;
  double peak_rss_mb = 0;
  std::uint64_t accepted = 0, delivered = 0, left = 0, full_answers = 0;
  bool complete = false;
};

// Processor time of this process's threads of that name.
double named_thread_cpu_s(std::string_view name) {
  double sum = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string comm;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, comm);
    if (comm != name) continue;
    double ns = 0;
    std::ifstream(task.path() / "schedstat") >> ns;
    sum += ns * 1e-9;
  }
  return sum;
}

// Offers hooks as long as fewer than the setting says are under way, until stopped.
class SteadyFeeder {
 public:
  SteadyFeeder(Engine& engine, ReceiverProcess& receiver, const Setting& setting)
      : engine_(engine),
        received_(receiver.counters().hooks),
        under_way_(std::min(setting.under_way, under_way_bytes_max / setting.payload)),
        maker_(setting.payload) {
    for (std::uint64_t i = 0; i < targets; ++i) {
      urls_.push_back("http://127.0.0.1:" + std::to_string(receiver.port()) + "/t/" +
                      std::to_string(i));
    }
  }

  void feed() {
    while (!stop_ && !failed_) {
      if (offered_ - refused_ + list_hooks > received_ + under_way_) {
        std::this_thread::sleep_for(std::chrono::microseconds(100));
        continue;
      }
      offer();
      cpu_s_ = thread_cpu_s();
    }
  }
  void stop() { stop_ = true; }
  bool all_answered() const { return answered_ == offered_ || failed_; }
  std::uint64_t accepted() const { return accepted_; }
  std::uint64_t refused() const { return refused_; }
  bool failed() const { return failed_; }
  double cpu_s() const { return cpu_s_; }

 private:
  void offer() {
    HookList list;
    for (std::uint64_t i = 0; i < list_hooks; ++i) {
      const std::uint64_t target = next_ % targets;
      list.add(urls_[target], maker_.make(target, next_ / targets));
      ++next_;
    }
    offered_ += list_hooks;
    engine_.submit(std::move(list), SubmitOptions(), [this](const SubmitResult& result) {
      if (result.ok()) {
        accepted_ += result.accepted;
      } else if (result.error == Errc::full) {
        refused_ += list_hooks;
      } else {
        std::fprintf(stderr, "refused: %s\n", result.message.c_str());
        failed_ = true;
      }
      answered_ += list_hooks;
    });
  }

  Engine& engine_;
  const std::atomic<std::uint64_t>& received_;
  const std::uint64_t under_way_;
  PayloadMaker maker_;
  std::vector<std::string> urls_;
  std::uint64_t next_ = 0;
  std::atomic<std::uint64_t> offered_{0}, accepted_{0}, refused_{0}, answered_{0};
  std::atomic<double> cpu_s_{0};
  std::atomic<bool> stop_{false}, failed_{false};
};

Options engine_options(const Setting& setting) {
  Options options;
  options.defaults.batch.size = 100;
  options.defaults.batch.time = std::chrono::seconds(1);
  options.defaults.delivery.in_flight = 16;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = 1;
  options.store.durability = setting.durability;
  return options;
}

Sample take_sample(const Engine& engine, ReceiverProcess& receiver, const SteadyFeeder& feeder) {
  Sample sample;
  sample.at_s = now_s();
  sample.accepted = feeder.accepted();
  sample.delivered = receiver.counters().hooks;
  sample.syncs = slow_sync_count();
  sample.sync_s = slow_sync_seconds();
  sample.store_cpu_s = named_thread_cpu_s("postbag-store");
  sample.engine_cpu_s = process_cpu_s() - feeder.cpu_s();
  const EngineStatus status = engine.status();
  sample.pending = status.pending;
  sample.store_bytes = status.store_bytes;
  return sample;
}

void wait_ms(std::uint64_t ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// In the process of the case.
int run_measured(const Setting& setting, std::uint64_t sync_ms, Measured& measured) {
  set_sync_delay_ms(sync_ms);
  const BenchFolder folder;
  const std::string store = (folder.path() / "postbag.db").string();
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  if (setting.pin) pin_to_core(0);
  {
    Engine engine(engine_options(setting), open_sqlite_store({.path = store}));
    SteadyFeeder feeder(engine, receiver, setting);
    std::thread thread([&] {
      if (setting.pin) pin_to_core(1);
      feeder.feed();
    });
    wait_ms(setting.warm_up_ms);
    measured.from = take_sample(engine, receiver, feeder);
    wait_ms(setting.seconds_ms);
    measured.to = take_sample(engine, receiver, feeder);
    feeder.stop();
    thread.join();
    for (int i = 0; i < 3000 && !feeder.all_answered(); ++i) wait_ms(10);
    engine.flush();
    const bool idle = engine.wait_idle(std::chrono::seconds(30));
    engine.drain(std::chrono::seconds(5));
    measured.accepted = feeder.accepted();
    measured.full_answers = feeder.refused() / list_hooks;
    measured.complete = idle && !feeder.failed() && measured.accepted > 0;
  }
  measured.delivered = receiver.counters().hooks;
  measured.left = open_sqlite_store({.path = store})->info().pending_hooks;
  receiver.stop();
  const bool exact = measured.delivered == measured.accepted && measured.left == 0;
  return measured.complete && exact ? 0 : 1;
}

bool report_case(const Setting& setting, std::uint64_t sync_ms, bool json, const Measured& measured,
                 const Child::End& end) {
  const Sample& from = measured.from;
  const Sample& to = measured.to;
  const double seconds = std::max(to.at_s - from.at_s, 1e-9);
  const double accepted = static_cast<double>(to.accepted - from.accepted);
  const double delivered = static_cast<double>(to.delivered - from.delivered);
  const double syncs = static_cast<double>(to.syncs - from.syncs);
  const double each = 1e6 / std::max(delivered, 1.0);
  Report(json)
      .text("case", "library_" + std::string(durability_name(setting.durability)))
      .text("result", end.exit_code == 0 ? "ok" : "FAILED")
      .number("payload", static_cast<double>(setting.payload))
      .number("sync_ms", static_cast<double>(sync_ms))
      .number("accepted_per_s", accepted / seconds)
      .number("delivered_per_s", delivered / seconds)
      .number("syncs_per_s", syncs / seconds, 1)
      .number("time_in_syncs", (to.sync_s - from.sync_s) / seconds, 2)
      .number("hooks_per_sync", accepted / std::max(syncs, 1.0))
      .number("store_cpu_us_per_hook", (to.store_cpu_s - from.store_cpu_s) * each, 3)
      .number("engine_cpu_us_per_hook", (to.engine_cpu_s - from.engine_cpu_s) * each, 3)
      .number("pending_before", static_cast<double>(from.pending))
      .number("pending_after", static_cast<double>(to.pending))
      .number("store_mb_before", static_cast<double>(from.store_bytes) / (1 << 20), 1)
      .number("store_mb_after", static_cast<double>(to.store_bytes) / (1 << 20), 1)
      .number("accepted", static_cast<double>(measured.accepted))
      .number("delivered", static_cast<double>(measured.delivered))
      .number("left", static_cast<double>(measured.left))
      .number("full_answers", static_cast<double>(measured.full_answers))
      .number("peak_rss_mb", end.peak_rss_mb, 1)
      .print();
  return end.exit_code == 0;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"payload=", "sync-ms=", "durability=", "seconds=", "under-way=",
                             "repeat=", "pin", "json", "smoke"},
                            usage);
  Setting setting;
  setting.payload = std::max<std::uint64_t>(64, arguments.number("payload", setting.payload));
  setting.seconds_ms = 1000 * arguments.number("seconds", setting.seconds_ms / 1000);
  setting.under_way = arguments.number("under-way", setting.under_way);
  setting.pin = arguments.has("pin");
  if (arguments.text("durability", "fsync") == "os") setting.durability = Durability::os;
  std::string delays = arguments.text("sync-ms", "0,2,5");
  if (arguments.has("smoke")) {
    setting.warm_up_ms = 50;
    setting.seconds_ms = 200;
    setting.under_way = 20'000;
    delays = "1";
  }
  bool ok = true;
  for (std::uint64_t i = 0; i < arguments.number("repeat", 1); ++i) {
    std::istringstream list(delays);
    for (std::string delay; std::getline(list, delay, ',');) {
      const std::uint64_t sync_ms = std::strtoull(delay.c_str(), nullptr, 10);
      Measured& measured = make_shared_value<Measured>();
      Child child([&] { return run_measured(setting, sync_ms, measured); });
      const Child::End end = child.wait();
      ok = report_case(setting, sync_ms, arguments.has("json"), measured, end) && ok;
    }
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("durable_bench", postbag::run, argc, argv);
}
