#include "bench/delivery_run.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>

#include "bench/batch_check.h"
#include "bench/bench_folder.h"
#include "bench/bench_support.h"
#include "bench/delivery_feeder.h"
#include "bench/raw_client.h"
#include "bench/tls_identity.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"
#include "postbag/sqlite_store.h"

namespace postbag {
namespace {

// Retries of the failing cases: soon, and so many that no hook is ever given up.
constexpr auto failing_interval = std::chrono::milliseconds(5);
constexpr std::uint32_t failing_retries = 1000;
constexpr double raw_seconds = 0.8;  // about
constexpr double raw_requests_per_s = 180'000;
constexpr double raw_bytes_per_s = 3e9;

Options delivery_options(const DeliveryCase& what, const DeliverySetting& setting) {
  Options options;
  options.store.durability = what.durability;
  options.defaults.batch.size = what.batch;
  options.defaults.batch.time = std::chrono::seconds(1);
  options.defaults.delivery.in_flight = what.in_flight;
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.engine.threads = setting.threads;
  options.engine.max_memory = setting.max_memory;
  if (what.fail_per_mille > 0) {
    options.defaults.retry.retry_interval = failing_interval;
    options.defaults.retry.retries = failing_retries;
  }
  return options;
}

std::function<std::function<int(const CountedRequest&)>(ReceiverCounters&)> checking_handler(
    const DeliveryCase& what) {
  return [what](ReceiverCounters& counters) {
    const std::uint64_t bags = what.hooks / (what.batch * what.targets) + 1;
    const bool ordered = what.in_flight == 1 && what.fail_per_mille == 0;
    auto check = std::make_shared<SequenceCheck>(what.targets, bags * what.batch, ordered);
    return [check, &counters](const CountedRequest& request) {
      counters.wrong += check->check(request);
      return 200;
    };
  };
}

// What the whole load must look like at the receiver, exactly: every hook once, every body an array
// of its hooks and nothing else. (A repeat would be allowed to the engine, but nothing here breaks
// a connection.)
std::uint64_t count_wrong(const DeliveryCase& what, const ReceiverCounters& counters,
                          const EngineStatus& status) {
  const auto differ = [](std::uint64_t a, std::uint64_t b) { return a > b ? a - b : b - a; };
  const std::uint64_t body_bytes =
      counters.hooks * (delivery_payload_bytes + 1) + counters.requests;
  return counters.wrong + counters.malformed + differ(counters.hooks, what.hooks) +
         differ(status.delivered, what.hooks) + status.failed + status.pending +
         (counters.body_bytes != body_bytes);
}

double resident_mb() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t all = 0, resident = 0;
  file >> all >> resident;
  return static_cast<double>(resident) * 4096 / (1 << 20);
}

// In the process of the case: the caller's thread feeds, all others are the engine's.
int run_engine(const DeliveryCase& what, const DeliverySetting& setting, DeliveryMeasure& out) {
  const std::unique_ptr<TlsIdentity> tls = what.tls ? std::make_unique<TlsIdentity>() : nullptr;
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  receiver_options.tls = tls.get();
  if (setting.check) receiver_options.make_handler = checking_handler(what);
  ReceiverProcess receiver(receiver_options);
  receiver.counters().fail_per_mille = what.fail_per_mille;

  std::optional<BenchFolder> folder;
  if (what.tls || what.durability != Durability::memory) folder.emplace();
  Options options = delivery_options(what, setting);
  if (what.tls) {
    options.defaults.tls.ca_file = (folder->path() / "ca.pem").string();
    std::ofstream(options.defaults.tls.ca_file) << tls->pem();
  }
  std::unique_ptr<Store> store;
  if (what.durability == Durability::memory) {
    store = make_memory_store();
  } else {
    SqliteStoreOptions store_options;
    store_options.path = options.store.path = (folder->path() / "postbag.db").string();
    store = open_sqlite_store(store_options);
  }
  if (setting.pin) pin_to_core(0);
  Engine engine(std::move(options), std::move(store));
  if (setting.pin) pin_to_core(1);

  DeliveryFeeder feeder(engine, what, receiver.counters(), receiver.port(), setting.backlog);
  double resident_at_tenth = 0;
  std::function<void(int)> each_percent;
  if (setting.soak) {
    each_percent = [&](int percent) {
      if (percent == 10) resident_at_tenth = resident_mb();
      std::fprintf(stderr, "%3d %%  resident %.1f MB\n", percent, resident_mb());
    };
  }
  const double start = now_s();
  const double feeder_start = thread_cpu_s();
  const double cpu_start = process_cpu_s();
  const bool fed = feeder.feed(each_percent);
  // The last bags may not be full.
  engine.flush();
  const bool received = fed && wait_for_hooks(receiver.counters(), what.hooks);
  if (what.durability == Durability::memory) out.seconds = now_s() - start;
  const bool settled = received && engine.wait_idle(std::chrono::seconds(60));
  if (what.durability != Durability::memory) out.seconds = now_s() - start;
  out.feeder_cpu_s = thread_cpu_s() - feeder_start;
  out.engine_cpu_s = process_cpu_s() - cpu_start - out.feeder_cpu_s;
  out.soak_growth_mb = setting.soak ? resident_mb() - resident_at_tenth : 0;

  out.hooks = what.hooks;
  out.requests = receiver.counters().requests;
  out.refused = receiver.counters().refused;
  out.connections = receiver.counters().connections;
  out.full_answers = feeder.full_answers();
  out.wrong = count_wrong(what, receiver.counters(), engine.status());
  engine.drain(std::chrono::seconds(5));
  out.receiver_cpu_s = receiver.stop();
  out.ok = settled && out.wrong == 0;
  return out.ok ? 0 : 1;
}

int run_raw(const DeliveryCase& what, const DeliverySetting& setting, DeliveryMeasure& out) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  if (setting.pin) pin_to_core(0);
  PayloadMaker maker(delivery_payload_bytes);
  std::string body = "[";
  for (std::uint32_t i = 0; i < what.batch; ++i) {
    if (i > 0) body += ",";
    body += maker.make(0, i);
  }
  body += "]";
  const double request_s =
      1 / raw_requests_per_s + static_cast<double>(body.size()) / raw_bytes_per_s;
  RawClientOptions options;
  options.port = receiver.port();
  options.connections = what.raw_connections();
  options.requests = std::clamp<std::uint64_t>(static_cast<std::uint64_t>(raw_seconds / request_s),
                                               options.connections, what.hooks);
  options.request = prepared_request(receiver.port(), body, what.batch);
  const RawClientResult result = run_raw_client(options);
  out.seconds = result.seconds;
  out.engine_cpu_s = result.cpu_s;
  out.requests = result.answered;
  out.hooks = result.answered * what.batch;
  out.receiver_cpu_s = receiver.stop();
  out.ok = result.refused == 0;
  return out.ok ? 0 : 1;
}

template <typename Body>
DeliveryMeasure in_child(const Body& body) {
  DeliveryMeasure& shared = make_shared_value<DeliveryMeasure>();
  Child child([&] { return body(shared); });
  const Child::End end = child.wait();
  DeliveryMeasure result = shared;
  result.ok = result.ok && end.exit_code == 0;
  result.peak_rss_mb = end.peak_rss_mb;
  return result;
}

}  // namespace

DeliveryMeasure measure_delivery(const DeliveryCase& what, const DeliverySetting& setting) {
  return in_child([&](DeliveryMeasure& out) { return run_engine(what, setting, out); });
}

DeliveryMeasure measure_raw(const DeliveryCase& what, const DeliverySetting& setting) {
  return in_child([&](DeliveryMeasure& out) { return run_raw(what, setting, out); });
}

}  // namespace postbag
