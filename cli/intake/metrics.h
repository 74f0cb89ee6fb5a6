#pragma once

#include <string>

#include "postbag/engine.h"

namespace postbag {

// The numbers of GET /v1/status in the Prometheus text format 0.0.4, every one with HELP and TYPE.
std::string prometheus_text(const EngineStatus& status);

}  // namespace postbag
