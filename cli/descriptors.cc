#include "cli/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace postbag {

namespace {

// The store, the threads' queues, the resolver's sockets, and the control socket with its 64.
constexpr std::uint64_t own_descriptors = 128;

}  // namespace

DescriptorShares share_descriptors(std::uint64_t limit, std::uint32_t max_connections,
                                   std::uint32_t intake_connections) {
  const std::uint64_t left = limit - std::min(own_descriptors, limit / 2);
  const std::uint64_t intake = std::min<std::uint64_t>(intake_connections, left / 2);
  const std::uint64_t to_targets = std::min<std::uint64_t>(max_connections, left - intake);
  const std::uint64_t of_intake = std::min<std::uint64_t>(intake_connections, left - to_targets);
  return {static_cast<std::uint32_t>(std::max<std::uint64_t>(1, to_targets)),
          static_cast<std::uint32_t>(std::max<std::uint64_t>(intake_connections > 0, of_intake))};
}

std::uint64_t raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return std::numeric_limits<std::uint64_t>::max();
  rlimit raised = limit;
  raised.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

std::optional<std::string> fit_to_descriptors(Options& options, std::uint64_t limit,
                                              std::uint32_t& intake_connections) {
  const std::uint32_t wanted = options.engine.max_connections;
  const std::uint32_t intake_wanted = intake_connections;
  const DescriptorShares shares = share_descriptors(limit, wanted, intake_wanted);
  options.engine.max_connections = shares.to_targets;
  intake_connections = shares.of_intake;
  if (shares.to_targets == wanted && shares.of_intake == intake_wanted) return std::nullopt;
  return "no more than " + std::to_string(limit) +
         " files may be open: " + std::to_string(shares.to_targets) +
         " connections to targets ([engine] max_connections is " + std::to_string(wanted) + "), " +
         std::to_string(shares.of_intake) + " of intake; raise the hard limit of open files";
}

}  // namespace postbag
