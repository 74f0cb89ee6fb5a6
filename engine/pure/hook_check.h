#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/pure/policy_table.h"
#include "postbag/error.h"
#include "postbag/hook.h"

namespace postbag {

// Whether a hook may be accepted, apart from room and ids. Any thread.
struct HookProblem {
  Errc error = Errc::ok;
  std::string message;
};

class HookChecker {
 public:
  HookChecker(const PolicyTable& policies, std::uint64_t max_hook_bytes)
      : policies_(policies), max_hook_bytes_(max_hook_bytes) {}

  // Checks a hook. `canonical` is set where the target has to be replaced by its canonical form.
  std::optional<HookProblem> check(const HookView& hook, bool json_checked, std::string& canonical);

 private:
  std::optional<HookProblem> check_target(std::string_view target, std::string& canonical);

  const PolicyTable& policies_;
  std::uint64_t max_hook_bytes_;
  std::string_view last_target_;  // calls often hold many hooks for one target
};

// Parsed and allowed, or why not: for targets that come from elsewhere than a hook (rows of the
// store).
std::optional<HookProblem> check_target_url(const PolicyTable& policies, std::string_view target,
                                            std::string& canonical);

}  // namespace postbag
