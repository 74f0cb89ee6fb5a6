// Real payloads through the library, compared at the receiver byte for byte: one payload a line
// comes in, line i goes to target i % M, and each target must get exactly its payloads, over HTTP
// and TLS, in order where order is promised.

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/counting_receiver.h"
#include "bench/tls_identity.h"
#include "postbag/engine.h"
#include "postbag/memory_store.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "github_delivery --file NDJSON [--targets N] [--batch N] [--json]\n"
    "  NDJSON: one JSON payload a line (bench/github_examples.py makes one from GitHub's "
    "examples)\n";

constexpr std::size_t list_hooks = 50;

struct Mode {
  const char* name;
  bool tls;
  std::size_t producers;
  std::uint32_t fail_per_mille;  // of the requests, answered with 503
  bool ordered;                  // one producer, one batch in flight, no failure: order is promised
};

constexpr Mode modes[] = {
    {"http_1_producer_in_order", false, 1, 0, true},
    {"tls_1_producer_in_order", true, 1, 0, true},
    {"http_8_producers", false, 8, 0, false},
    {"tls_8_producers", true, 8, 0, false},
    {"http_8_producers_10_percent_503", false, 8, 100, false},
};

std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) lines.push_back(std::move(line));
  }
  if (lines.empty()) throw std::runtime_error(path + " has no payload");
  return lines;
}

// What each target has to get. The handler runs on the receiver's thread; the rest is read when
// that has ended.
class Expectation {
 public:
  Expectation(const std::vector<std::string>& payloads, std::size_t targets, std::size_t batch_max,
              bool ordered)
      : batch_max_(batch_max), ordered_(ordered), targets_(targets) {
    for (std::size_t i = 0; i < payloads.size(); ++i) {
      Target& target = targets_[i % targets];
      target.in_order.push_back(payloads[i]);
      ++target.wanted[payloads[i]];
    }
  }

  int receive(const CountedRequest& request) {
    std::size_t target = 0, count = 0;
    if (std::sscanf(std::string(request.path).c_str(), "/hooks/%zu", &target) != 1 ||
        target >= targets_.size()) {
      complain("a request for " + std::string(request.path));
      return 200;
    }
    const bool is_array = split_json_array(request.body, [&](std::string_view payload) {
      ++count;
      take(targets_[target], target, payload);
    });
    if (!is_array) complain("a body that is no JSON array");
    if (count != request.batch_size || count > batch_max_ || count == 0) {
      complain("a batch of " + std::to_string(count) + " that says " +
               std::to_string(request.batch_size));
    }
    return 200;
  }

  std::uint64_t differences() const { return differences_; }
  std::uint64_t missing() const {
    std::uint64_t count = 0;
    for (const Target& target : targets_) {
      for (const auto& [payload, left] : target.wanted) count += left;
    }
    return count;
  }

 private:
  struct Target {
    std::vector<std::string_view> in_order;
    std::size_t next = 0;
    std::map<std::string_view, std::uint64_t> wanted;  // how often it still has to come
  };

  void take(Target& target, std::size_t number, std::string_view payload) {
    const auto found = target.wanted.find(payload);
    if (found == target.wanted.end()) {
      complain("target " + std::to_string(number) + ": bytes that were never sent to it");
    } else if (found->second == 0) {
      complain("target " + std::to_string(number) + ": a payload more often than sent");
    } else {
      --found->second;
    }
    if (ordered_ &&
        (target.next >= target.in_order.size() || target.in_order[target.next] != payload)) {
      complain("target " + std::to_string(number) + ": hook " + std::to_string(target.next) +
               " is out of order");
    }
    ++target.next;
  }

  void complain(const std::string& what) {
    if (++differences_ <= 10) std::fprintf(stderr, "difference: %s\n", what.c_str());
  }

  std::size_t batch_max_;
  bool ordered_;
  std::vector<Target> targets_;
  std::uint64_t differences_ = 0;
};

// Offers its share of the payloads (every producers-th list), again while the engine is full.
bool produce(Engine& engine, const std::vector<std::string>& payloads,
             const std::vector<std::string>& urls, std::size_t producer, std::size_t producers) {
  for (std::size_t first = producer * list_hooks; first < payloads.size();
       first += producers * list_hooks) {
    while (true) {
      HookList list;
      for (std::size_t i = first; i < std::min(first + list_hooks, payloads.size()); ++i) {
        list.add(urls[i % urls.size()], payloads[i]);
      }
      const SubmitResult result = engine.submit(std::move(list));
      if (result.ok()) break;
      if (result.error != Errc::full) {
        std::fprintf(stderr, "refused: %s\n", result.message.c_str());
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return true;
}

Options engine_options(std::uint32_t batch, const std::string& ca_file) {
  Options options;
  options.defaults.batch.size = batch;
  options.defaults.batch.time = std::chrono::milliseconds(200);
  options.defaults.retry.retries = 100;
  options.defaults.retry.retry_interval = std::chrono::milliseconds(10);
  options.defaults.network.allow_http = true;
  options.defaults.network.allow = {"127.0.0.1"};
  options.defaults.tls.ca_file = ca_file;
  return options;
}

struct Setting {
  std::size_t targets = 100;
  std::uint32_t batch = 100;
  bool json = false;
  std::string ca_file;
};

bool run_mode(const Mode& mode, const std::vector<std::string>& payloads, const TlsIdentity& tls,
              const Setting& setting) {
  Expectation expectation(payloads, setting.targets, setting.batch, mode.ordered);
  ReceiverCounters counters;
  counters.fail_per_mille = mode.fail_per_mille;
  CountingReceiverOptions receiver_options;
  receiver_options.counters = &counters;
  receiver_options.tls = mode.tls ? &tls : nullptr;
  receiver_options.handler = [&](const CountedRequest& request) {
    return expectation.receive(request);
  };
  auto receiver = std::make_unique<CountingReceiver>(std::move(receiver_options));
  receiver->start();
  std::vector<std::string> urls;
  for (std::size_t i = 0; i < setting.targets; ++i) {
    urls.push_back((mode.tls ? "https" : "http") +
                   ("://127.0.0.1:" + std::to_string(receiver->port())) + "/hooks/" +
                   std::to_string(i));
  }
  const double start = now_s();
  bool ok = true;
  {
    Engine engine(engine_options(setting.batch, setting.ca_file), make_memory_store());
    std::vector<std::future<bool>> producers;
    for (std::size_t i = 0; i < mode.producers; ++i) {
      producers.push_back(std::async(std::launch::async, [&, i] {
        return produce(engine, payloads, urls, i, mode.producers);
      }));
    }
    for (auto& producer : producers) ok = producer.get() && ok;
    ok = engine.wait_idle(std::chrono::seconds(60)) && ok;
    const EngineStatus status = engine.status();
    if (status.delivered != payloads.size() || status.given_up != 0) {
      std::fprintf(stderr, "difference: the engine says delivered=%llu given_up=%llu\n",
                   static_cast<unsigned long long>(status.delivered),
                   static_cast<unsigned long long>(status.given_up));
      ok = false;
    }
  }
  receiver.reset();
  ok = ok && expectation.differences() == 0 && expectation.missing() == 0 &&
       counters.hooks == payloads.size();
  Report(setting.json)
      .text("mode", mode.name)
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(payloads.size()))
      .number("targets", static_cast<double>(setting.targets))
      .number("received", static_cast<double>(counters.hooks))
      .number("requests", static_cast<double>(counters.requests))
      .number("refused_requests", static_cast<double>(counters.refused))
      .number("body_mb", static_cast<double>(counters.body_bytes) * 1e-6, 1)
      .number("differences", static_cast<double>(expectation.differences()))
      .number("missing", static_cast<double>(expectation.missing()))
      .number("seconds", now_s() - start, 2)
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, {"file=", "targets=", "batch=", "json"}, usage);
  if (!arguments.has("file")) {
    std::fprintf(stderr, "--file is needed\n%s", usage);
    return 64;
  }
  const std::vector<std::string> payloads = read_lines(arguments.text("file"));
  Setting setting;
  setting.targets = std::max<std::uint64_t>(1, arguments.number("targets", 100));
  setting.batch = static_cast<std::uint32_t>(arguments.number("batch", 100));
  setting.json = arguments.has("json");
  const TlsIdentity tls;
  std::string name = (std::filesystem::temp_directory_path() / "postbag-bench-ca-XXXXXX").string();
  const int fd = mkstemp(name.data());
  if (fd < 0 ||
      write(fd, tls.pem().data(), tls.pem().size()) != static_cast<ssize_t>(tls.pem().size())) {
    throw std::runtime_error("cannot write the certificate");
  }
  close(fd);
  setting.ca_file = name;
  bool ok = true;
  for (const Mode& mode : modes) ok = run_mode(mode, payloads, tls, setting) && ok;
  std::filesystem::remove(name);
  std::printf("%s\n", ok ? "every payload arrived, byte for byte" : "DIFFERENCES");
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("github_delivery", postbag::run, argc, argv);
}
