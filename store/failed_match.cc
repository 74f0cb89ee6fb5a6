#include "store/failed_match.h"

#include "postbag/target_match.h"

namespace postbag {

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
  return f.target.empty() || target_matches(f.target, row.target);
}

}  // namespace postbag
