// The way in: checks on the producer's thread, one reservation for the whole call, one hand-over a
// shard.
#include <algorithm>

#include "engine/pure/hook_check.h"
#include "engine/pure/url_hash.h"
#include "engine/shell/clock.h"
#include "engine/shell/engine_impl.h"
#include "engine/shell/guarded.h"
#include "postbag/store.h"

namespace postbag {
namespace {

// What a waiting hook takes beside its payload: meta, comma, its share of a batch.
constexpr std::uint64_t hook_overhead_bytes = 32;
// To look for room goes through all batches of a shard.
constexpr Duration room_interval = std::chrono::milliseconds(100);
constexpr Duration cut_early_interval = std::chrono::minutes(1);

// Beyond so much of max_memory the shards keep what waits longest in the store only, until no more
// than that is held: well below, or the next hooks would have them do so again.
std::uint64_t shed_above(std::uint64_t max_memory) {
  return max_memory / 4 * 3;
}
std::uint64_t shed_down_to(std::uint64_t max_memory) {
  return max_memory / 8 * 5;
}

// True for one caller per `interval`.
bool is_time(std::atomic<TimePoint>& last, Duration interval) {
  const TimePoint now = steady_now();
  TimePoint seen = last.load(std::memory_order_relaxed);
  if (seen != TimePoint::min() && now - seen < interval) return false;
  return last.compare_exchange_strong(seen, now);
}

bool has_ids(const HookList& hooks) {
  for (std::size_t index = 0; index < hooks.size(); ++index) {
    if (!hooks[index].id.empty()) return true;
  }
  return false;
}

}  // namespace

// Which of a call's hooks are new, and what is to be remembered of them.
struct Engine::Impl::Admission {
  std::shared_ptr<const HookList> hooks;
  bool has_ids = false;                // if not, all are new
  std::vector<std::uint32_t> fresh;    // indices, if has_ids
  bool needs_duplicates_kept = true;   // nobody listens to take a failed one over
  std::vector<RememberedId> remember;  // one per call->given(), same order
  std::vector<std::uint32_t> duplicates;

  std::size_t count() const { return has_ids ? fresh.size() : hooks->size(); }
};

// Bytes of max_memory reserved for a call until its shards have its hooks; released by the
// destructor unless kept.
class Engine::Impl::Reservation {
 public:
  Reservation(Impl& engine, std::uint64_t bytes, SubmitResult& result)
      : engine_(engine), bytes_(engine.reserve(bytes, result) ? bytes : 0) {}
  ~Reservation() { engine_.reserved_bytes_.fetch_sub(bytes_); }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  explicit operator bool() const { return bytes_ > 0; }
  std::uint64_t keep() { return std::exchange(bytes_, 0); }

 private:
  Impl& engine_;
  std::uint64_t bytes_;
};

bool Engine::Impl::check_hooks(HookList& hooks, const PolicyTable& policies,
                               SubmitResult& result) const {
  HookChecker checker(policies, options_.intake.max_hook);
  std::string canonical;
  for (std::size_t index = 0; index < hooks.size(); ++index) {
    auto problem = checker.check(hooks[index], hooks.is_checked(index), canonical);
    if (problem) {
      result.error = problem->error;
      result.index = index;
      result.message = std::move(problem->message);
      return false;
    }
    if (!canonical.empty()) hooks.set_target(index, canonical);
  }
  return true;
}

std::uint64_t Engine::Impl::memory_used() const {
  return reserved_bytes_.load(std::memory_order_relaxed) +
         ids_.bytes.load(std::memory_order_relaxed) + shards_bytes(nullptr);
}

// As they last said.
std::uint64_t Engine::Impl::shards_bytes(const Shard* but) const {
  std::uint64_t bytes = 0;
  for (const auto& shard : shards_) {
    if (shard.get() != but) bytes += shard->stats().memory_bytes.load(std::memory_order_relaxed);
  }
  return bytes;
}

// So that intake finds room.
std::uint64_t Engine::Impl::memory_excess(std::uint64_t held) const {
  const std::uint64_t in_shards = shards_bytes(nullptr);
  const std::uint64_t others =
      ids_.bytes.load(std::memory_order_relaxed) + reserved_bytes_.load(std::memory_order_relaxed);
  const std::uint64_t limit = options_.engine.max_memory;
  if (in_shards + others <= shed_above(limit)) return 0;
  const std::uint64_t wanted = shed_down_to(limit);
  return excess_of_shard(held, in_shards, wanted - std::min(wanted, others));
}

// What a shard that holds so much is to give where all shards hold more than `wanted`: one that has
// less than its equal part gives nothing. All that is asked for is at least what is too much.
std::uint64_t Engine::Impl::excess_of_shard(std::uint64_t held, std::uint64_t all,
                                            std::uint64_t wanted) const {
  const std::uint64_t part = wanted / shards_.size();
  return all <= wanted || held <= part ? 0 : std::min(all - wanted, held - part);
}

bool Engine::Impl::reserve(std::uint64_t bytes, SubmitResult& result) {
  reserved_bytes_.fetch_add(bytes);
  if (memory_used() <= options_.engine.max_memory) return true;
  reserved_bytes_.fetch_sub(bytes);
  const std::uint64_t limit = options_.engine.max_memory;
  if (bytes > limit) {  // also when nothing waits: to repeat it is no use
    result.error = Errc::too_large;
    result.index = SubmitResult::whole_call;
    result.message = "the call needs " + std::to_string(bytes) +
                     " bytes of memory; max_memory allows " + std::to_string(limit);
    return false;
  }
  result.error = Errc::full;
  result.message = "max_memory is reached; repeat the call later";
  ask_for_room(bytes);
  return false;
}

// What is on the wire or waits for it makes room by itself. What stands in open bags may not, and a
// shard that has nothing to do drops nothing.
void Engine::Impl::ask_for_room(std::uint64_t bytes) {
  if (!is_time(room_asked_, room_interval)) return;
  for (auto& shard : shards_) {
    shard->post([this, bytes](ShardCore& core, const Now& now) { make_room(core, bytes, now); });
  }
}

// On a shard's thread. What calls have reserved is in bags in a moment.
void Engine::Impl::make_room(ShardCore& core, std::uint64_t bytes, const Now& now) {
  const std::uint64_t limit = options_.engine.max_memory;
  const std::uint64_t wanted = std::min(shed_down_to(limit), limit - bytes);
  const std::uint64_t ids = ids_.bytes.load(std::memory_order_relaxed);
  const std::uint64_t held = core.memory_bytes();
  const std::uint64_t all = held + shards_bytes(shards_[core.shard()].get());
  const std::uint64_t excess = excess_of_shard(held, all, wanted - std::min(wanted, ids));
  if (excess == 0) return;
  const TimePoint begin = steady_now();
  note_cut_early(core.make_room(excess, now));
  // It goes through all batches: a tenth of the time at most.
  const TimePoint end = steady_now();
  room_asked_ = end + 9 * (end - begin);
}

void Engine::Impl::note_cut_early(std::uint64_t bags) {
  if (bags == 0) return;
  cut_early_.fetch_add(bags, std::memory_order_relaxed);
  if (!is_time(cut_early_said_, cut_early_interval)) return;
  call_guarded(logger_, [this] {
    logger_.log(LogLevel::warning,
                "max_memory is reached and what is cut makes too little room: the fullest open "
                "bags are cut early, " +
                    std::to_string(cut_early_.load(std::memory_order_relaxed)) + " by now",
                {{"event", "cut_early"}, {"bags", cut_early_.load(std::memory_order_relaxed)}});
  });
}

// Finds out which hooks are new. False: an id conflict, written into `refused`; nothing is taken
// then. Throws std::bad_alloc with what is taken noted in the call: it is to be abandoned.
bool Engine::Impl::take_ids(const HookList& hooks, const std::shared_ptr<CallState>& call,
                            Admission& admission, SubmitResult& refused) {
  const Now now = clock_now();
  const auto window_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(ids_.table.window()).count();
  SubmitResult& result = call->result();
  // What is taken is noted without fail.
  call->given().reserve(hooks.size());
  admission.remember.reserve(hooks.size());
  admission.fresh.reserve(hooks.size());
  const std::lock_guard lock(ids_.mutex);
  std::vector<std::shared_ptr<CallState>> waits_for;
  for (std::uint32_t index = 0; index < hooks.size(); ++index) {
    const HookView hook = hooks[index];
    if (hook.id.empty()) {
      admission.fresh.push_back(index);
      continue;
    }
    const Hash128 id = id_hash(hook.id);
    const Hash128 content = content_hash(hook);
    const IdTable::Found found =
        ids_.table.take(id, content, call, now.steady, admission.needs_duplicates_kept);
    if (found.answer == IdTable::Answer::fresh) {
      admission.fresh.push_back(index);
      call->given().push_back({id, index, 0, 0});
      admission.remember.push_back({id, content, 0, now.wall_ms + window_ms});
      continue;
    }
    const bool is_leaving = found.answer == IdTable::Answer::leaving;
    if (is_leaving || found.answer == IdTable::Answer::conflict) {
      for (const CallState::GivenId& given : call->given()) {
        ids_.table.release(given.id, call.get());
      }
      call->given().clear();
      refused.error = is_leaving ? Errc::full : Errc::id_conflict;
      refused.index = index;
      refused.message = is_leaving ? "the hook with this id just failed; repeat the call later"
                                   : "the id is known with other content";
      return false;
    }
    result.duplicates += 1;
    admission.duplicates.push_back(index);
    if (found.answer == IdTable::Answer::pending && found.call != call) {
      waits_for.push_back(std::static_pointer_cast<CallState>(found.call));
    }
  }
  ids_.publish();
  for (const auto& other : waits_for) {
    call->expect(1);
    if (!other->add_dependent(call)) call->part_done(Errc::ok);
  }
  return true;
}

void Engine::Impl::submit(HookList hooks, SubmitOptions options, SubmitHandler done) {
  const std::size_t count = hooks.size();
  // From here until the hand-over a drain waits for this call, so that nothing arrives behind it.
  std::optional<Entering> entering(std::in_place, *this);
  SubmitResult refused;
  try {
    if (const auto call = admit(hooks, options, done, refused)) return hand_over(*call, entering);
  } catch (const std::bad_alloc&) {
    refused = {};
    refused.error = Errc::full;
    refused.message = "out of memory";  // short enough to need none
  }
  entering.reset();  // `done` may take its time
  refused_.fetch_add(count, std::memory_order_relaxed);
  done(std::move(refused));
}

// Checks the call and makes everything that it needs on its way; null: `refused` says why. Until
// the hand-over nothing has happened that is not undone when this ends early.
std::shared_ptr<CallState> Engine::Impl::admit(HookList& hooks, SubmitOptions& options,
                                               SubmitHandler& done, SubmitResult& refused) {
  const auto refuse = [&](Errc error, const char* message) {
    refused.error = error;
    refused.index = SubmitResult::whole_call;
    refused.message = message;
    return nullptr;
  };
  if (hooks.empty()) return refuse(Errc::empty, "the call has no hook");
  const Durability durability = options.durability.value_or(options_.store.durability);
  if (durability != Durability::memory && options_.store.durability == Durability::memory) {
    return refuse(Errc::bad_hook, "the engine's durability is memory: it stores failed hooks only");
  }
  if (!check_hooks(hooks, *policies(), refused)) return nullptr;
  if (stopping_.load()) {
    // It stops because the store fails, right now.
    if (store_thread_->failed()) return refuse(Errc::store_failed, "the store failed");
    return refuse(Errc::stopping, "the engine is stopping");
  }
  if (store_thread_->disk_is_low()) return refuse(Errc::disk_low, no_room_text);

  if (options.listener) {
    options.listener = std::make_shared<GuardedListener>(std::move(options.listener), logger_);
  }
  Reservation reservation(*this, hooks.body_bytes() + hooks.size() * hook_overhead_bytes, refused);
  if (!reservation) return nullptr;
  Admission admission;
  const auto call = std::make_shared<CallState>(ids_);
  call->want_ids(options.want_ids);
  call->expect(1);  // this function's own part: nothing is answered before all parts are counted
  try {
    admission.has_ids = has_ids(hooks);
    admission.needs_duplicates_kept = options.listener == nullptr;
    if (admission.has_ids && !take_ids(hooks, call, admission, refused)) return nullptr;
    if (call->wants_ids()) call->result().ids.resize(hooks.size());
    admission.hooks = std::make_shared<const HookList>(std::move(hooks));
    address(admission, *call);
    if (options.listener && !admission.duplicates.empty()) {
      call->on_accepted([this, list = admission.hooks, duplicates = std::move(admission.duplicates),
                         listener = options.listener] {
        for (const std::uint32_t index : duplicates)
          watch_duplicate((*list)[index], index, listener);
      });
    }
  } catch (...) {
    call->abandon();
    throw;
  }
  const auto listener = call->listen(options.listener);
  for (InboxParcel& entry : call->inbox_parcels()) {
    // With ids the listener is the call itself, which would keep itself alive by a parcel that
    // stays here.
    if (entry.parcel.hooks) entry.parcel.listener = listener;
    entry.parcel.sync = durability == Durability::fsync;
  }
  // The first of those that have hooks answers for the bytes; without any they are free again.
  const auto with_hooks = std::find_if(call->inbox_parcels().begin(), call->inbox_parcels().end(),
                                       [](const auto& one) { return one.parcel.hooks != nullptr; });
  if (with_hooks != call->inbox_parcels().end()) with_hooks->reserved_bytes = reservation.keep();
  call->result().accepted = admission.count();
  duplicates_.fetch_add(call->result().duplicates, std::memory_order_relaxed);
  pending_.fetch_add(admission.count());
  call->answer_to(std::move(done));
  return call;
}

// A hook that an earlier call brought: its outcome is told here too, but what becomes of it is not
// changed.
struct Engine::Impl::DuplicateListener : OutcomeListener {
  bool hook_done(std::size_t index, const HookOutcome& outcome) override {
    // What becomes of the hook is not this one's to wait for.
    if (listener->hook_done(index, outcome) && !outcome.delivered) listener->hook_settled(index);
    return false;
  }
  bool is_gone() override { return listener->is_gone(); }

  std::shared_ptr<OutcomeListener> listener;
  std::uint32_t call_index = 0;
  Shard* shard = nullptr;
  FailedKey location = 0;
  Hash128 id;
};

void Engine::Impl::watch_duplicate(const HookView& hook, std::uint32_t index,
                                   const std::shared_ptr<OutcomeListener>& listener) {
  const Hash128 id = id_hash(hook.id);
  std::optional<FailedKey> location;
  {
    const std::lock_guard lock(ids_.mutex);
    location = ids_.table.find(id, steady_now());
  }
  // Forgotten in this moment: accepted long ago, or taken over by the call that brought it.
  if (!location) return listener->hook_forgotten(index);
  const auto duplicate = std::make_shared<DuplicateListener>();
  duplicate->listener = listener;
  duplicate->call_index = index;
  duplicate->shard = &shard_of(hook.target);
  duplicate->location = *location;
  duplicate->id = id;
  watch_batch(duplicate, failed_key_chunk(*location));
}

// Nearly every batch has one chunk and its number; of others the store knows which one it is.
void Engine::Impl::watch_batch(const std::shared_ptr<DuplicateListener>& duplicate,
                               BatchNumber batch) {
  duplicate->shard->post([this, duplicate, batch](ShardCore& core, const Now&) {
    const ChunkNumber chunk = failed_key_chunk(duplicate->location);
    const std::uint32_t index = failed_key_index(duplicate->location);
    if (core.watch(chunk, index, duplicate->call_index, duplicate, batch)) return;
    if (core.delivered_lately(chunk, index)) {
      duplicate->hook_done(duplicate->call_index, {true, Reason::none, 0});
      return;
    }
    store_thread_->push_job([this, duplicate, batch](Store& store) {
      try {
        watch_in_store(duplicate, batch, store);
      } catch (const std::bad_alloc&) {
        // Nothing is told, and the wait has an end of its own: the store has not failed for that.
      }
    });
  });
}

// On the store's thread, of a hook that its shard does not have.
void Engine::Impl::watch_in_store(const std::shared_ptr<DuplicateListener>& duplicate,
                                  BatchNumber batch, Store& store) {
  const ChunkNumber chunk = failed_key_chunk(duplicate->location);
  const auto in = batch == chunk ? store.find_chunk(chunk) : std::nullopt;
  if (in && *in != chunk) return watch_batch(duplicate, *in);
  if (const auto failed = store.find_failed(duplicate->location)) {
    duplicate->hook_done(duplicate->call_index, {false, failed->reason, failed->status});
    return;
  }
  switch (past_of(duplicate->id, duplicate->location, store)) {
    case Past::open:
      break;
    case Past::delivered:
      duplicate->hook_done(duplicate->call_index, {true, Reason::none, 0});
      break;
    case Past::forgotten:
      duplicate->listener->hook_forgotten(duplicate->call_index);
      break;
  }
}

// Which hooks go to which shard. A parcel with hooks has the list.
void Engine::Impl::address(const Admission& admission, CallState& call) {
  const HookList& hooks = *admission.hooks;
  const std::span<InboxParcel> parcels = call.make_inbox_parcels(shards_.size());
  const bool one_shard = shards_.size() == 1;
  if (one_shard && !admission.has_ids) {
    parcels[0].parcel.hooks = admission.hooks;
    return;
  }
  const std::size_t count = admission.count();
  auto& ids = call.given();
  std::size_t given = 0;
  std::string_view last_target;
  std::size_t shard = 0;
  for (std::size_t position = 0; position < count; ++position) {
    const std::uint32_t index =
        admission.has_ids ? admission.fresh[position] : static_cast<std::uint32_t>(position);
    const std::string_view target = hooks[index].target;
    if (!one_shard && target != last_target) {
      shard = shard_index(url_hash(target), shards_.size());
      last_target = target;
    }
    Parcel& parcel = parcels[shard].parcel;
    parcel.hooks = admission.hooks;
    parcel.indices.push_back(index);
    if (given < ids.size() && ids[given].index == index) {
      ids[given].shard = static_cast<std::uint32_t>(shard);
      parcel.remember.push_back(admission.remember[given++]);
      parcel.remember_indices.push_back(index);
    }
  }
}

// All parts are counted before the first is on its way, so the last shard answers and not this
// thread, which may hold a lock that `done` wants. Only a call of nothing but duplicates is
// answered here.
void Engine::Impl::hand_over(CallState& call, std::optional<Entering>& entering) noexcept {
  const std::span<InboxParcel> parcels = call.inbox_parcels();
  const auto self = call.shared_from_this();
  bool is_handed_over = false;
  for (InboxParcel& entry : parcels) {
    if (!entry.parcel.hooks) continue;
    call.expect(1);
    entry.parcel.call = self;
    entry.keep = self;
    is_handed_over = true;
  }
  // Then its answer may be the end of the engine, which waits for `entering`.
  if (!is_handed_over) entering.reset();
  call.part_done(Errc::ok);
  if (!is_handed_over) return;
  for (std::size_t at = 0; at < parcels.size(); ++at) {
    if (parcels[at].keep) shards_[at]->post(parcels[at]);
  }
}

}  // namespace postbag
