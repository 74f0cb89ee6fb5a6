#include "config/file_checks.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>
#include <system_error>

namespace postbag {
namespace {

constexpr std::size_t named_file_bytes_max = 16 << 20;

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
  if (!text) {
    error = "cannot be read: " + error;
  }
  return text;
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
  if (std::ferror(file.get()) != 0) {  // a folder, for one
    error = error_text(errno);
    return std::nullopt;
  }
  return text;
}

std::optional<std::string> check_ca_file(const std::string& path) {
  std::string error;
  const auto text = read_regular_file(path, error);
  if (!text) {
    return error;
  }
  if (text->empty()) {
    return "is empty";
  }
  // PEM, as OpenSSL reads it: "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE".
  for (const std::string_view label : {"CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CERTIFICATE"}) {
    if (text->find("-----BEGIN " + std::string(label) + "-----") != std::string::npos) {
      return std::nullopt;
    }
  }
  return "has no PEM certificate";
}

std::optional<std::string> check_token_file(const std::string& path) {
  std::string error;
  const auto text = read_regular_file(path, error);
  if (!text) {
    return error;
  }
  if (text->find_first_not_of(" \t\r\n") == std::string::npos) {
    return "has no token";
  }
  return std::nullopt;
}

bool is_readable_by_others(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         (status.st_mode & (S_IRGRP | S_IROTH)) != 0;
}

}  // namespace postbag
