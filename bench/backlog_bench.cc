// What a long outage costs: every target is down, hooks go on coming in over HTTP, then the targets
// come back. A real daemon with its store on disk; the memory it takes, what intake answers
// meanwhile, the order in which the targets get the backlog, and what the file gives back.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "bench/batch_check.h"
#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/hook_caller.h"
#include "bench/raw_client.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "backlog_bench --postbag PROGRAM [--hooks N] [--batch N] [--targets N] [--payload BYTES]\n"
    "              [--lines N] [--callers N] [--no-delivery] [--json] [--smoke]\n"
    "  --hooks        accepted while all targets answer 503 (10000000, about 4 GB in TMPDIR)\n"
    "  --batch        hooks of a batch (100)\n"
    "  --lines        NDJSON lines of a call (10000)\n"
    "  --callers      connections, each with its own targets, one call at a time (4)\n"
    "  --no-delivery  the targets do not come back\n"
    "The daemon may take max_memory (256 MiB) + 128 MiB.\n";

constexpr double rss_mb_max = 256 + 128;
constexpr double patience_s = 60;
// What may be left of the file and its log once the backlog is gone.
constexpr std::uint64_t empty_bytes_max = 64 << 20;

struct Setting {
  std::string program;
  std::uint64_t hooks = 0, targets = 0, payload_bytes = 0, lines = 0;
  std::uint32_t batch = 0, callers = 0;
  bool deliver = true, json = false;
};

struct Intake {
  std::atomic<std::uint64_t> calls{0}, accepted{0}, refused{0}, unanswered{0};
  std::atomic<double> slowest_s{0};
  std::mutex mutex;
  std::string problem;  // the first
};

// The hooks of its targets in order, again and again until a call is taken.
class Caller {
 public:
  Caller(const Setting& setting, std::uint32_t index, const std::string& url, std::uint16_t port,
         Intake& intake)
      : setting_(setting),
        url_(url),
        intake_(intake),
        maker_(setting.payload_bytes),
        connection_(port),
        target_(index) {}

  void run() {
    const std::uint64_t mine = targets_before(setting_.targets);
    if (mine == 0) return;
    for (std::uint64_t left = mine * (setting_.hooks / setting_.targets); left > 0;) {
      const std::uint64_t lines = std::min(left, setting_.lines);
      const std::string body = make_body(lines);
      if (!offer(body)) return;
      intake_.accepted += lines;
      left -= lines;
    }
  }

 private:
  std::uint64_t targets_before(std::uint64_t end) const {
    return target_ < end ? (end - target_ + setting_.callers - 1) / setting_.callers : 0;
  }

  // A batch for each of its targets in turn.
  std::string make_body(std::uint64_t lines) {
    std::string body;
    body.reserve(lines * (setting_.payload_bytes + url_.size() + 48));
    const std::uint64_t of_each = setting_.hooks / setting_.targets;
    while (lines > 0) {
      body += "{\"target\":\"" + url_ + std::to_string(target_) + "\",\"data\":";
      body += maker_.make(target_, sequence_ + in_turn_);
      body += "}\n";
      --lines;
      if (++in_turn_ < setting_.batch && sequence_ + in_turn_ < of_each) continue;
      const std::uint64_t in_turn = std::exchange(in_turn_, 0);
      target_ += setting_.callers;
      if (target_ < setting_.targets) continue;
      target_ %= setting_.callers;
      sequence_ += in_turn;
    }
    return body;
  }

  // False: intake answered what no repetition helps against.
  bool offer(const std::string& body) {
    for (;;) {
      const double start = now_s();
      const HookAnswer answer = connection_.post(body);
      intake_.calls += 1;
      const double took_s = now_s() - start;
      if (took_s > intake_.slowest_s) intake_.slowest_s = took_s;
      if (answer.status == 202) return true;
      if (answer.status != 503) {
        if (answer.status == 0) intake_.unanswered += 1;
        const std::lock_guard lock(intake_.mutex);
        if (intake_.problem.empty()) intake_.problem = answer.problem;
        return false;
      }
      intake_.refused += 1;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  const Setting& setting_;
  const std::string url_;
  Intake& intake_;
  PayloadMaker maker_;
  HookCaller connection_;
  std::uint64_t target_;
  std::uint64_t sequence_ = 0;  // of the batches of this turn
  std::uint64_t in_turn_ = 0;   // hooks of the batch that is being made
};

std::uint64_t store_bytes(const std::string& store) {
  std::uint64_t bytes = 0;
  for (const char* suffix : {"", "-wal"}) {
    std::error_code error;
    const auto size = std::filesystem::file_size(store + suffix, error);
    if (!error) bytes += size;
  }
  return bytes;
}

void pause_ms(int ms) {
  std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

std::string write_config(const Setting& setting, const BenchFolder& folder,
                         const std::string& store, std::uint16_t port) {
  const std::string config = (folder.path() / "postbag.toml").string();
  std::ofstream(config) << "[store]\npath = \"" << store
                        << "\"\nmax_bytes = \"64GiB\"\n[intake]\nlisten = \"127.0.0.1:" << port
                        << "\"\n[batch]\nsize = " << setting.batch
                        << "\ntime = 1\n[retry]\nretries = 100000\nretry_interval = 1\n"
                           "[delivery]\nordered = true\n[network]\nallow_http = true\n"
                           "allow = [\"127.0.0.1\"]\n[log]\nlevel = \"error\"\n";
  return config;
}

struct Outage {
  double intake_s = 0, delivered_s = 0, given_back_s = -1;
  double rss_down_mb = 0, rss_mb = 0;
  std::uint64_t store_bytes = 0, left_bytes = 0;
  bool delivered = false;
};

void take_in(const Setting& setting, const ReceiverProcess& receiver, std::uint16_t port,
             Intake& intake) {
  const std::string url = "http://127.0.0.1:" + std::to_string(receiver.port()) + "/t/";
  std::vector<std::thread> threads;
  for (std::uint32_t index = 0; index < setting.callers; ++index) {
    threads.emplace_back([&, index] {
      try {
        Caller(setting, index, url, port, intake).run();
      } catch (const std::exception& error) {
        const std::lock_guard lock(intake.mutex);
        intake.problem = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

Outage outage(const Setting& setting, ReceiverProcess& receiver, Child& daemon, std::uint16_t port,
              const std::string& store, Intake& intake) {
  Outage outage;
  const pid_t pid = daemon.pid();
  const double start = now_s();
  take_in(setting, receiver, port, intake);
  outage.intake_s = now_s() - start;
  outage.rss_down_mb = peak_rss_mb(pid);
  outage.store_bytes = store_bytes(store);
  if (setting.deliver && intake.accepted == setting.hooks) {
    receiver.counters().fail_per_mille = 0;
    const double back = now_s();
    outage.delivered = wait_for_hooks(receiver.counters(), setting.hooks, patience_s);
    outage.delivered_s = now_s() - back;
    for (const double end = now_s(); now_s() - end < patience_s; pause_ms(20)) {
      outage.left_bytes = store_bytes(store);
      if (outage.left_bytes > empty_bytes_max) continue;
      outage.given_back_s = now_s() - end;
      break;
    }
  }
  outage.rss_mb = peak_rss_mb(pid);
  return outage;
}

bool run_backlog(const Setting& setting) {
  const BenchFolder folder;
  const std::string store = (folder.path() / "postbag.db").string();
  ReceiverProcessOptions receiver_options;
  receiver_options.make_handler = [&](ReceiverCounters& counters) {
    auto check = std::make_shared<SequenceCheck>(setting.targets, setting.hooks / setting.targets,
                                                 /*ordered=*/true);
    return [check, &counters](const CountedRequest& request) {
      counters.wrong += check->check(request);
      return 200;
    };
  };
  ReceiverProcess receiver(receiver_options);
  receiver.counters().fail_per_mille = 1000;
  const std::uint16_t port = unused_port();
  const std::string config = write_config(setting, folder, store, port);
  Child daemon([&] {
    execl(setting.program.c_str(), setting.program.c_str(), "serve", "-c", config.c_str(), nullptr);
    std::perror(setting.program.c_str());
    return 66;
  });
  for (const double start = now_s(); !is_ok(port, "/healthz/ready"); pause_ms(5)) {
    if (now_s() - start > 20 || !daemon.running()) throw std::runtime_error("no daemon");
  }
  Intake intake;
  const Outage seen = outage(setting, receiver, daemon, port, store, intake);
  daemon.interrupt();
  const Child::End end = daemon.wait();
  const StoreInfo left = open_sqlite_store({.path = store})->info();
  const ReceiverCounters& counters = receiver.counters();
  const bool is_delivered = seen.delivered && counters.wrong == 0 &&
                            counters.hooks == setting.hooks && left.pending_hooks == 0 &&
                            seen.given_back_s >= 0;
  const bool is_kept = left.pending_hooks == setting.hooks;
  const bool ok = intake.accepted == setting.hooks && intake.unanswered == 0 &&
                  seen.rss_mb <= rss_mb_max && end.exit_code == 0 && left.failed_hooks == 0 &&
                  (setting.deliver ? is_delivered : is_kept);
  if (!intake.problem.empty()) std::fprintf(stderr, "intake: %s\n", intake.problem.c_str());
  Report(setting.json)
      .text("case", "backlog")
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(setting.hooks))
      .number("batch", setting.batch)
      .number("intake_s", seen.intake_s, 1)
      .number("intake_hooks_per_s", static_cast<double>(intake.accepted) / seen.intake_s)
      .number("calls", static_cast<double>(intake.calls))
      .number("refused", static_cast<double>(intake.refused))
      .number("unanswered", static_cast<double>(intake.unanswered))
      .number("slowest_call_s", intake.slowest_s, 2)
      .number("rss_down_mb", seen.rss_down_mb, 1)
      .number("rss_mb", seen.rss_mb, 1)
      .number("rss_limit_mb", rss_mb_max)
      .number("store_mb", static_cast<double>(seen.store_bytes) / (1 << 20), 1)
      .number("delivered_s", seen.delivered_s, 1)
      .number("received", static_cast<double>(counters.hooks))
      .number("wrong", static_cast<double>(counters.wrong))
      .number("given_back_s", seen.given_back_s, 2)
      .number("left_mb", static_cast<double>(seen.left_bytes) / (1 << 20), 1)
      .number("left", static_cast<double>(left.pending_hooks))
      .number("daemon_cpu_s", end.cpu_s, 1)
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"postbag=", "hooks=", "batch=", "targets=", "payload=", "lines=",
                             "callers=", "no-delivery", "json", "smoke"},
                            usage);
  Setting setting;
  setting.program = arguments.text("postbag");
  if (setting.program.empty()) {
    std::fprintf(stderr, "--postbag is missing\n%s", usage);
    return 64;
  }
  const bool smoke = arguments.has("smoke");
  setting.targets = arguments.at_least_1("targets", 100);
  setting.batch = static_cast<std::uint32_t>(arguments.at_least_1("batch", 100));
  setting.payload_bytes = arguments.at_least_1("payload", 300);
  setting.lines = arguments.at_least_1("lines", smoke ? 1'000 : 10'000);
  setting.callers = static_cast<std::uint32_t>(arguments.at_least_1("callers", 4));
  // The same number for each target.
  const std::uint64_t hooks = arguments.at_least_1("hooks", smoke ? 40'000 : 10'000'000);
  setting.hooks = std::max<std::uint64_t>(1, hooks / setting.targets) * setting.targets;
  setting.deliver = !arguments.has("no-delivery");
  setting.json = arguments.has("json");
  return run_backlog(setting) ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("backlog_bench", postbag::run, argc, argv);
}
