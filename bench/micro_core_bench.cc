// What the core costs a hook: deadlines, adding and cutting, scheduling with few and with a million
// targets, the request. No thread, no socket: one call after the other.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <deque>
#include <random>
#include <string>
#include <vector>

#include "bench/batch_check.h"
#include "engine/pure/chunk_codec.h"
#include "engine/pure/shard_core.h"
#include "engine/pure/wire.h"

namespace postbag {
namespace {

constexpr std::size_t payload_bytes = 300;
constexpr std::uint64_t number_block = 1 << 20;

std::string target_url(std::uint64_t target) {
  return "http://127.0.0.1:8421/t/" + std::to_string(target);
}

Options core_options(std::uint32_t batch_size) {
  Options options;
  options.defaults.batch.size = batch_size;
  options.defaults.batch.time = std::chrono::seconds(1);
  options.defaults.delivery.in_flight = 16;
  options.defaults.network.allow_http = true;
  return options;
}

// A core whose receiver and store answer at once.
class BenchCore {
 public:
  BenchCore(std::uint32_t batch_size, bool durable)
      : core_(config(durable), std::make_shared<PolicyTable>(core_options(batch_size), 1)) {}

  void pass_time(Duration by) { now_.steady += by; }
  void add(const Parcel& parcel) {
    if (core_.numbers_left() < number_block) {
      core_.give_numbers(next_number_, number_block);
      next_number_ += number_block;
    }
    core_.add(parcel, now_);
  }
  // Until nothing is due, nothing to send and nothing to store. Returns the batches delivered.
  std::uint64_t settle() {
    std::uint64_t batches = 0;
    if (core_.next_deadline() <= now_.steady) core_.advance(now_);
    for (;;) {
      sent_.swap(core_.sends());
      for (Batch* batch : sent_) {
        AttemptResult result;
        result.status = 200;
        core_.attempt_done(*batch, std::move(result), now_);
      }
      batches += sent_.size();
      bool stored = false;
      while (auto part = core_.take_part(now_)) {
        core_.part_done(*part, now_);
        stored = true;
      }
      if (sent_.empty() && !stored) return batches;
      sent_.clear();
    }
  }

 private:
  static ShardCore::Config config(bool durable) {
    ShardCore::Config config;
    config.durable = durable;
    return config;
  }

  ShardCore core_;
  Now now_{TimePoint(std::chrono::hours(1)), 1'700'000'000'000};
  ChunkNumber next_number_ = 1;
  std::vector<Batch*> sent_;
};

Parcel parcel_of(std::uint64_t first_target, std::uint64_t targets, std::size_t hooks) {
  PayloadMaker maker(payload_bytes);
  auto list = std::make_shared<HookList>();
  for (std::size_t i = 0; i < hooks; ++i) {
    const std::uint64_t target = first_target + i % targets;
    list->add(target_url(target), maker.make(target, i));
  }
  Parcel parcel;
  parcel.hooks = std::move(list);
  return parcel;
}

// --- Deadlines: the earliest fires and is armed again, while `range` wait.

void deadline_queue(benchmark::State& state) {
  const auto nodes = static_cast<std::size_t>(state.range(0));
  constexpr Duration delay = std::chrono::seconds(1);
  const Duration step = delay / nodes;
  DeadlineQueue queue;
  std::deque<DeadlineNode> waiting(nodes);
  TimePoint now(std::chrono::hours(1));
  for (DeadlineNode& node : waiting) queue.arm(node, now += step, delay);
  for (auto _ : state) {
    now += step;
    while (DeadlineNode* node = queue.pop_due(now)) queue.arm(*node, now, delay);
    benchmark::DoNotOptimize(queue.next());
  }
  state.SetItemsProcessed(state.iterations());
  for (DeadlineNode& node : waiting) queue.disarm(node);
}
BENCHMARK(deadline_queue)->Arg(1)->Arg(1000)->Arg(1'000'000);

// The same with a jittered schedule, which no lane fits.
void deadline_queue_odd(benchmark::State& state) {
  const auto nodes = static_cast<std::size_t>(state.range(0));
  DeadlineQueue queue;
  std::deque<DeadlineNode> waiting(nodes);
  std::mt19937 random(1);
  TimePoint now(std::chrono::hours(1));
  const auto later = [&] { return now + std::chrono::nanoseconds(1 + random() % 1'000'000'000); };
  for (DeadlineNode& node : waiting) queue.arm_at(node, later());
  for (auto _ : state) {
    now = std::max(now, queue.next());
    queue.arm_at(*queue.pop_due(now), later());
  }
  state.SetItemsProcessed(state.iterations());
  for (DeadlineNode& node : waiting) queue.disarm(node);
}
BENCHMARK(deadline_queue_odd)->Arg(1)->Arg(1000)->Arg(1'000'000);

// --- Adding and cutting: a parcel of 1,000 hooks over `targets` goes into bags of 100, which are
// cut by size, "sent" and settled. Time and items are per hook.

void add_and_cut(benchmark::State& state, bool durable) {
  const auto targets = static_cast<std::uint64_t>(state.range(0));
  constexpr std::size_t hooks = 1000;
  BenchCore core(100, durable);
  std::deque<Parcel> parcels;  // made before the clock runs
  for (std::uint64_t first = 0; first < targets; first += hooks) {
    parcels.push_back(parcel_of(first, std::min<std::uint64_t>(targets, hooks), hooks));
  }
  std::size_t next = 0;
  for (auto _ : state) {
    core.add(parcels[next]);
    core.settle();
    next = next + 1 == parcels.size() ? 0 : next + 1;
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(hooks));
}
BENCHMARK_CAPTURE(add_and_cut, memory, false)->ArgName("targets")->Arg(1)->Arg(1000)->Arg(10'000);
BENCHMARK_CAPTURE(add_and_cut, durable, true)->ArgName("targets")->Arg(1)->Arg(1000)->Arg(10'000);

// --- Scheduling: `targets` have one waiting hook each; the time of the oldest bag comes, it is
// cut, "sent" and settled, and its target gets the next hook.

void schedule(benchmark::State& state) {
  const auto targets = static_cast<std::uint64_t>(state.range(0));
  const Duration step = Duration(std::chrono::seconds(1)) / targets;
  BenchCore core(100, false);
  std::vector<std::string> urls;
  for (std::uint64_t target = 0; target < targets; ++target) urls.push_back(target_url(target));
  const std::string body(PayloadMaker(payload_bytes).make(0, 0));
  const auto owner = std::make_shared<int>();
  // One hook a parcel, and nothing copied on the way: only the core's own work is timed.
  const auto add = [&](std::uint64_t target) {
    auto list = std::make_shared<HookList>();
    list->adopt(owner);
    HookView view;
    view.target = urls[target];
    view.body = body;
    list->add_checked_view(view);
    Parcel parcel;
    parcel.hooks = std::move(list);
    core.add(parcel);
  };
  for (std::uint64_t target = 0; target < targets; ++target) {
    core.pass_time(step);
    add(target);
  }
  std::uint64_t next = 0;
  for (auto _ : state) {
    core.pass_time(step);
    if (core.settle() != 1) return state.SkipWithError("not one bag was due");
    add(next);
    next = next + 1 == targets ? 0 : next + 1;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(schedule)->ArgName("targets")->Arg(1)->Arg(1000)->Arg(1'000'000);

// --- Serialising: what is done for a request before the socket, and for a chunk before the store.

// A batch as the core would have filled it.
class FilledBatch {
 public:
  explicit FilledBatch(std::size_t hooks) {
    PayloadMaker maker(payload_bytes);
    for (std::size_t i = 0; i < hooks; ++i) {
      HookFields fields;
      fields.body = maker.make(0, i);
      append_hook(batch_, pool_, fields, hooks * (payload_bytes + 1));
    }
  }
  ~FilledBatch() { drop_hooks(batch_, pool_); }
  const Batch& get() const { return batch_; }

 private:
  SegmentPool pool_;
  Batch batch_;
};

void serialise_request(benchmark::State& state) {
  const FilledBatch batch(static_cast<std::size_t>(state.range(0)));
  std::string error;
  const auto url = parse_url(target_url(7), error);
  if (!url) return state.SkipWithError(error.c_str());
  const std::string start = request_head_start(*url, DeliveryPolicy(), {});
  std::string head;
  std::vector<std::string_view> pieces;
  HookId id{0x0190a6f27c1e7000, 0x8000000000000001};
  for (auto _ : state) {
    pieces.clear();
    wire_pieces(batch.get(), pieces);
    write_request_head(head, start, {id, batch.get().hooks, 1, wire_bytes(batch.get())});
    benchmark::DoNotOptimize(head.data());
    benchmark::DoNotOptimize(pieces.data());
    ++id.low;
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(serialise_request)->ArgName("hooks")->Arg(1)->Arg(100)->Arg(1000);

void encode_chunk(benchmark::State& state) {
  const FilledBatch batch(static_cast<std::size_t>(state.range(0)));
  const BatchMark from, to = mark_of(batch.get());
  std::vector<std::string_view> pieces;
  for (auto _ : state) {
    const std::string head = encode_chunk_head(batch.get(), from, to);
    pieces.clear();
    chunk_body_pieces(from, to, batch.get().first_segment, pieces);
    benchmark::DoNotOptimize(head.data());
    benchmark::DoNotOptimize(pieces.data());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(encode_chunk)->ArgName("hooks")->Arg(1)->Arg(100);

void decode_chunk_blob(benchmark::State& state) {
  const FilledBatch batch(static_cast<std::size_t>(state.range(0)));
  const BatchMark from, to = mark_of(batch.get());
  std::string blob = encode_chunk_head(batch.get(), from, to);
  std::vector<std::string_view> pieces;
  chunk_body_pieces(from, to, batch.get().first_segment, pieces);
  for (const std::string_view piece : pieces) blob += piece;
  SegmentPool pool;
  for (auto _ : state) {
    Batch read;
    if (!decode_chunk(blob, read, pool)) return state.SkipWithError("the chunk is damaged");
    drop_hooks(read, pool);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(decode_chunk_blob)->ArgName("hooks")->Arg(1)->Arg(100);

}  // namespace
}  // namespace postbag
