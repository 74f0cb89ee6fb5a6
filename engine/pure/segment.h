#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postbag {

// A piece of a batch body. Append-only; never moves while it lives, so the store and the socket can
// point into it.
struct Segment {
  Segment* next = nullptr;  // set once, when the body grows beyond this segment
  std::uint32_t capacity = 0;
  std::uint32_t used = 0;

  char* data() { return reinterpret_cast<char*>(this + 1); }
  const char* data() const { return reinterpret_cast<const char*>(this + 1); }
  std::string_view text() const { return {data(), used}; }
  std::size_t room() const { return capacity - used; }
};

// Largest segment that is recycled; a bigger payload gets a segment of its own.
inline constexpr std::size_t segment_bytes_max = 64 << 10;

// Recycles segments by size class: a copy into mapped, reused memory costs a tenth of one into
// fresh pages. Belongs to one shard; not thread-safe.
class SegmentPool {
 public:
  // Keeps at most `keep_bytes` of free segments, of the sizes that are asked for: what nobody took
  // lately makes room for what comes back.
  explicit SegmentPool(std::size_t keep_bytes = 16 << 20) : keep_bytes_(keep_bytes) {}
  ~SegmentPool();
  SegmentPool(const SegmentPool&) = delete;
  SegmentPool& operator=(const SegmentPool&) = delete;

  // A segment with room for at least `bytes`. Throws std::bad_alloc.
  Segment* take(std::size_t bytes);
  void give_back(Segment* segment);

  // Bytes of the segments that are out, headers included.
  std::size_t live_bytes() const { return live_bytes_; }
  // Whether take(bytes) needs no new memory.
  bool keeps(std::size_t bytes) const {
    const std::size_t total = bytes + sizeof(Segment);
    return total <= segment_bytes_max && free_[class_of(total)] != nullptr;
  }

 private:
  // Eight classes a doubling from 128 bytes to segment_bytes_max: at most an eighth is wasted.
  static constexpr std::size_t class_count = 8 * 9 + 1;
  static std::size_t class_of(std::size_t bytes);
  static std::size_t class_bytes(std::size_t size_class);
  bool make_room(std::size_t size_class);

  std::array<Segment*, class_count> free_{};
  std::array<bool, class_count> was_taken_{};  // since hand_ passed
  std::size_t hand_ = 0;                       // the class that makes room next
  std::size_t keep_bytes_;
  std::size_t kept_bytes_ = 0;
  std::size_t live_bytes_ = 0;
};

}  // namespace postbag
