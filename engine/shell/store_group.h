#pragma once

#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/pure/store_part.h"
#include "postbag/store.h"

namespace postbag {

// What the views of a StoreGroup built from parts point to. Lives until the commit is over.
struct StoreGroupMemory {
  std::deque<std::vector<std::string_view>> pieces;
};

// Which half of a part goes into a group. `rest_without_fails`: only what frees room, for a store
// that is full.
enum class PartHalf { appends, rest, rest_without_fails };

// Adds a part's work to a group. Reads batches that the part's `uses` hold, so any thread may do
// it. `store_tag` is for ids.
void add_to_group(const StorePart& part, PartHalf half, std::uint16_t store_tag, StoreGroup& group,
                  StoreGroupMemory& memory);

// By how many rows the store's failed rows grow once this part is stored. Any thread, while the
// part's `uses` hold its batches.
std::uint64_t failed_rows(const StorePart& part);

}  // namespace postbag
