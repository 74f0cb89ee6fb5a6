#include "bench/store_seed.h"

#include <algorithm>
#include <array>
#include <deque>
#include <stdexcept>

#include "bench/batch_check.h"
#include "engine/pure/hook_id.h"
#include "engine/pure/varint.h"
#include "postbag/sqlite_store.h"
#include "postbag/store.h"

namespace postbag {
namespace {

constexpr std::uint64_t hooks_a_commit = 50'000;
constexpr WallMs long_ago_ms = 1'700'000'000'000;

void commit(Store& store, const StoreGroup& group) {
  if (const std::error_code error = store.commit(group, CommitLevel::no_sync)) {
    throw std::runtime_error("the store cannot be filled: " + error.message());
  }
  while (store.maintain()) {
  }
}

// See engine/pure/chunk_codec.h.
std::string chunk_blob(PayloadMaker& maker, std::uint64_t target, std::uint64_t first,
                       std::uint32_t hooks) {
  std::string meta, body;
  for (std::uint32_t i = 0; i < hooks; ++i) {
    const std::string_view payload = maker.make(target, first + i);
    meta += '\0';
    put_varint(meta, payload.size());
    body += i == 0 ? '[' : ',';
    body += payload;
  }
  std::string blob(1, '\1');
  put_varint(blob, hooks);
  put_varint(blob, meta.size());
  blob.reserve(blob.size() + meta.size() + body.size());
  return blob += meta += body;
}

}  // namespace

void seed_pending(const std::string& path, const PendingSeed& seed) {
  const auto store = open_sqlite_store({.path = path, .max_bytes = 64ull << 30});
  PayloadMaker maker(seed.payload_bytes);
  ChunkNumber number = store->info().next_number;
  std::uint64_t chunk = 0;
  for (std::uint64_t done = 0; done < seed.hooks;) {
    StoreGroup group;
    std::deque<std::string> texts;
    std::deque<std::array<std::string_view, 1>> pieces;
    for (std::uint64_t in_group = 0; in_group < hooks_a_commit && done < seed.hooks; ++chunk) {
      const std::uint64_t target = chunk % seed.targets;
      const std::uint64_t first = chunk / seed.targets * seed.batch;
      const auto hooks =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(seed.batch, seed.hooks - done));
      const std::string& url = texts.emplace_back(seed.url_prefix + std::to_string(target));
      pieces.push_back({texts.emplace_back(chunk_blob(maker, target, first, hooks))});
      group.append.push_back({.chunk = number,
                              .batch = number,
                              .key = {.target = url, .group = {}, .headers = {}},
                              .accepted_ms = long_ago_ms,
                              .hooks = hooks,
                              .data = pieces.back()});
      ++number;
      in_group += hooks;
      done += hooks;
    }
    group.reserve_below = number;
    commit(*store, group);
  }
}

void seed_failed(const std::string& path, std::uint64_t rows, std::uint64_t payload_bytes) {
  constexpr std::uint32_t batch = 100;
  const auto store = open_sqlite_store({.path = path, .max_bytes = 64ull << 30});
  const std::uint16_t tag = store->info().store_tag;
  PayloadMaker maker(payload_bytes);
  ChunkNumber number = store->info().next_number;
  for (std::uint64_t done = 0; done < rows;) {
    StoreGroup group;
    for (std::uint64_t i = 0; i < hooks_a_commit && done < rows; i += batch, done += batch) {
      FailBatch fail;
      fail.batch = number++;
      fail.key.target = "https://down.example/hooks";
      fail.reason = Reason::connect_refused;
      fail.attempts = 6;
      fail.last_at = long_ago_ms;
      fail.each_hook = [&maker, tag, chunk = fail.batch](const auto& each) {
        for (std::uint32_t index = 0; index < batch; ++index) {
          const std::string id = to_string(make_hook_id(long_ago_ms, chunk, index, tag));
          FailedHookView hook;
          hook.key = failed_key(chunk, index);
          hook.id = id;
          hook.body = maker.make(chunk, index);
          hook.accepted_ms = long_ago_ms;
          each(hook);
        }
      };
      group.fail.push_back(std::move(fail));
    }
    group.reserve_below = number;
    commit(*store, group);
  }
}

}  // namespace postbag
