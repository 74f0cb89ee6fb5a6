#pragma once

#include <SQLiteCpp/Database.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "postbag/sqlite_store.h"

namespace postbag {

inline constexpr std::int64_t sqlite_application_id = 0x50425347;  // "PBSG"
// Of a new file; one that exists keeps what it was made with.
inline constexpr std::uint64_t sqlite_page_bytes = 8192;
inline constexpr ChunkNumber chunk_number_end = 1ull << chunk_number_bits;  // from here on: damage
// Of an id in the column remembered.data: six numbers (sqlite_ids.cc).
inline constexpr std::uint64_t remembered_id_bytes = 48;

// One step of the schema: from user_version i to i + 1 with the i-th entry. Never changed once
// released.
struct Migration {
  const char* sql;
};
std::span<const Migration> schema_migrations();

// Brings an open database from its user_version to the newest in one transaction. Throws
// SQLite::Exception; nothing is changed then. Throws StoreError store_newer if the database is
// ahead of the steps.
void migrate_schema(SQLite::Database& db, std::span<const Migration> steps,
                    const std::string& path);

// Throws StoreError store_newer, SQLite::Exception.
void refuse_newer_schema(SQLite::Database& db, const std::string& path);

// Refuses paths that SQLite takes for something else than the name of a file. Throws StoreError.
void check_store_path(const std::string& path);

// Opens an existing file exclusively and refuses what is not a Postbag store. `writing` takes an
// empty file, too (a new store); prepare_for_writing() comes next. `reading` leaves the file and
// its log as they are, also at close; so does `salvage`, which takes a file that was cut short,
// too. Throws StoreError.
enum class OpenFor : std::uint8_t { writing, reading, salvage };
SQLite::Database open_database(const std::string& path, OpenFor purpose);

// The file must exist and be of a schema that is known. Throws StoreError.
SQLite::Database open_existing(const std::string& path, OpenFor purpose = OpenFor::reading);

// The rest of the pragmas, for a connection that writes; then the schema. Throws StoreError.
void prepare_for_writing(SQLite::Database& db, const std::string& path,
                         std::uint64_t journal_limit_bytes);

std::int64_t pragma_value(SQLite::Database& db, const char* pragma);

// What `PRAGMA integrity_check` or quick_check finds, line by line. Throws SQLite::Exception.
void check_structure(SQLite::Database& db, const char* pragma,
                     const std::function<void(std::string_view finding)>& found);

// What an exception at open means to the user, and what helps; for any thrower above.
StoreError open_error(const SQLite::Exception& error, const std::string& path,
                      OpenFor purpose = OpenFor::writing);

}  // namespace postbag
