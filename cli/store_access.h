#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/arguments.h"
#include "cli/console.h"
#include "cli/control_client.h"
#include "cli/exit_codes.h"
#include "postbag/config.h"
#include "postbag/options.h"
#include "postbag/store.h"

namespace postbag {

// The file that a command reads: what -c names, else ./postbag.toml where it exists, else nothing
// (built-in defaults). A file named by -c that is not there is CommandError 66, one that may not be
// read 77.
std::optional<std::string> config_file_of(const CommonArguments& arguments);
// Throws ConfigError for what is in the file.
LoadedOptions load_command_options(const CommonArguments& arguments);

// A path for people: where it is relative, with the directory that it is looked for in.
std::string located(const std::string& path);
// 66: there is no store at `path`.
CommandError no_such_store(const std::string& path);

// "<store path>.sock"
std::string control_socket_path(const Options& options);
// The daemon that holds the store, if one answers.
std::optional<ControlClient> connect_daemon(const Options& options);
// The same, or CommandError 69 that says which command needs it.
ControlClient require_daemon(const Options& options, const std::string& command);

// Who has the store: a daemon, or we alone. Exactly one of the two is set.
struct StoreHolder {
  std::optional<ControlClient> daemon;
  std::unique_ptr<Store> store;
};
// What a command wants of a store that it opens alone: one that does not exist is CommandError 66
// but for `send`; one of an older schema is 78 for who looks, who leaves it as it is.
enum class StoreUse : std::uint8_t { look, change, send };
// Busy without a daemon: 75. What was noticed at open goes to standard error, but for `send`, whose
// engine logs it.
StoreHolder open_daemon_or_store(const Options& options, StoreUse use, Console& console);
// The same for what opens the store by itself and may throw StoreError.
std::optional<ControlClient> daemon_or_alone(const Options& options,
                                             const std::function<void()>& alone);
void say_noticed(Console& console, const Store& store);
// `accept_loss`: also where accepted hooks are missing, see SqliteStoreOptions.
std::unique_ptr<Store> open_store_alone(const Options& options, bool create,
                                        bool accept_loss = false, bool count_pending = true,
                                        bool upgrade = true);

// What a command ends with when the daemon says {"error": {"code": ...}} with such a status: what
// it would end with if it had met that error itself.
int exit_code_of_daemon(std::string_view code, int status);

// The answer of the daemon if it is a success, else CommandError with its message and the code that
// fits.
void expect_success(const ControlAnswer& answer);
// What a reader of daemon_answers.h found in such an answer. Throws CommandError if it is nothing.
template <typename Parsed>
Parsed expect_parsed(std::optional<Parsed> parsed) {
  if (parsed) return std::move(*parsed);
  throw CommandError(exit_unavailable, "the daemon's answer is not what was expected");
}
// The daemon's answer to GET /v1/status. Throws as expect_success().
std::string ask_status(ControlClient& daemon);

// Tells the user how many hooks of an earlier run wait in the store: only `serve` delivers them.
void say_waiting_hooks(Console& console, const Store& store);

}  // namespace postbag
