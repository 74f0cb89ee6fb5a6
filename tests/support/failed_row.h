#pragma once

#include <map>

#include "postbag/store.h"

namespace postbag::test {

// What a store does with a hook of a batch that was given up: a row whose key is there already is
// replaced, its attempts are added up and its first_at stays. True: it was not there.
inline bool put_failed_row(std::map<FailedKey, FailedHook>& rows, const FailBatch& batch,
                           const FailedHookView& hook) {
  const auto [place, is_new] = rows.try_emplace(hook.key);
  FailedHook& row = place->second;
  if (is_new) row.first_at = hook.accepted_ms;
  row.key = hook.key;
  row.id = hook.id;
  row.target = batch.key.target;
  row.group = batch.key.group;
  row.headers = batch.key.headers;
  row.event = hook.event;
  row.content_type = hook.content_type;
  row.body = hook.body;
  row.reason = batch.reason;
  row.status = batch.status;
  row.attempts += batch.attempts;
  row.last_at = batch.last_at;
  row.response_headers = batch.response_headers;
  row.response_excerpt = batch.response_excerpt;
  return is_new;
}

}  // namespace postbag::test
