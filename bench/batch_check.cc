#include "bench/batch_check.h"

#include <algorithm>
#include <charconv>

namespace postbag {
namespace {

constexpr std::string_view prefix = R"({"t":")";
constexpr std::string_view middle = R"(","seq":")";
constexpr std::string_view filler = R"(","data":")";
constexpr std::size_t digits = 10;
constexpr std::size_t target_at = prefix.size();
constexpr std::size_t sequence_at = target_at + digits + middle.size();

void write_digits(char* out, std::uint64_t number) {
  for (std::size_t i = digits; i-- > 0; number /= 10) out[i] = static_cast<char>('0' + number % 10);
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
