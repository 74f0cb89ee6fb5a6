#pragma once

#include <cstddef>
#include <cstdint>

#include "postbag/hook.h"
#include "postbag/store.h"
#include "postbag/time.h"

namespace postbag {

// How many bits of each field an id keeps; higher bits are cut off.
inline constexpr int hook_id_time_bits = 48;
inline constexpr int hook_id_chunk_bits = chunk_number_bits;
inline constexpr int hook_id_index_bits = failed_key_index_bits;
inline constexpr int hook_id_tag_bits = 16;

// Where the hook with an id is: chunk row, index in it, and the store (by its random tag) that made
// it.
struct HookLocation {
  WallMs wall_ms = 0;
  std::uint64_t chunk = 0;
  std::uint32_t index = 0;
  std::uint16_t tag = 0;
  bool operator==(const HookLocation&) const = default;
};

HookId make_hook_id(WallMs wall_ms, std::uint64_t chunk, std::uint32_t index, std::uint16_t tag);
// The inverse; meaningful only for ids of this engine, so compare the tag.
HookLocation locate(const HookId& id);

inline constexpr std::size_t hook_id_text_size = 36;
// The text of to_string() into so many chars at `out`; returns their end.
char* write_text(char* out, const HookId& id);

}  // namespace postbag
