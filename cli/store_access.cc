#include "cli/store_access.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "cli/daemon_answers.h"
#include "cli/exit_codes.h"
#include "postbag/error.h"
#include "postbag/sqlite_store.h"

namespace postbag {

namespace {

constexpr const char* default_config_file = "postbag.toml";

// What is the store's fault is told by the code; the status says little about it.
std::optional<Errc> store_error_of(std::string_view code) {
  for (const Errc errc :
       {Errc::disk_low, Errc::store_failed, Errc::store_busy, Errc::store_corrupt,
        Errc::store_newer, Errc::store_cannot_create, Errc::store_permission, Errc::store_io}) {
    if (code == error_token(errc)) return errc;
  }
  return std::nullopt;
}

int exit_code_of_status(int status) {
  switch (status) {
    case 401:
    case 403:
      return exit_permission;
    case 404:
      return exit_no_input;
    case 409:
      return exit_cannot_create;
    case 503:
      return exit_unavailable;
    case 507:
      return exit_io;
    default:
      return status >= 500 ? exit_system : exit_bad_data;
  }
}

CommandError command_error(const StoreError& error, const std::string& path) {
  if (error.code() == make_error_code(Errc::not_found)) return no_such_store(path);
  std::string message = error.what();
  if (error.code() == make_error_code(Errc::store_busy)) {
    message = "another process holds " + located(path) +
              "; wait until it has ended, and never run sqlite3 on a live store";
  }
  return {exit_code_of(error.code()), message};
}

}  // namespace

std::optional<std::string> config_file_of(const CommonArguments& arguments) {
  const std::string path = arguments.config.value_or(default_config_file);
  if (!arguments.config && access(path.c_str(), F_OK) != 0) return std::nullopt;
  if (access(path.c_str(), R_OK) != 0) {
    const int error = errno;
    throw CommandError(error == EACCES ? exit_permission : exit_no_input,
                       path + ": " + std::generic_category().message(error));
  }
  return path;
}

LoadedOptions load_command_options(const CommonArguments& arguments) {
  const auto file = config_file_of(arguments);
  if (file) return load_options(*file);
  return LoadedOptions{default_options(), {}, {}};
}

std::string located(const std::string& path) {
  std::error_code error;
  if (path.starts_with('/')) return path;
  const std::filesystem::path directory = std::filesystem::current_path(error);
  return error ? path : path + " (in " + directory.string() + ")";
}

CommandError no_such_store(const std::string& path) {
  return {exit_no_input, "store " + located(path) + ": no such file"};
}

std::string control_socket_path(const Options& options) {
  return options.store.path + ".sock";
}

std::optional<ControlClient> connect_daemon(const Options& options) {
  return ControlClient::connect(control_socket_path(options));
}

ControlClient require_daemon(const Options& options, const std::string& command) {
  auto daemon = connect_daemon(options);
  if (!daemon) {
    throw CommandError(exit_unavailable, command + " needs a running daemon; none answers at " +
                                             located(control_socket_path(options)));
  }
  return std::move(*daemon);
}

std::unique_ptr<Store> open_store_alone(const Options& options, bool create, bool accept_loss,
                                        bool count_pending, bool upgrade) {
  SqliteStoreOptions store;
  store.path = options.store.path;
  store.max_bytes = options.store.max_bytes;
  store.create = create;
  store.accept_loss = accept_loss;
  store.count_pending = count_pending;
  store.upgrade = upgrade;
  try {
    return open_sqlite_store(store);
  } catch (const StoreError& error) {
    throw command_error(error, store.path);
  }
}

namespace {

// Who has the store may be a daemon that cannot be reached.
CommandError with_socket(const CommandError& error, const Options& options) {
  if (error.exit_code() != exit_store_busy) return error;
  return {exit_store_busy, std::string(error.what()) + " (if it is a daemon: none answers at " +
                               located(control_socket_path(options)) +
                               "; it makes the socket anew within 10 s if it was removed)"};
}

}  // namespace

std::optional<ControlClient> daemon_or_alone(const Options& options,
                                             const std::function<void()>& alone) {
  auto daemon = connect_daemon(options);
  if (daemon) return daemon;
  try {
    alone();
  } catch (const StoreError& error) {
    // A daemon that has just come up holds the store before its socket listens.
    if (error.code() == make_error_code(Errc::store_busy)) daemon = connect_daemon(options);
    if (!daemon) throw with_socket(command_error(error, options.store.path), options);
  } catch (const CommandError& error) {
    if (error.exit_code() == exit_store_busy) daemon = connect_daemon(options);
    if (!daemon) throw with_socket(error, options);
  }
  return daemon;
}

StoreHolder open_daemon_or_store(const Options& options, StoreUse use, Console& console) {
  StoreHolder holder;
  holder.daemon = daemon_or_alone(options, [&] {
    holder.store =
        open_store_alone(options, use == StoreUse::send, false, true, use != StoreUse::look);
  });
  if (holder.store && use != StoreUse::send) say_noticed(console, *holder.store);
  return holder;
}

void say_noticed(Console& console, const Store& store) {
  for (const std::string& warning : store.info().warnings) {
    console.say("warning: " + printable(warning));
  }
}

int exit_code_of_daemon(std::string_view code, int status) {
  if (const auto errc = store_error_of(code)) return exit_code_of(make_error_code(*errc));
  return exit_code_of_status(status);
}

void expect_success(const ControlAnswer& answer) {
  if (answer.ok()) return;
  const DaemonError error = parse_daemon_error(answer.body);
  throw CommandError(exit_code_of_daemon(error.code, answer.status),
                     "the daemon answered " + std::to_string(answer.status) +
                         (error.code.empty() ? "" : " " + error.code) +
                         (error.message.empty() ? "" : ": " + printable(error.message)));
}

std::string ask_status(ControlClient& daemon) {
  ControlRequest request;
  request.path = "/v1/status";
  ControlAnswer answer = daemon.send(request);
  expect_success(answer);
  return std::move(answer.body);
}

void say_waiting_hooks(Console& console, const Store& store) {
  const std::uint64_t waiting = store.info().pending_hooks;
  if (waiting == 0) return;
  console.say(counted(waiting, "hook") + " of an earlier run " + (waiting == 1 ? "waits" : "wait") +
              " in the store; only `postbag serve` delivers what waits there");
}

}  // namespace postbag
