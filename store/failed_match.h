#pragma once

#include <string_view>
#include <unordered_set>

#include "postbag/store.h"

namespace postbag {

// What a filter looks at.
struct FailedFields {
  std::string_view id, target, group, event, reason;  // reason: the token
  int status = 0;
  WallMs last_at = 0;
};

// What a failed row counts in StoreStats::failed_bytes; `texts_bytes` is the size of id, target,
// group, event, headers and content type.
inline std::uint64_t failed_row_bytes(std::uint64_t texts_bytes, std::uint64_t body_bytes) {
  return 128 + texts_bytes + body_bytes;
}

inline std::uint64_t failed_row_bytes(const BatchKeyView& key, const FailedHookView& hook) {
  return failed_row_bytes(hook.id.size() + key.target.size() + key.group.size() +
                              hook.event.size() + key.headers.size() + hook.content_type.size(),
                          hook.body.size());
}

// A filter made ready for many rows. Both stores use it, so they cannot differ in what matches.
// Keeps a reference to the filter.
class FailedMatcher {
 public:
  explicit FailedMatcher(const FailedFilter& filter);
  bool matches(const FailedFields& row) const;

 private:
  const FailedFilter& filter_;
  bool all_;
  std::unordered_set<std::string_view> ids_;
};

// What of one slice is used up; a slice ends when a limit is reached, but never before its first
// answer.
class SliceBudget {
 public:
  explicit SliceBudget(const SliceLimits& limits) : limits_(limits) {}
  void looked_at() { ++looked_; }
  void took(std::size_t bytes) {
    ++rows_;
    bytes_ += bytes;
  }
  bool used_up() const {
    return looked_ > 0 &&
           (looked_ >= limits_.scan || rows_ >= limits_.rows || bytes_ >= limits_.bytes);
  }

 private:
  const SliceLimits& limits_;
  std::size_t looked_ = 0, rows_ = 0, bytes_ = 0;
};

}  // namespace postbag
