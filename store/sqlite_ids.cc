// Producers' own ids, remembered for repeated calls.
#include <algorithm>
#include <array>
#include <limits>

#include "store/crc32c.h"
#include "store/little_endian.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

constexpr std::uint64_t forget_rows_max = 8'000;  // in one call: about 5 ms

using EncodedId = std::array<char, remembered_id_bytes>;

EncodedId encode(const RememberedId& id) {
  EncodedId bytes;
  char* out = bytes.data();
  for (const std::uint64_t number :
       {id.id_hash[0], id.id_hash[1], id.content_hash[0], id.content_hash[1], id.location,
        static_cast<std::uint64_t>(id.expires_ms)}) {
    put_little_endian(out, number);
    out += 8;
  }
  return bytes;
}

RememberedId decode(const char* bytes) {
  RememberedId id;
  id.id_hash = {little_endian_at(bytes), little_endian_at(bytes + 8)};
  id.content_hash = {little_endian_at(bytes + 16), little_endian_at(bytes + 24)};
  id.location = little_endian_at(bytes + 32);
  id.expires_ms = static_cast<WallMs>(little_endian_at(bytes + 40));
  return id;
}

// Ids in so much data, by what is there and not by what the row says.
std::uint64_t ids_in(std::uint64_t data_bytes) {
  return data_bytes / remembered_id_bytes;
}

// A record that an id was forgotten. It comes after the record that it takes back, and the later of
// two counts.
RememberedId forgotten(const std::array<std::uint64_t, 2>& id_hash) {
  RememberedId id;
  id.id_hash = id_hash;
  return id;  // no hook has the location 0
}

// Calls `each` for what is not expired, and for what was forgotten, oldest first. A damaged row is
// left out: it costs at most the recognition of a repeated call.
template <typename Each>
void for_each_id(Statement& row, WallMs now_ms, Each each) {
  const Cursor cursor(row);
  while (row.step()) {
    const std::string_view data = row.text(1);
    if (crc32c(0, data) != row.number(0) || data.size() % remembered_id_bytes != 0) continue;
    for (std::size_t at = 0; at < data.size(); at += remembered_id_bytes) {
      const RememberedId id = decode(data.data() + at);
      if (id.expires_ms >= now_ms || id.location == 0) each(id);
    }
  }
}

}  // namespace

void load_remembered_ids(sqlite3* db,
                         const std::function<void(const std::vector<RememberedId>&)>& each_group) {
  Statement row(db, "SELECT crc, data FROM remembered ORDER BY number");
  std::vector<RememberedId> ids;
  for_each_id(row, std::numeric_limits<WallMs>::min(), [&](const RememberedId& id) {
    ids.push_back(id);
    if (ids.size() < 1'000) return;
    each_group(ids);
    ids.clear();
  });
  if (!ids.empty()) each_group(ids);
}

void SqliteStore::remember(const std::vector<RememberedId>& ids) {
  if (ids.empty()) return;
  blob_.clear();
  WallMs expires_ms = ids.front().expires_ms;
  for (const RememberedId& id : ids) {
    const EncodedId bytes = encode(id);
    blob_.append(bytes.data(), bytes.size());
    expires_ms = std::max(expires_ms, id.expires_ms);
  }
  sql_.add_ids.bind(1, expires_ms).bind(2, std::uint64_t{ids.size()}).bind(3, crc32c(0, blob_));
  sql_.add_ids.bind_blob(4, blob_).run();
  work_.remembered += ids.size();
  if (work_.remembered > remembered_ids_max) forget_oldest_beyond_limit();
}

void SqliteStore::forget(const std::vector<std::array<std::uint64_t, 2>>& ids) {
  std::vector<RememberedId> rows;
  rows.reserve(ids.size());
  for (const auto& id_hash : ids) rows.push_back(forgotten(id_hash));
  remember(rows);
}

void SqliteStore::forget_oldest_beyond_limit() {
  std::vector<std::uint64_t> rows;
  {
    const Cursor cursor(sql_.oldest_ids);
    while (sql_.oldest_ids.step()) {
      const std::uint64_t ids = ids_in(sql_.oldest_ids.number(2));
      if (work_.remembered < remembered_ids_max + ids) break;
      work_.remembered -= ids;
      rows.push_back(sql_.oldest_ids.number(0));
    }
  }
  for (const std::uint64_t row : rows) sql_.delete_ids.bind(1, row).run();
}

std::error_code SqliteStore::load_ids(WallMs now_ms,
                                      const std::function<void(const RememberedId&)>& each) {
  const std::error_code error = reading([&] {
    // An id can stand twice: forgotten as one of too many, then given again. The later one counts.
    // Found by sorting, at 24 bytes an id for as long as this takes.
    struct Seen {
      std::array<std::uint64_t, 2> hash;
      std::uint64_t at;
      bool operator<(const Seen& other) const {
        return hash != other.hash ? hash < other.hash : at < other.at;
      }
    };
    std::vector<Seen> seen;
    seen.reserve(std::min(counts_.remembered, remembered_ids_max));
    for_each_id(sql_.scan_ids, now_ms, [&](const RememberedId& id) {
      seen.push_back({id.id_hash, seen.size()});
    });
    std::sort(seen.begin(), seen.end());
    std::vector<std::uint64_t> replaced;
    for (std::size_t i = 0; i + 1 < seen.size(); ++i) {
      if (seen[i].hash == seen[i + 1].hash) replaced.push_back(seen[i].at);
    }
    seen = {};
    std::sort(replaced.begin(), replaced.end());
    std::uint64_t at = 0;
    for_each_id(sql_.scan_ids, now_ms, [&](const RememberedId& id) {
      const bool is_replaced = std::binary_search(replaced.begin(), replaced.end(), at++);
      if (!is_replaced && id.location != 0) each(id);
    });
  });
  return error ? error : forget_ids(now_ms);
}

std::error_code SqliteStore::forget_ids(WallMs now_ms) {
  return writing([&] {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> rows;
    {
      const Cursor cursor(sql_.oldest_ids);
      // They expire about in the order in which they came, so the first that is not due ends it.
      while (rows.size() < forget_rows_max && sql_.oldest_ids.step()) {
        if (sql_.oldest_ids.integer(1) >= now_ms) break;
        rows.emplace_back(sql_.oldest_ids.number(0), ids_in(sql_.oldest_ids.number(2)));
      }
    }
    if (rows.empty()) return;
    // Not synced: what comes back after a power loss has expired all the same.
    Transaction transaction(*this, CommitLevel::no_sync);
    for (const auto& [row, ids] : rows) {
      sql_.delete_ids.bind(1, row).run();
      work_.remembered -= ids;
    }
    transaction.commit();
  });
}

}  // namespace postbag
