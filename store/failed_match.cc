#include "store/failed_match.h"

#include <cstddef>

namespace postbag {
namespace {

// `*` any run of characters, `?` one. The engine has the same for its own use; it is private there.
// After a mismatch only the last star is tried again, which is enough: an earlier star matched as
// little as it could.
bool glob(std::string_view pattern, std::string_view text) {
  constexpr std::size_t none = std::string_view::npos;
  std::size_t p = 0, t = 0, star = none, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != none) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace

FailedMatcher::FailedMatcher(const FailedFilter& filter)
    : filter_(filter), all_(filter.empty()), ids_(filter.ids.begin(), filter.ids.end()) {}

bool FailedMatcher::matches(const FailedFields& row) const {
  if (all_) return true;
  const FailedFilter& f = filter_;
  if (f.status && row.status != *f.status) return false;
  if (f.since && row.last_at < *f.since) return false;
  if (f.until && row.last_at >= *f.until) return false;
  if (!f.reason.empty() && row.reason != f.reason) return false;
  if (f.group && row.group != *f.group) return false;
  if (f.event && row.event != *f.event) return false;
  if (!ids_.empty() && !ids_.contains(row.id)) return false;
  return f.target.empty() || glob(f.target, row.target);
}

}  // namespace postbag
