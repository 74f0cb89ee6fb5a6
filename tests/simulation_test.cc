// The engine's core in a seeded world: virtual time, network and store with faults at every seam,
// crashes and restarts at any point. The oracle (tests/support/sim_oracle.h) checks its five
// rules after every event, and at the end that all is drained. POSTBAG_SEEDS=N
// runs N seeds from POSTBAG_SEED on (default: 300 from 1); a failure prints how to replay it.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <random>

#include "tests/support/core_world.h"
#include "tests/support/sim_oracle.h"

namespace postbag::test {
namespace {

using std::chrono::milliseconds;

std::uint64_t environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != 0 ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct SimResult {
  std::uint64_t trace = 0, events = 0, hooks = 0, requests = 0, repeats = 0, rows = 0, crashes = 0;
  std::uint64_t shed = 0, looked_up = 0, cut_early = 0;
  std::vector<std::string> violations;
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed) : random_(seed), spill_random_(seed + 77), seed_(seed) {}
  SimResult run();

 private:
  enum class Mood { healthy, refusing, failing, flaky, hanging, out_of_ports };

  std::uint64_t upto(std::uint64_t most) { return random_() % (most + 1); }
  bool chance(unsigned percent) { return random_() % 100 < percent; }
  template <typename Value>
  Value one_of(std::initializer_list<Value> values) {
    return values.begin()[random_() % values.size()];
  }

  void make_options();
  TargetPolicy random_policy();
  void note_policy(SimTarget& target, const TargetPolicy& policy);
  Reply reply(const WorldRequest& request);
  void produce();
  void disturb();
  void reload();
  void change_moods();
  void crash();
  void spill();
  void look_up();
  void end_life();
  void stop_faults();
  void end_by_drain();
  void run_events(Duration duration);

  std::mt19937_64 random_;
  std::mt19937_64 spill_random_;  // its own: seeds that drop nothing stay the runs they are
  std::uint64_t seed_;
  WorldConfig config_;
  std::unique_ptr<CoreWorld> world_;
  std::unique_ptr<SimOracle> oracle_;
  std::vector<Mood> moods_;
  std::map<std::string, std::size_t> index_;
  bool is_faulty_ = true, is_producing_ = true, has_disk_faults_ = false, has_load_faults_ = false;
  bool has_finals_ = false;
  StoreFault disk_ = StoreFault::none;
  std::uint64_t crashes_ = 0, shed_ = 0, looked_up_ = 0, cut_early_ = 0;
};

TargetPolicy Simulation::random_policy() {
  TargetPolicy policy;
  policy.batch.size = one_of<std::uint32_t>({1, 2, 3, 5, 10, 0});
  policy.batch.time = milliseconds(one_of<std::int64_t>({5, 50, 300, 1000, 3000}));
  policy.batch.bytes = one_of<std::uint64_t>({60, 200, 700, 1 << 20, 1 << 20});
  policy.retry.retries = static_cast<std::uint32_t>(upto(4));
  policy.retry.retry_interval = milliseconds(one_of<std::int64_t>({0, 10, 200, 1000, 4000}));
  policy.retry.max_retrying = static_cast<std::uint32_t>(1 + upto(3));
  policy.retry.backoff = chance(30) ? Backoff::exponential : Backoff::fixed;
  policy.retry.max_interval = std::chrono::seconds(10);
  policy.retry.jitter = chance(30) ? 0.5 : 0;
  policy.delivery.in_flight = static_cast<std::uint32_t>(chance(60) ? 1 : 2 + upto(2));
  policy.delivery.ordered = chance(25);
  return policy;
}

void Simulation::note_policy(SimTarget& target, const TargetPolicy& policy) {
  const std::uint32_t size = policy.batch.size == 0 ? batch_size_max : policy.batch.size;
  const bool is_first = target.size_max == 0;
  const auto widen = [is_first](auto& place, auto value, bool up) {
    if (is_first || (up ? value > place : value < place)) place = value;
  };
  widen(target.size_max, size, true);
  widen(target.size_min, size, false);
  widen(target.bytes_max, policy.batch.bytes, true);
  widen(target.bytes_min, policy.batch.bytes, false);
  widen(target.time_min, policy.batch.time, false);
  widen(target.interval_min, policy.retry.retry_interval, false);
  target.in_flight_max = policy.delivery.in_flight;
  target.retrying_max = policy.retry.max_retrying;
  target.retries = policy.retry.retries;
  target.ordered = policy.delivery.ordered;
}

void Simulation::make_options() {
  config_.seed = seed_;
  config_.shards = static_cast<std::uint32_t>(1 + upto(2));
  config_.durable = chance(80);
  config_.unpacked_batches = seed_ % 4 == 0 ? 8192 : seed_ % 4;
  config_.read_bytes_max = seed_ % 5 < 3 ? 64 << 20 : seed_ % 5 == 3 ? 1 : 2000;
  config_.max_connections = static_cast<std::uint32_t>(one_of<int>({1, 3, 100}));
  config_.commit_time = std::chrono::microseconds(one_of<int>({100, 2000, 30'000}));
  has_disk_faults_ = config_.durable && chance(40);
  has_load_faults_ = config_.durable && chance(30);
  has_finals_ = chance(20);
  const std::size_t targets = 2 + upto(8);
  for (std::size_t number = 0; number < targets; ++number) {
    TargetBlock block;
    block.url = "https://t" + std::to_string(number) + ".example/hook";
    block.policy = random_policy();
    config_.options.targets.push_back(block);
  }
}

Reply Simulation::reply(const WorldRequest& request) {
  const Duration latency = std::chrono::microseconds(200 + upto(5000));
  if (!is_faulty_) return answer(200, latency);
  if (has_finals_ && chance(1)) {
    Reply denied = broken(Reason::ssrf_denied, latency);
    denied.result.final = true;
    return denied;
  }
  switch (moods_[index_.at(request.target)]) {
    case Mood::healthy:
      return chance(2) ? answer(500, latency) : answer(chance(10) ? 204 : 200, latency);
    case Mood::refusing:
      return broken(Reason::connect_refused, latency);
    case Mood::failing:
      return answer(one_of<int>({503, 404, 302, 500}), latency);
    case Mood::flaky:
      return chance(50) ? answer(200, latency) : broken(Reason::reset, latency);
    case Mood::hanging:
      return broken(Reason::timeout, milliseconds(2000));
    case Mood::out_of_ports: {
      Reply local = broken(Reason::local_resource, latency);
      local.result.counted = chance(50) ? false : true;
      return local;
    }
  }
  return answer(200, latency);
}

void Simulation::produce() {
  if (!is_producing_) return;
  std::vector<WorldHook> hooks;
  std::vector<std::uint64_t> numbers;
  const std::size_t count = 1 + upto(chance(10) ? 30 : 4);
  const std::size_t favourite = upto(oracle_->targets.size() - 1);
  for (std::size_t made = 0; made < count; ++made) {
    const std::size_t target = chance(60) ? favourite : upto(oracle_->targets.size() - 1);
    const std::string group = chance(80) ? "" : chance(50) ? "a" : "b";
    numbers.push_back(oracle_->next_number());
    hooks.push_back(oracle_->offer(target, group, chance(3) ? 350 : upto(40)));
  }
  oracle_->watch(*world_->submit(hooks), std::move(numbers));
  world_->after(milliseconds(upto(chance(10) ? 2000 : 60)), [this] { produce(); });
}

void Simulation::change_moods() {
  for (Mood& mood : moods_) {
    if (chance(60)) continue;
    mood = one_of<Mood>({Mood::healthy, Mood::healthy, Mood::healthy, Mood::refusing, Mood::failing,
                         Mood::flaky, Mood::flaky, Mood::hanging, Mood::out_of_ports});
  }
  if (has_disk_faults_) {
    disk_ = chance(70) ? StoreFault::none : chance(60) ? StoreFault::disk_low : StoreFault::full;
  }
  if (is_faulty_) world_->after(milliseconds(100 + upto(3000)), [this] { change_moods(); });
}

void Simulation::reload() {
  for (std::size_t number = 0; number < oracle_->targets.size(); ++number) {
    SimTarget& target = oracle_->targets[number];
    TargetPolicy& policy = config_.options.targets[number].policy;
    const TargetPolicy fresh = random_policy();
    policy.batch = fresh.batch;
    policy.retry.retry_interval = fresh.retry.retry_interval;
    note_policy(target, policy);
    target.disturbed = world_->now().steady;
  }
  world_->reload(config_.options);
}

// Half of the runs are short of memory all the time: hooks are dropped again and again, now all,
// now few, those of open bags too, and in memory mode bags are cut early.
void Simulation::spill() {
  if (!is_faulty_) return;
  const std::uint64_t bytes = spill_random_() % 3 == 0 ? 1 << 20 : spill_random_() % 4000;
  oracle_->has_shed = oracle_->has_shed || config_.durable;
  if (!config_.durable || spill_random_() % 8 == 0) {
    for (SimTarget& one : oracle_->targets) one.disturbed = world_->now().steady;
    cut_early_ += world_->make_room(bytes);
  } else {
    world_->shed(bytes);
  }
  look_up();
  world_->after(milliseconds(20 + spill_random_() % 400), [this] { spill(); });
}

// Whatever is in the store is pending, so the core knows it, wherever it keeps it.
void Simulation::look_up() {
  const auto& chunks = world_->durable().chunks;
  if (chunks.empty()) return;
  const ChunkNumber lowest = chunks.begin()->first;
  const ChunkNumber highest = chunks.rbegin()->first;
  for (int time = 0; time < 3; ++time) {
    const auto found = chunks.lower_bound(lowest + spill_random_() % (highest - lowest + 1));
    const auto& [number, chunk] = *found;
    ShardCore& core = world_->core(world_->shard_of(chunk.target));
    const auto index = static_cast<std::uint32_t>(spill_random_() % chunk.hooks);
    const auto status = core.find_hook(number, index, chunk.batch);
    if (!status) oracle_->wrong("a pending hook is not found");
    if (status && status->target != chunk.target) oracle_->wrong("found with another target");
    if (core.find_hook(number, chunk.hooks, chunk.batch)) oracle_->wrong("found one too many");
    looked_up_ += 1;
  }
}

void Simulation::end_life() {
  for (std::uint32_t shard = 0; shard < world_->shards(); ++shard) {
    shed_ += world_->core(shard).counters().shed;
  }
}

void Simulation::crash() {
  end_life();
  world_->crash(chance(50));
  oracle_->crashed();
  crashes_ += 1;
}

// What operators and fate do now and then.
void Simulation::disturb() {
  if (!is_faulty_) return;
  const std::size_t target = upto(oracle_->targets.size() - 1);
  const std::string& url = oracle_->targets[target].url;
  switch (upto(9)) {
    case 0:
      for (SimTarget& one : oracle_->targets) one.disturbed = world_->now().steady;
      world_->flush();
      break;
    case 1:
      oracle_->targets[target].disturbed = world_->now().steady;
      world_->flush(url);
      break;
    case 2:
      if (has_load_faults_) break;  // a cancelled batch that cannot be read comes back
      oracle_->cancelled(target);
      world_->cancel(url);
      break;
    case 3:
      reload();
      break;
    case 4:
      if (world_->now().wall_ms % 2 == 0) {
        oracle_->retries_stopped();
        world_->stop_retries();
        oracle_->retries_stopped();  // also what a later run sent while an earlier one was stopped
      }
      world_->retry_failed();
      break;
    case 5:
      world_->move_wall_clock(static_cast<std::int64_t>(upto(20'000)) - 10'000);
      break;
    case 6:
    case 7:
      oracle_->has_shed = true;
      world_->shed(upto(5000));
      break;
    default:
      if (config_.durable) crash();
      break;
  }
  world_->after(milliseconds(200 + upto(8000)), [this] { disturb(); });
}

void Simulation::run_events(Duration duration) {
  bool is_over = false;
  world_->after(duration, [&is_over] { is_over = true; });
  while (!is_over && oracle_->violations().empty() && world_->step()) oracle_->check_counts();
}

void Simulation::stop_faults() {
  is_producing_ = is_faulty_ = false;
  disk_ = StoreFault::none;
}

void Simulation::end_by_drain() {
  is_producing_ = false;
  oracle_->draining = true;
  world_->drain();
  const TimePoint limit = world_->now().steady + std::chrono::seconds(30);
  while (!world_->drained() && world_->now().steady < limit && world_->step()) {
    oracle_->check_counts();
  }
  if (world_->drained() && is_faulty_ && config_.durable && chance(50)) return crash();
  stop_faults();
  bool is_on_the_wire = true;
  while (is_on_the_wire && world_->step()) {
    is_on_the_wire = false;
    for (std::uint32_t shard = 0; shard < world_->shards(); ++shard) {
      is_on_the_wire = is_on_the_wire || world_->core(shard).batches_in_flight() > 0;
    }
  }
  world_->abandon();
  if (config_.durable) crash();
}

SimResult Simulation::run() {
  make_options();
  world_ = std::make_unique<CoreWorld>(config_);
  oracle_ = std::make_unique<SimOracle>(*world_, config_.durable, config_.max_connections);
  oracle_->reads_fail = has_load_faults_;
  for (const TargetBlock& block : config_.options.targets) {
    SimTarget target;
    target.url = block.url;
    note_policy(target, block.policy);
    index_[block.url] = oracle_->targets.size();
    oracle_->targets.push_back(target);
  }
  moods_.resize(oracle_->targets.size(), Mood::healthy);
  world_->network = [this](const WorldRequest& request) { return reply(request); };
  world_->store_fault = [this] {
    return disk_ == StoreFault::none || chance(30) ? StoreFault::none : disk_;
  };
  world_->load_fault = [this] {
    const bool fails = has_load_faults_ && is_faulty_ && chance(10);
    return fails ? make_error_code(Errc::store_io) : std::error_code();
  };
  world_->ahead_fault = world_->load_fault;
  const std::size_t producers = 1 + upto(3);
  for (std::size_t producer = 0; producer < producers; ++producer) produce();
  change_moods();
  disturb();
  if (seed_ % 2 == 0) spill();
  run_events(std::chrono::seconds(10 + upto(20)));
  if (oracle_->violations().empty() && chance(40)) end_by_drain();
  stop_faults();
  // Every schedule is under half a minute, so an hour is for ever.
  run_events(std::chrono::hours(1));
  if (oracle_->violations().empty()) oracle_->check_end();
  SimResult result;
  result.trace = world_->trace_hash();
  result.events = world_->events();
  result.hooks = oracle_->offered();
  result.requests = world_->requests().size();
  result.repeats = oracle_->repeats();
  result.rows = oracle_->rows();
  result.crashes = crashes_;
  end_life();
  result.shed = shed_;
  result.looked_up = looked_up_;
  result.cut_early = cut_early_;
  result.violations = oracle_->violations();
  return result;
}

std::string replay_command(std::uint64_t seed) {
  return "POSTBAG_SEED=" + std::to_string(seed) +
         " POSTBAG_SEEDS=1 simulation_test --gtest_filter=Simulation.KeepsItsPromises";
}

TEST(Simulation, KeepsItsPromises) {
  const std::uint64_t first = environment("POSTBAG_SEED", 1);
  const std::uint64_t seeds = environment("POSTBAG_SEEDS", 300);
  SimResult sum;
  std::uint64_t failures = 0;
  const auto started = std::chrono::steady_clock::now();
  for (std::uint64_t seed = first; seed < first + seeds && failures < 5; ++seed) {
    const SimResult result = Simulation(seed).run();
    sum.events += result.events;
    sum.hooks += result.hooks;
    sum.requests += result.requests;
    sum.repeats += result.repeats;
    sum.rows += result.rows;
    sum.crashes += result.crashes;
    sum.shed += result.shed;
    sum.looked_up += result.looked_up;
    sum.cut_early += result.cut_early;
    if (result.violations.empty()) continue;
    failures += 1;
    std::string all;
    for (const std::string& violation : result.violations) all += "\n  " + violation;
    ADD_FAILURE() << "seed " << seed << " (replay: " << replay_command(seed) << ")" << all;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
  std::printf(
      "%llu seeds, %llu events (%.0f a second), %llu hooks, %llu requests, %llu repeats, "
      "%llu failed rows, %llu crashes, %llu hooks dropped from memory, %llu looked up, "
      "%llu bags cut early\n",
      static_cast<unsigned long long>(seeds), static_cast<unsigned long long>(sum.events),
      static_cast<double>(sum.events) / took.count(), static_cast<unsigned long long>(sum.hooks),
      static_cast<unsigned long long>(sum.requests), static_cast<unsigned long long>(sum.repeats),
      static_cast<unsigned long long>(sum.rows), static_cast<unsigned long long>(sum.crashes),
      static_cast<unsigned long long>(sum.shed), static_cast<unsigned long long>(sum.looked_up),
      static_cast<unsigned long long>(sum.cut_early));
  // The run must have met what it is about.
  if (seeds >= 100) {
    EXPECT_GT(sum.repeats, 1000u);
    EXPECT_GT(sum.rows, 1000u);
    EXPECT_GT(sum.crashes, 100u);
    EXPECT_GT(sum.shed, 1000u);
    EXPECT_GT(sum.looked_up, 1000u);
    EXPECT_GT(sum.cut_early, 1000u);
  }
}

TEST(Simulation, SameSeedSameTrace) {
  const std::uint64_t first = environment("POSTBAG_SEED", 1);
  std::uint64_t last_trace = 0;
  for (std::uint64_t seed = first; seed < first + 10; ++seed) {
    const SimResult once = Simulation(seed).run();
    const SimResult again = Simulation(seed).run();
    EXPECT_EQ(once.trace, again.trace) << replay_command(seed);
    EXPECT_EQ(once.events, again.events) << replay_command(seed);
    EXPECT_NE(once.trace, last_trace) << "another seed is another run";
    last_trace = once.trace;
  }
}

}  // namespace
}  // namespace postbag::test
