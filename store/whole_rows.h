#pragma once

#include <cstdint>
#include <string_view>

#include "postbag/store.h"
#include "store/row_checksum.h"
#include "store/sqlite_statement.h"

namespace postbag {

// Rows as `store check` and `store salvage` read them: with every column, in the order of their
// numbers from ?1 on, and looked at whether they are what was written. The views stay valid until
// the statement's next step.

struct WholeChunk {
  static constexpr const char* rows =
      "SELECT number, batch, target, grp, headers, accepted_ms, hooks, crc, data "
      "FROM chunk WHERE number >= ?1 ORDER BY number";

  explicit WholeChunk(const Statement& row) : data(row.text(8)), crc(row.number(7)) {
    chunk.chunk = row.number(0);
    chunk.batch = row.number(1);
    chunk.key = {row.text(2), row.text(3), row.text(4)};
    chunk.accepted_ms = row.integer(5);
    chunk.hooks = static_cast<std::uint32_t>(row.integer(6));
  }
  bool has_right_checksum() const {
    return crc == chunk_checksum(chunk.chunk, chunk.batch, chunk.key, chunk.accepted_ms,
                                 chunk.hooks, data);
  }

  ChunkAppend chunk;  // without its data
  std::string_view data;
  std::uint64_t crc;
};

struct WholeFailedRow {
  static constexpr const char* rows =
      "SELECT key, response, status, attempts, first_at, last_at, reason, id, target, grp, event, "
      "headers, content_type, crc, body FROM failed WHERE key >= ?1 ORDER BY key";

  explicit WholeFailedRow(const Statement& row)
      : batch_key{row.text(8), row.text(9), row.text(11)},
        hook{row.number(0), row.text(7), row.text(10), row.text(12), row.text(14), row.integer(4)},
        response(row.number(1)),
        reason(row.text(6)),
        status(static_cast<int>(row.integer(2))),
        attempts(static_cast<std::uint32_t>(row.integer(3))),
        last_at(row.integer(5)),
        crc(row.number(13)) {}
  bool has_right_checksum() const { return crc == failed_checksum(batch_key, hook); }

  BatchKeyView batch_key;
  FailedHookView hook;
  BatchNumber response;  // the batch whose response was kept; 0: none was
  std::string_view reason;
  int status;
  std::uint32_t attempts;
  WallMs last_at;
  std::uint64_t crc;
};

}  // namespace postbag
