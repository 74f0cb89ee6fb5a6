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

// Where there are no links either, as on some file systems in user space. A file that comes to that
// name in this moment is lost.
std::error_code rename_if_free(const std::string& from, const std::string& to) {
  struct stat there {};
  if (lstat(to.c_str(), &there) == 0) return std::make_error_code(std::errc::file_exists);
  if (errno != ENOENT || rename(from.c_str(), to.c_str()) != 0) return last_error();
  return {};
}

std::error_code rename_to_new(const std::string& from, const std::string& to) {
  if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
  // Not every file system can.
  if (errno != EINVAL && errno != ENOSYS) return last_error();
  if (link(from.c_str(), to.c_str()) == 0) {
    unlink(from.c_str());
    return {};
  }
  const bool has_links = errno != EPERM && errno != ENOSYS && errno != EOPNOTSUPP;
  return has_links ? last_error() : rename_if_free(from, to);
}

}  // namespace

std::error_code create_store_file(const std::string& path) {
  if (mknod(path.c_str(), S_IFREG | S_IRUSR | S_IWUSR, 0) == 0) return {};
  return last_error();
}

std::error_code name_store_file(const std::string& from, const std::string& to) {
  const std::string folder = folder_of(to);  // here, as nothing may throw once it has its name
  if (const std::error_code error = rename_to_new(from, to)) return error;
  const std::error_code error = sync_folder(folder);
  if (error) rename(to.c_str(), from.c_str());
  return error;
}

std::error_code sync_folder_of(const std::string& path) {
  return sync_folder(folder_of(path));
}

}  // namespace postbag
