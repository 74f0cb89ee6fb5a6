// The way in: checks on the producer's thread, one reservation for the whole call, one hand-over a
// shard.
#include <algorithm>

#include "engine/pure/failed_key.h"
#include "engine/pure/hook_check.h"
#include "engine/pure/url_hash.h"
#include "engine/shell/engine_impl.h"

namespace postbag {
namespace {

// What a waiting hook takes beside its payload: meta, comma, its share of a batch.
constexpr std::uint64_t hook_overhead_bytes = 32;

bool is_given(const HookList& hooks) {
  for (std::size_t index = 0; index < hooks.size(); ++index) {
    if (!hooks[index].id.empty()) return true;
  }
  return false;
}

}  // namespace

struct Engine::Impl::Admission {
  std::shared_ptr<const HookList> hooks;
  std::shared_ptr<CallState> call;
  std::shared_ptr<OutcomeListener> listener;
  std::vector<std::uint32_t> fresh;  // indices; empty and !some: all
  bool some = false;
  std::vector<RememberedId> remember;  // one per call->given(), same order
  std::vector<std::uint32_t> duplicates;
  bool sync = false;
  std::uint64_t reserved_bytes = 0;
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
  std::uint64_t bytes = reserved_bytes_.load(std::memory_order_relaxed);
  for (const auto& shard : shards_) {
    bytes += shard->stats().memory_bytes.load(std::memory_order_relaxed);
  }
  return bytes;
}

// From three quarters on the shards keep what waits longest in the store only, so that intake finds
// room.
std::uint64_t Engine::Impl::memory_excess() const {
  const std::uint64_t used = memory_used();
  const std::uint64_t limit = options_.engine.max_memory;
  if (used <= limit / 4 * 3) return 0;
  return (used - limit / 8 * 5) / shards_.size();
}

bool Engine::Impl::reserve(std::uint64_t bytes, SubmitResult& result) {
  reserved_bytes_.fetch_add(bytes);
  if (memory_used() <= options_.engine.max_memory) return true;
  reserved_bytes_.fetch_sub(bytes);
  result.error = Errc::full;
  result.message = "max_memory is reached; repeat the call later";
  return false;
}

// Finds out which hooks are new. False: an id conflict, written into the call's result; nothing is
// taken then.
bool Engine::Impl::take_ids(const HookList& hooks, const std::shared_ptr<CallState>& call,
                            Admission& admission) {
  const WallMs now_ms = wall_now_ms();
  const auto window_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(ids_.table.window()).count();
  SubmitResult& result = call->result();
  const std::lock_guard lock(ids_.mutex);
  std::vector<std::shared_ptr<CallState>> waits_for;
  for (std::uint32_t index = 0; index < hooks.size(); ++index) {
    const HookView& hook = hooks[index];
    if (hook.id.empty()) {
      admission.fresh.push_back(index);
      continue;
    }
    const Hash128 id = id_hash(hook.id);
    const Hash128 content = content_hash(hook);
    const IdTable::Found found = ids_.table.take(id, content, call, now_ms);
    if (found.answer == IdTable::Answer::fresh) {
      admission.fresh.push_back(index);
      call->given().push_back({id, index});
      admission.remember.push_back({id, content, 0, now_ms + window_ms});
      continue;
    }
    if (found.answer == IdTable::Answer::conflict) {
      for (const CallState::GivenId& given : call->given()) ids_.table.release(given.id);
      call->given().clear();
      result.error = Errc::id_conflict;
      result.index = index;
      result.message = "the id is known with other content";
      return false;
    }
    result.duplicates += 1;
    admission.duplicates.push_back(index);
    if (found.answer == IdTable::Answer::pending && found.call != call) {
      waits_for.push_back(std::static_pointer_cast<CallState>(found.call));
    }
  }
  for (const auto& other : waits_for) {
    call->expect(1);
    if (!other->add_dependent(call)) call->shard_done(Errc::ok);
  }
  return true;
}

void Engine::Impl::submit(HookList hooks, SubmitOptions options, SubmitHandler done) {
  SubmitResult refused;
  const auto refuse = [&](Errc error, const char* message) {
    refused.error = error;
    refused.message = message;
    refused_.fetch_add(hooks.size(), std::memory_order_relaxed);
    done(std::move(refused));
  };
  if (hooks.empty()) return refuse(Errc::empty, "the call has no hook");
  const Durability durability = options.durability.value_or(options_.store.durability);
  if (durability != Durability::memory && options_.store.durability == Durability::memory) {
    return refuse(Errc::bad_hook, "the engine's durability is memory: it stores failed hooks only");
  }
  const auto table = policies();
  if (!check_hooks(hooks, *table, refused)) {
    refused_.fetch_add(hooks.size(), std::memory_order_relaxed);
    return done(std::move(refused));
  }
  // From here until the hand-over a drain waits for this call, so that nothing arrives behind it.
  const Entering entering(*this);
  if (store_thread_->failed()) return refuse(Errc::store_failed, "the store failed");
  if (stopping_.load()) return refuse(Errc::stopping, "the engine is stopping");
  if (store_thread_->disk_is_low()) return refuse(Errc::disk_low, "the store has no room");

  Admission admission;
  admission.reserved_bytes = hooks.body_bytes() + hooks.size() * hook_overhead_bytes;
  if (!reserve(admission.reserved_bytes, refused)) {
    refused_.fetch_add(hooks.size(), std::memory_order_relaxed);
    return done(std::move(refused));
  }
  auto call = std::make_shared<CallState>(std::move(done), ids_);
  call->want_ids(options.want_ids);
  call->expect(1);  // this function's own part: nothing is answered before all parts are counted
  if (is_given(hooks)) {
    admission.some = true;
    if (!take_ids(hooks, call, admission)) {
      reserved_bytes_.fetch_sub(admission.reserved_bytes);
      refused_.fetch_add(hooks.size(), std::memory_order_relaxed);
      return call->refuse();
    }
  }
  SubmitResult& result = call->result();
  const std::size_t count = admission.some ? admission.fresh.size() : hooks.size();
  result.accepted = count;
  if (call->wants_ids()) result.ids.resize(hooks.size());
  duplicates_.fetch_add(result.duplicates, std::memory_order_relaxed);
  pending_.fetch_add(count);
  admission.hooks = std::make_shared<const HookList>(std::move(hooks));
  admission.call = call;
  admission.sync = durability == Durability::fsync;
  admission.listener = std::move(options.listener);
  if (admission.listener && !admission.duplicates.empty()) {
    call->on_accepted([this, list = admission.hooks, duplicates = std::move(admission.duplicates),
                       listener = admission.listener] {
      for (const std::uint32_t index : duplicates) watch_duplicate((*list)[index], index, listener);
    });
  }
  hand_over(admission);
}

// A hook that an earlier call brought: its outcome is told here too, but what becomes of it is not
// changed.
void Engine::Impl::watch_duplicate(const HookView& hook, std::uint32_t index,
                                   const std::shared_ptr<OutcomeListener>& listener) {
  struct Onlooker : OutcomeListener {
    explicit Onlooker(std::shared_ptr<OutcomeListener> wrapped) : listener(std::move(wrapped)) {}
    bool hook_done(std::size_t place, const HookOutcome& outcome) override {
      listener->hook_done(place, outcome);
      return false;
    }
    std::shared_ptr<OutcomeListener> listener;
  };
  std::optional<FailedKey> location;
  {
    const std::lock_guard lock(ids_.mutex);
    location = ids_.table.find(id_hash(hook.id), wall_now_ms());
  }
  // Forgotten in this moment: it was accepted long ago and has no outcome that is still known.
  if (!location) return;
  auto onlooker = std::make_shared<Onlooker>(listener);
  shard_of(hook.target).post([this, key = *location, index, onlooker](ShardCore& core, const Now&) {
    if (core.watch(failed_key_chunk(key), failed_key_index(key), index, onlooker)) return;
    store_thread_->push_job([key, index, onlooker](Store& store) {
      // Accepted, not in the engine, not failed: delivered.
      const auto failed = store.find_failed(key);
      if (failed) onlooker->hook_done(index, {false, failed->reason, failed->status});
      if (!failed) onlooker->hook_done(index, {true, Reason::none, 0});
    });
  });
}

void Engine::Impl::hand_over(Admission& admission) {
  const HookList& hooks = *admission.hooks;
  std::vector<Parcel> parcels(shards_.size());
  std::vector<std::uint64_t> hooks_of(shards_.size());
  const std::size_t count = admission.some ? admission.fresh.size() : hooks.size();
  std::size_t given = 0;
  std::string_view last_target;
  std::size_t shard = 0;
  const bool one_shard = shards_.size() == 1;
  if (one_shard && !admission.some) {
    hooks_of[0] = count;
  } else {
    for (std::size_t position = 0; position < count; ++position) {
      const std::uint32_t index =
          admission.some ? admission.fresh[position] : static_cast<std::uint32_t>(position);
      const std::string_view target = hooks[index].target;
      if (!one_shard && target != last_target) {
        shard = (url_hash(target) >> 32) % shards_.size();
        last_target = target;
      }
      parcels[shard].indices.push_back(index);
      hooks_of[shard] += 1;
      const auto& ids = admission.call->given();
      if (given < ids.size() && ids[given].index == index) {
        parcels[shard].remember.push_back(admission.remember[given++]);
        parcels[shard].remember_indices.push_back(index);
      }
    }
  }
  // All parts are counted before the first is on its way, so the last shard answers and not this
  // thread, which may hold a lock that `done` wants. Only a call of nothing but duplicates is
  // answered here.
  const auto parts = std::count_if(hooks_of.begin(), hooks_of.end(), [](auto n) { return n != 0; });
  admission.call->expect(static_cast<std::uint32_t>(parts));
  admission.call->shard_done(Errc::ok);
  std::uint64_t reserved_left = admission.reserved_bytes;
  for (std::size_t at = 0; at < shards_.size(); ++at) {
    if (hooks_of[at] == 0) continue;
    Parcel& parcel = parcels[at];
    parcel.hooks = admission.hooks;
    parcel.call = admission.call;
    parcel.sync = admission.sync;
    parcel.listener = admission.listener;
    shards_[at]->post(std::move(parcel), std::exchange(reserved_left, 0));
  }
  reserved_bytes_.fetch_sub(reserved_left);  // nothing but duplicates
}

}  // namespace postbag
