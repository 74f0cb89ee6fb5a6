#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

namespace postbag::test {

// All bytes of a file; empty if there is none.
inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
}

}  // namespace postbag::test
