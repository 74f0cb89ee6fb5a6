// `store check`: reads everything, changes nothing.
#include <sys/stat.h>

#include <cerrno>
#include <map>
#include <optional>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "store/crc32c.h"
#include "store/failed_match.h"
#include "store/sqlite_open.h"
#include "store/sqlite_schema.h"
#include "store/sqlite_statement.h"
#include "store/whole_rows.h"

namespace postbag {
namespace {

constexpr std::size_t findings_max = 1'000;

class Check {
 public:
  Check(SQLite::Database& db, const std::string& path)
      : database_(db), path_(path), db_(db.getHandle()) {}

  std::vector<std::string> run() {
    // Each part by itself: damage in one table says nothing about the others.
    part("structure", &Check::structure);
    part("meta", &Check::meta);
    part("chunks", &Check::chunks);
    part("failed rows", &Check::failed_rows);
    part("remembered ids", &Check::remembered);
    if (findings_.size() >= findings_max) findings_.push_back("more findings are not listed");
    return std::move(findings_);
  }

 private:
  void part(const char* name, void (Check::*function)()) {
    try {
      (this->*function)();
    } catch (const SQLite::Exception& error) {
      found(std::string(name) + ": cannot be read to the end: " + error.what());
    }
  }

  void found(std::string line) {
    if (findings_.size() < findings_max) findings_.push_back(std::move(line));
  }

  void structure() {
    check_structure(database_, "PRAGMA integrity_check(100)", [this](std::string_view finding) {
      found("structure: " + std::string(finding));
    });
  }

  void meta() {
    Statement row(db_, "SELECT reserved_below, failed_hooks FROM meta");
    if (!row.step()) return found("meta: no row");
    reserved_below_ = row.number(0);
    failed_hooks_ = row.number(1);
    // An older schema is looked at as it is.
    if (pragma_value(database_, "PRAGMA user_version") >= 2) {
      failed_bytes_ =
          static_cast<std::uint64_t>(pragma_value(database_, "SELECT failed_bytes FROM meta"));
    }
    const std::string missing = missing_by_witness(database_, path_);
    if (!missing.empty()) found("witness: " + missing);
  }

  void chunks() {
    Statement row(db_, WholeChunk::rows);
    row.bind(1, start_after({}));
    while (row.step()) {
      const WholeChunk read(row);
      const std::string name = "chunk " + std::to_string(row.integer(0)) + ": ";
      if (!read.has_right_checksum()) found(name + "wrong checksum");
      if (read.chunk.chunk >= reserved_below_) found(name + "number was never reserved");
    }
    Statement retry(db_, "SELECT batch FROM retry WHERE batch NOT IN (SELECT number FROM chunk)");
    while (retry.step()) {
      found("retry: batch " + std::to_string(retry.integer(0)) + " does not exist");
    }
  }

  void failed_rows() {
    std::map<std::uint64_t, std::int64_t> responses;  // batch: hooks said less hooks seen
    std::uint64_t bytes = 0;
    Statement response(db_,
                       "SELECT batch, hooks, length(response_headers) + length(response_excerpt) "
                       "FROM failed_batch");
    while (response.step()) {
      responses[response.number(0)] = response.integer(1);
      bytes += response.number(2);
    }
    Statement row(db_, WholeFailedRow::rows);
    row.bind(1, start_after({}));
    std::uint64_t rows = 0;
    for (; row.step(); ++rows) {
      const WholeFailedRow read(row);
      const std::string name = "failed row " + std::to_string(row.integer(0)) + ": ";
      if (!read.has_right_checksum()) found(name + "wrong checksum");
      bytes += failed_row_bytes(read.batch_key, read.hook);
      if (!parse_reason(read.reason)) found(name + "unknown reason");
      if (failed_key_chunk(read.hook.key) >= reserved_below_) {
        found(name + "number was never reserved");
      }
      if (read.response != 0) {
        const auto known = responses.find(read.response);
        if (known == responses.end()) {
          found(name + "its response is missing");
        } else {
          --known->second;
        }
      }
    }
    for (const auto& [batch, difference] : responses) {
      if (difference == 0) continue;
      found("response of batch " + std::to_string(batch) + ": wrong number of hooks");
    }
    if (rows != failed_hooks_) {
      found("meta: says " + std::to_string(failed_hooks_) + " failed rows, there are " +
            std::to_string(rows));
    }
    if (failed_bytes_ && bytes != *failed_bytes_) {
      found("meta: says " + std::to_string(*failed_bytes_) + " bytes of failed rows, there are " +
            std::to_string(bytes));
    }
  }

  void remembered() {
    Statement row(db_, "SELECT number, crc, data FROM remembered");
    while (row.step()) {
      if (crc32c(0, row.text(2)) == row.number(1)) continue;
      found("remembered ids " + std::to_string(row.integer(0)) + ": wrong checksum");
    }
  }

  SQLite::Database& database_;
  const std::string& path_;
  sqlite3* db_;
  std::uint64_t reserved_below_ = 0, failed_hooks_ = 0;
  std::optional<std::uint64_t> failed_bytes_;
  std::vector<std::string> findings_;
};

}  // namespace

std::vector<std::string> check_sqlite_store(const std::string& path) {
  try {
    SQLite::Database db = open_existing(path, OpenFor::salvage);
    return Check(db, path).run();
  } catch (const SQLite::Exception& error) {
    return {open_error(error, path, OpenFor::salvage).what()};
  } catch (const StoreError& error) {
    // That it is damaged is an answer; that it cannot be looked at is not.
    if (error.code() != Errc::store_corrupt) throw;
    return {error.what()};
  }
}

}  // namespace postbag
