#include "store/early_writeback.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <charconv>
#include <string_view>

namespace postbag {

EarlyWriteback::EarlyWriteback(const std::string& path) noexcept {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return;
  while (const dirent* entry = readdir(folder)) {
    const std::string_view name = entry->d_name;
    int fd = -1;
    if (std::from_chars(name.data(), name.data() + name.size(), fd).ec != std::errc()) continue;
    if (!is_ours(fd)) continue;
    fd_ = fd;
    break;
  }
  closedir(folder);
}

bool EarlyWriteback::is_ours(int fd) const noexcept {
  struct stat status {};
  return fstat(fd, &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

// It may have been closed and opened for something else, where somebody had the file open twice.
bool EarlyWriteback::start() noexcept {
  if (fd_ < 0 || !is_ours(fd_)) return true;
  if (sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE) == 0) return true;
  return errno != EIO && errno != ENOSPC && errno != EDQUOT && errno != EUCLEAN;
}

}  // namespace postbag
