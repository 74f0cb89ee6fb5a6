#include "config/file_checks.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

namespace postbag {
namespace {

constexpr std::size_t named_file_bytes_max = 16 << 20;
constexpr std::size_t token_lines_max = 1000;
constexpr std::size_t token_line_bytes_max = 4096;

std::string error_text(int code) {
  return std::generic_category().message(code);
}

// A named pipe would hang the start, and be empty the second time.
std::optional<std::string> read_regular_file(const std::string& path, std::string& error) {
  if (path.find('\0') != std::string::npos) {
    error = "the path has a NUL character";
    return std::nullopt;
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    error = "cannot be read: " + error_text(errno);
    return std::nullopt;
  }
  if (!S_ISREG(status.st_mode)) {
    error = "is not a regular file";
    return std::nullopt;
  }
  auto text = read_small_file(path, named_file_bytes_max, error);
  if (!text) error = "cannot be read: " + error;
  return text;
}

// Wider than the b64token of RFC 6750 section 2.1: what clients do send as one word. No token
// begins with '#'.
bool is_token(std::string_view text) {
  return text.front() != '#' &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

std::optional<std::string> read_small_file(const std::string& path, std::size_t bytes_max,
                                           std::string& error) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             &std::fclose);
  if (!file) {
    error = error_text(errno);
    return std::nullopt;
  }
  std::string text;
  char buffer[16 << 10];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, file.get())) {
    text.append(buffer, got);
    if (text.size() > bytes_max) {
      error = "it has more than " + std::to_string(bytes_max) + " bytes";
      return std::nullopt;
    }
  }
  if (std::ferror(file.get()) != 0) {  // a directory, for one
    error = error_text(errno);
    return std::nullopt;
  }
  return text;
}

std::optional<std::string> check_ca_file(const std::string& path) {
  std::string error;
  const auto text = read_regular_file(path, error);
  if (!text) return error;
  if (text->empty()) return "is empty";
  // PEM, as OpenSSL reads it: "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE".
  for (const std::string_view label : {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}) {
    if (text->find("-----BEGIN " + std::string(label) + "-----") != std::string::npos)
      return std::nullopt;
  }
  return "has no PEM certificate";
}

std::optional<std::vector<std::string>> read_token_file(const std::string& path,
                                                        std::string& problem) {
  const auto text = read_regular_file(path, problem);
  if (!text) return std::nullopt;
  std::vector<std::string> tokens;
  std::size_t number = 0;
  for (std::string_view rest = *text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (++number > token_lines_max || line.size() > token_line_bytes_max) {
      problem = "has over " + std::to_string(token_lines_max) + " lines or one of over " +
                std::to_string(token_line_bytes_max) + " bytes";
      return std::nullopt;
    }
    const std::size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string_view::npos) continue;
    line = line.substr(begin, line.find_last_not_of(" \t\r") - begin + 1);
    if (!is_token(line)) {
      problem = "line " + std::to_string(number) +
                " is no bearer token: visible ASCII without blanks is one; comments are not "
                "allowed";
      return std::nullopt;
    }
    tokens.emplace_back(line);
  }
  if (tokens.empty()) {
    problem = "has no token";
    return std::nullopt;
  }
  return tokens;
}

std::optional<std::string> check_token_file(const std::string& path) {
  std::string problem;
  return read_token_file(path, problem) ? std::nullopt : std::optional(std::move(problem));
}

bool is_readable_by_others(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         (status.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

}  // namespace postbag
