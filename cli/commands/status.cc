#include <cstdio>
#include <variant>

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/progress.h"
#include "cli/status_table.h"
#include "cli/store_access.h"
#include "cli/table.h"
#include "cli/text/json_writer.h"

namespace postbag {

namespace {

constexpr std::size_t targets_shown = 10;

std::string per_second(double rate) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f/s", rate);
  return text;
}

std::string of_limit(std::uint64_t bytes, std::uint64_t limit) {
  return short_bytes(bytes) + (limit > 0 ? " of " + short_bytes(limit) : "");
}

std::string shown(const EngineStatus& status, const StatusMember& one, double number) {
  switch (one.unit) {
    case StatusMember::Unit::count:
      break;
    case StatusMember::Unit::per_second:
      return per_second(number);
    case StatusMember::Unit::seconds:
      return short_duration(std::chrono::seconds(static_cast<std::int64_t>(number)));
    case StatusMember::Unit::bytes:
      return of_limit(static_cast<std::uint64_t>(number),
                      one.limit != nullptr ? status.*one.limit : 0);
  }
  return std::to_string(static_cast<std::uint64_t>(number));
}
std::string shown(const EngineStatus&, const StatusMember&, Durability level) {
  return std::string(durability_name(level));
}

void print_daemon(const EngineStatus& status, Console& console) {
  std::vector<std::vector<std::string>> rows = {{"daemon", std::string(state_name(status))}};
  for (const StatusMember& one : status_table()) {
    if (one.row.empty()) continue;
    const auto text = [&](auto member) { return shown(status, one, status.*member); };
    rows.push_back({std::string(one.row), std::visit(text, one.member)});
  }
  console.print(render_table(rows));
}

// Of "https://a.example/#12345678" what tells it from the others of its origin.
std::string in_log(const std::string& log_name) {
  const std::size_t hash = log_name.find('#');
  return hash == std::string::npos ? "-" : log_name.substr(hash);
}

void print_targets(const std::vector<TargetStatus>& targets, Console& console) {
  if (targets.empty()) return;
  std::vector<std::vector<std::string>> rows = {
      {"TARGET", "IN LOG", "STATE", "WAITING", "IN FLIGHT", "RETRYING", "DELIVERED", "LAST"}};
  for (const TargetStatus& target : targets) {
    if (rows.size() > targets_shown) break;
    const std::string last = !target.last_reason.empty() ? target.last_reason
                             : target.last_status == 0   ? "-"
                                                         : std::to_string(target.last_status);
    rows.push_back({shortened(printable(target.url), 60), printable(in_log(target.log_name)),
                    printable(target.state), std::to_string(target.waiting),
                    std::to_string(target.in_flight), std::to_string(target.retrying),
                    std::to_string(target.delivered), printable(last)});
  }
  console.print("\n" + render_table(rows, {3, 4, 5, 6}));
  if (targets.size() > targets_shown) {
    console.print_line("... and " + std::to_string(targets.size() - targets_shown) + " more");
  }
}

int status_of_daemon(ControlClient& daemon, bool as_json, Console& console) {
  const std::string json = ask_status(daemon);
  const EngineStatus status = expect_parsed(parse_engine_status(json));
  if (as_json) {
    // {"daemon":true, ...} before the daemon's own members.
    console.print_line("{\"daemon\":true," + json.substr(json.find('{') + 1));
    return exit_ok;
  }
  print_daemon(status, console);
  ControlRequest request;
  request.path = "/v1/targets";
  const ControlAnswer targets = daemon.send(request);
  if (targets.ok()) {
    if (const auto parsed = parse_targets(targets.body)) print_targets(*parsed, console);
  }
  return exit_ok;
}

}  // namespace

// Without a daemon the store itself is asked: no error, since that is what was asked for.
int run_status(const StatusArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  StoreHolder holder = open_daemon_or_store(options, StoreUse::look, console);
  if (holder.daemon) return status_of_daemon(*holder.daemon, arguments.json, console);
  const StoreInfo info = holder.store->info();
  const StoreStats stats = holder.store->stats();
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) {
      json.member("daemon", false);
      json.member("pending", info.pending_hooks);
      json.member("failed", stats.failed_hooks);
      json.member("store_bytes", stats.used_bytes);
      json.member("store_limit", options.store.max_bytes);
    });
    return exit_ok;
  }
  console.print(render_table({{"daemon", "none"},
                              {"pending", std::to_string(info.pending_hooks)},
                              {"failed", std::to_string(stats.failed_hooks)},
                              {"store", of_limit(stats.used_bytes, options.store.max_bytes)}}));
  return exit_ok;
}

}  // namespace postbag
