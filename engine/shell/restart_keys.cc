#include "engine/shell/restart_keys.h"

#include <cstddef>
#include <tuple>
#include <utility>

namespace postbag {
namespace {

// A member that is added does not compile here: it needs a name below, or none if a reload takes it
// over.
auto members(const StoreOptions& store) {
  const auto& [path, durability, keep_failed, max_bytes, max_age, failed_max_bytes] = store;
  return std::tie(path, durability, keep_failed, max_bytes, max_age, failed_max_bytes);
}
auto members(const IntakeOptions& intake) {
  const auto& [listen, token_file, max_body, max_hook, id_window] = intake;
  return std::tie(listen, token_file, max_body, max_hook, id_window);
}
auto members(const EngineOptions& engine) {
  const auto& [threads, max_memory, max_connections, drain_timeout] = engine;
  return std::tie(threads, max_memory, max_connections, drain_timeout);
}
auto members(const LogOptions& log) {
  const auto& [level, format] = log;
  return std::tie(level, format);
}

template <class Section, std::size_t count>
void add_changes(const Section& running, const Section& wanted, const char* const (&keys)[count],
                 std::vector<std::string>& out) {
  const auto before = members(running), after = members(wanted);
  static_assert(std::tuple_size_v<decltype(before)> == count);
  const auto add = [&]<std::size_t... at>(std::index_sequence<at...>) {
    ((keys[at] != nullptr && std::get<at>(before) != std::get<at>(after)
          ? void(out.emplace_back(keys[at]))
          : void()),
     ...);
  };
  add(std::make_index_sequence<count>());
}

}  // namespace

std::vector<std::string> keys_for_restart(const Options& running, const Options& wanted) {
  std::vector<std::string> keys;
  constexpr const char* taken_over = nullptr;
  add_changes(running.store, wanted.store,
              {"store.path", "store.durability", taken_over, "store.max_bytes",
               "store.failed_max_age", "store.failed_max_bytes"},
              keys);
  add_changes(running.intake, wanted.intake,
              {"intake.listen", "intake.token_file", "intake.max_body", "intake.max_hook",
               "intake.id_window"},
              keys);
  add_changes(
      running.engine, wanted.engine,
      {"engine.threads", "engine.max_memory", "engine.max_connections", "engine.drain_timeout"},
      keys);
  add_changes(running.log, wanted.log, {"log.level", "log.format"}, keys);
  return keys;
}

}  // namespace postbag
