#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace postbag {

// Readable (not necessarily initialised) bytes that must lie behind a text given as `padded`.
inline constexpr std::size_t json_padding = 64;
inline constexpr std::size_t json_depth_max = 64;

// What is wrong with a JSON text (syntax, UTF-8, deeper than json_depth_max, empty, anything behind
// the value), or nothing. Full validation, RFC 8259. `padded` saves a copy. Any thread; keeps a
// parser per thread. Throws std::bad_alloc, except that the first call in a process aborts if it
// finds no memory (Engine's constructor makes that call).
std::optional<std::string> check_json(std::string_view text, bool padded);

}  // namespace postbag
