#include "cli/intake/query.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "cli/target_pattern.h"
#include "cli/text/rfc3339.h"
#include "engine/pure/header_rules.h"

namespace postbag {
namespace {

// More than any route takes: each is compared with all others.
constexpr std::size_t keys_max = 32;
// As many of the engine's own as a form has room for. Each slice of the store looks for them anew.
constexpr std::size_t ids_max = 30'000;

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> decode(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      if (text.size() - i < 3) return {};
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return {};
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

std::optional<ApiError> take_time(Query& query, std::string_view key, WallMs now_ms,
                                  std::optional<WallMs>& out) {
  const auto text = query.take(key);
  if (!text) return {};
  out = parse_when(*text, now_ms);
  if (out) return {};
  return bad_query("'" + std::string(key) + "' is neither an RFC 3339 time nor an age like 1h");
}

}  // namespace

ApiError bad_query(std::string message) {
  return {400, "bad_query", std::move(message), {}};
}

std::optional<ApiError> Query::parse(std::string_view text, Query& out) {
  while (!text.empty()) {
    const std::size_t end = text.find('&');
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (part.empty()) continue;
    const std::size_t equals = part.find('=');
    auto key = decode(part.substr(0, equals));
    auto value = decode(equals == std::string_view::npos ? "" : part.substr(equals + 1));
    if (!key || !value) return bad_query("a %-escape in the query is not %XX");
    if (value->empty() && *key != "group" && *key != "event") {
      return bad_query("a key of the query has no value");
    }
    if (*key == "id") {  // there may be many
      if (!is_valid_hook_id(*value)) return bad_query("an 'id' of the query is no id of a hook");
      if (out.ids_.size() == ids_max) {
        return bad_query("the query has more than " + std::to_string(ids_max) + " ids");
      }
      out.ids_.push_back(std::move(*value));
      continue;
    }
    if (out.parts_.size() == keys_max) return bad_query("the query has too many keys");
    const bool again = std::any_of(out.parts_.begin(), out.parts_.end(),
                                   [&](const auto& other) { return other.first == *key; });
    if (again) return bad_query("a key of the query stands twice");
    out.parts_.emplace_back(std::move(*key), std::move(*value));
  }
  return {};
}

std::optional<std::string> Query::take(std::string_view key) {
  for (auto it = parts_.begin(); it != parts_.end(); ++it) {
    if (it->first != key) continue;
    std::string value = std::move(it->second);
    parts_.erase(it);
    return value;
  }
  return {};
}

std::vector<std::string> Query::take_ids() {
  return std::exchange(ids_, {});
}

std::optional<ApiError> Query::check_all_taken() const {
  if (parts_.empty() && ids_.empty()) return {};
  return bad_query("the query has a key that this route does not take: '" +
                   (parts_.empty() ? "id" : parts_.front().first.substr(0, 64)) + "'");
}

std::optional<ApiError> take_number(Query& query, std::string_view key, std::uint64_t min,
                                    std::uint64_t max, std::optional<std::uint64_t>& value) {
  const auto text = query.take(key);
  if (!text) return {};
  std::uint64_t number = 0;
  const char* const end = text->data() + text->size();
  const auto [stop, problem] = std::from_chars(text->data(), end, number);
  if (problem != std::errc() || stop != end || number < min || number > max) {
    return bad_query("'" + std::string(key) + "' is not a number from " + std::to_string(min) +
                     " to " + std::to_string(max));
  }
  value = number;
  return {};
}

std::optional<ApiError> take_bool(Query& query, std::string_view key, bool& value) {
  const auto text = query.take(key);
  if (!text) return {};
  if (*text != "true" && *text != "false") {
    return bad_query("'" + std::string(key) + "' is neither true nor false");
  }
  value = *text == "true";
  return {};
}

std::optional<ApiError> take_filter(Query& query, WallMs now_ms, FailedFilter& filter) {
  filter.target = target_pattern(query.take("target").value_or(""));
  filter.group = query.take("group");
  filter.event = query.take("event");
  filter.reason = query.take("reason").value_or("");
  if (!filter.reason.empty() && !parse_reason(filter.reason)) {
    return bad_query("'reason' is not a reason that Postbag knows");
  }
  std::optional<std::uint64_t> status;
  if (auto error = take_number(query, "status", 100, 999, status)) return error;
  if (status) filter.status = static_cast<int>(*status);
  if (auto error = take_time(query, "since", now_ms, filter.since)) return error;
  if (auto error = take_time(query, "until", now_ms, filter.until)) return error;
  filter.ids = query.take_ids();
  return {};
}

}  // namespace postbag
