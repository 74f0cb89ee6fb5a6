// The start over a store that has hooks of an earlier life.
#include <array>

#include "engine/pure/url_hash.h"
#include "engine/shell/engine_impl.h"

namespace postbag {
namespace {

// About as much as the store reads in the 5 ms that a commit may have to wait for it.
constexpr std::size_t slice_chunks = 4096;

// A part of what is pending, on its way from the store to the shards. Used again once they have it.
struct RecoverySlice {
  std::vector<PendingChunk> chunks;
  std::vector<std::vector<std::uint32_t>> of_shard;  // indices
  std::atomic<std::size_t> uses{0};                  // shards that have yet to take theirs

  void wait() const {
    while (const std::size_t left = uses.load(std::memory_order_acquire)) uses.wait(left);
  }
  void taken() {
    if (uses.fetch_sub(1, std::memory_order_release) == 1) uses.notify_one();
  }
};

}  // namespace

// While it exists the shards do nothing but to take over what was found.
class Engine::Impl::Recovering {
 public:
  explicit Recovering(Impl& engine) : engine_(engine) {
    engine_.recovering_ = true;
    std::vector<std::future<void>> begun;
    for (auto& shard : engine_.shards_) {
      auto task = std::make_shared<std::promise<void>>();
      begun.push_back(task->get_future());
      shard->hold();
      shard->post_recovered([task](ShardCore& core, const Now&) {
        core.begin_recovery();
        task->set_value();
      });
    }
    for (auto& one : begun) one.get();
  }
  ~Recovering() {
    if (!is_whole_) engine_.stopping_ = true;
    for (auto& shard : engine_.shards_) {
      shard->post_recovered([sound = is_whole_, &shard = *shard](ShardCore& core, const Now&) {
        // Of the last batches some chunks may be missing.
        if (!sound) core.stop_sending();
        core.end_recovery();
        shard.release();
      });
    }
    engine_.recovering_ = false;
  }
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
          shards.size() == 1 ? 0 : (url_hash(chunk.target) >> 32) % shards.size();
      slice->of_shard[shard].push_back(index);
    }
    engine_.pending_.fetch_add(hooks);
    slice->uses = shards.size();
    for (std::size_t at = 0; at < shards.size(); ++at) {
      // A shard that halts drops it unrun: that counts, too.
      const std::shared_ptr<RecoverySlice> use(slice.get(),
                                               [slice](RecoverySlice* one) { one->taken(); });
      shards[at]->post_recovered([use, at](ShardCore& core, const Now& now) {
        core.add_recovered(use->chunks, use->of_shard[at], now);
      });
    }
    return hooks;
  }
  void is_whole() { is_whole_ = true; }

 private:
  Impl& engine_;
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
