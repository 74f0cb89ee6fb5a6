#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "postbag/engine.h"

namespace postbag {

// One member of EngineStatus and every name that it has outside: who shows the numbers of the
// engine (GET /v1/status, /metrics, `postbag status`) or reads them walks the table, so that none
// is lost on the way. Names are for ever: programs and dashboards use them.
struct StatusMember {
  enum class Type : std::uint8_t { counter, gauge };
  enum class Unit : std::uint8_t { count, per_second, seconds, bytes };
  using Pointer =
      std::variant<std::uint64_t EngineStatus::*, std::uint32_t EngineStatus::*,
                   double EngineStatus::*, bool EngineStatus::*, Durability EngineStatus::*>;

  std::string_view json;    // of GET /v1/status
  std::string_view metric;  // behind "postbag_"; empty: not a metric of its own
  Type type = Type::gauge;
  std::string_view help;  // of the metric; understood without the line above
  std::string_view row;   // of `postbag status`; empty: not there
  Unit unit = Unit::count;
  Pointer member;
  std::uint64_t EngineStatus::*limit = nullptr;  // what the row says behind "of"
};

// Every member of EngineStatus, in the order in which it is shown.
std::span<const StatusMember> status_table();

// "running", or why it is not ready: "recovering", "draining", "disk_low", "failed".
std::string_view state_name(const EngineStatus& status);

}  // namespace postbag
