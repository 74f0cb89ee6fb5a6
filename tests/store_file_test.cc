// A file is given its name where the file system can do little. This program's own renameat2() and
// link() stand for it, so it is a program of its own.
#include "store/store_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <system_error>

#include "tests/support/temp_directory.h"
#include "tests/support/whole_file.h"

namespace postbag::test {
namespace {

int rename_errno = 0, link_errno = 0;  // 0: as the system does it

int refuse(int error) {
  errno = error;
  return -1;
}

}  // namespace
}  // namespace postbag::test

extern "C" int renameat2(int from_at, const char* from, int to_at, const char* to,
                         unsigned int flags) noexcept {
  if (postbag::test::rename_errno != 0) return postbag::test::refuse(postbag::test::rename_errno);
  return static_cast<int>(syscall(SYS_renameat2, from_at, from, to_at, to, flags));
}

extern "C" int link(const char* from, const char* to) noexcept {
  if (postbag::test::link_errno != 0) return postbag::test::refuse(postbag::test::link_errno);
  return static_cast<int>(syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace postbag::test {
namespace {

namespace fs = std::filesystem;

// A backup to a file system without links copied everything and failed then.
TEST(StoreFileTest, AFileGetsItsNameWhateverTheFileSystemCan) {
  struct System {
    int rename_errno, link_errno;
  };
  for (const auto& [no_rename, no_link] :
       {System{0, 0}, System{EINVAL, 0}, System{ENOSYS, EPERM}, System{EINVAL, EOPNOTSUPP}}) {
    SCOPED_TRACE(std::to_string(no_rename) + " " + std::to_string(no_link));
    rename_errno = no_rename;
    link_errno = no_link;
    const TempDirectory directory;
    const std::string part = directory.file("copy.part"), copy = directory.file("copy");
    write_file(part, "whole");
    EXPECT_FALSE(name_store_file(part, copy));
    EXPECT_EQ(read_file(copy), "whole");
    EXPECT_FALSE(fs::exists(part));

    write_file(part, "another");
    EXPECT_EQ(name_store_file(part, copy), std::errc::file_exists);
    EXPECT_EQ(read_file(copy), "whole");
    EXPECT_EQ(read_file(part), "another");
    // Nor over a link that leads nowhere.
    fs::create_symlink(directory.file("nowhere"), directory.file("link"));
    EXPECT_EQ(name_store_file(part, directory.file("link")), std::errc::file_exists);
    EXPECT_TRUE(fs::is_symlink(directory.file("link")));
  }
  rename_errno = EINVAL;
  link_errno = EACCES;
  const TempDirectory directory;
  write_file(directory.file("part"), "x");
  EXPECT_EQ(name_store_file(directory.file("part"), directory.file("copy")),
            std::errc::permission_denied);
}

}  // namespace
}  // namespace postbag::test
