#pragma once

#include <cstdint>
#include <string>

namespace postbag {

// Has the system begin to write what is changed of a file, so that a later sync finds little left.
// One thread.
class EarlyWriteback {
 public:
  // Of a file that somebody else in this process has open as long as this is used: it opens none
  // itself, as to close any descriptor of a file takes away the process's locks on it.
  explicit EarlyWriteback(const std::string& path) noexcept;

  // False: the file system failed (EIO, ENOSPC, EDQUOT, EUCLEAN). It may have dropped what was
  // changed and tell nobody else, so that has to be written again before the sync. True promises
  // nothing.
  bool start() noexcept;

 private:
  bool is_ours(int fd) const noexcept;

  std::uint64_t device_ = 0, inode_ = 0;
  int fd_ = -1;  // not owned; -1: none was found
};

}  // namespace postbag
