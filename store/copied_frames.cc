#include "store/copied_frames.h"

#include <algorithm>
#include <utility>

namespace postbag {
namespace {

// As SQLite's file format has them.
constexpr std::uint64_t log_head_bytes = 32;
constexpr std::uint64_t frame_head_bytes = 24;

}  // namespace

CopiedFrames::Pass::Pass(CopiedFrames& frames, std::uint64_t last) : frames_(frames) {
  frames_.in_pass_ = true;
  frames_.last_ = last;
}

CopiedFrames::Pass::~Pass() {
  frames_.in_pass_ = false;
}

CopiedFrames::CopiedFrames(std::uint64_t page_bytes, std::uint64_t frames_max)
    : page_bytes_(page_bytes),
      frame_bytes_(page_bytes + frame_head_bytes),
      pages_(static_cast<std::size_t>(frames_max) + 1) {}

void CopiedFrames::set_copying(bool copying) {
  copying_ = copying;
  next_ = Next::nothing;
}

bool CopiedFrames::leaves_out_read(std::uint64_t offset, std::uint64_t bytes) {
  next_ = Next::nothing;
  if (!copying_ || bytes != page_bytes_ || offset < log_head_bytes) return false;
  const std::uint64_t frame = (offset - log_head_bytes) / frame_bytes_ + 1;
  if (in_pass_ && frame > last_) {
    next_ = Next::any_page;
    return true;
  }
  frame_ = frame < pages_.size() ? static_cast<std::size_t>(frame) : 0;
  next_ = pages_[frame_] == 0 ? Next::copy : Next::that_page;
  return next_ == Next::that_page;
}

CopiedFrames::Write CopiedFrames::judge_write(std::uint64_t offset, std::uint64_t bytes) {
  if (!copying_) return Write::make;
  const std::uint64_t page = offset / page_bytes_ + 1;
  const bool is_page = bytes == page_bytes_ && offset % page_bytes_ == 0;
  switch (std::exchange(next_, Next::nothing)) {
    case Next::nothing:
      return Write::refuse;
    case Next::copy:
      if (frame_ != 0 && is_page && page <= UINT32_MAX) {
        pages_[frame_] = static_cast<std::uint32_t>(page);
        used_ = std::max(used_, frame_ + 1);
      }
      return Write::make;
    case Next::any_page:
      return is_page ? Write::leave_out : Write::refuse;
    case Next::that_page:
      return is_page && page == pages_[frame_] ? Write::leave_out : Write::refuse;
  }
  return Write::refuse;
}

void CopiedFrames::overwritten(std::uint64_t offset) {
  const std::uint64_t first =
      offset < log_head_bytes ? 0 : (offset - log_head_bytes) / frame_bytes_ + 1;
  if (first >= used_) return;
  std::fill(pages_.begin() + static_cast<std::ptrdiff_t>(first),
            pages_.begin() + static_cast<std::ptrdiff_t>(used_), 0);
  used_ = static_cast<std::size_t>(first);
}

}  // namespace postbag
