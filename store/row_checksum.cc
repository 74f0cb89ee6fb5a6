#include "store/row_checksum.h"

#include "store/crc32c.h"

namespace postbag {

std::uint32_t chunk_checksum(ChunkNumber number, BatchNumber batch, const BatchKeyView& key,
                             WallMs accepted_ms, std::uint32_t hooks, std::string_view data) {
  RowChecksum crc;
  crc.add(number).add(batch).add(key.target).add(key.group).add(key.headers);
  crc.add(static_cast<std::uint64_t>(accepted_ms)).add(std::uint64_t{hooks}).add(data);
  return crc.value();
}

std::uint32_t failed_checksum(const BatchKeyView& key, const FailedHookView& hook) {
  RowChecksum crc;
  crc.add(hook.key).add(hook.id).add(key.target).add(key.group).add(key.headers);
  crc.add(hook.event).add(hook.content_type).add(hook.body);
  return crc.value();
}

}  // namespace postbag
