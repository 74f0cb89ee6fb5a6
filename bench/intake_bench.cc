// Load for the HTTP intake: a closed loop of raw connections that post single hooks, arrays or
// NDJSON to `postbag serve`, which delivers to a receiver here. Starts a daemon of its own per run
// (--postbag) or uses a running one (--port). Beside it, alternating, what the same server code
// reaches with no engine behind it.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/batch_check.h"
#include "bench/bench_support.h"
#include "bench/intake_daemon.h"
#include "bench/raw_client.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "intake_bench (--postbag PROGRAM | --port N) [--case single|array|ndjson] [--hooks N]\n"
    "             [--connections N] [--targets N] [--durability memory|os|fsync] [--repeat N]\n"
    "             [--sync-ms N] [--pin] [--json] [--smoke]\n"
    "  --port    a running daemon on 127.0.0.1 that allows http and the target 127.0.0.1, without\n"
    "            a token\n"
    "  --sync-ms is added to each sync of the daemon that is started (0)\n"
    "  --pin     daemon on core 0, load and receiver on core 1\n"
    "  --repeat  medians of so many runs; each run goes through\n"
    "              constant   single only: the same bytes read by the same server and answered\n"
    "                         with a constant by a route that does nothing with them\n"
    "              parsed     the same, parsed in full and answered, with no engine behind it\n"
    "              daemon     the daemon, which delivers them\n";

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

// The same bytes for the route that reads a body and does nothing with it.
std::string to_constant_route(std::string request) {
  constexpr std::string_view line = "POST /v1/hooks HTTP/1.1";
  return "GET /healthz/live HTTP/1.1" + request.substr(line.size());
}

struct Setting {
  std::string program, durability;
  std::uint16_t port = 0;
  std::uint64_t targets = 100, repeat = 1, sync_ms = 0;
  bool pin = false, json = false;
};

struct Run {
  double accepted_per_s = 0, delivered_per_s = 0;
  double server_cpu_us = 0, load_cpu_us = 0;                       // a hook
  double intake_us = 0, shard_us = 0, store_us = 0, switches = 0;  // a request
  double deliveries = 0, refused = 0, peak_rss_mb = 0;
};

void note_threads(const IntakeProcess& process, double requests, Run& run) {
  for (const ThreadUse& thread : process.threads()) {
    const double us = thread.cpu_s * 1e6 / requests;
    if (thread.name == "postbag-intake") run.intake_us += us;
    if (thread.name == "postbag-shard") run.shard_us += us;
    if (thread.name == "postbag-store") run.store_us += us;
    run.switches += static_cast<double>(thread.switches) / requests;
  }
}

RawClientOptions load_options(const Case& what) {
  RawClientOptions options;
  options.connections = what.connections;
  options.requests = std::max<std::uint64_t>(1, what.hooks / what.hooks_per_request);
  return options;
}

// Without an engine: `constant` or parsed.
Run run_ceiling(const Case& what, const Setting& setting, bool constant) {
  ConstantProcess server(setting.pin);
  if (setting.pin) pin_to_core(1);
  RawClientOptions options = load_options(what);
  options.port = server.port();
  options.request = make_request(what, 9, setting.targets);
  if (constant) options.request = to_constant_route(std::move(options.request));
  const RawClientResult result = run_raw_client(options);
  const auto hooks = static_cast<double>(options.requests * what.hooks_per_request);
  Run run;
  run.accepted_per_s = hooks / result.seconds;
  run.server_cpu_us = server.cpu_s() / hooks * 1e6;
  run.load_cpu_us = result.cpu_s / hooks * 1e6;
  note_threads(server, static_cast<double>(options.requests), run);
  server.stop();
  return run;
}

// Nothing if a hook did not arrive, or one too many.
std::optional<Run> run_daemon(const Case& what, const Setting& setting) {
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = setting.pin;
  ReceiverProcess receiver(receiver_options);
  std::unique_ptr<ServeProcess> daemon;
  if (setting.port == 0) {
    daemon = std::make_unique<ServeProcess>(setting.program, setting.durability, setting.pin,
                                            setting.sync_ms);
  }
  if (setting.pin) pin_to_core(1);
  RawClientOptions options = load_options(what);
  options.port = daemon ? daemon->port() : setting.port;
  options.request = make_request(what, receiver.port(), setting.targets);
  const std::uint64_t hooks = options.requests * what.hooks_per_request;
  const double start = now_s();
  const RawClientResult result = run_raw_client(options);
  const bool complete = wait_for_hooks(receiver.counters(), hooks);
  const double delivered_s = now_s() - start;
  const auto count = static_cast<double>(hooks);
  Run run;
  run.accepted_per_s = count / result.seconds;
  run.delivered_per_s = count / delivered_s;
  run.load_cpu_us = result.cpu_s / count * 1e6;
  run.refused = static_cast<double>(result.refused);
  run.deliveries = static_cast<double>(receiver.counters().requests);
  bool ended_well = true;
  if (daemon) {
    run.server_cpu_us = daemon->cpu_s() / count * 1e6;
    note_threads(*daemon, static_cast<double>(options.requests), run);
    const Child::End end = daemon->stop();
    run.peak_rss_mb = end.peak_rss_mb;
    ended_well = end.exit_code == 0;
  }
  const bool ok = complete && receiver.counters().hooks == hooks && ended_well;
  receiver.stop();
  if (!ok) return {};
  return run;
}

double median_of(const std::vector<Run>& runs, double Run::*member) {
  if (runs.empty()) return 0;
  std::vector<double> values;
  for (const Run& run : runs) values.push_back(run.*member);
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of each round on its own: the machine is not as fast in one as in the other.
double median_ratio(const std::vector<Run>& runs, const std::vector<Run>& ceilings) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(runs.size(), ceilings.size()); ++i) {
    ratios.push_back(runs[i].accepted_per_s / ceilings[i].accepted_per_s);
  }
  if (ratios.empty()) return 0;
  std::sort(ratios.begin(), ratios.end());
  return ratios[ratios.size() / 2];
}

bool run_case(const Case& what, const Setting& setting) {
  std::vector<Run> constant, parsed, daemon;
  for (std::uint64_t round = 0; round < setting.repeat; ++round) {
    std::fprintf(stderr, "intake_bench: %s, round %lu of %lu\n", what.name,
                 static_cast<unsigned long>(round + 1), static_cast<unsigned long>(setting.repeat));
    if (what.hooks_per_request == 1) constant.push_back(run_ceiling(what, setting, true));
    parsed.push_back(run_ceiling(what, setting, false));
    if (const auto run = run_daemon(what, setting)) daemon.push_back(*run);
  }
  const bool ok = daemon.size() == setting.repeat;
  Report report(setting.json);
  report.text("case", what.name)
      .text("result", ok ? "ok" : "FAILED")
      .text("durability", setting.port == 0 ? setting.durability : "as configured")
      .number("sync_ms", static_cast<double>(setting.sync_ms))
      .number("hooks", static_cast<double>(what.hooks))
      .number("rounds", static_cast<double>(setting.repeat))
      .number("accepted_per_s", median_of(daemon, &Run::accepted_per_s))
      .number("delivered_per_s", median_of(daemon, &Run::delivered_per_s));
  if (!constant.empty()) {
    report.number("constant_per_s", median_of(constant, &Run::accepted_per_s))
        .number("of_constant", median_ratio(daemon, constant), 3)
        .number("constant_intake_us_per_request", median_of(constant, &Run::intake_us), 2);
  }
  report.number("parsed_per_s", median_of(parsed, &Run::accepted_per_s))
      .number("of_parsed", median_ratio(daemon, parsed), 3)
      .number("parsed_intake_us_per_request", median_of(parsed, &Run::intake_us), 2)
      .number("daemon_cpu_us_per_hook", median_of(daemon, &Run::server_cpu_us), 3)
      .number("intake_us_per_request", median_of(daemon, &Run::intake_us), 2)
      .number("shard_us_per_request", median_of(daemon, &Run::shard_us), 2)
      .number("store_us_per_request", median_of(daemon, &Run::store_us), 2)
      .number("switches_per_request", median_of(daemon, &Run::switches), 3)
      .number("load_cpu_us_per_hook", median_of(daemon, &Run::load_cpu_us), 3)
      .number("refused_requests", median_of(daemon, &Run::refused))
      .number("deliveries", median_of(daemon, &Run::deliveries))
      .number("daemon_peak_rss_mb", median_of(daemon, &Run::peak_rss_mb), 1)
      .print();
  return ok;
}

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv,
                            {"postbag=", "port=", "case=", "hooks=", "connections=", "targets=",
                             "durability=", "repeat=", "sync-ms=", "pin", "json", "smoke"},
                            usage);
  Setting setting;
  setting.program = arguments.text("postbag");
  setting.durability = arguments.text("durability", "fsync");
  setting.port = static_cast<std::uint16_t>(arguments.number("port", 0));
  setting.targets = std::max<std::uint64_t>(1, arguments.number("targets", 100));
  setting.repeat = std::max<std::uint64_t>(1, arguments.number("repeat", 1));
  setting.sync_ms = arguments.number("sync-ms", 0);
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
    if (what.hooks < what.hooks_per_request) what.hooks = what.hooks_per_request;
    ok = run_case(what, setting) && ok;
  }
  return !any ? 64 : ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("intake_bench", postbag::run, argc, argv);
}
