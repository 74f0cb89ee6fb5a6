#include "tests/crash/kill_harness.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <stdexcept>

#include "cli/control_client.h"
#include "cli/daemon_answers.h"
#include "postbag/sqlite_store.h"
#include "tests/crash/kill_points.h"

namespace postbag::test {
namespace {

constexpr std::uint32_t targets = 32;
constexpr std::uint32_t batch_size = 20;
constexpr std::uint32_t retries = 3;
constexpr int load_looks = 60;
constexpr auto last_hook_patience = std::chrono::seconds(120);

// D2 (engine/README.md): what is on the wire (a batch a target), what the running commit settles
// and what waits for the next; each part holds at most what a target can finish in the time of a
// commit.
OracleLimits limits_of(const KillPlan& plan) {
  OracleLimits limits;
  limits.producers = plan.producers;
  limits.batch_size = batch_size;
  limits.attempts = 1 + retries;
  limits.repeats_a_kill = 4 * targets;
  return limits;
}

}  // namespace

KillHarness::KillHarness(const KillPlan& plan)
    : plan_(plan),
      names_(plan.seed, targets),
      oracle_(names_, limits_of(plan)),
      random_(plan.seed),
      receiver_([this](const ArrivedBatch& batch) { return answer(batch); }) {}

// Of eight targets five take everything, one is slow, one is flaky or drops the connection, and one
// of all never takes anything, so that its hooks become failed rows.
TallyAnswer KillHarness::answer(const ArrivedBatch& arrived) {
  const std::uint64_t dice =
      mix64(plan_.seed ^ mix64(std::hash<std::string>()(arrived.batch_id) + arrived.attempt));
  TallyAnswer answer;
  if (dice % 10 < 3) answer.delay_ms = static_cast<std::uint32_t>(dice >> 8) % 6;
  switch (arrived.target % 8) {
    case 5:
      if (dice >> 16 & 1) answer.status = 503;
      break;
    case 6:
      answer.drop = (dice >> 16 & 3) == 0;
      break;
    case 7:
      answer.delay_ms = static_cast<std::uint32_t>(dice >> 8) % 40;
      if (arrived.target == 7) answer = {500, false, 0};
      break;
    default:
      break;
  }
  ArrivedBatch told = arrived;
  told.dropped = answer.drop;
  told.answered_ok = !answer.drop && answer.status == 200;
  oracle_.arrived(told);
  return answer;
}

void KillHarness::write_config() const {
  std::ofstream(plan_.folder + "/postbag.toml")
      << "[store]\ndurability = \"" << plan_.durability << "\"\n"
      << "[intake]\nlisten = \"127.0.0.1:0\"\n"
      << "[network]\nallow_http = true\nallow = [\"127.0.0.1\"]\n"
      << "[batch]\nsize = " << batch_size << "\ntime = 0.02\n"
      << "[retry]\nretries = " << retries << "\nretry_interval = 0.02\nmax_retrying = 4\n"
      << "[engine]\nthreads = 2\n[log]\nlevel = \"error\"\n";
}

void KillHarness::spawn() {
  oracle_.run_begins();
  daemon_ = std::make_unique<ChildProcess>(
      std::vector<std::string>{plan_.binary, "serve", "--json"}, plan_.folder);
}

// False: it did not come up.
bool KillHarness::start() {
  spawn();
  const auto ready = daemon_->wait_for_out("listening");
  if (!ready) {
    const ProcessResult result = daemon_->wait();
    oracle_.violation("the daemon did not start: code " + std::to_string(result.exit_code) + " " +
                      result.err);
    daemon_.reset();
    return false;
  }
  listens(*ready);
  return true;
}

void KillHarness::listens(const std::string& ready_line) {
  const std::string address = json_text(ready_line, "listening");
  address_.up(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
}

void KillHarness::ended(const ProcessResult& result, bool killed) {
  const int expected = killed ? 128 + SIGKILL : 0;
  if (result.exit_code != expected) {
    oracle_.violation("the daemon ended with code " + std::to_string(result.exit_code) +
                      ", expected " + std::to_string(expected) + ": " + result.err);
  }
  if (!receiver_.drained()) oracle_.violation("a connection outlived its daemon");
  oracle_.run_ended(killed);
  daemon_.reset();
}

void KillHarness::kill_daemon() {
  address_.down();
  daemon_->signal(SIGKILL);
  ++report_.kills;
  ended(daemon_->wait(), true);
}

void KillHarness::terminate(bool then_kill) {
  address_.down();
  daemon_->signal(SIGTERM);
  ++report_.terms;
  if (!then_kill) return ended(daemon_->wait(), false);
  timer_.wait_us(random(20'000));
  daemon_->signal(SIGKILL);
  const ProcessResult result = daemon_->wait();
  // It may have been faster.
  const bool killed = result.exit_code != 0;
  if (killed) {
    ++report_.kills;
    ++report_.terms_killed;
  }
  ended(result, killed);
}

void KillHarness::one_round() {
  // Mostly under load; some right after it came up.
  timer_.wait_us(random(4) == 0 ? random(10'000) : random(250'000));
  const std::uint64_t way = random(10);
  if (way < 8) {
    kill_daemon();
  } else {
    terminate(way == 9);
  }
  // While it starts and recovers; a few times in a row.
  while (report_.kills < plan_.kills && random(3) == 0) {
    spawn();
    timer_.wait_us(random(12'000));
    ++report_.kills_in_recovery;
    kill_daemon();
  }
}

void KillHarness::random_moments() {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(plan_.seconds);
  while (daemon_ && report_.kills < plan_.kills && std::chrono::steady_clock::now() < end &&
         !oracle_.has_violations()) {
    one_round();
    start();
  }
}

// A run that ends at the point, or, if that is not reached under load, in order: that is where some
// points are. True: it was reached.
bool KillHarness::ends_at(const std::string& point, std::uint64_t nth) {
  oracle_.run_begins();
  daemon_ = std::make_unique<ChildProcess>(
      with_kill_point(plan_.shim, point, nth, {plan_.binary, "serve", "--json"}), plan_.folder);
  if (const auto ready = daemon_->wait_for_out("listening")) {
    listens(*ready);
    for (int i = 0; i < load_looks && !daemon_->has_ended(); ++i) timer_.wait_us(2'000);
    address_.down();
    if (!daemon_->has_ended()) ++report_.terms;
    daemon_->signal(SIGTERM);
  } else {
    ++report_.kills_in_recovery;
  }
  const ProcessResult result = daemon_->wait();
  const bool killed = result.exit_code == 128 + SIGKILL;
  if (killed) {
    ++report_.kills;
    ++report_.kills_at_points;
  }
  ended(result, killed);
  return killed;
}

// False: what it is at, or whether the point is there at all, has to be looked into.
bool KillHarness::comes_to(const std::string& point) {
  for (std::uint64_t most = 1ull << random(9);; most /= 4) {
    const bool reached = ends_at(point, 1 + random(std::max<std::uint64_t>(most, 1)));
    if (oracle_.has_violations()) return false;
    if (reached) return true;
    if (most != 0) continue;
    oracle_.violation("never came to " + point);
    return false;
  }
}

void KillHarness::named_points() {
  terminate(false);
  bool good = true;
  for (std::uint64_t round = 0; good && round < plan_.points_each; ++round) {
    for (const char* point : kill_points()) {
      good = good && comes_to(point);
      report_.points += good && round == 0;
    }
  }
  start();
}

KillReport KillHarness::run() {
  write_config();
  start();
  producers_ = std::make_unique<KillProducers>(oracle_, names_, address_, receiver_.port(),
                                               plan_.producers, plan_.seed);
  if (plan_.points_each > 0 && daemon_) {
    named_points();
  } else {
    random_moments();
  }
  producers_->finish();
  if (daemon_) {
    wait_for_the_last();
    take_failed_rows();
    terminate(false);
    for (const std::string& line : check_sqlite_store(plan_.folder + "/postbag.db")) {
      oracle_.violation("store check: " + line);
    }
  }
  report_.violations = oracle_.verdict();
  report_.counts = oracle_.counts();
  return report_;
}

void KillHarness::wait_for_the_last() {
  const auto end = std::chrono::steady_clock::now() + last_hook_patience;
  auto client = ControlClient::connect(plan_.folder + "/postbag.db.sock");
  if (!client) return oracle_.violation("no daemon answers");
  ControlRequest request;
  request.path = "/v1/status";
  std::uint64_t pending = 1;
  while (pending > 0 && std::chrono::steady_clock::now() < end) {
    timer_.wait_us(10'000);
    const auto status = parse_engine_status(client->send(request).body);
    pending = status ? status->pending : 1;
  }
  if (pending > 0) oracle_.violation(std::to_string(pending) + " hooks never got an outcome");
}

void KillHarness::take_failed_rows() {
  auto client = ControlClient::connect(plan_.folder + "/postbag.db.sock");
  if (!client) return oracle_.violation("no daemon answers");
  std::string cursor;
  do {
    ControlRequest request;
    request.path = "/v1/failed?limit=500";
    if (!cursor.empty()) request.path += "&after=" + cursor;
    const auto page = parse_failed_page(client->send(request).body);
    if (!page) return oracle_.violation("the failed rows cannot be read");
    for (const FailedHook& row : page->rows) {
      const std::size_t slash = row.target.rfind("/t");
      const bool known = slash != std::string::npos;
      oracle_.failed_row(
          row, known ? static_cast<std::uint32_t>(std::stoul(row.target.substr(slash + 2))) : ~0u);
    }
    cursor = page->next;
  } while (!cursor.empty());
}

}  // namespace postbag::test
