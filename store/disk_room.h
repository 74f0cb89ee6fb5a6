#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace postbag {

// Intake stops when the file system has fewer free bytes than this: 5 %, at least 256 MiB, but at
// most 2 GiB (more would be of no use to the store) and an eighth of a small file system.
std::uint64_t low_water_bytes(std::uint64_t file_system_bytes);

// For people: "212.5 MiB".
std::string size_text(std::uint64_t bytes);

// The file system that a store is on, and the ballast: a file that is there to be deleted when the
// disk is full all the same, so that what is accepted can still be settled. By path; the store's
// own files are not opened.
class DiskRoom {
 public:
  // `ballast_bytes` 0: no ballast. `min_free_bytes` instead of low_water_bytes().
  DiskRoom(std::string store_path, std::uint64_t ballast_bytes,
           std::optional<std::uint64_t> min_free_bytes);

  // True: nothing new may be stored. Looks at the file system once a second, and when so much was
  // announced by `wanted_bytes` meanwhile that it matters.
  bool is_low(std::uint64_t wanted_bytes);
  // What is_low() looks at, for the log: "212.5 MiB are free at PATH, 256.0 MiB are wanted".
  std::string why_low() const;
  // Deletes the ballast; then the disk counts as low until it could be made again. False: it was
  // not there.
  bool release();
  // Makes the ballast if it is missing and there is room; tried once a second.
  void restore_if_due();

 private:
  struct Free {
    std::uint64_t bytes, low_water;
  };
  std::optional<Free> look() const;
  void restore();
  bool make_ballast() const;

  const std::string store_path_, ballast_path_;
  const std::uint64_t ballast_bytes_;
  const std::optional<std::uint64_t> min_free_bytes_;
  bool has_ballast_ = false;
  bool released_ = false;
  bool low_ = false;
  std::uint64_t announced_ = 0;  // since the last look
  std::chrono::steady_clock::time_point last_look_{}, last_restore_{};
};

}  // namespace postbag
