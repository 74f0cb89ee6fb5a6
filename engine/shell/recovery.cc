// The start over a store that has hooks of an earlier life.
#include <array>

#include "engine/pure/url_hash.h"
#include "engine/shell/engine_impl.h"
#include "postbag/error.h"

namespace postbag {
namespace {

// About as much as the store reads in the 5 ms that a commit may have to wait for it.
constexpr std::size_t slice_chunks = 4096;

// Counts the shards that have not taken their part yet.
struct RecoveryTurn {
  std::atomic<std::size_t> uses{0};

  void wait() const {
    while (const std::size_t left = uses.load(std::memory_order_acquire)) uses.wait(left);
  }
  void taken() {
    if (uses.fetch_sub(1, std::memory_order_release) == 1) uses.notify_one();
  }
};

// A slice of the pending chunks on its way from the store to the shards; reused once they have
// taken it.
struct RecoverySlice : RecoveryTurn {
  std::vector<PendingChunk> chunks;
  std::vector<std::vector<std::uint32_t>> of_shard;  // indices
};

// Not a std::promise: a shard without memory drops its command, and breaking a promise allocates.
struct RecoveryBegin : RecoveryTurn {
  std::atomic<std::size_t> begun{0};
};

// A handle for one shard; counts as taken when it is destroyed, also by a shard that halts and
// drops its command unrun.
template <typename Turn>
std::shared_ptr<Turn> use_of(const std::shared_ptr<Turn>& turn) {
  return {turn.get(), [turn](Turn* one) { one->taken(); }};
}

}  // namespace

// While it exists the shards only take over what was found in the store.
class Engine::Impl::Recovering {
 public:
  explicit Recovering(Impl& engine) : engine_(engine) {
    engine_.recovering_ = true;
    try {
      begin();
    } catch (...) {
      end();
      throw;
    }
  }
  ~Recovering() { end(); }
  Recovering(const Recovering&) = delete;
  Recovering& operator=(const Recovering&) = delete;

  // Returns how many hooks it has.
  std::uint64_t hand_over(const std::shared_ptr<RecoverySlice>& slice) {
    auto& shards = engine_.shards_;
    slice->of_shard.resize(shards.size());
    for (auto& indices : slice->of_shard) indices.clear();
    std::uint64_t hooks = 0;
    for (std::uint32_t index = 0; index < slice->chunks.size(); ++index) {
      const PendingChunk& chunk = slice->chunks[index];
      // What was taken over since the engine exists is in its bags already.
      if (chunk.chunk >= engine_.store_info_.next_number) break;
      hooks += chunk.hooks;
      const std::size_t shard =
          shards.size() == 1 ? 0 : shard_index(url_hash(chunk.target), shards.size());
      slice->of_shard[shard].push_back(index);
    }
    engine_.pending_.fetch_add(hooks);
    slice->uses = shards.size();
    for (std::size_t at = 0; at < shards.size(); ++at) {
      shards[at]->post_recovered([use = use_of(slice), at](ShardCore& core, const Now& now) {
        core.add_recovered(use->chunks, use->of_shard[at], now);
      });
    }
    return hooks;
  }
  void is_whole() { is_whole_ = true; }

 private:
  // Throws where a shard halts.
  void begin() {
    const auto turn = std::make_shared<RecoveryBegin>();
    turn->uses = engine_.shards_.size();
    for (auto& shard : engine_.shards_) {
      shard->begin_recovery();
      shards_begun_ += 1;
      shard->post_recovered([use = use_of(turn)](ShardCore& core, const Now&) {
        core.begin_recovery();
        use->begun += 1;
      });
    }
    turn->wait();
    if (turn->begun == engine_.shards_.size()) return;
    throw std::system_error(std::make_error_code(std::errc::not_enough_memory),
                            "the pending hooks cannot be taken over");
  }
  void end() noexcept {
    if (!is_whole_) engine_.stopping_ = true;
    for (std::size_t at = 0; at < shards_begun_; ++at) engine_.shards_[at]->end_recovery(is_whole_);
    engine_.recovering_ = false;
  }

  Impl& engine_;
  std::size_t shards_begun_ = 0;  // from the first
  bool is_whole_ = false;
};

// The order per target is known only when all is read; until then nothing is sent.
std::uint64_t Engine::Impl::recover(const std::function<void(std::uint64_t)>& progress,
                                    const std::function<void()>& held) {
  Recovering recovering(*this);
  if (held) held();
  // One is read while the shards take over the other.
  std::array<std::shared_ptr<RecoverySlice>, 2> slices;
  for (auto& slice : slices) slice = std::make_shared<RecoverySlice>();
  std::uint64_t hooks = 0;
  ChunkNumber after = 0;
  for (std::size_t turn = 0;; turn ^= 1) {
    RecoverySlice& slice = *slices[turn];
    slice.wait();
    const std::error_code error = store_thread_->run(
        [&](Store& store) { return store.scan_pending(after, slice_chunks, slice.chunks); });
    if (error == Errc::store_corrupt) {
      throw std::system_error(error,
                              "the pending hooks cannot be read; `postbag store salvage` copies "
                              "what is readable to a new file");
    }
    if (error) throw std::system_error(error, "the pending hooks cannot be read");
    const bool is_last =
        slice.chunks.size() < slice_chunks || slice.chunks.back().chunk >= store_info_.next_number;
    if (!slice.chunks.empty()) after = slice.chunks.back().chunk;
    hooks += recovering.hand_over(slices[turn]);
    if (progress) progress(hooks);
    if (!is_last) continue;
    recovering.is_whole();
    return hooks;
  }
}

}  // namespace postbag
