#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace postbag {

// Which frames of a write-ahead log a checkpoint may copy into the database now, and which of them
// are there already. SQLite knows whole checkpoints only: each copies all of the log, and behind it
// the log begins anew. Between them this lets it be copied in parts (Pass), as a checkpoint that
// was interrupted leaves it: that is sound as long as what is copied is on disk in the log.
//
// SQLite reads one frame, then writes that page, for each page of the log in its newest version;
// the VFS (store/gathering_vfs.h) asks here before both. Frames are counted from 1. One thread.
class CopiedFrames {
 public:
  // What comes behind the first `frames_max` frames is not remembered, but copied each time. Throws
  // bad_alloc.
  CopiedFrames(std::uint64_t page_bytes, std::uint64_t frames_max);

  // Around a checkpoint that copies a part and must not count as one: the log goes on behind it.
  // Frames behind `last` stay where they are, as they are not on disk. Without it a checkpoint
  // copies all, and the whole log has to be on disk.
  class Pass {
   public:
    Pass(CopiedFrames& frames, std::uint64_t last);
    ~Pass();
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    CopiedFrames& frames_;
  };

  // --- The VFS.
  // A checkpoint copies from now on, or does so no more.
  void set_copying(bool copying);
  // Of the log, before `bytes` at `offset` are read. True: that can be left out.
  bool leaves_out_read(std::uint64_t offset, std::uint64_t bytes);
  // Of the database, before `bytes` are written at `offset`. `refuse`: it is not the page whose
  // read was left out, so nobody knows what would be written.
  enum class Write : std::uint8_t { make, leave_out, refuse };
  Write judge_write(std::uint64_t offset, std::uint64_t bytes);
  // Whether the database must not be cut to its length, with which a whole checkpoint ends.
  bool holds_end() const { return in_pass_; }
  // The log was written or cut from `offset` on.
  void overwritten(std::uint64_t offset);
  // Pages could not be written.
  void forget() { overwritten(0); }

 private:
  enum class Next : std::uint8_t { nothing, copy, any_page, that_page };

  const std::uint64_t page_bytes_, frame_bytes_;
  std::vector<std::uint32_t> pages_;  // by frame: the page it was copied to, 0: it was not
  std::size_t used_ = 0;              // none is remembered from here on
  bool in_pass_ = false, copying_ = false;
  std::uint64_t last_ = 0;
  Next next_ = Next::nothing;  // what the next write to the database may be
  std::size_t frame_ = 0;      // of it; 0: none that is remembered
};

}  // namespace postbag
