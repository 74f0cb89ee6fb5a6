#pragma once

#include "engine/pure/hook_id.h"
#include "postbag/store.h"

namespace postbag {

// See FailedKey: chunk number and index in one number, in as many bits as the hook's id has for the
// index, as a row is found by what the id says.
inline constexpr unsigned failed_key_index_bits = hook_id_index_bits;

inline FailedKey failed_key(ChunkNumber chunk, std::uint32_t index) {
  return chunk << failed_key_index_bits | index;
}
inline ChunkNumber failed_key_chunk(FailedKey key) {
  return key >> failed_key_index_bits;
}
inline std::uint32_t failed_key_index(FailedKey key) {
  return static_cast<std::uint32_t>(key & ((1u << failed_key_index_bits) - 1));
}

}  // namespace postbag
