#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/batch.h"

namespace postbag {

// The bytes of a chunk in the store: "1", number of hooks, length of the meta, meta, then the
// payloads in wire form with the bracket or comma before each, exactly as they stand in the body,
// so that a batch read back has the same bytes.

// How many body bytes a blob of so many hooks holds at most: before them stand three bytes and two
// a hook at least.
inline std::uint64_t chunk_body_bytes_max(std::uint64_t blob_bytes, std::uint32_t hooks) {
  return blob_bytes - std::min(blob_bytes, 3 + 2 * std::uint64_t{hooks});
}

// Everything before the body bytes. `from` and `to` bound the chunk in its batch.
std::string encode_chunk_head(const Batch& batch, const BatchMark& from, const BatchMark& to);
// The body bytes between two marks, as pieces of the batch's memory. Reads no segment field that
// may still change.
void chunk_body_pieces(const BatchMark& from, const BatchMark& to, Segment* first_segment,
                       std::vector<std::string_view>& pieces);

// Appends a chunk's hooks to a batch that is being read back. False: the blob is damaged.
bool decode_chunk(std::string_view blob, Batch& batch, SegmentPool& pool);

}  // namespace postbag
