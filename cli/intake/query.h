#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/intake/api_error.h"
#include "postbag/store.h"

namespace postbag {

// A query string in its parts, decoded (%XX and '+'), as every route takes it: a key that the route
// does not know, one that stands twice (but for `id`) and one without a value are errors, so that a
// typing mistake never widens a filter.
class Query {
 public:
  // Adds to what `out` has. Fails on a bad escape.
  static std::optional<ApiError> parse(std::string_view text, Query& out);

  // Takes the value of `key` out of the query.
  std::optional<std::string> take(std::string_view key);
  std::vector<std::string> take_ids();
  // Call it last: what nobody took is unknown.
  std::optional<ApiError> check_all_taken() const;

 private:
  std::vector<std::pair<std::string, std::string>> parts_;
  std::vector<std::string> ids_;
};

ApiError bad_query(std::string message);

// target, group, event, status, reason, since, until, id: taken out of the query.
std::optional<ApiError> take_filter(Query& query, WallMs now_ms, FailedFilter& filter);

// An unsigned number between the bounds; absent leaves `value`.
std::optional<ApiError> take_number(Query& query, std::string_view key, std::uint64_t min,
                                    std::uint64_t max, std::optional<std::uint64_t>& value);
// "true" or "false"; absent leaves `value`.
std::optional<ApiError> take_bool(Query& query, std::string_view key, bool& value);

}  // namespace postbag
