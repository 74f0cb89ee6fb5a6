#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace postbag {

// The bytes of a file of at most bytes_max, or nothing and `error` for people ("No such file or
// directory").
std::optional<std::string> read_small_file(const std::string& path, std::size_t bytes_max,
                                           std::string& error);

// The tokens of the file that [intake] token_file names, a line each; blanks around one and empty
// lines do not count. Nothing, and what is wrong with it in `problem`: it cannot be read, has no
// token, over 1,000 lines or one of over 4,096 bytes, or a line that no client could send after
// "Bearer " (RFC 6750 section 2.1), such as a comment: it would look like a token and be none.
// `problem` names the line, never what is in it.
std::optional<std::vector<std::string>> read_token_file(const std::string& path,
                                                        std::string& problem);

// What is wrong with a file that the configuration names, or nothing. At the start, because a trust
// store that turns out to be empty later would be silently no trust store, and a token file without
// a token would let nobody in.
std::optional<std::string> check_ca_file(const std::string& path);
std::optional<std::string> check_token_file(const std::string& path);

// True if group or others may read the file.
bool is_readable_by_others(const std::string& path);

}  // namespace postbag
