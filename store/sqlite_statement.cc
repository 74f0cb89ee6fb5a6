#include "store/sqlite_statement.h"

#include <SQLiteCpp/Exception.h>

#include <cstddef>
#include <new>

namespace postbag {
namespace {

[[noreturn]] void throw_error(sqlite3* db, int code) {
  if ((code & 0xff) == SQLITE_NOMEM) throw std::bad_alloc();
  throw SQLite::Exception(db, code);
}

}  // namespace

Statement::Statement(sqlite3* db, const char* sql) {
  const int code = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &handle_, nullptr);
  if (code != SQLITE_OK) throw_error(db, code);
}

Statement& Statement::bind(int index, std::int64_t value) {
  const int code = sqlite3_bind_int64(handle_, index, value);
  if (code != SQLITE_OK) fail(code);
  return *this;
}

Statement& Statement::bind_text(int index, std::string_view value) {
  // A null pointer would bind NULL.
  const char* data = value.data() != nullptr ? value.data() : "";
  const int code =
      sqlite3_bind_text64(handle_, index, data, value.size(), SQLITE_STATIC, SQLITE_UTF8);
  if (code != SQLITE_OK) fail(code);
  return *this;
}

Statement& Statement::bind_blob(int index, std::string_view value) {
  const char* data = value.data() != nullptr ? value.data() : "";
  const int code = sqlite3_bind_blob64(handle_, index, data, value.size(), SQLITE_STATIC);
  if (code != SQLITE_OK) fail(code);
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(handle_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) fail(code);
  return false;
}

void Statement::run() {
  step();
  reset();
}

std::uint64_t Statement::run_counting() {
  run();
  return static_cast<std::uint64_t>(sqlite3_changes64(sqlite3_db_handle(handle_)));
}

std::string_view Statement::text(int column) const {
  // The pointer before the size: asking for it is what converts the value, where that is needed.
  const void* data = sqlite3_column_blob(handle_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(handle_, column));
  return {static_cast<const char*>(data), data != nullptr ? size : 0};
}

bool Statement::try_run() noexcept {
  const int code = sqlite3_step(handle_);
  sqlite3_reset(handle_);
  return code == SQLITE_DONE;
}

std::int64_t ascending(std::int64_t last, std::int64_t number) {
  if (number > last) return number;
  throw SQLite::Exception("rows do not stand in their order", SQLITE_CORRUPT);
}

void Statement::fail(int code) {
  const Cursor cursor(*this);  // reset once the error has been read
  throw_error(sqlite3_db_handle(handle_), code);
}

}  // namespace postbag
