#include "cli/failed_pages.h"

#include <algorithm>
#include <utility>

#include "cli/daemon_answers.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"

namespace postbag {

namespace {
constexpr std::uint64_t page_rows = 500;
}

FailedPages::FailedPages(StoreHolder& holder, FailedFilter filter,
                         std::optional<std::uint64_t> limit, bool header_values)
    : holder_(holder), filter_(std::move(filter)), left_(limit), header_values_(header_values) {
  ended_ = left_ == 0u;
}

bool FailedPages::next(std::vector<FailedHook>& rows) {
  rows.clear();
  if (ended_) return false;
  const bool more = holder_.daemon ? next_of_daemon(rows) : next_of_store(rows);
  if (left_) {
    *left_ -= std::min<std::uint64_t>(*left_, rows.size());
    if (*left_ == 0) ended_ = true;
  }
  if (!more) ended_ = true;
  return true;
}

bool FailedPages::next_of_store(std::vector<FailedHook>& rows) {
  SliceLimits limits;
  limits.rows = static_cast<std::size_t>(std::min(page_rows, left_.value_or(page_rows)));
  FailedPage page;
  if (const auto error = holder_.store->list_failed(filter_, after_, limits, page)) {
    throw CommandError(exit_code_of(error), "cannot read the failed hooks: " + error.message());
  }
  rows = std::move(page.rows);
  after_ = page.next;
  return page.next.has_value();
}

bool FailedPages::next_of_daemon(std::vector<FailedHook>& rows) {
  ControlRequest request;
  std::string query = "limit=" + std::to_string(std::min(page_rows, left_.value_or(page_rows)));
  if (const std::string filter = filter_query(filter_); !filter.empty()) query += "&" + filter;
  if (header_values_) query += "&header_values=true";
  if (!cursor_.empty()) query += "&after=" + query_escape(cursor_);
  set_query(request, "/v1/failed", query);
  request.may_take_long = true;  // few of very many rows may match
  const ControlAnswer answer = holder_.daemon->send(request);
  expect_success(answer);
  FailedAnswer page = expect_parsed(parse_failed_page(answer.body));
  rows = std::move(page.rows);
  cursor_ = std::move(page.next);
  return !cursor_.empty();
}

}  // namespace postbag
