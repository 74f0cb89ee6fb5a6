#include "store/disk_room.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <utility>

namespace postbag {
namespace {

constexpr std::uint64_t mib = 1 << 20;
constexpr std::chrono::seconds look_interval{1};
constexpr std::uint64_t announced_max = 32 * mib;

}  // namespace

std::uint64_t low_water_bytes(std::uint64_t file_system_bytes) {
  const std::uint64_t wanted =
      std::clamp<std::uint64_t>(file_system_bytes / 20, 256 * mib, 2048 * mib);
  return std::min(wanted, file_system_bytes / 8);
}

std::string size_text(std::uint64_t bytes) {
  constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; size >= 1024 && unit + 1 < std::size(units); ++unit) size /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
  return text;
}

DiskRoom::DiskRoom(std::string store_path, std::uint64_t ballast_bytes,
                   std::optional<std::uint64_t> min_free_bytes)
    : store_path_(std::move(store_path)),
      ballast_path_(store_path_ + ".ballast"),
      ballast_bytes_(ballast_bytes),
      min_free_bytes_(min_free_bytes) {
  struct stat status {};
  has_ballast_ = stat(ballast_path_.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
                 static_cast<std::uint64_t>(status.st_size) >= ballast_bytes_;
  restore_if_due();
}

std::optional<DiskRoom::Free> DiskRoom::look() const {
  struct statvfs room {};
  if (statvfs(store_path_.c_str(), &room) != 0 || room.f_blocks == 0) return std::nullopt;
  const std::uint64_t low_water =
      min_free_bytes_ ? *min_free_bytes_
                      : low_water_bytes(std::uint64_t{room.f_blocks} * room.f_frsize);
  return Free{std::uint64_t{room.f_bavail} * room.f_frsize, low_water};
}

bool DiskRoom::is_low(std::uint64_t wanted_bytes) {
  restore_if_due();
  announced_ += wanted_bytes;
  const auto now = std::chrono::steady_clock::now();
  if (now - last_look_ >= look_interval || announced_ >= announced_max) {
    last_look_ = now;
    announced_ = 0;
    // What cannot be asked is not known to be low; a full disk will say so itself.
    const auto free = look();
    low_ = free && free->bytes < free->low_water;
  }
  return low_ || released_;
}

std::string DiskRoom::why_low() const {
  const auto free = look();
  if (!free) return "its free room cannot be asked at " + store_path_;
  const std::uint64_t wanted = free->low_water + (released_ ? ballast_bytes_ : 0);
  return size_text(free->bytes) + " are free at " + store_path_ + ", " + size_text(wanted) +
         " are wanted";
}

bool DiskRoom::release() {
  if (!has_ballast_) return false;
  has_ballast_ = false;
  released_ = true;
  last_restore_ = std::chrono::steady_clock::now();
  return unlink(ballast_path_.c_str()) == 0;
}

void DiskRoom::restore_if_due() {
  if (has_ballast_ || ballast_bytes_ == 0) return;
  const auto now = std::chrono::steady_clock::now();
  if (last_restore_ != decltype(last_restore_){} && now - last_restore_ < look_interval) return;
  last_restore_ = now;
  restore();
}

void DiskRoom::restore() {
  const auto free = look();
  if (!free || free->bytes < free->low_water + ballast_bytes_) return;
  if (!make_ballast()) return;
  has_ballast_ = true;
  released_ = false;
}

bool DiskRoom::make_ballast() const {
  unlink(ballast_path_.c_str());  // a shorter one, of another max_bytes or half made
  const int file =
      open(ballast_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return false;
  // Blocks, not a hole: a hole frees nothing.
  const bool made = posix_fallocate(file, 0, static_cast<off_t>(ballast_bytes_)) == 0;
  close(file);
  if (!made) unlink(ballast_path_.c_str());
  return made;
}

}  // namespace postbag
