#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "postbag/hook.h"

namespace postbag {

// What is wrong with a header that a hook or the configuration wants to set, or nothing: RFC 9110
// token, printable ASCII and HTAB without edge spaces, at most 4 KiB a value and 32 headers, none
// of the framing, hop-by-hop, proxy and Postbag-* names, no name twice. The message names the
// header, never its value.
std::optional<std::string> check_header(std::string_view name, std::string_view value);
std::optional<std::string> check_headers(std::span<const HeaderView> headers);

// "Name: value\r\n" for each, the text form that is part of a batch key.
std::string join_headers(std::span<const HeaderView> headers);

// And back: calls `each` for every line, in order. Takes what a receiver answered, cut short
// somewhere, and a damaged row, too: a line without a colon is passed over.
template <class Each>
void for_each_header(std::string_view lines, Each each) {
  while (!lines.empty()) {
    const std::size_t end = std::min(lines.find("\r\n"), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 2, lines.size()));
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::size_t value = std::min(line.find_first_not_of(' ', colon + 1), line.size());
    each(line.substr(0, colon), line.substr(value));
  }
}

// event and group: at most 128 bytes of valid UTF-8 without control characters. content_type: a
// media type of at most 128 bytes.
std::optional<std::string> check_label(std::string_view field, std::string_view value);
std::optional<std::string> check_content_type(std::string_view value);
// [A-Za-z0-9_-]{1,64}
bool is_valid_hook_id(std::string_view id);

}  // namespace postbag
