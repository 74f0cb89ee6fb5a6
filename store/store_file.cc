#include "store/store_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace postbag {
namespace {

std::error_code last_error() {
  return {errno, std::generic_category()};
}

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path();
  return folder.empty() ? "." : folder;
}

std::error_code sync_folder(const std::string& path) {
  const int folder = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // One that may be written to and not read cannot be synced.
  if (folder < 0) return errno == EACCES ? std::error_code() : last_error();
  const bool failed = fsync(folder) != 0 && errno != EINVAL && errno != ENOTSUP;
  const std::error_code error = failed ? last_error() : std::error_code();
  close(folder);
  return error;
}

}  // namespace

std::error_code create_store_file(const std::string& path) {
  if (mknod(path.c_str(), S_IFREG | S_IRUSR | S_IWUSR, 0) == 0) return {};
  return last_error();
}

std::error_code name_store_file(const std::string& from, const std::string& to) {
  const std::string folder = folder_of(to);  // here, as nothing may throw once it has its name
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
    // Not every file system can; nearly all that cannot have links.
    if (errno != EINVAL && errno != ENOSYS) return last_error();
    if (link(from.c_str(), to.c_str()) != 0) return last_error();
    unlink(from.c_str());
  }
  const std::error_code error = sync_folder(folder);
  if (error) rename(to.c_str(), from.c_str());
  return error;
}

std::error_code sync_folder_of(const std::string& path) {
  return sync_folder(folder_of(path));
}

}  // namespace postbag
