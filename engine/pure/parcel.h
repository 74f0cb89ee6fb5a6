#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/pure/sinks.h"
#include "postbag/engine.h"
#include "postbag/hook.h"
#include "postbag/store.h"

namespace postbag {

// Some or all hooks of one call, on their way to one shard.
struct Parcel {
  std::shared_ptr<const HookList> hooks;  // targets are canonical by now
  std::vector<std::uint32_t> indices;     // which of them; empty: all
  std::size_t count() const { return indices.empty() ? hooks->size() : indices.size(); }
  std::uint32_t index_at(std::size_t position) const {
    return indices.empty() ? static_cast<std::uint32_t>(position) : indices[position];
  }
  std::shared_ptr<CallSink> call;  // may be null
  bool sync = true;                // the call is answered once it is on disk
  std::shared_ptr<OutcomeListener> listener;
  // To be stored with the hooks; location is filled in by the shard.
  std::vector<RememberedId> remember;
  std::vector<std::uint32_t> remember_indices;
  // retry-failed-hooks: the rows that the hooks are, one each.
  std::vector<FailedKey> rows;
  std::shared_ptr<RetrySink> retry;
  std::optional<std::uint32_t> retries;
};

}  // namespace postbag
