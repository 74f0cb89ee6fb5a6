// Load for the HTTP intake: a closed loop of raw connections that post single hooks, arrays or
// NDJSON to `postbag serve`, which delivers to a receiver here. Starts a daemon of its own per case
// (--postbag) or uses a running one (--port).

#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <thread>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/raw_client.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "intake_bench (--postbag PROGRAM | --port N) [--case single|array|ndjson] [--hooks N]\n"
    "             [--connections N] [--targets N] [--durability memory|os|fsync] [--pin] [--json] "
    "[--smoke]\n"
    "  --port  a running daemon on 127.0.0.1 that allows http and the target 127.0.0.1, without a "
    "token\n"
    "  --pin   daemon on core 0, load and receiver on core 1\n";

struct Case {
  const char* name;
  std::uint64_t hooks_per_request;
  std::uint32_t connections;
  std::uint64_t hooks;
};

constexpr Case cases[] = {
    {"single", 1, 64, 300'000},
    {"array", 1000, 8, 3'000'000},
    {"ndjson", 10'000, 4, 3'000'000},
};

class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "postbag-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A port that was free a moment ago: the daemon has to be told one that we know.
std::uint16_t free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  bind(fd, reinterpret_cast<sockaddr*>(&address), length);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return ntohs(address.sin_port);
}

double cpu_s_of(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

class Daemon {
 public:
  Daemon(const std::string& program, const std::string& durability, bool pin) : port_(free_port()) {
    const std::string config = (folder_.path() / "postbag.toml").string();
    std::ofstream(config) << "[store]\npath = \"" << (folder_.path() / "postbag.db").string()
                          << "\"\ndurability = \"" << durability
                          << "\"\n[intake]\nlisten = \"127.0.0.1:" << port_
                          << "\"\n[network]\nallow_http = true\nallow = "
                             "[\"127.0.0.1\"]\n[log]\nlevel = \"warning\"\n";
    child_ = std::make_unique<Child>([&] {
      if (pin) pin_to_core(0);
      execl(program.c_str(), program.c_str(), "serve", "-c", config.c_str(), nullptr);
      std::perror(program.c_str());
      return 66;
    });
    wait_ready();
  }
  std::uint16_t port() const { return port_; }
  double cpu_s() const { return cpu_s_of(child_->pid()); }
  Child::End stop() {
    child_->interrupt();
    return child_->wait();
  }

 private:
  void wait_ready() {
    for (const double start = now_s(); now_s() - start < 15 && child_->running();) {
      try {
        const std::string answer = exchange(
            port_, "GET /healthz/ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        if (answer.starts_with("HTTP/1.1 200")) return;
      } catch (const std::system_error&) {
        // Not listening yet.
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    throw std::runtime_error("the daemon did not become ready");
  }

  TempFolder folder_;
  std::uint16_t port_;
  std::unique_ptr<Child> child_;
};

std::string make_request(const Case& what, std::uint16_t target_port, std::uint64_t targets) {
  PayloadMaker maker;
  const bool array = std::string_view(what.name) == "array";
  std::string body = array ? "[" : "";
  for (std::uint64_t i = 0; i < what.hooks_per_request; ++i) {
    if (array && i > 0) body += ",";
    body += "{\"target\":\"http://127.0.0.1:" + std::to_string(target_port) + "/t/" +
            std::to_string(i % targets) + "\",\"data\":";
    body += maker.make(i % targets, i);
    body += array ? "}" : "}\n";
  }
  if (array) body += "]";
  if (what.hooks_per_request == 1) body.pop_back();
  const bool ndjson = std::string_view(what.name) == "ndjson";
  return std::string("POST /v1/hooks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/") +
         (ndjson ? "x-ndjson" : "json") + "\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

struct Setting {
  std::string program, durability;
  std::uint16_t port = 0;
  std::uint64_t targets = 100;
  bool pin = false, json = false;
};

bool run_case(const Case& what, const Setting& setting) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  std::unique_ptr<Daemon> daemon;
  if (setting.port == 0) {
    daemon = std::make_unique<Daemon>(setting.program, setting.durability, setting.pin);
  }
  if (setting.pin) pin_to_core(1);
  RawClientOptions options;
  options.port = daemon ? daemon->port() : setting.port;
  options.connections = what.connections;
  options.requests = std::max<std::uint64_t>(1, what.hooks / what.hooks_per_request);
  options.request = make_request(what, receiver.port(), setting.targets);
  const std::uint64_t hooks = options.requests * what.hooks_per_request;
  const double start = now_s();
  const RawClientResult result = run_raw_client(options);
  const bool complete = wait_for_hooks(receiver.counters(), hooks);
  const double delivered_s = now_s() - start;
  const double daemon_cpu_s = daemon ? daemon->cpu_s() : 0;
  const std::uint64_t requests = receiver.counters().requests;
  const Child::End end = daemon ? daemon->stop() : Child::End{0, 0, 0};
  const bool ok = complete && receiver.counters().hooks == hooks && end.exit_code == 0;
  receiver.stop();
  const double count = static_cast<double>(hooks);
  Report(setting.json)
      .text("case", what.name)
      .text("result", ok ? "ok" : "FAILED")
      .text("durability", setting.port == 0 ? setting.durability : "as configured")
      .number("hooks", count)
      .number("accepted_per_s", count / result.seconds)
      .number("delivered_per_s", count / delivered_s)
      .number("daemon_cpu_s_per_million", daemon_cpu_s / count * 1e6, 3)
      .number("load_cpu_s_per_million", result.cpu_s / count * 1e6, 3)
      .number("refused_requests", static_cast<double>(result.refused))
      .number("deliveries", static_cast<double>(requests))
      .number("daemon_peak_rss_mb", end.peak_rss_mb, 1)
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"postbag=", "port=", "case=", "hooks=", "connections=", "targets=",
                             "durability=", "pin", "json", "smoke"},
                            usage);
  Setting setting;
  setting.program = arguments.text("postbag");
  setting.durability = arguments.text("durability", "fsync");
  setting.port = static_cast<std::uint16_t>(arguments.number("port", 0));
  setting.targets = std::max<std::uint64_t>(1, arguments.number("targets", 100));
  setting.pin = arguments.has("pin");
  setting.json = arguments.has("json");
  if (setting.program.empty() == (setting.port == 0)) {
    std::fprintf(stderr, "either --postbag or --port\n%s", usage);
    return 64;
  }
  bool ok = true, any = false;
  for (Case what : cases) {
    if (arguments.text("case", what.name) != what.name) continue;
    any = true;
    if (arguments.has("smoke")) what.hooks = what.hooks_per_request * 3;
    what.hooks = arguments.number("hooks", what.hooks);
    what.connections =
        static_cast<std::uint32_t>(arguments.number("connections", what.connections));
    ok = run_case(what, setting) && ok;
  }
  return !any ? 64 : ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  try {
    postbag::ignore_broken_pipes();
    return postbag::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "intake_bench: %s\n", error.what());
    return 71;
  }
}
