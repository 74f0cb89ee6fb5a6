#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "postbag/store.h"

namespace postbag::test {

// Builds a StoreGroup in few lines and owns what its views point to.
class GroupBuilder {
 public:
  struct Hook {
    FailedKey key;
    std::string id, event, body;
  };

  GroupBuilder() = default;
  GroupBuilder(const GroupBuilder&) = delete;
  GroupBuilder& operator=(const GroupBuilder&) = delete;

  // The reference is valid until the next append().
  ChunkAppend& append(ChunkNumber number, BatchNumber batch, std::vector<std::string> pieces) {
    std::vector<std::string>& kept = strings_.emplace_back(std::move(pieces));
    std::vector<std::string_view>& views = views_.emplace_back(kept.begin(), kept.end());
    ChunkAppend& chunk = group_.append.emplace_back();
    chunk.chunk = number;
    chunk.batch = batch;
    chunk.key.target = "https://target.example/";
    chunk.hooks = 1;
    chunk.data = views;
    return chunk;
  }

  // The reference is valid until the next fail().
  FailBatch& fail(BatchNumber number, std::string target, std::initializer_list<Hook> hooks) {
    std::vector<std::string>& kept = strings_.emplace_back();
    kept.reserve(1 + 3 * hooks.size());
    FailBatch& batch = group_.fail.emplace_back();
    batch.batch = number;
    batch.key.target = kept.emplace_back(std::move(target));
    batch.reason = Reason::connect_refused;
    batch.attempts = 1;
    std::vector<FailedHookView>& views = hooks_.emplace_back();
    for (const Hook& hook : hooks) {
      FailedHookView& view = views.emplace_back();
      view.key = hook.key;
      view.id = kept.emplace_back(hook.id);
      view.event = kept.emplace_back(hook.event);
      view.body = kept.emplace_back(hook.body);
    }
    batch.each_hook = [&views](const std::function<void(const FailedHookView&)>& each) {
      for (const FailedHookView& view : views) each(view);
    };
    return batch;
  }

  // Of the last batch given to fail().
  FailedHookView& hook(std::size_t index) { return hooks_.back().at(index); }
  StoreGroup& group() { return group_; }

 private:
  StoreGroup group_;
  std::deque<std::vector<std::string>> strings_;
  std::deque<std::vector<std::string_view>> views_;
  std::deque<std::vector<FailedHookView>> hooks_;
};

// What is pending in a store, at most 100,000.
inline std::vector<ChunkNumber> pending_chunks(Store& store) {
  std::vector<PendingChunk> chunks;
  EXPECT_FALSE(store.scan_pending(0, 100'000, chunks));
  std::vector<ChunkNumber> numbers;
  for (const PendingChunk& chunk : chunks) numbers.push_back(chunk.chunk);
  return numbers;
}

}  // namespace postbag::test
