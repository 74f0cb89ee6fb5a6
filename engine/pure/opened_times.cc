#include "engine/pure/opened_times.h"

#include <algorithm>

namespace postbag {

OpenedTimes::Places::iterator OpenedTimes::find(std::int64_t second) {
  // Nearly all that is asked for was opened just now.
  if (places_.empty() || places_.back().end <= second) return places_.end();
  if (second_of(places_.back().first_ms) <= second) return places_.end() - 1;
  return std::upper_bound(places_.begin(), places_.end(), second,
                          [](std::int64_t at, const Place& place) { return at < place.end; });
}

void OpenedTimes::add(WallMs opened_ms) noexcept {
  const std::int64_t second = second_of(opened_ms);
  auto place = find(second);
  if (place != places_.end() && second_of(place->first_ms) <= second) {
    place->first_ms = std::min(place->first_ms, opened_ms);
    place->batches += 1;
    return;
  }
  if (places_.size() == places_max) {
    make_room();
    return add(opened_ms);
  }
  places_.insert(place, {opened_ms, second + 1, 1});
}

void OpenedTimes::remove(WallMs opened_ms) noexcept {
  const std::int64_t second = second_of(opened_ms);
  const auto place = find(second);
  if (place == places_.end() || second_of(place->first_ms) > second) return;
  place->batches -= 1;
  if (place->batches == 0) places_.erase(place);
}

// A 64th is enough for a month of seconds; what is left of the parts is for odd clocks.
void OpenedTimes::make_room() {
  for (std::int64_t part = 64; part > 0 && places_.size() == places_max; part /= 2) {
    put_together(part);
  }
  if (places_.size() < places_max) return;
  places_[0].end = places_[1].end;
  places_[0].batches += places_[1].batches;
  places_.erase(places_.begin() + 1);
}

void OpenedTimes::put_together(std::int64_t part) {
  const std::int64_t newest = second_of(places_.back().first_ms);
  auto last = places_.begin();
  for (auto next = last + 1; next != places_.end(); ++next) {
    const std::int64_t seconds = next->end - second_of(last->first_ms);
    if (seconds <= (newest - next->end) / part) {
      last->end = next->end;
      last->batches += next->batches;
    } else {
      *++last = *next;
    }
  }
  places_.erase(last + 1, places_.end());
}

}  // namespace postbag
