#include "tests/crash/kill_producers.h"

#include <chrono>
#include <optional>
#include <stdexcept>

#include "cli/daemon_answers.h"
#include "tests/crash/timer.h"

namespace postbag::test {
namespace {

constexpr std::uint32_t hooks_a_call_max = 40;

}  // namespace

void DaemonAddress::up(std::uint16_t port) {
  const std::lock_guard lock(mutex_);
  place_.port = port;
  ++place_.generation;
  changed_.notify_all();
}

void DaemonAddress::down() {
  const std::lock_guard lock(mutex_);
  place_.port = 0;
}

DaemonAddress::Place DaemonAddress::next(std::uint64_t generation) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::minutes(1),
                    [&] { return place_.port != 0 && place_.generation > generation; });
  return place_.generation > generation ? place_ : Place();
}

KillProducers::KillProducers(KillOracle& oracle, const HookNames& names, DaemonAddress& address,
                             std::uint16_t target_port, std::uint32_t threads, std::uint64_t seed)
    : oracle_(oracle), names_(names), address_(address), target_port_(target_port) {
  for (std::uint32_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i, seed] { run(i, mix64(seed + i)); });
  }
}

KillProducers::~KillProducers() {
  finish();
}

void KillProducers::finish() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

std::string KillProducers::target_url(HookName name) const {
  return "http://127.0.0.1:" + std::to_string(target_port_) + "/t" +
         std::to_string(names_.target(name));
}

std::string KillProducers::hook_object(HookName name, bool with_id) const {
  std::string text = "{\"target\":\"" + target_url(name) + "\"";
  if (with_id) text += ",\"id\":\"" + HookNames::id(name) + "\"";
  return text + ",\"data\":" + names_.payload(name) + "}";
}

KillProducers::Call KillProducers::make_call(HookName first, std::mt19937_64& random) const {
  Call call;
  call.first = first;
  call.form = static_cast<Form>(random() % 4);
  call.with_ids = random() % 3 > 0;
  call.repeats = call.with_ids || random() % 2 > 0;
  if (call.form == Form::array || call.form == Form::ndjson) {
    call.hooks = 1 + static_cast<std::uint32_t>(random() % hooks_a_call_max);
  }
  call.bytes = make_bytes(call);
  return call;
}

std::string KillProducers::make_bytes(const Call& call) const {
  std::string body, fields;
  if (call.form == Form::raw) {
    body = names_.payload(call.first);
    fields = "Content-Type: text/plain\r\nPostbag-Target: " + target_url(call.first) + "\r\n";
    if (call.with_ids) fields += "Idempotency-Key: " + HookNames::id(call.first) + "\r\n";
  } else {
    fields = call.form == Form::ndjson ? "Content-Type: application/x-ndjson\r\n"
                                       : "Content-Type: application/json\r\n";
    if (call.form == Form::array) body = "[";
    for (std::uint32_t i = 0; i < call.hooks; ++i) {
      if (i > 0) body += call.form == Form::ndjson ? "\n" : ",";
      body += hook_object({call.first.producer, call.first.number + i}, call.with_ids);
    }
    if (call.form == Form::array) body += "]";
  }
  return "POST /v1/hooks HTTP/1.1\r\nHost: localhost\r\n" + fields +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

CallOutcome KillProducers::read_answer(IntakeClient& client, const Call& call) {
  const Response answer = client.read_response();
  if (answer.status == 0) return CallOutcome::lost;
  const std::string name = "call " + HookNames::id(call.first) + ": ";
  if (answer.status == 503 || answer.status == 507) return CallOutcome::refused;
  if (answer.status != 202) {
    oracle_.violation(name + "answered " + std::to_string(answer.status) + " " + answer.body);
    return CallOutcome::refused;
  }
  const auto accepted = parse_accepted(answer.body);
  if (!accepted || accepted->accepted + accepted->duplicates != call.hooks ||
      accepted->ids.size() != call.hooks ||
      (call.with_ids && accepted->ids.front() != HookNames::id(call.first)) ||
      (!call.with_ids && accepted->duplicates > 0)) {
    oracle_.violation(name + "answered " + answer.body.substr(0, 300));
  }
  return CallOutcome::accepted;
}

void KillProducers::run(std::uint32_t producer, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  Timer timer;
  std::uint64_t generation = 0;
  std::optional<IntakeClient> client;
  Call call = make_call({producer, 0}, random);
  bool repeating = false;
  while (!stop_ || repeating) {
    if (!client) {
      const DaemonAddress::Place place = address_.next(generation);
      if (place.port == 0) {
        if (!stop_ || repeating) oracle_.violation("a producer found no daemon for a minute");
        return;
      }
      generation = place.generation;
      try {
        client.emplace(place.port);
      } catch (const std::runtime_error&) {
        continue;  // killed meanwhile
      }
    }
    oracle_.offering(call.first, call.hooks, call.with_ids);
    client->send(call.bytes);
    const CallOutcome outcome = read_answer(*client, call);
    oracle_.outcome(call.first, call.hooks, outcome);
    if (outcome == CallOutcome::lost) client.reset();
    repeating = outcome == CallOutcome::refused || (outcome == CallOutcome::lost && call.repeats);
    if (!repeating) call = make_call({producer, call.first.number + call.hooks}, random);
    timer.wait_us(random() % 8'000);
  }
}

}  // namespace postbag::test
