// Failed rows: what a batch leaves behind, listing, purging.
#include <algorithm>
#include <chrono>

#include "store/row_checksum.h"
#include "store/sqlite_store_impl.h"

namespace postbag {
namespace {

FailedFields fields_of(const Statement& row) {
  FailedFields fields;
  fields.status = static_cast<int>(row.integer(2));
  fields.last_at = row.integer(5);
  fields.reason = row.text(6);
  fields.id = row.text(7);
  fields.target = row.text(8);
  fields.group = row.text(9);
  fields.event = row.text(10);
  return fields;
}

// Of a row of scan_failed or find_failed.
std::uint64_t bytes_of(const Statement& row) {
  std::uint64_t texts = 0;
  for (int column = 7; column <= 12; ++column) texts += row.text(column).size();
  return failed_row_bytes(texts, row.number(13));
}

// Ends a slice by time, too: rows that have to be read from the disk take longer than the limits
// assume. The twin in memory has no such end, so that a simulation repeats exactly.
class TimedBudget : public SliceBudget {
 public:
  using SliceBudget::SliceBudget;
  void looked_at() {
    SliceBudget::looked_at();
    if (++rows_ % rows_between_looks != 0) return;
    late_ = std::chrono::steady_clock::now() - begin_ > slice_time;
  }
  bool used_up() const { return late_ || SliceBudget::used_up(); }

 private:
  static constexpr std::size_t rows_between_looks = 128;
  static constexpr std::chrono::milliseconds slice_time{4};

  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::size_t rows_ = 0;
  bool late_ = false;
};

}  // namespace

void SqliteStore::fail(const FailBatch& batch) {
  const bool has_response = !batch.response_headers.empty() || !batch.response_excerpt.empty();
  const BatchNumber response = has_response ? batch.batch : 0;
  const std::string reason = reason_token(batch.reason, batch.status);
  std::uint64_t hooks = 0;
  if (batch.each_hook) {
    batch.each_hook([&](const FailedHookView& hook) {
      insert_failed(batch, reason, response, hook);
      reserve(failed_key_chunk(hook.key) + 1);
      ++hooks;
    });
  }
  if (response == 0 || hooks == 0) return;
  work_.failed_bytes -= response_bytes(response);
  work_.failed_bytes += batch.response_headers.size() + batch.response_excerpt.size();
  sql_.add_response.bind(1, response).bind(2, hooks);
  sql_.add_response.bind_blob(3, batch.response_headers);
  sql_.add_response.bind_blob(4, batch.response_excerpt).run();
}

void SqliteStore::insert_failed(const FailBatch& batch, std::string_view reason,
                                BatchNumber response, const FailedHookView& hook) {
  const std::uint32_t crc = failed_checksum(batch.key, hook);
  const auto run = [&](Statement& row) {
    row.bind(1, hook.key).bind(2, response).bind(3, batch.status).bind(4, batch.attempts);
    row.bind(5, hook.accepted_ms).bind(6, batch.last_at).bind_text(7, reason);
    row.bind_text(8, hook.id).bind_text(9, batch.key.target).bind_text(10, batch.key.group);
    row.bind_text(11, hook.event).bind_text(12, batch.key.headers);
    row.bind_text(13, hook.content_type).bind(14, crc).bind_blob(15, hook.body);
    return row.run_counting();
  };
  if (run(sql_.insert_failed) > 0) {
    ++work_.failed_hooks;
    work_.failed_bytes += failed_row_bytes(batch.key, hook);
    return;
  }
  // There already: it failed again after a retry by command.
  BatchNumber response_before = 0;
  {
    const Cursor cursor(sql_.find_failed);
    if (sql_.find_failed.bind(1, hook.key).step()) {
      response_before = sql_.find_failed.number(1);
      work_.failed_bytes -= bytes_of(sql_.find_failed);
    }
  }
  work_.failed_bytes += failed_row_bytes(batch.key, hook);
  run(sql_.replace_failed);
  drop_response(response_before, 1);
}

// Rows of a batch come one after the other, so their response is counted down once.
void SqliteStore::delete_failed(const std::vector<FailedKey>& keys) {
  BatchNumber response = 0;
  std::uint64_t dropped = 0;
  for (const FailedKey key : keys) {
    BatchNumber of_row = 0;
    {
      const Cursor cursor(sql_.find_failed);
      if (!sql_.find_failed.bind(1, key).step()) continue;
      of_row = sql_.find_failed.number(1);
      work_.failed_bytes -= bytes_of(sql_.find_failed);
    }
    work_.failed_hooks -= sql_.delete_failed.bind(1, key).bind(2, key).run_counting();
    if (of_row != response) {
      drop_response(response, dropped);
      response = of_row;
      dropped = 0;
    }
    ++dropped;
  }
  drop_response(response, dropped);
}

void SqliteStore::drop_response(BatchNumber batch, std::uint64_t hooks) {
  if (batch == 0 || hooks == 0) return;
  std::uint64_t bytes = 0;
  bool is_last = false;
  {
    const Cursor cursor(sql_.find_response);
    if (!sql_.find_response.bind(1, batch).step()) return;
    bytes = sql_.find_response.text(0).size() + sql_.find_response.text(1).size();
    is_last = sql_.find_response.number(2) <= hooks;
  }
  if (!is_last) {
    sql_.drop_response.bind(1, batch).bind(2, hooks).run();
    return;
  }
  sql_.delete_response.bind(1, batch).run();
  work_.failed_bytes -= bytes;
}

std::uint64_t SqliteStore::response_bytes(BatchNumber batch) {
  const Cursor cursor(sql_.find_response);
  if (!sql_.find_response.bind(1, batch).step()) return 0;
  return sql_.find_response.text(0).size() + sql_.find_response.text(1).size();
}

FailedHook SqliteStore::failed_row(Statement& row, bool bodies) {
  FailedHook hook;
  hook.key = row.number(0);
  hook.status = static_cast<int>(row.integer(2));
  hook.attempts = static_cast<std::uint32_t>(row.integer(3));
  hook.first_at = row.integer(4);
  hook.last_at = row.integer(5);
  const std::optional<ParsedReason> reason = parse_reason(row.text(6));
  hook.reason = reason ? reason->reason : Reason::corrupt_payload;
  hook.id = row.text(7);
  hook.target = row.text(8);
  hook.group = row.text(9);
  hook.event = row.text(10);
  hook.headers = row.text(11);
  hook.content_type = row.text(12);
  if (!bodies) return hook;
  if (const BatchNumber response = row.number(1); response != 0) {
    const Cursor cursor(sql_.find_response);
    if (sql_.find_response.bind(1, response).step()) {
      hook.response_headers = sql_.find_response.text(0);
      hook.response_excerpt = sql_.find_response.text(1);
    }
  }
  read_body(hook);
  return hook;
}

// A body that is not what was stored is not shown, so nobody can send it.
void SqliteStore::read_body(FailedHook& hook) {
  const Cursor cursor(sql_.failed_body);
  if (sql_.failed_body.bind(1, hook.key).step()) {
    const std::string_view body = sql_.failed_body.text(1);
    const BatchKeyView key{hook.target, hook.group, hook.headers};
    const FailedHookView view{hook.key, hook.id, hook.event, hook.content_type, body, 0};
    if (failed_checksum(key, view) == sql_.failed_body.number(0)) {
      hook.body = body;
      return;
    }
  }
  hook.reason = Reason::corrupt_payload;
}

template <typename Each>
std::optional<FailedKey> SqliteStore::scan_failed(const FailedFilter& filter,
                                                  std::optional<FailedKey> after,
                                                  const SliceLimits& limits, Each each) {
  const FailedMatcher matcher(filter);
  TimedBudget budget(limits);
  Statement& row = sql_.scan_failed;
  const Cursor cursor(row);
  row.bind(1, start_after(after));
  std::int64_t last = after ? static_cast<std::int64_t>(*after) : -1;
  while (row.step()) {
    const std::int64_t key = ascending(last, row.integer(0));
    if (budget.used_up()) return static_cast<FailedKey>(std::max<std::int64_t>(last, 0));
    last = key;
    budget.looked_at();
    const std::size_t bytes = each(row, matcher.matches(fields_of(row)));
    if (bytes > 0) budget.took(bytes);
  }
  return std::nullopt;
}

std::error_code SqliteStore::list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                         const SliceLimits& limits, FailedPage& page) {
  page.rows.clear();
  page.next.reset();
  return reading([&] {
    page.next = scan_failed(filter, after, limits, [&](Statement& row, bool matches) {
      if (!matches) return std::size_t{0};
      page.rows.push_back(failed_row(row, limits.bodies));
      return static_cast<std::size_t>(limits.bodies ? row.number(13) + 256 : 256);
    });
  });
}

std::optional<FailedHook> SqliteStore::find_failed(FailedKey key) {
  std::optional<FailedHook> hook;
  const std::error_code error = reading([&] {
    const Cursor cursor(sql_.find_failed);
    if (sql_.find_failed.bind(1, key).step()) hook = failed_row(sql_.find_failed, true);
  });
  return error ? std::nullopt : std::move(hook);
}

// Rows that stand next to each other go with one statement: between the first and the last of a run
// there is nothing that the scan has not seen and taken.
class SqliteStore::PurgeRuns {
 public:
  void take(FailedKey key, BatchNumber response, std::uint64_t bytes) {
    if (!open_) runs_.emplace_back(key, key);
    open_ = true;
    runs_.back().second = key;
    if (responses_.empty() || responses_.back().first != response)
      responses_.emplace_back(response, 0);
    ++responses_.back().second;
    ++rows_;
    bytes_ += bytes;
  }
  void pass() { open_ = false; }
  std::uint64_t rows() const { return rows_; }

  void delete_from(SqliteStore& store) const {
    for (const auto& [first, last] : runs_) {
      store.sql_.delete_failed.bind(1, first).bind(2, last).run();
    }
    for (const auto& [response, hooks] : responses_) store.drop_response(response, hooks);
    store.work_.failed_hooks -= rows_;
    store.work_.failed_bytes -= bytes_;
  }

 private:
  bool open_ = false;
  std::uint64_t rows_ = 0, bytes_ = 0;
  std::vector<std::pair<FailedKey, FailedKey>> runs_;
  std::vector<std::pair<BatchNumber, std::uint64_t>> responses_;
};

void SqliteStore::purge(const PurgeRuns& runs, bool is_last) {
  Transaction transaction(*this, is_last ? CommitLevel::sync : CommitLevel::no_sync);
  runs.delete_from(*this);
  transaction.commit();
}

std::error_code SqliteStore::purge_failed(const FailedFilter& filter,
                                          std::optional<FailedKey> after, const SliceLimits& limits,
                                          std::span<const FailedKey> except, std::uint64_t& purged,
                                          std::optional<FailedKey>& next) {
  purged = 0;
  next.reset();
  std::optional<FailedKey> stopped_at;
  PurgeRuns runs;
  std::error_code error = writing([&] {
    stopped_at = scan_failed(filter, after, limits, [&](Statement& row, bool matches) {
      if (!matches || std::binary_search(except.begin(), except.end(), row.number(0))) {
        runs.pass();
        return std::size_t{0};
      }
      // Deleted bytes are overwritten with zeros, so they cost as much as written ones.
      const std::uint64_t bytes = bytes_of(row);
      runs.take(row.number(0), row.number(1), bytes);
      return static_cast<std::size_t>(bytes);
    });
    if (runs.rows() > 0 || (!stopped_at && ledger_.unsynced())) purge(runs, !stopped_at);
  });
  if (error == Errc::disk_low && disk_room_.release()) {
    error = writing([&] { purge(runs, !stopped_at); });
  }
  if (error) return error;
  purged = runs.rows();
  next = stopped_at;
  return {};
}

}  // namespace postbag
