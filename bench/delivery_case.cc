#include "bench/delivery_case.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "postbag/glob.h"

namespace postbag {
namespace {

constexpr const char* quick_names[] = {
    "batch100_targets1",
    "batch100_targets1_inflight1",
    "batch100_targets1000",
    "batch100_targets100000",
    "batch10_targets1",
    "batch1000_targets1",
    "unbatched_targets64",
    "unbatched_targets1",
    "unbatched_targets1_inflight1",
    "batch100_targets1_tls",
    "unbatched_targets64_tls",
    "batch100_targets64_os",
    "batch100_targets64_fsync",
    "unbatched_targets64_fsync",
    "batch100_targets64_failing",
};

// What bench/plot draws: against targets, and against the size of batches.
struct Sweep {
  const char* before;
  std::vector<const char*> values;
  const char* after;
};
const std::vector<Sweep>& plot_sweeps() {
  static const std::vector<Sweep> sweeps = {
      {"unbatched_targets", {"1", "16", "64", "1000", "10000", "100000"}, ""},
      {"batch100_targets", {"1", "16", "64", "1000", "10000", "100000"}, ""},
      {"batch100_targets", {"1", "16", "64", "1000", "10000"}, "_fsync"},
      {"batch", {"3", "10", "30", "300", "1000"}, "_targets1"},
      {"unbatched_targets", {"1"}, "_fsync"},
      {"batch", {"10", "1000"}, "_targets1_fsync"},
      {"unbatched_targets", {"1"}, "_tls"},
      {"batch", {"10", "100", "1000"}, "_targets1_tls"},
  };
  return sweeps;
}

// A full bag for each of so many targets would take minutes to fill.
constexpr std::uint64_t hooks_max = 20'000'000;

bool take(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}

template <typename Number>
bool take_number(std::string_view& text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || out == 0) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

std::uint64_t usual_hooks(const DeliveryCase& what) {
  std::uint64_t hooks = what.batch == 1 ? 200'000 : what.batch < 100 ? 1'500'000 : 4'000'000;
  if (what.tls || what.fail_per_mille > 0) hooks /= 2;
  if (what.durability != Durability::memory) hooks /= what.batch == 1 ? 3 : 4;
  // One at a time is bounded by round trips.
  if (what.in_flight * what.targets < 4) hooks /= 4;
  return std::max(hooks, what.batch * what.targets);
}

}  // namespace

std::optional<DeliveryCase> parse_delivery_case(std::string_view name) {
  DeliveryCase found;
  found.name = name;
  if (!take(name, "unbatched") && !(take(name, "batch") && take_number(name, found.batch)))
    return {};
  if (!take(name, "_targets") || !take_number(name, found.targets)) return {};
  const std::uint64_t shared = std::clamp<std::uint64_t>(64 / found.targets, 1, 16);
  found.in_flight = found.batch == 1 ? static_cast<std::uint32_t>(shared) : 16;
  if (take(name, "_inflight") && !take_number(name, found.in_flight)) return {};
  found.tls = take(name, "_tls");
  if (take(name, "_os"))
    found.durability = Durability::os;
  else if (take(name, "_fsync"))
    found.durability = Durability::fsync;
  if (take(name, "_failing")) found.fail_per_mille = 100;
  if (!name.empty() || found.batch > batch_size_max) return {};
  found.hooks = usual_hooks(found);
  return found;
}

std::vector<DeliveryCase> delivery_case_set(std::string_view set) {
  std::vector<DeliveryCase> cases;
  if (set == "quick") {
    for (const char* name : quick_names) cases.push_back(*parse_delivery_case(name));
  }
  if (set == "plots") {
    for (const Sweep& sweep : plot_sweeps()) {
      for (const char* value : sweep.values) {
        const std::string name = std::string(sweep.before) + value + sweep.after;
        cases.push_back(*parse_delivery_case(name));
      }
    }
  }
  if (set != "full") return cases;
  for (const char* batch : {"unbatched", "batch10", "batch100", "batch1000"}) {
    for (const char* targets : {"1", "16", "64", "1000", "100000"}) {
      for (const char* in_flight : {"", "_inflight1"}) {
        for (const char* tls : {"", "_tls"}) {
          for (const char* durability : {"", "_os", "_fsync"}) {
            for (const char* failing : {"", "_failing"}) {
              const std::string name = std::string(batch) + "_targets" + targets + in_flight + tls +
                                       durability + failing;
              DeliveryCase found = *parse_delivery_case(name);
              // The same as without the suffix.
              const bool twice = *in_flight != 0 && found.batch == 1 && found.targets >= 64;
              if (!twice && found.hooks <= hooks_max) cases.push_back(std::move(found));
            }
          }
        }
      }
    }
  }
  return cases;
}

std::vector<DeliveryCase> find_delivery_cases(std::string_view set, const std::string& glob) {
  if (auto named = parse_delivery_case(glob)) return {std::move(*named)};
  std::vector<DeliveryCase> found = delivery_case_set(set);
  std::erase_if(found, [&](const DeliveryCase& each) { return !glob_match(glob, each.name); });
  return found;
}

}  // namespace postbag
