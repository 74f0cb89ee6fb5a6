#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "postbag/config.h"

namespace postbag {
namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Largest first: the formatter takes the first that divides.
constexpr Unit duration_units[] = {{"d", 86'400'000'000'000},
                                   {"h", 3'600'000'000'000},
                                   {"m", 60'000'000'000},
                                   {"s", 1'000'000'000},
                                   {"ms", 1'000'000},
                                   {"us", 1'000},
                                   {"ns", 1}};
constexpr Unit binary_units[] = {
    {"TiB", 1ull << 40}, {"GiB", 1ull << 30}, {"MiB", 1ull << 20}, {"KiB", 1ull << 10}};
constexpr Unit decimal_units[] = {
    {"TB", 1'000'000'000'000}, {"GB", 1'000'000'000}, {"MB", 1'000'000}, {"KB", 1'000}, {"B", 1}};

constexpr std::size_t fraction_digits_max = 18;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

const Unit* find_unit(std::span<const Unit> units, std::string_view name) {
  const auto* end = units.data() + units.size();
  const auto* found =
      std::find_if(units.data(), end, [&](const Unit& u) { return u.name == name; });
  return found == end ? nullptr : found;
}

struct Quantity {
  std::string_view whole;
  std::string_view fraction;
  std::string_view unit;
};

// digits [ "." digits ] unit, without sign, exponent or spaces.
std::optional<Quantity> split_quantity(std::string_view text) {
  auto digits = [](std::string_view rest) {
    return static_cast<std::size_t>(std::find_if_not(rest.begin(), rest.end(), is_digit) -
                                    rest.begin());
  };
  Quantity quantity;
  quantity.whole = text.substr(0, digits(text));
  text.remove_prefix(quantity.whole.size());
  if (quantity.whole.empty()) return std::nullopt;
  if (!text.empty() && text.front() == '.') {
    text.remove_prefix(1);
    quantity.fraction = text.substr(0, digits(text));
    text.remove_prefix(quantity.fraction.size());
    if (quantity.fraction.empty() || quantity.fraction.size() > fraction_digits_max)
      return std::nullopt;
  }
  quantity.unit = text;
  return quantity;
}

// whole.fraction * factor, rounded down, in integers: no value is off by a rounding of binary
// fractions.
std::optional<std::uint64_t> multiply(const Quantity& quantity, std::uint64_t factor) {
  std::uint64_t whole = 0;
  bool some = false;
  for (const char c : quantity.whole) {
    some = some || c != '0';
    if (__builtin_mul_overflow(whole, std::uint64_t{10}, &whole) ||
        __builtin_add_overflow(whole, static_cast<std::uint64_t>(c - '0'), &whole)) {
      return std::nullopt;
    }
  }
  // Below factor, so ten times it fits: the largest factor is 1.1e12 or 8.7e13.
  std::uint64_t part = 0;
  for (std::size_t i = quantity.fraction.size(); i-- > 0;) {
    const auto digit = static_cast<std::uint64_t>(quantity.fraction[i] - '0');
    some = some || digit != 0;
    part = (digit * factor + part) / 10;
  }
  std::uint64_t result = 0;
  if (__builtin_mul_overflow(whole, factor, &result) ||
      __builtin_add_overflow(result, part, &result)) {
    return std::nullopt;
  }
  // 0 often means "off": what was written as more than 0 must not become it.
  if (some && result == 0) return std::nullopt;
  return result;
}

std::optional<std::string> format_exact(std::uint64_t value, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (value % unit.factor == 0) return std::to_string(value / unit.factor).append(unit.name);
  }
  return std::nullopt;
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  const auto quantity = split_quantity(text);
  if (!quantity) return std::nullopt;
  const Unit* unit = find_unit(duration_units, quantity->unit.empty() ? "s" : quantity->unit);
  if (unit == nullptr) return std::nullopt;
  const auto nanoseconds = multiply(*quantity, unit->factor);
  if (!nanoseconds ||
      *nanoseconds > static_cast<std::uint64_t>(std::numeric_limits<Duration::rep>::max())) {
    return std::nullopt;
  }
  return Duration(static_cast<Duration::rep>(*nanoseconds));
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const auto quantity = split_quantity(text);
  if (!quantity) return std::nullopt;
  std::string_view name = quantity->unit.empty() ? "B" : quantity->unit;
  if (name == "kB") {  // the spelling of the SI
    name = "KB";
  }
  const Unit* unit = find_unit(binary_units, name);
  if (unit == nullptr) unit = find_unit(decimal_units, name);
  if (unit == nullptr) return std::nullopt;
  return multiply(*quantity, unit->factor);
}

std::string format_duration(Duration duration) {
  if (duration <= Duration::zero()) return "0s";
  return *format_exact(static_cast<std::uint64_t>(duration.count()), duration_units);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes == 0) return "0";
  if (auto binary = format_exact(bytes, binary_units)) return *binary;
  if (bytes % 1000 != 0) return std::to_string(bytes);
  return *format_exact(bytes, decimal_units);
}

}  // namespace postbag
