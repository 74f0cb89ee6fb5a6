#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "postbag/store.h"

namespace postbag::test {

// What a store should hold, by the words of postbag/store.h alone: plain maps, no shortcuts. Two
// stores with the same content have the same digest.
class StoreModel {
 public:
  void apply(const StoreGroup& group);
  void purge(const std::vector<FailedKey>& keys);
  void forget_ids(WallMs now_ms);

  std::uint64_t digest() const;
  ChunkNumber next_number() const { return reserved_below_; }

  struct Chunk {
    BatchNumber batch = 0;
    std::string target, group, headers, data;
    WallMs accepted_ms = 0;
    std::uint32_t hooks = 0;
  };
  const std::map<ChunkNumber, Chunk>& chunks() const { return chunks_; }
  const std::map<FailedKey, FailedHook>& failed() const { return failed_; }
  std::vector<ChunkNumber> chunks_of(BatchNumber batch) const;

 private:
  void fail(const FailBatch& batch);

  std::map<ChunkNumber, Chunk> chunks_;
  std::map<BatchNumber, AttemptsUpdate> attempts_;
  std::map<FailedKey, FailedHook> failed_;
  std::map<std::array<std::uint64_t, 2>, RememberedId> ids_;
  ChunkNumber reserved_below_ = 1;
};

// The digest of what a store gives out by every reading call. Nothing and `problem` if a call
// failed. Ids must not expire before `now_ms`.
std::optional<std::uint64_t> digest_of(Store& store, std::string& problem);

// Makes groups as the engine's store thread does: appends to new and open batches, settles whole
// batches, fails them with rows and responses, counts attempts, deletes and replaces failed rows,
// remembers ids. Owns what the groups' views refer to.
class GroupMaker {
 public:
  explicit GroupMaker(std::uint64_t seed) : random_(seed) {}

  // The group is valid until the next call. `wants_sync`: it takes something over.
  const StoreGroup& make(const StoreModel& model, bool& wants_sync);
  // Parts of it, for scenarios.
  StoreGroup& begin();
  const StoreGroup& group() const { return group_; }
  void append(const StoreModel& model);
  void settle(const StoreModel& model);
  void fail(const StoreModel& model);
  void fail_again(const StoreModel& model);
  void count_attempt(const StoreModel& model);
  void delete_failed(const StoreModel& model);
  void remember();
  std::uint64_t random(std::uint64_t below) { return random_() % below; }

 private:
  std::string_view keep(std::string text);
  std::string text(std::size_t bytes_max);
  std::optional<BatchNumber> pick_batch(const StoreModel& model);
  void add_fail(FailBatch batch, std::vector<FailedHookView> hooks);

  std::mt19937_64 random_;
  StoreGroup group_;
  ChunkNumber next_ = 0;
  std::vector<BatchNumber> taken_;  // batches that this group ends
  std::deque<std::string> strings_;
  std::deque<std::vector<std::string_view>> pieces_;
  std::deque<std::vector<FailedHookView>> hooks_;
};

}  // namespace postbag::test
