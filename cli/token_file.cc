#include "cli/token_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <system_error>

#include "cli/exit_codes.h"
#include "cli/line_reader.h"

namespace postbag {
namespace {

constexpr std::size_t tokens_max = 1000;
constexpr std::size_t line_bytes_max = 4096;

// Wider than the b64token of RFC 6750 section 2.1: what clients do send as one word. No token
// begins with '#'.
bool is_token(std::string_view text) {
  return text.front() != '#' &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

std::vector<std::string> read_tokens(const std::string& path) {
  const auto refuse = [&path](const std::string& why, int code = exit_config) {
    return CommandError(code, "[intake] token_file: " + path + ": " + why);
  };
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const int error = errno;
    throw refuse(std::generic_category().message(error),
                 error == EACCES ? exit_permission : exit_config);
  }
  LineReader lines(fd, line_bytes_max);
  std::vector<std::string> tokens;
  std::string_view line;
  LineReader::Result result;
  std::size_t number = 0, wrong = 0;
  while ((result = lines.next(line)) == LineReader::Result::line && tokens.size() < tokens_max) {
    ++number;
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
    if (!is_token(line) && wrong == 0) wrong = number;
    tokens.emplace_back(line);
  }
  close(fd);
  if (result != LineReader::Result::end) {
    throw refuse("cannot be read as up to " + std::to_string(tokens_max) + " lines of text");
  }
  if (wrong > 0) {
    throw refuse(
        "line " + std::to_string(wrong) +
        " is no bearer token: visible ASCII without blanks is one; comments are not allowed");
  }
  return tokens;
}

}  // namespace postbag
