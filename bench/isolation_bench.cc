// Does one target that hangs slow the others? Hooks are offered to healthy targets at a steady rate
// far below saturation, and their latency (from the moment a hook was due to be submitted to its
// arrival) is compared between runs without and with one more target that accepts connections and
// never answers.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "bench/bench_support.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "isolation_bench [--rate N] [--seconds N] [--rounds N] [--targets N] [--batch N] [--time-ms "
    "N]\n"
    "                [--threads N] [--json] [--smoke]\n"
    "  --rate   hooks a second to the healthy targets together (2000); the hanging one gets as "
    "many "
    "as each of them\n"
    "  --smoke  one short round, without judging the ratio\n"
    "Ends with 1 if the median of the p99 ratios is over 2, or a hook did not arrive.\n";

constexpr double ratio_max = 2;
constexpr double warm_up_s = 0.5;  // connections, first use of memory
constexpr std::int64_t timeout_s = 5;

struct Setting {
  std::uint64_t rate = 2000, seconds = 8, targets = 50, time_ms = 20;
  std::uint32_t batch = 10, threads = 1;
};

// Latencies in steps of 10 us up to 2 s, in memory that the processes share; one writes.
struct Histogram {
  static constexpr std::uint64_t step_us = 10;
  std::array<std::atomic<std::uint32_t>, 200'000> steps{};
  std::atomic<std::uint64_t> count{0};

  void add(double seconds) {
    const auto step = static_cast<std::size_t>(std::max(seconds, 0.0) * 1e6) / step_us;
    steps[std::min(step, steps.size() - 1)].fetch_add(1, std::memory_order_relaxed);
    count.fetch_add(1, std::memory_order_relaxed);
  }
  double quantile_ms(double share) const {
    const double wanted = share * static_cast<double>(count.load());
    double seen = 0;
    for (std::size_t step = 0; step < steps.size(); ++step) {
      seen += steps[step].load(std::memory_order_relaxed);
      if (seen >= wanted) return static_cast<double>((step + 1) * step_us) / 1000;
    }
    return 0;
  }
};

// Accepts, and never reads or answers.
class HangingTarget {
 public:
  HangingTarget() : listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
        listen(listener_, 128) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
      throw std::runtime_error("cannot listen on 127.0.0.1");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] {
      for (int peer = 0; (peer = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
        peers_.push_back(peer);
      }
    });
  }
  ~HangingTarget() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    for (const int peer : peers_) close(peer);
    close(listener_);
  }
  HangingTarget(const HangingTarget&) = delete;
  HangingTarget& operator=(const HangingTarget&) = delete;
  std::uint16_t port() const { return port_; }

 private:
  int listener_;
  std::uint16_t port_ = 0;
  std::vector<int> peers_;  // the thread's until it ended
  std::thread thread_;
};

// Every payload says when it was due: {"at":123.456789}, on the steady clock, which processes
// share.
void note_latencies(std::string_view body, double now, Histogram& histogram) {
  constexpr std::string_view mark = "\"at\":";
  for (std::size_t at = 0; (at = body.find(mark, at)) != body.npos;) {
    at += mark.size();
    char digits[32] = {};
    body.copy(digits, sizeof digits - 1, at);
    const double due = std::strtod(digits, nullptr);
    if (due > 0) histogram.add(now - due);
  }
}

Options engine_options(const Setting& setting) {
  Options options;
  options.defaults.batch.size = setting.batch;
  options.defaults.batch.time = std::chrono::milliseconds(setting.time_ms);
  options.defaults.delivery.timeout = std::chrono::seconds(timeout_s);
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = setting.threads;
  return options;
}

struct Measured {
  Histogram histogram;
  std::uint64_t offered = 0, refused = 0, hung_attempts = 0;
  double late_ms = 0;  // the longest that the feeder was behind its schedule
};

// Offers hooks one a call when they are due, whatever became of those before.
void feed(Engine& engine, const Setting& setting, std::uint16_t port, std::uint16_t hanging_port,
          Measured& measured) {
  std::vector<std::string> urls;
  for (std::uint64_t i = 0; i < setting.targets; ++i) {
    urls.push_back("http://127.0.0.1:" + std::to_string(port) + "/t/" + std::to_string(i));
  }
  const std::string hanging = "http://127.0.0.1:" + std::to_string(hanging_port) + "/hangs";
  std::atomic<std::uint64_t> refused = 0;
  std::atomic<std::uint64_t> answered = 0;
  std::uint64_t calls = 0;
  const auto offer = [&](const std::string& url, double due) {
    char payload[64];
    std::snprintf(payload, sizeof payload, "{\"at\":%.7f}", due);
    HookList hooks;
    hooks.add(url, payload);
    ++calls;
    engine.submit(std::move(hooks), {}, [&](const SubmitResult& result) {
      refused += !result.ok();
      ++answered;
    });
  };
  const double start = now_s();
  const double end = start + warm_up_s + static_cast<double>(setting.seconds);
  for (std::uint64_t i = 0;; ++i) {
    const double due = start + static_cast<double>(i) / static_cast<double>(setting.rate);
    if (due >= end) break;
    const double now = now_s();
    if (now < due) std::this_thread::sleep_for(std::chrono::duration<double>(due - now));
    const bool counts = due >= start + warm_up_s;
    measured.offered += counts;
    measured.late_ms = std::max(measured.late_ms, (now_s() - due) * 1000);
    offer(urls[i % urls.size()], counts ? due : 0);
    if (hanging_port != 0 && i % urls.size() == 0) offer(hanging, 0);
  }
  while (answered < calls) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  measured.refused = refused;
}

// In a process of its own.
int run_once(const Setting& setting, bool with_hanging, Measured& measured) {
  ReceiverProcessOptions receiver_options;
  receiver_options.make_handler = [&](ReceiverCounters&) {
    return [&histogram = measured.histogram](const CountedRequest& request) {
      note_latencies(request.body, now_s(), histogram);
      return 200;
    };
  };
  ReceiverProcess receiver(receiver_options);
  std::unique_ptr<HangingTarget> hanging;
  if (with_hanging) hanging = std::make_unique<HangingTarget>();
  Engine engine(engine_options(setting), make_memory_store());
  feed(engine, setting, receiver.port(), hanging ? hanging->port() : 0, measured);
  const double patience_end = now_s() + 10;
  while (measured.histogram.count < measured.offered && now_s() < patience_end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (const TargetStatus& target : engine.targets()) {
    measured.hung_attempts += target.waiting + target.in_flight + target.retrying > 0;
  }
  engine.drain(Duration::zero());
  receiver.stop();
  const bool complete = measured.histogram.count == measured.offered && measured.refused == 0;
  // Where nothing hangs the comparison would prove nothing.
  return complete && (measured.hung_attempts > 0) == with_hanging ? 0 : 1;
}

bool run_side(const Setting& setting, bool with_hanging, bool json, double& p99_ms) {
  Measured& measured = make_shared_value<Measured>();
  Child child([&] { return run_once(setting, with_hanging, measured); });
  const bool ok = child.wait().exit_code == 0;
  p99_ms = measured.histogram.quantile_ms(0.99);
  Report(json)
      .text("case", with_hanging ? "one_hangs" : "all_healthy")
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(measured.histogram.count.load()))
      .number("lost", static_cast<double>(measured.offered) -
                          static_cast<double>(measured.histogram.count.load()))
      .number("p50_ms", measured.histogram.quantile_ms(0.5), 2)
      .number("p99_ms", p99_ms, 2)
      .number("p999_ms", measured.histogram.quantile_ms(0.999), 2)
      .number("feeder_late_ms", measured.late_ms, 2)
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"rate=", "seconds=", "rounds=", "targets=", "batch=", "time-ms=",
                             "threads=", "json", "smoke"},
                            usage);
  const bool smoke = arguments.has("smoke");
  const bool json = arguments.has("json");
  Setting setting;
  setting.rate = std::max<std::uint64_t>(1, arguments.number("rate", setting.rate));
  setting.seconds = arguments.number("seconds", smoke ? 1 : setting.seconds);
  setting.targets = std::max<std::uint64_t>(1, arguments.number("targets", setting.targets));
  setting.batch = static_cast<std::uint32_t>(arguments.number("batch", setting.batch));
  setting.time_ms = arguments.number("time-ms", setting.time_ms);
  setting.threads = static_cast<std::uint32_t>(arguments.number("threads", setting.threads));
  const std::uint64_t rounds =
      std::max<std::uint64_t>(1, arguments.number("rounds", smoke ? 1 : 3));
  bool ok = true;
  std::vector<double> ratios;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    double without_ms = 0, with_ms = 0;
    ok = run_side(setting, false, json, without_ms) && ok;
    ok = run_side(setting, true, json, with_ms) && ok;
    ratios.push_back(without_ms > 0 ? with_ms / without_ms : 0);
  }
  std::sort(ratios.begin(), ratios.end());
  const double median = ratios[ratios.size() / 2];
  const bool isolated = smoke || (median > 0 && median <= ratio_max);
  Report(json)
      .text("case", "p99_ratio")
      .text("result", ok && isolated ? "ok" : "FAILED")
      .number("rounds", static_cast<double>(rounds))
      .number("median", median, 3)
      .number("worst", ratios.back(), 3)
      .number("allowed", ratio_max, 1)
      .print();
  return ok && isolated ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("isolation_bench", postbag::run, argc, argv);
}
