#pragma once

#include <cstdint>
#include <deque>

#include "engine/pure/check.h"
#include "postbag/store.h"

namespace postbag {

// Chunk numbers that were handed in and are not used yet. Ranges are given in ascending order, and
// so the numbers are taken.
class ChunkNumbers {
 public:
  void give(ChunkNumber first, std::uint64_t count) {
    if (count == 0) return;
    ranges_.push_back({first, first + count});
    left_ += count;
  }

  // There must be one.
  ChunkNumber take() {
    check(left_ > 0);
    left_ -= 1;
    Range& range = ranges_.front();
    const ChunkNumber number = range.next++;
    if (range.next == range.end) ranges_.pop_front();
    return number;
  }

  std::uint64_t left() const { return left_; }

 private:
  struct Range {
    ChunkNumber next = 0, end = 0;
  };
  std::deque<Range> ranges_;
  std::uint64_t left_ = 0;
};

}  // namespace postbag
