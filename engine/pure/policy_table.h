#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/pure/network_policy.h"
#include "postbag/options.h"

namespace postbag {

// A policy ready for use. Shared by every target that it applies to.
struct ResolvedPolicy {
  TargetPolicy policy;
  NetworkRules rules;
};

// Which policy applies to a canonical URL: of the [[target]] blocks that match the one with the
// longest url, else the defaults. Immutable; a reload makes a new one, with a higher generation.
class PolicyTable {
 public:
  // Throws std::invalid_argument for an unusable [network] allow.
  PolicyTable(const Options& options, std::uint64_t generation);

  const std::shared_ptr<const ResolvedPolicy>& find(std::string_view canonical_url) const;
  std::uint64_t generation() const { return generation_; }
  bool keep_failed() const { return keep_failed_; }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>{}(text);
    }
  };
  using ByUrl = std::unordered_map<std::string, std::shared_ptr<const ResolvedPolicy>, TextHash,
                                   std::equal_to<>>;

  std::uint64_t generation_;
  bool keep_failed_;
  std::shared_ptr<const ResolvedPolicy> defaults_;
  ByUrl exact_;
  // Prefixes by length, longest first: one hash look-up a length, however many blocks there are.
  std::map<std::size_t, ByUrl, std::greater<>> prefixes_;
};

}  // namespace postbag
