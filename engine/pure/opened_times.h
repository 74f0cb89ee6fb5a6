#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "postbag/time.h"

namespace postbag {

// When the oldest of many batches was opened, without a look at each of them: they are counted by
// the second of their opening. Where they were opened in more seconds than there are places, those
// of long ago share places, so that the answer may then be too old by a 64th of its age. Bounded
// memory, taken at the start; nothing throws later. Not thread-safe.
class OpenedTimes {
 public:
  static constexpr std::size_t places_max = 2048;

  // Throws std::bad_alloc.
  OpenedTimes() { places_.reserve(places_max); }

  void add(WallMs opened_ms) noexcept;
  // Of one that was added.
  void remove(WallMs opened_ms) noexcept;
  // Of all that are there. Empty: none is.
  std::optional<WallMs> oldest_ms() const {
    if (places_.empty()) return std::nullopt;
    return places_.front().first_ms;
  }

 private:
  // Seconds that follow each other; a second has 1,024 ms here. The first is that of first_ms.
  struct Place {
    WallMs first_ms = 0;  // the earliest that was added
    std::int64_t end = 0;
    std::uint64_t batches = 0;
  };
  using Places = std::vector<Place>;

  static std::int64_t second_of(WallMs ms) { return ms >> 10; }
  // The first place that ends behind it: it holds the second, or begins behind it too.
  Places::iterator find(std::int64_t second);
  void make_room();
  // Puts neighbours together where that costs at most this part of their age.
  void put_together(std::int64_t part);

  Places places_;  // ascending, none empty
};

}  // namespace postbag
