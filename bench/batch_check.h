#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/request_scanner.h"

namespace postbag {

// Calls `each` with the exact bytes of every element of a JSON array without blanks around the
// elements, as Postbag writes it. False if `body` is no such array. The elements are not checked
// for more than balanced brackets.
bool split_json_array(std::string_view body, const std::function<void(std::string_view)>& each);

// Payloads of a fixed length that say which target they are for and their place in its sequence,
// made by overwriting digits, so that the feeder costs little beside what it measures.
class PayloadMaker {
 public:
  explicit PayloadMaker(std::size_t bytes = 300);  // at least 64
  // Valid until the next call.
  std::string_view make(std::uint64_t target, std::uint64_t sequence);

 private:
  std::string text_;
};

// Many of those payloads side by side, in memory that is used again and again: what stays the same
// in a place is not written again.
class PayloadBlock {
 public:
  explicit PayloadBlock(std::size_t places, std::size_t bytes = 300);
  // Valid until the next call for the same place.
  std::string_view make(std::size_t place, std::uint64_t target, std::uint64_t sequence);

 private:
  std::size_t bytes_;
  std::string text_;
  std::vector<std::uint64_t> targets_;
};

// Verifies those payloads as they come in: each target's sequence complete, without repetition and,
// if `ordered`, in order.
class SequenceCheck {
 public:
  SequenceCheck(std::size_t targets, std::uint64_t hooks_per_target, bool ordered);
  // How many hooks of the request are not what should have come; a count that differs from the
  // header's is one more.
  std::uint64_t check(const CountedRequest& request);
  // Hooks that never came.
  std::uint64_t missing() const;

 private:
  bool check_one(std::string_view payload);
  bool ordered_;
  std::vector<std::uint64_t> next_;
  std::vector<std::vector<bool>> seen_;
};

}  // namespace postbag
