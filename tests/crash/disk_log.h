#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace postbag::test {

// What was done to the files of a folder, in order, so that the folder can be made again as a power
// loss at any moment could have left it.
//
// The model: what was written, cut off, created or deleted reaches the disk at the file's next sync
// at the latest, and until then any part of it in any order, down to sectors that are written in
// part or hold garbage. Names become durable with the first sync of a file that was created after
// them (SQLite then syncs the folder).
class DiskLog {
 public:
  // `side_file`: a small file that is written beside SQLite, without syncs that we see; each of its
  // versions is kept.
  explicit DiskLog(std::string side_file);

  // Takes what is in a folder already as durable.
  void adopt(const std::string& folder);

  // The recorder's half. A file is known by its name.
  void opened(const std::string& path, bool created);
  void wrote(const std::string& path, std::uint64_t offset, std::string_view data);
  void truncated(const std::string& path, std::uint64_t size);
  // A sync that began at the moment `began` has ended; it covers what was done before.
  void synced(const std::string& path, std::size_t began);
  void removed(const std::string& path, bool folder_synced);

  // Moments lie between operations: 0 is before the first.
  std::size_t now() {
    look_at_side_file();
    return ops_.size();
  }

  // The moments right behind each write to a file.
  const std::vector<std::size_t>& moments_of_writes(const std::string& path) const;
  // Where the last write to it ended.
  std::uint64_t end_of_last_write(const std::string& path) const;

  // Writes what a power loss at `moment` leaves into `folder` (an empty one), by a way of losing
  // that `seed` chooses. Returns a description for messages.
  std::string make_image(std::size_t moment, std::uint64_t seed, const std::string& folder) const;
  // As it stood at `moment`, nothing lost, except that the side file is of `side_moment`: what a
  // disk that lies about syncs makes of it.
  void make_lying_image(std::size_t moment, std::size_t side_moment,
                        const std::string& folder) const;

 private:
  enum class Kind : std::uint8_t { create, write, truncate, sync, remove, side };
  struct Op {
    Kind kind = Kind::create;
    std::uint32_t file = 0;  // every creation under a name is another file
    std::uint64_t at = 0;    // offset, size; sync and remove: 1 if the folder is synced, too
    std::string data;        // bytes, or the name
    std::size_t began = 0;   // of a sync
  };
  struct Loss;
  class Disk;

  void look_at_side_file();
  Op& add(Kind kind, std::uint32_t file);
  std::uint32_t file_of(const std::string& path) const;
  const std::string& side_version(std::size_t moment, std::uint64_t versions_back) const;
  void write_side_file(std::size_t moment, std::mt19937_64& random,
                       const std::string& folder) const;

  const std::string side_file_;
  std::string side_now_;
  bool has_side_ = false;
  std::vector<Op> ops_;
  std::vector<std::size_t> sides_;  // ops of Kind::side
  std::unordered_map<std::string, std::uint32_t> names_;
  std::uint32_t files_ = 0;
  std::vector<bool> folder_synced_with_;  // by file
  struct Writes {
    std::vector<std::size_t> moments;
    std::uint64_t last_end = 0;
  };
  std::unordered_map<std::string, Writes> writes_;  // by name, of whichever file had it
};

// The bytes of a file; empty if there is none.
std::string read_whole_file(const std::string& path);
void write_whole_file(const std::string& path, std::string_view bytes);

}  // namespace postbag::test
