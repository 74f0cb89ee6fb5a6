#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <utility>

namespace postbag {

// A prepared statement. Beside SQLite::Statement because that one copies every text and blob that
// it binds (its bindNoCopy cannot take a string_view), and a commit binds a megabyte. Errors are
// SQLite::Exception, want of memory is std::bad_alloc. Bound views must stay valid until reset().
class Statement {
 public:
  Statement(sqlite3* db, const char* sql);
  ~Statement() { sqlite3_finalize(handle_); }
  Statement(Statement&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  Statement& operator=(Statement&&) = delete;

  Statement& bind(int index, std::int64_t value);
  Statement& bind(int index, std::uint64_t value) {
    return bind(index, static_cast<std::int64_t>(value));
  }
  Statement& bind(int index, std::uint32_t value) { return bind(index, std::int64_t{value}); }
  Statement& bind(int index, int value) { return bind(index, std::int64_t{value}); }
  Statement& bind_text(int index, std::string_view value);
  Statement& bind_blob(int index, std::string_view value);

  // True: there is a row.
  bool step();
  // Runs a statement that gives no rows, and resets it.
  void run();
  // As run(); false: an error.
  bool try_run() noexcept;
  // As run(); gives the number of rows it changed.
  std::uint64_t run_counting();
  void reset() noexcept { sqlite3_reset(handle_); }

  std::int64_t integer(int column) const { return sqlite3_column_int64(handle_, column); }
  std::uint64_t number(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  // Of a text or blob; valid until the next step() or reset().
  std::string_view text(int column) const;

 private:
  [[noreturn]] void fail(int code);

  sqlite3_stmt* handle_ = nullptr;
};

// SQLite does not look at the order of rows as it reads them: one with a damaged number would hide
// others, or be taken for another. Returns `number`; throws SQLite::Exception (SQLITE_CORRUPT)
// unless it is above `last`.
std::int64_t ascending(std::int64_t last, std::int64_t number);

// For `number > ?`. Without a number from the lowest that can be: a damaged one is not left out.
inline std::int64_t start_after(std::optional<std::uint64_t> number) {
  return number ? static_cast<std::int64_t>(*number) : std::numeric_limits<std::int64_t>::min();
}

// Resets a statement that is stepped through, whatever ends the loop: an open read would hold up
// checkpoints.
class Cursor {
 public:
  explicit Cursor(Statement& statement) : statement_(statement) {}
  ~Cursor() { statement_.reset(); }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

 private:
  Statement& statement_;
};

}  // namespace postbag
