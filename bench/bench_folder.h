#pragma once

#include <filesystem>

namespace postbag {

// A folder of its own under the system's temporary one, removed with all it holds. Benchmarks of
// the store want it on a disk: TMPDIR chooses where.
class BenchFolder {
 public:
  BenchFolder();  // throws std::system_error
  ~BenchFolder();
  BenchFolder(const BenchFolder&) = delete;
  BenchFolder& operator=(const BenchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace postbag
