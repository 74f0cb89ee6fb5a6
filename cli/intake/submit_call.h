#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "cli/intake/backend.h"
#include "cli/intake/exchange.h"
#include "cli/intake/loop.h"

namespace postbag {

// POST /v1/hooks once its body was parsed.
struct SubmitCall {
  HookList hooks;
  std::vector<std::string_view> ids;  // the producer's, of the request's body; empty: none has one
  std::optional<Duration> wait;       // ?wait=delivered: the timeout
};

// Hands the hooks to the engine and answers `exchange`, now or later. `durability` stands in the
// answer. Intake's thread. Throws std::bad_alloc: nothing was handed over and nothing is answered.
void run_submit(IntakeBackend& backend, const std::shared_ptr<IntakeLoop>& loop,
                const std::shared_ptr<Exchange>& exchange, Durability durability, SubmitCall call);

}  // namespace postbag
