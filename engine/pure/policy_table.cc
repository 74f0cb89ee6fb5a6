#include "engine/pure/policy_table.h"

namespace postbag {

PolicyTable::PolicyTable(const Options& options, std::uint64_t generation)
    : generation_(generation), keep_failed_(options.store.keep_failed) {
  const auto resolve = [&](const TargetPolicy& policy) {
    return std::make_shared<const ResolvedPolicy>(
        ResolvedPolicy{policy, NetworkRules(policy.network, options.own_addresses)});
  };
  defaults_ = resolve(options.defaults);
  for (const TargetBlock& block : options.targets) {
    ByUrl& table = block.prefix ? prefixes_[block.url.size()] : exact_;
    table.emplace(block.url, resolve(block.policy));
  }
}

const std::shared_ptr<const ResolvedPolicy>& PolicyTable::find(std::string_view url) const {
  if (auto found = exact_.find(url); found != exact_.end()) return found->second;
  for (const auto& [length, blocks] : prefixes_) {
    if (length > url.size()) continue;
    if (auto found = blocks.find(url.substr(0, length)); found != blocks.end())
      return found->second;
  }
  return defaults_;
}

}  // namespace postbag
