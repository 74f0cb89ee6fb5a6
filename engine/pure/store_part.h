#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/pure/batch.h"
#include "engine/pure/content_hash.h"
#include "engine/pure/sinks.h"
#include "engine/pure/transport.h"
#include "postbag/engine.h"
#include "postbag/error.h"
#include "postbag/store.h"

namespace postbag {

// Parts of a shard that are under way at most: one is being committed, one is queued; what comes
// later gathers into the third, so that chunks grow with the load. Whoever holds parts makes room
// for so many beforehand.
inline constexpr std::size_t parts_under_way_max = 2;

// Work for the store thread, and its answer on the way back. What it points to is held by the
// batches' `uses`.
struct StorePart {
  struct Chunk {
    Batch* batch = nullptr;
    ChunkInfo info;
    BatchMark from, to;
    std::string head;  // encode_chunk_head
  };
  struct Fail {
    Batch* batch = nullptr;
    AttemptResult result;
    WallMs at = 0;
  };
  struct Rows {  // of retry-failed-hooks
    std::shared_ptr<RetrySink> sink;
    std::vector<FailedKey> keys;
    std::uint64_t body_bytes = 0;
  };
  std::vector<Chunk> append;
  std::vector<ChunkNumber> settle;
  std::vector<AttemptsUpdate> attempts;
  std::vector<Fail> fail;
  std::vector<Rows> delivered_rows;
  struct Taken {  // a failed hook that its listener took over: told once this is stored
    std::shared_ptr<OutcomeListener> listener;
    std::uint32_t call_index = 0;
  };
  std::vector<Taken> taken;
  std::vector<Hash128> forget;  // their ids
  std::vector<RememberedId> remember;
  std::vector<std::shared_ptr<CallSink>> calls;
  std::vector<std::function<void()>> barriers;  // called once everything before them is stored
  std::uint32_t shard = 0;
  bool sync = false;  // a call of `calls` wants them on disk before its answer
  // Appends of a series of which one was refused are refused unread.
  std::uint32_t refusal_series = 0;
  bool requeued = false;  // holds work that an earlier part could not store
  // The answer.
  Errc append_error = Errc::ok;
  Errc error = Errc::ok;    // of everything else
  bool fails_left = false;  // but `fail`, for which there was no room
};

// What the store has of a chunk that is read ahead.
struct ChunkBlob {
  ChunkNumber chunk = 0;
  std::string blob;  // empty: it was not read, for want of room, or could not be
};

}  // namespace postbag
