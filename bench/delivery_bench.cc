// Hooks through the library to a receiver in a process of its own: the engine with the store in
// memory, one feeder thread. Every case runs in a fresh process, beside the raw epoll client that
// does the same requests without an engine.

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/raw_client.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "delivery_bench [--case NAME] [--hooks N] [--repeat N] [--pin] [--check] [--threads N]\n"
    "               [--in-flight N] [--max-memory-mb N] [--json] [--smoke] [--list]\n"
    "  --pin    engine on core 0, feeder and receiver on core 1\n"
    "  --check  the receiver verifies every payload's place in its target's sequence (costs it "
    "time)\n"
    "  --smoke  tiny counts and --check, to see that it works\n";

constexpr std::size_t list_hooks = 1000;
constexpr std::size_t lists_outstanding_max = 32;
constexpr std::size_t payload_bytes = 300;

struct Case {
  const char* name;
  std::uint32_t batch;
  std::uint64_t targets;
  std::uint32_t in_flight;
  std::uint64_t hooks;
  std::uint32_t raw_connections;
};

// With one batch in flight a single target is bounded by round trips, not by the engine: it
// gets 16.
constexpr Case cases[] = {
    {"batch100_targets1", 100, 1, 16, 4'000'000, 16},
    {"batch100_targets1000", 100, 1000, 1, 4'000'000, 16},
    {"unbatched_targets64", 1, 64, 1, 400'000, 64},
};

struct Setting {
  bool pin = false, check = false;
  std::uint32_t threads = 1;
  std::uint64_t max_memory = 256ull << 20;
};

// Filled in by the process of the case, read by its parent.
struct Measured {
  double seconds = 0, cpu_s = 0, feeder_cpu_s = 0, receiver_cpu_s = 0;
  std::uint64_t requests = 0, wrong = 0, full_answers = 0;
  bool complete = false;
};

// Lists handed over and not answered yet.
class Window {
 public:
  void enter() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outstanding_ < lists_outstanding_max; });
    ++outstanding_;
  }
  void leave() {
    const std::lock_guard lock(mutex_);
    --outstanding_;
    changed_.notify_one();
  }
  // Waits for the answer to any list; at most a millisecond, as room may come from deliveries too.
  void wait_for_room() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
  void wait_empty() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outstanding_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t outstanding_ = 0;
};

class Feeder {
 public:
  Feeder(Engine& engine, const Case& what, std::uint16_t port) : engine_(engine), case_(what) {
    for (std::uint64_t i = 0; i < case_.targets; ++i) {
      targets_.push_back("http://127.0.0.1:" + std::to_string(port) + "/t/" + std::to_string(i));
    }
  }

  // Hooks to the targets in turn. False if the engine refused something for good.
  bool feed(std::uint64_t& full_answers) {
    for (std::uint64_t first = 0; first < case_.hooks && !failed_; first += list_hooks) {
      const std::uint64_t last = std::min<std::uint64_t>(first + list_hooks, case_.hooks);
      while (!offer(first, last)) {
        ++full_answers;
        window_.wait_for_room();
      }
    }
    window_.wait_empty();
    return !failed_;
  }

 private:
  // False: full, offer it again.
  bool offer(std::uint64_t first, std::uint64_t last) {
    HookList list;
    for (std::uint64_t i = first; i < last; ++i) {
      const std::uint64_t target = i % case_.targets;
      list.add(targets_[target], maker_.make(target, i / case_.targets));
    }
    window_.enter();
    // A refusal is told on this thread, before submit() returns; otherwise the call is accepted
    // later.
    const auto full = std::make_shared<std::atomic<bool>>(false);
    engine_.submit(std::move(list), SubmitOptions(), [this, full](SubmitResult result) {
      if (result.error == Errc::full) {
        full->store(true);
      } else if (!result.ok()) {
        failed_ = true;
        std::fprintf(stderr, "refused: %s\n", result.message.c_str());
      }
      window_.leave();
    });
    return !full->load();
  }

  Engine& engine_;
  const Case& case_;
  std::vector<std::string> targets_;
  PayloadMaker maker_{payload_bytes};
  Window window_;
  std::atomic<bool> failed_{false};
};

Options engine_options(const Case& what, const Setting& setting) {
  Options options;
  options.defaults.batch.size = what.batch;
  options.defaults.batch.time = std::chrono::seconds(1);
  options.defaults.delivery.in_flight = what.in_flight;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = setting.threads;
  options.engine.max_memory = setting.max_memory;
  return options;
}

// In the process of the case.
int run_engine_case(const Case& what, const Setting& setting, Measured& measured) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  if (setting.check) {
    receiver_options.make_handler = [&](ReceiverCounters& counters) {
      const std::uint64_t each = (what.hooks + what.targets - 1) / what.targets;
      auto check = std::make_shared<SequenceCheck>(what.targets, each, what.in_flight == 1);
      return [check, &counters](const CountedRequest& request) {
        counters.wrong += check->check(request);
        return 200;
      };
    };
  }
  ReceiverProcess receiver(receiver_options);
  if (setting.pin) pin_to_core(0);
  Engine engine(engine_options(what, setting), make_memory_store());
  bool fed = false;
  const double start = now_s();
  const double cpu_start = process_cpu_s();
  std::thread feeder([&] {
    if (setting.pin) pin_to_core(1);
    Feeder feed(engine, what, receiver.port());
    const double feeder_start = thread_cpu_s();
    fed = feed.feed(measured.full_answers);
    engine.flush();
    measured.feeder_cpu_s = thread_cpu_s() - feeder_start;
  });
  measured.complete = wait_for_hooks(receiver.counters(), what.hooks);
  measured.seconds = now_s() - start;
  feeder.join();
  measured.cpu_s = process_cpu_s() - cpu_start;
  measured.complete = measured.complete && fed && engine.wait_idle(std::chrono::seconds(10));
  measured.requests = receiver.counters().requests;
  // More than was sent is as wrong as less.
  const std::uint64_t received = receiver.counters().hooks;
  measured.wrong = receiver.counters().wrong + (received > what.hooks ? received - what.hooks : 0);
  engine.drain(std::chrono::seconds(5));
  measured.receiver_cpu_s = receiver.stop();
  return measured.complete && measured.wrong == 0 ? 0 : 1;
}

int run_raw_case(const Case& what, const Setting& setting, Measured& measured) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  if (setting.pin) pin_to_core(0);
  PayloadMaker maker(payload_bytes);
  std::string body = "[";
  for (std::uint32_t i = 0; i < what.batch; ++i) {
    body += maker.make(0, i);
    body += i + 1 == what.batch ? "]" : ",";
  }
  RawClientOptions options;
  options.port = receiver.port();
  options.connections = what.raw_connections;
  options.requests = std::max<std::uint64_t>(what.hooks / what.batch, what.raw_connections);
  options.request = prepared_request(receiver.port(), body, what.batch);
  const RawClientResult result = run_raw_client(options);
  measured.seconds = result.seconds;
  measured.cpu_s = result.cpu_s;
  measured.requests = result.answered;
  measured.complete = result.refused == 0;
  measured.receiver_cpu_s = receiver.stop();
  return measured.complete ? 0 : 1;
}

struct CaseResult {
  double hooks_per_s = 0;
  double raw_hooks_per_s = 0;
};

// One engine run and one raw run, in one minute, so that their ratio means something.
bool run_pair(const Case& what, const Setting& setting, bool json, CaseResult& out) {
  Measured& engine = make_shared_value<Measured>();
  Measured& raw = make_shared_value<Measured>();
  Child raw_child([&] { return run_raw_case(what, setting, raw); });
  const Child::End raw_end = raw_child.wait();
  Child child([&] { return run_engine_case(what, setting, engine); });
  const Child::End end = child.wait();
  const double millions = static_cast<double>(what.hooks) * 1e-6;
  const double raw_hooks = static_cast<double>(raw.requests * what.batch);
  out.hooks_per_s = engine.seconds > 0 ? static_cast<double>(what.hooks) / engine.seconds : 0;
  out.raw_hooks_per_s = raw.seconds > 0 ? raw_hooks / raw.seconds : 0;
  const bool ok = end.exit_code == 0 && raw_end.exit_code == 0;
  Report(json)
      .text("case", what.name)
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(what.hooks))
      .number("hooks_per_s", out.hooks_per_s)
      .number("raw_hooks_per_s", out.raw_hooks_per_s)
      .number("of_raw", out.raw_hooks_per_s > 0 ? out.hooks_per_s / out.raw_hooks_per_s : 0, 3)
      .number("cpu_s_per_million", engine.cpu_s / millions, 3)
      .number("engine_cpu_s_per_million", (engine.cpu_s - engine.feeder_cpu_s) / millions, 3)
      .number("feeder_cpu_s_per_million", engine.feeder_cpu_s / millions, 3)
      .number("receiver_cpu_s_per_million", engine.receiver_cpu_s / millions, 3)
      .number("requests", static_cast<double>(engine.requests))
      .number("peak_rss_mb", end.peak_rss_mb, 1)
      .number("full_answers", static_cast<double>(engine.full_answers))
      .number("wrong", static_cast<double>(engine.wrong))
      .number("in_flight", what.in_flight)
      .number("threads", setting.threads)
      .print();
  return ok;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool run_case(const Case& what, const Setting& setting, bool json, std::uint64_t repeat) {
  bool ok = true;
  std::vector<double> rates, ratios;
  for (std::uint64_t i = 0; i < repeat; ++i) {
    CaseResult result;
    ok = run_pair(what, setting, json, result) && ok;
    rates.push_back(result.hooks_per_s);
    ratios.push_back(result.raw_hooks_per_s > 0 ? result.hooks_per_s / result.raw_hooks_per_s : 0);
  }
  if (repeat > 1) {
    Report(json)
        .text("case", what.name)
        .text("result", "median")
        .number("runs", static_cast<double>(repeat))
        .number("hooks_per_s", median(rates))
        .number("of_raw", median(ratios), 3)
        .print();
  }
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"case=", "hooks=", "repeat=", "pin", "check",
                             "threads=", "in-flight=", "max-memory-mb=", "json", "smoke", "list"},
                            usage);
  Setting setting;
  const bool smoke = arguments.has("smoke");
  setting.pin = arguments.has("pin");
  setting.check = arguments.has("check") || smoke;
  setting.threads = static_cast<std::uint32_t>(arguments.number("threads", 1));
  setting.max_memory = arguments.number("max-memory-mb", 256) << 20;
  bool ok = true, any = false;
  for (Case what : cases) {
    if (arguments.has("list")) std::printf("%s\n", what.name);
    if (arguments.has("list") || arguments.text("case", what.name) != what.name) continue;
    any = true;
    if (smoke) what.hooks = what.batch == 1 ? 640 : 5000;
    what.hooks = arguments.number("hooks", what.hooks);
    what.in_flight = static_cast<std::uint32_t>(arguments.number("in-flight", what.in_flight));
    const std::uint64_t repeat = std::max<std::uint64_t>(1, arguments.number("repeat", 1));
    ok = run_case(what, setting, arguments.has("json"), repeat) && ok;
  }
  if (!any && !arguments.has("list")) {
    std::fprintf(stderr, "no such case\n%s", usage);
    return 64;
  }
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run(argc, argv);
}
