#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "postbag/options.h"

namespace postbag {

// How the descriptors that the system allows are shared out: connections that the process keeps
// must never take those that it needs to answer, to deliver and to store.
struct DescriptorShares {
  std::uint32_t to_targets = 0;  // connections, of all shards
  std::uint32_t of_intake = 0;   // connections, over TCP
};

// Pure. Neither more than is asked for, each at least 1 of what is asked for; where there is not
// enough for both they halve what there is.
DescriptorShares share_descriptors(std::uint64_t limit, std::uint32_t max_connections,
                                   std::uint32_t intake_connections);

// Raises the soft limit of open files to the hard one; the limit that holds then.
std::uint64_t raise_descriptor_limit();

// Lowers engine.max_connections to what `limit` allows beside so many connections of intake; what
// intake may have then stands in `intake_connections`. A warning for the log if that is less than
// was asked for.
std::optional<std::string> fit_to_descriptors(Options& options, std::uint64_t limit,
                                              std::uint32_t& intake_connections);

}  // namespace postbag
