#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/store.h"

namespace postbag {

// Which chunks were delivered lately, and where to: a ring of bounded size. Every delivery writes
// here, so an entry is small and the text of a target is kept once, however many entries have it.
// Not thread-safe.
class RecentChunks {
 public:
  static constexpr std::size_t chunks_max = 16'384;
  // Where a target's text is; 0: it has no chunk here. Kept by the target itself, at one address as
  // long as it lives: it becomes 0 when the last of its chunks leaves.
  using TextPlace = std::uint32_t;

  // Throws std::bad_alloc.
  void add(ChunkNumber chunk, std::uint32_t hooks, std::string_view target, TextPlace& place);
  // The target ends; its text stays as long as its chunks.
  void forget(TextPlace& place);
  // The target of a hook; valid until the next add().
  std::optional<std::string_view> find(ChunkNumber chunk, std::uint32_t index) const;

 private:
  struct Entry {
    ChunkNumber chunk = 0;
    std::uint32_t hooks = 0;
    TextPlace place = 0;
  };
  struct Text {
    std::string target;
    std::uint32_t chunks = 0;
    TextPlace* owner = nullptr;  // null: the target is gone
  };
  Text& text_at(TextPlace place) { return texts_[place - 1]; }
  void leave(TextPlace place);

  std::vector<Entry> ring_;
  std::size_t next_ = 0;
  std::vector<Text> texts_;
  std::vector<TextPlace> free_places_;
  // Where the last one was found: hooks of one call are asked for one after the other.
  mutable std::size_t found_ = 0;
};

}  // namespace postbag
