#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "cli/intake/api_error.h"
#include "postbag/engine.h"

namespace postbag {

// What intake itself counts.
struct IntakeCounts {
  std::uint64_t dropped = 0;                               // requests, for want of memory
  std::uint64_t turned_away = 0;                           // connections, as all were in use
  std::array<std::uint64_t, error_codes.size()> errors{};  // answers, by ErrorCode::index()
};

// The numbers of GET /v1/status in the Prometheus text format 0.0.4, every one with HELP and TYPE,
// and those of intake.
std::string prometheus_text(const EngineStatus& status, const IntakeCounts& intake);

}  // namespace postbag
