#include "engine/shell/descriptor_room.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace postbag {

void reserve_descriptors(std::size_t count) noexcept {
  constexpr rlim_t count_max = 65'536;
  rlimit open_files{};
  if (getrlimit(RLIMIT_NOFILE, &open_files) != 0) return;
  const rlim_t room = std::min({static_cast<rlim_t>(count), open_files.rlim_cur, count_max});
  const int any = eventfd(0, EFD_CLOEXEC);
  if (any < 0) return;
  // The table is never made smaller again.
  const int highest = fcntl(any, F_DUPFD_CLOEXEC, static_cast<int>(room) - 1);
  if (highest >= 0) close(highest);
  close(any);
}

}  // namespace postbag
