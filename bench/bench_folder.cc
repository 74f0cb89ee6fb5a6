#include "bench/bench_folder.h"

#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

namespace postbag {

BenchFolder::BenchFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "postbag-bench-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::system_category(), "no temporary folder");
  }
  path_ = name;
}

BenchFolder::~BenchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace postbag
