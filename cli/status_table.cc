#include "cli/status_table.h"

#include <array>

namespace postbag {
namespace {

using S = EngineStatus;
using enum StatusMember::Type;
using enum StatusMember::Unit;

constexpr std::array table = {
    StatusMember{"pending", "pending_hooks", gauge, "Hooks accepted that have no outcome yet.",
                 "pending", count, &S::pending},
    StatusMember{"failed", "failed_hooks", gauge, "Failed hooks in the store.", "failed", count,
                 &S::failed},
    StatusMember{"delivered", "delivered_total", counter,
                 "Hooks delivered since the start, whichever run of Postbag accepted them; with "
                 "those of postbag_retry_delivered_total.",
                 "delivered", count, &S::delivered},
    StatusMember{"oldest_pending_seconds", "oldest_pending_seconds", gauge,
                 "How long the oldest hook that has no outcome yet has waited since it was "
                 "accepted; 0 if there is none.",
                 "oldest", seconds, &S::oldest_pending_seconds},
    StatusMember{"retry_delivered", "retry_delivered_total", counter,
                 "Failed hooks delivered by retry-failed-hooks since the start.", "", count,
                 &S::retry_delivered},
    StatusMember{"retry_failed", "retry_failed_total", counter,
                 "Failed hooks that failed again in retry-failed-hooks since the start; not in "
                 "postbag_given_up_total.",
                 "", count, &S::retry_failed},
    StatusMember{"given_up", "given_up_total", counter,
                 "Accepted hooks that left undelivered since the start: attempts used up, "
                 "cancelled, or given up at the end.",
                 "given up", count, &S::given_up},
    StatusMember{"cancelled", "cancelled_total", counter,
                 "Hooks cancelled by an operator since the start; postbag_given_up_total has them.",
                 "cancelled", count, &S::cancelled},
    StatusMember{"purged", "purged_total", counter,
                 "Failed hooks deleted by an operator's purge since the start.", "purged", count,
                 &S::purged},
    StatusMember{"retention_purged", "retention_purged_total", counter,
                 "Failed hooks deleted by age or bytes since the start.", "", count,
                 &S::retention_purged},
    StatusMember{"discarded", "discarded_total", counter,
                 "Hooks given up and not kept (keep_failed = false) since the start.", "", count,
                 &S::discarded},
    StatusMember{"handed_back", "handed_back_total", counter,
                 "Hooks given up and not kept since the start, as the call that brought them "
                 "waited and was told.",
                 "", count, &S::handed_back},
    StatusMember{"accepted", "accepted_total", counter, "Hooks accepted since the start.",
                 "accepted", count, &S::accepted},
    StatusMember{"duplicates", "duplicates_total", counter,
                 "Hooks not accepted again, as their id was known, since the start.", "", count,
                 &S::duplicates},
    StatusMember{"ids_forgotten", "ids_forgotten_total", counter,
                 "Ids of producers forgotten before the end of id_window, for room.", "", count,
                 &S::ids_forgotten},
    StatusMember{"refused", "refused_total", counter,
                 "Hooks that the engine refused since the start; requests refused, by reason, are "
                 "postbag_intake_errors_total.",
                 "refused", count, &S::refused},
    StatusMember{"attempts", "attempts_total", counter,
                 "Attempts to deliver a batch since the start, each one request to a target.", "",
                 count, &S::attempts},
    StatusMember{"attempts_failed", "attempts_failed_total", counter,
                 "Attempts to deliver a batch that failed since the start, whether retried or not.",
                 "", count, &S::attempts_failed},
    StatusMember{"batches", "batches_total", counter, "Batches cut since the start.", "", count,
                 &S::batches},
    StatusMember{"cut_by_size", "cut_by_size_total", counter,
                 "Batches cut since the start as they held as many hooks as size says.",
                 "cut by size", count, &S::cut_by_size},
    StatusMember{"cut_by_bytes", "cut_by_bytes_total", counter,
                 "Batches cut since the start as the next hook would take them over bytes.",
                 "cut by bytes", count, &S::cut_by_bytes},
    StatusMember{"cut_by_time", "cut_by_time_total", counter,
                 "Batches cut since the start as their first hook had waited for time.",
                 "cut by time", count, &S::cut_by_time},
    StatusMember{"cut_by_request", "cut_by_request_total", counter,
                 "Batches cut since the start by a flush, a drain, the end of a run of "
                 "retry-failed-hooks, or early as max_memory was reached.",
                 "cut by request", count, &S::cut_by_request},
    StatusMember{"targets", "targets", gauge, "Targets that the engine holds in memory.", "targets",
                 count, &S::targets},
    StatusMember{"bags", "bags", gauge, "Open bags.", "bags", count, &S::bags},
    StatusMember{
        "batches_held", "batches_held", gauge,
        "Batches that have no outcome yet: in open bags, cut, on the wire or waiting for a retry.",
        "batches held", count, &S::batches_held},
    StatusMember{"in_flight", "in_flight_batches", gauge, "Batches on the wire.", "in flight",
                 count, &S::in_flight},
    StatusMember{"retrying", "retrying_batches", gauge, "Batches that wait for a retry.",
                 "retrying", count, &S::retrying},
    StatusMember{"memory_bytes", "memory_bytes", gauge, "Bytes counted against max_memory.",
                 "memory", bytes, &S::memory_bytes, &S::memory_limit},
    StatusMember{"memory_limit", "memory_limit_bytes", gauge, "What max_memory allows, in bytes.",
                 "", bytes, &S::memory_limit},
    StatusMember{"store_bytes", "store_bytes", gauge,
                 "Bytes counted against max_bytes of the store.", "store", bytes, &S::store_bytes,
                 &S::store_limit},
    StatusMember{"store_limit", "store_limit_bytes", gauge,
                 "What max_bytes of the store allows, in bytes.", "", bytes, &S::store_limit},
    StatusMember{"connections", "connections", gauge, "Connections to targets.", "connections",
                 count, &S::connections},
    StatusMember{"accepted_per_second", "accepted_per_second", gauge,
                 "Hooks accepted a second, over about the last 10 s.", "rate in", per_second,
                 &S::accepted_per_second},
    StatusMember{"delivered_per_second", "delivered_per_second", gauge,
                 "Hooks delivered a second, over about the last 10 s.", "rate out", per_second,
                 &S::delivered_per_second},
    StatusMember{"durability", "", gauge, "", "durability", count, &S::durability},
    StatusMember{"uptime_seconds", "uptime_seconds", gauge, "Seconds since the engine started.",
                 "up", seconds, &S::uptime_seconds},
    StatusMember{"shards", "shards", gauge, "Threads of the engine that deliver.", "", count,
                 &S::shards},
    StatusMember{"draining", "draining", gauge, "1 while the engine drains, else 0.", "", count,
                 &S::draining},
    StatusMember{"recovering", "recovering", gauge,
                 "1 while the engine reads what an earlier run left, else 0.", "", count,
                 &S::recovering},
    StatusMember{"healthy", "healthy", gauge,
                 "0 after the store or the engine failed for good, else 1.", "", count,
                 &S::healthy},
    StatusMember{"disk_low", "disk_low", gauge,
                 "1 while the store takes nothing in for want of room (calls are answered 507), "
                 "else 0.",
                 "", count, &S::disk_low},
};

// Does not compile once EngineStatus has a member more: it belongs into the table.
constexpr std::size_t member_count() {
  [[maybe_unused]] const auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w,
                                x, y, z, a1, b1, c1, d1, e1, f1, g1, h1, i1, j1, k1, l1, m1, n1, o1,
                                p1] = EngineStatus();
  return 42;
}
static_assert(table.size() == member_count());

}  // namespace

std::span<const StatusMember> status_table() {
  return table;
}

std::string_view state_name(const EngineStatus& status) {
  if (!status.healthy) return "failed";
  if (status.draining) return "draining";
  if (status.recovering) return "recovering";
  return status.disk_low ? "disk_low" : "running";
}

}  // namespace postbag
