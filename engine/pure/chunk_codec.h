#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/batch.h"

namespace postbag {

// The bytes of a chunk in the store: "1", number of hooks, length of the meta, meta, then the
// payloads in wire form with the bracket or comma before each, exactly as they stand in the body,
// so that a batch read back has the same bytes.

// Everything before the body bytes. `from` and `to` bound the chunk in its batch.
std::string encode_chunk_head(const Batch& batch, const BatchMark& from, const BatchMark& to);
// The body bytes between two marks, as pieces of the batch's memory. Reads no segment field that
// may still change.
void chunk_body_pieces(const BatchMark& from, const BatchMark& to, Segment* first_segment,
                       std::vector<std::string_view>& pieces);

// Appends a chunk's hooks to a batch that is being read back. False: the blob is damaged.
bool decode_chunk(std::string_view blob, Batch& batch, SegmentPool& pool);

}  // namespace postbag
