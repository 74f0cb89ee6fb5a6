#pragma once

#include <cstdint>
#include <string>

#include "postbag/engine.h"

namespace postbag {

// The numbers of GET /v1/status in the Prometheus text format 0.0.4, every one with HELP and TYPE,
// and how many requests intake dropped for want of memory.
std::string prometheus_text(const EngineStatus& status, std::uint64_t intake_dropped);

}  // namespace postbag
