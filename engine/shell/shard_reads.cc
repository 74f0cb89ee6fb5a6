// What a shard reads back from the store: everything that it wants at a moment is one job, for a
// way to the store thread and back costs more than a read.
#include <new>
#include <utility>

#include "engine/shell/shard.h"

namespace postbag {
namespace {

// A slice ends when it has read so much: it may keep a commit waiting.
constexpr std::size_t slice_bytes_max = 1 << 20;
constexpr std::size_t slice_batches_max = 256;
constexpr std::size_t slice_chunks_max = 1'000;
constexpr std::size_t ahead_bytes_max = 256 << 10;

struct ReadBatch {
  Batch* batch = nullptr;
  std::error_code error;
  std::vector<std::string> blobs;
};

// They are there, and are read again later.
std::error_code read_or_later(Store& store, std::span<const ChunkNumber> chunks,
                              std::vector<std::string>& blobs) {
  try {
    return store.read_chunks(chunks, blobs);
  } catch (const std::bad_alloc&) {
    blobs.clear();
    return Errc::store_io;
  }
}

}  // namespace

// The batches' uses, or their state, hold them until they are answered.
struct Shard::Reads {
  struct Wanted {
    Batch* batch = nullptr;
    std::vector<ChunkNumber> chunks;
  };
  std::vector<Wanted> batches;
  std::size_t next = 0;  // the first that is not read yet
  std::vector<ChunkNumber> ahead;
};

void Shard::start_loads() {
  if (core_.loads().empty() && core_.loads_ahead().empty()) return;
  const auto reads = std::make_shared<Reads>();
  reads->batches.reserve(core_.loads().size());
  for (Batch* batch : core_.loads()) {
    Reads::Wanted& wanted = reads->batches.emplace_back();
    wanted.batch = batch;
    batch->for_each_chunk([&](const ChunkInfo& chunk) { wanted.chunks.push_back(chunk.number); });
  }
  core_.loads().clear();
  reads->ahead = std::exchange(core_.loads_ahead(), {});
  store_->push_job([this, reads](Store& store) { read_slice(store, reads); });
}

// On the store thread.
void Shard::read_slice(Store& store, const std::shared_ptr<Reads>& reads) {
  const auto done = std::make_shared<std::vector<ReadBatch>>();
  std::size_t bytes = 0, chunks = 0;
  while (reads->next < reads->batches.size() && bytes < slice_bytes_max &&
         done->size() < slice_batches_max && chunks < slice_chunks_max) {
    const Reads::Wanted& wanted = reads->batches[reads->next++];
    ReadBatch& read = done->emplace_back();
    read.batch = wanted.batch;
    chunks += wanted.chunks.size();
    read.error = read_or_later(store, wanted.chunks, read.blobs);
    for (const std::string& blob : read.blobs) bytes += blob.size();
  }
  if (!done->empty()) {
    post([done](ShardCore& core, const Now& now) {
      for (const ReadBatch& read : *done) core.loaded(*read.batch, read.error, read.blobs, now);
    });
  }
  if (reads->next < reads->batches.size()) {
    store_->push_job([this, reads](Store& same) { read_slice(same, reads); });
  } else if (!reads->ahead.empty()) {
    read_ahead(store, *reads);
  }
}

void Shard::read_ahead(Store& store, Reads& reads) {
  const auto found = std::make_shared<std::vector<ChunkBlob>>();
  found->reserve(reads.ahead.size());
  std::vector<std::string> blobs;
  std::size_t bytes = 0;
  for (const ChunkNumber chunk : reads.ahead) {
    ChunkBlob& read = found->emplace_back();
    read.chunk = chunk;
    // What cannot be read now is read by itself when its turn comes.
    if (bytes >= ahead_bytes_max || read_or_later(store, {&chunk, 1}, blobs) || blobs.empty()) {
      continue;
    }
    read.blob = std::move(blobs.front());
    bytes += read.blob.size();
  }
  post([found](ShardCore& core, const Now& now) { core.read_ahead(*found, now); });
}

}  // namespace postbag
