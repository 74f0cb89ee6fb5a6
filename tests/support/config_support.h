#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "postbag/config.h"

namespace postbag::test {

inline constexpr char pem[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

Options parse(const std::string& toml);

// The message of the ConfigError, or "" if the text is taken.
std::string refusal(const std::string& toml);

std::vector<std::string> notes(const std::string& toml);
std::vector<std::string> warnings(const std::string& toml);

// A file that lives as long as the test.
class TempFile {
 public:
  explicit TempFile(const std::string& text, mode_t mode = 0600);
  ~TempFile();
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Every field of every section; does not compile when a section gets a field that is not compared.
bool same(const TargetBlock& a, const TargetBlock& b);
bool same(const Options& a, const Options& b);

}  // namespace postbag::test
