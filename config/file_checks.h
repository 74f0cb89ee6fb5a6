#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace postbag {

// The bytes of a file of at most bytes_max, or nothing and `error` for people ("No such file or
// directory").
std::optional<std::string> read_small_file(const std::string& path, std::size_t bytes_max,
                                           std::string& error);

// What is wrong with a file that the configuration names, or nothing. At the start, because a trust
// store that turns out to be empty later would be silently no trust store, and a token file without
// a token would let nobody in.
std::optional<std::string> check_ca_file(const std::string& path);
std::optional<std::string> check_token_file(const std::string& path);

// True if group or others may read the file.
bool is_readable_by_others(const std::string& path);

}  // namespace postbag
