#include "bench/batch_check.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace postbag {
namespace {

constexpr std::string_view prefix = R"({"t":")";
constexpr std::string_view middle = R"(","seq":")";
constexpr std::string_view filler = R"(","data":")";
constexpr std::size_t digits = 10;
constexpr std::size_t target_at = prefix.size();
constexpr std::size_t sequence_at = target_at + digits + middle.size();

constexpr std::array<char, 200> make_pairs() {
  std::array<char, 200> pairs{};
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    pairs[i] = static_cast<char>('0' + (i % 2 == 0 ? i / 20 : i / 2 % 10));
  }
  return pairs;
}

void write_digits(char* out, std::uint64_t number) {
  static constexpr std::array<char, 200> pairs = make_pairs();
  for (std::size_t i = digits; i > 0; i -= 2, number /= 100) {
    std::memcpy(out + i - 2, pairs.data() + number % 100 * 2, 2);
  }
}

bool read_digits(std::string_view text, std::size_t at, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + digits, number);
  return error == std::errc() && end == text.data() + at + digits;
}

}  // namespace

bool split_json_array(std::string_view body, const std::function<void(std::string_view)>& each) {
  if (body.size() < 2 || body.front() != '[' || body.back() != ']') return false;
  body = body.substr(1, body.size() - 2);
  if (body.empty()) return true;
  std::size_t begin = 0, depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < body.size(); ++i) {
    const char c = body[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (depth == 0) return false;
      --depth;
    } else if (c == ',' && depth == 0) {
      each(body.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  each(body.substr(begin));
  return depth == 0 && !in_string;
}

PayloadMaker::PayloadMaker(std::size_t bytes) {
  text_ += prefix;
  text_.append(digits, '0');
  text_ += middle;
  text_.append(digits, '0');
  text_ += filler;
  if (bytes > text_.size() + 2) text_.append(bytes - text_.size() - 2, 'x');
  text_ += "\"}";
}

std::string_view PayloadMaker::make(std::uint64_t target, std::uint64_t sequence) {
  write_digits(text_.data() + target_at, target);
  write_digits(text_.data() + sequence_at, sequence);
  return text_;
}

PayloadBlock::PayloadBlock(std::size_t places, std::size_t bytes)
    : bytes_(PayloadMaker(bytes).make(0, 0).size()), targets_(places) {
  PayloadMaker maker(bytes);
  for (std::size_t i = 0; i < places; ++i) text_ += maker.make(0, 0);
}

std::string_view PayloadBlock::make(std::size_t place, std::uint64_t target,
                                    std::uint64_t sequence) {
  char* const text = text_.data() + place * bytes_;
  if (targets_[place] != target) {
    targets_[place] = target;
    write_digits(text + target_at, target);
  }
  write_digits(text + sequence_at, sequence);
  return {text, bytes_};
}

SequenceCheck::SequenceCheck(std::size_t targets, std::uint64_t hooks_per_target, bool ordered)
    : ordered_(ordered), next_(targets), seen_(targets, std::vector<bool>(hooks_per_target)) {}

std::uint64_t SequenceCheck::check(const CountedRequest& request) {
  std::uint64_t count = 0, wrong = 0;
  const bool is_array = split_json_array(request.body, [&](std::string_view payload) {
    ++count;
    if (!check_one(payload)) ++wrong;
  });
  return wrong + (is_array && count == request.batch_size ? 0 : 1);
}

bool SequenceCheck::check_one(std::string_view payload) {
  std::uint64_t target = 0, sequence = 0;
  if (payload.size() < sequence_at + digits || !payload.starts_with(prefix) ||
      !read_digits(payload, target_at, target) || !read_digits(payload, sequence_at, sequence) ||
      target >= seen_.size() || sequence >= seen_[target].size()) {
    return false;
  }
  const bool new_one = !seen_[target][sequence];
  seen_[target][sequence] = true;
  const bool in_order = sequence == next_[target];
  next_[target] = sequence + 1;
  return new_one && (in_order || !ordered_);
}

std::uint64_t SequenceCheck::missing() const {
  std::uint64_t count = 0;
  for (const auto& target : seen_) count += std::count(target.begin(), target.end(), false);
  return count;
}

}  // namespace postbag
