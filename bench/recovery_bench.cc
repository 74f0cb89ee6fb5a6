// How long after its start a daemon delivers again when it finds a store full of pending hooks: the
// store is filled as a killed daemon would have left it, then `postbag serve` is started on it.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "bench/batch_check.h"
#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/raw_client.h"
#include "bench/store_seed.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "recovery_bench --postbag PROGRAM [--hooks N] [--batch N] [--targets N] [--payload BYTES]\n"
    "               [--first] [--pin] [--json] [--smoke]\n"
    "  --hooks  pending hooks (1000000); a store of 10000000 takes about 4 GB in TMPDIR\n"
    "  --batch  hooks of each batch found (100)\n"
    "  --first  ends with the first delivery\n"
    "  --pin    daemon on core 0, receiver on core 1\n"
    "Times count from the exec. Every hook's place in its target's sequence is checked.\n";

struct Setting {
  std::string program;
  PendingSeed seed;
  bool first = false, pin = false, json = false;
};

struct Times {
  double first_s = -1, ready_s = -1, all_s = -1;
  double rss_ready_mb = 0, rss_mb = 0;
};

std::string write_config(const BenchFolder& folder, const std::string& store, std::uint16_t port) {
  const std::string config = (folder.path() / "postbag.toml").string();
  std::ofstream(config) << "[store]\npath = \"" << store
                        << "\"\nmax_bytes = \"64GiB\"\n[intake]\nlisten = \"127.0.0.1:" << port
                        << "\"\n[batch]\nsize = 100\n[network]\nallow_http = true\n"
                           "allow = [\"127.0.0.1\"]\n[log]\nlevel = \"warning\"\n";
  return config;
}

void pause_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

// Until so many hooks were received, or there was no progress for a minute.
Times watch(Child& daemon, std::uint16_t port, const ReceiverCounters& counters,
            std::uint64_t hooks, double start) {
  Times times;
  const pid_t pid = daemon.pid();
  std::atomic<bool> over = false, is_ready = false;
  // On a thread of its own, as an answer may take its time.
  std::thread asker([&] {
    for (; !over; pause_ms(10)) {
      if (!is_ok(port, "/healthz/ready")) continue;
      times.ready_s = now_s() - start;
      times.rss_ready_mb = peak_rss_mb(pid);
      is_ready = true;
      return;
    }
  });
  double last_progress = now_s();
  for (std::uint64_t before = 0; daemon.running() && now_s() - last_progress < 60; pause_ms(1)) {
    const std::uint64_t received = counters.hooks;
    if (received != before) last_progress = now_s();
    before = received;
    if (received > 0 && times.first_s < 0) times.first_s = now_s() - start;
    if (received < hooks) continue;
    times.all_s = now_s() - start;
    // With a few it may not be seen to be ready yet.
    if (is_ready) break;
  }
  times.rss_mb = peak_rss_mb(pid);
  over = true;
  asker.join();
  return times;
}

bool run_recovery(Setting setting) {
  const BenchFolder folder;
  const std::string store = (folder.path() / "postbag.db").string();
  PendingSeed& seed = setting.seed;
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  receiver_options.make_handler = [&](ReceiverCounters& counters) {
    auto check = std::make_shared<SequenceCheck>(
        seed.targets, seed.hooks / seed.targets + seed.batch, /*ordered=*/true);
    return [check, &counters](const CountedRequest& request) {
      counters.wrong += check->check(request);
      return 200;
    };
  };
  ReceiverProcess receiver(receiver_options);
  seed.url_prefix = "http://127.0.0.1:" + std::to_string(receiver.port()) + "/t/";
  const double seed_start = now_s();
  seed_pending(store, seed);
  const double seed_s = now_s() - seed_start;
  const auto store_bytes = std::filesystem::file_size(store);
  const std::uint16_t port = unused_port();
  const std::string config = write_config(folder, store, port);
  const double start = now_s();
  Child daemon([&] {
    if (setting.pin) pin_to_core(0);
    execl(setting.program.c_str(), setting.program.c_str(), "serve", "-c", config.c_str(), nullptr);
    std::perror(setting.program.c_str());
    return 66;
  });
  const std::uint64_t wanted = setting.first ? 1 : seed.hooks;
  const Times times = watch(daemon, port, receiver.counters(), wanted, start);
  const ReceiverCounters& counters = receiver.counters();
  bool ok = times.all_s >= 0 && times.ready_s >= 0 && counters.wrong == 0;
  double cpu_s = 0;
  std::uint64_t left = 0;
  if (!setting.first) {
    daemon.interrupt();
    const Child::End end = daemon.wait();
    cpu_s = end.cpu_s;
    left = open_sqlite_store({.path = store})->info().pending_hooks;
    ok = ok && end.exit_code == 0 && left == 0 && counters.hooks == seed.hooks;
  }
  Report(setting.json)
      .text("case", "recovery")
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(seed.hooks))
      .number("batch", seed.batch)
      .number("store_mb", static_cast<double>(store_bytes) / (1 << 20), 1)
      .number("seed_s", seed_s, 1)
      .number("first_delivery_s", times.first_s, 3)
      .number("ready_s", times.ready_s, 3)
      .number("all_delivered_s", times.all_s, 3)
      .number("rss_ready_mb", times.rss_ready_mb, 1)
      .number("rss_mb", times.rss_mb, 1)
      .number("daemon_cpu_s", cpu_s, 2)
      .number("received", static_cast<double>(counters.hooks))
      .number("wrong", static_cast<double>(counters.wrong))
      .number("left", static_cast<double>(left))
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(
      argc, argv,
      {"postbag=", "hooks=", "batch=", "targets=", "payload=", "first", "pin", "json", "smoke"},
      usage);
  Setting setting;
  setting.program = arguments.text("postbag");
  if (setting.program.empty()) {
    std::fprintf(stderr, "--postbag is missing\n%s", usage);
    return 64;
  }
  setting.seed.hooks = arguments.at_least_1("hooks", arguments.has("smoke") ? 20'000 : 1'000'000);
  setting.seed.batch = static_cast<std::uint32_t>(arguments.at_least_1("batch", 100));
  setting.seed.targets = arguments.at_least_1("targets", 100);
  setting.seed.payload_bytes = arguments.at_least_1("payload", 256);
  setting.first = arguments.has("first");
  setting.pin = arguments.has("pin");
  setting.json = arguments.has("json");
  return run_recovery(setting) ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("recovery_bench", postbag::run, argc, argv);
}
