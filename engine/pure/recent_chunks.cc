#include "engine/pure/recent_chunks.h"

namespace postbag {

void RecentChunks::add(ChunkNumber chunk, std::uint32_t hooks, std::string_view target,
                       TextPlace& place) {
  if (ring_.size() < chunks_max) ring_.emplace_back();
  if (place == 0) {
    if (free_places_.empty()) {
      texts_.emplace_back();
      free_places_.reserve(texts_.size());  // giving back takes no memory
      free_places_.push_back(static_cast<TextPlace>(texts_.size()));
    }
    Text& text = text_at(free_places_.back());
    text.target = target;
    text.owner = &place;
    place = free_places_.back();
    free_places_.pop_back();
  }
  text_at(place).chunks += 1;
  Entry& entry = ring_[next_];
  const TextPlace before = entry.place;
  entry = {chunk, hooks, place};
  next_ = next_ + 1 < chunks_max ? next_ + 1 : 0;
  if (before != 0) leave(before);
}

void RecentChunks::leave(TextPlace place) {
  Text& text = text_at(place);
  text.chunks -= 1;
  if (text.chunks != 0) return;
  if (text.owner != nullptr) *text.owner = 0;
  text = Text();
  free_places_.push_back(place);
}

void RecentChunks::forget(TextPlace& place) {
  if (place != 0) text_at(place).owner = nullptr;
  place = 0;
}

std::optional<std::string_view> RecentChunks::find(ChunkNumber chunk, std::uint32_t index) const {
  for (std::size_t looked = 0; looked < ring_.size(); ++looked) {
    const Entry& entry = ring_[found_ % ring_.size()];
    if (entry.chunk == chunk && index < entry.hooks) return texts_[entry.place - 1].target;
    found_ += 1;
  }
  return std::nullopt;
}

}  // namespace postbag
