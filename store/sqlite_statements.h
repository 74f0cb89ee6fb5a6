#pragma once

#include "store/sqlite_statement.h"

namespace postbag {

// Every statement that runs while the store is in use, prepared once.
struct SqliteStatements {
  explicit SqliteStatements(sqlite3* handle) : db(handle) {}

  sqlite3* db;
  Statement begin{db, "BEGIN IMMEDIATE"};
  Statement commit{db, "COMMIT"};
  Statement rollback{db, "ROLLBACK"};  // prepared: it is needed most when memory is short
  Statement page_count{db, "PRAGMA page_count"};
  Statement freelist_count{db, "PRAGMA freelist_count"};
  Statement update_meta{db,
                        "UPDATE meta SET reserved_below = ?1, failed_hooks = ?2, failed_bytes = "
                        "?3, sequence = ?4, taken_hooks = ?5, last_number = ?6"};
  Statement touch_meta{db, "UPDATE meta SET touched = (touched + 1) & 0xffff"};

  Statement insert_chunk{db,
                         "INSERT INTO chunk(number, batch, target, grp, headers, accepted_ms, "
                         "hooks, crc, data) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"};
  Statement delete_chunks{db, "DELETE FROM chunk WHERE number BETWEEN ?1 AND ?2"};
  Statement scan_chunks{db,
                        "SELECT c.number, c.batch, c.target, c.grp, c.headers, c.accepted_ms, "
                        "c.hooks, length(c.data), r.attempts, r.next_attempt_ms "
                        "FROM chunk c LEFT JOIN retry r ON r.batch = c.number "
                        "WHERE c.number > ?1 ORDER BY c.number LIMIT ?2"};
  // The same without the look-ups where there is nothing to look up.
  Statement scan_untried_chunks{db,
                                "SELECT number, batch, target, grp, headers, accepted_ms, hooks, "
                                "length(data), 0, 0 FROM chunk WHERE number > ?1 "
                                "ORDER BY number LIMIT ?2"};
  Statement read_chunk{db,
                       "SELECT batch, target, grp, headers, accepted_ms, hooks, crc, data "
                       "FROM chunk WHERE number = ?1"};
  Statement chunk_batch{db, "SELECT batch FROM chunk WHERE number = ?1"};
  // Kept apart from the chunk: an update there would read the whole row.
  Statement update_retry{db,
                         "UPDATE retry SET attempts = ?2, next_attempt_ms = ?3 WHERE batch = ?1"};
  // A batch that is gone gets no attempts: nothing would ever delete the row.
  Statement insert_retry{db,
                         "INSERT INTO retry(batch, attempts, next_attempt_ms) "
                         "SELECT ?1, ?2, ?3 WHERE EXISTS(SELECT 1 FROM chunk WHERE number = ?1)"};
  Statement delete_retry{db, "DELETE FROM retry WHERE batch BETWEEN ?1 AND ?2"};

  Statement insert_failed{
      db,
      "INSERT OR IGNORE INTO failed(key, response, status, attempts, first_at, "
      "last_at, reason, id, target, grp, event, headers, content_type, crc, "
      "body) "
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"};
  // Bound as insert_failed; first_at stays.
  Statement replace_failed{
      db,
      "UPDATE failed SET response = ?2, status = ?3, attempts = attempts + ?4, last_at = ?6, "
      "reason = ?7, id = ?8, target = ?9, grp = ?10, event = ?11, headers = ?12, "
      "content_type = ?13, crc = ?14, body = ?15 WHERE key = ?1"};
  Statement delete_failed{db, "DELETE FROM failed WHERE key BETWEEN ?1 AND ?2"};
  Statement scan_failed{db,
                        "SELECT key, response, status, attempts, first_at, last_at, reason, id, "
                        "target, grp, event, headers, content_type, length(body) "
                        "FROM failed WHERE key > ?1 ORDER BY key"};
  Statement find_failed{db,
                        "SELECT key, response, status, attempts, first_at, last_at, reason, id, "
                        "target, grp, event, headers, content_type, length(body) "
                        "FROM failed WHERE key = ?1"};
  Statement failed_body{db, "SELECT crc, body FROM failed WHERE key = ?1"};
  Statement add_response{
      db,
      "INSERT INTO failed_batch(batch, hooks, response_headers, "
      "response_excerpt) VALUES(?1, ?2, ?3, ?4) ON CONFLICT(batch) DO UPDATE SET "
      "hooks = hooks + ?2, response_headers = ?3, response_excerpt = ?4"};
  Statement drop_response{db, "UPDATE failed_batch SET hooks = hooks - ?2 WHERE batch = ?1"};
  Statement delete_response{db, "DELETE FROM failed_batch WHERE batch = ?1"};
  Statement find_response{
      db, "SELECT response_headers, response_excerpt, hooks FROM failed_batch WHERE batch = ?1"};

  Statement add_ids{db,
                    "INSERT INTO remembered(expires_ms, ids, crc, data) VALUES(?1, ?2, ?3, ?4)"};
  Statement scan_ids{db, "SELECT crc, data FROM remembered ORDER BY number"};
  Statement oldest_ids{db,
                       "SELECT number, expires_ms, length(data) FROM remembered ORDER BY number"};
  Statement delete_ids{db, "DELETE FROM remembered WHERE number = ?1"};
};

}  // namespace postbag
