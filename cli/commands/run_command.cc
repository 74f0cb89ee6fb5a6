#include <boost/system/system_error.hpp>
#include <new>
#include <stdexcept>
#include <system_error>
#include <variant>

#include "cli/commands/commands.h"
#include "cli/exit_codes.h"
#include "postbag/config.h"
#include "postbag/sqlite_store.h"

namespace postbag {

namespace {

struct Dispatch {
  Console& console;

  int operator()(const std::monostate&) { return exit_usage; }
  int operator()(const ServeArguments& arguments) { return run_serve(arguments, console); }
  int operator()(const SendArguments& arguments) { return run_send(arguments, console); }
  int operator()(const ListenArguments& arguments) { return run_listen(arguments, console); }
  int operator()(const DemoArguments& arguments) { return run_demo(arguments, console); }
  int operator()(const RetryArguments& arguments) { return run_retry(arguments, console); }
  int operator()(const FailedListArguments& arguments) {
    return run_failed_list(arguments, console);
  }
  int operator()(const FailedShowArguments& arguments) {
    return run_failed_show(arguments, console);
  }
  int operator()(const FailedExportArguments& arguments) {
    return run_failed_export(arguments, console);
  }
  int operator()(const FailedPurgeArguments& arguments) {
    return run_failed_purge(arguments, console);
  }
  int operator()(const CancelArguments& arguments) { return run_cancel(arguments, console); }
  int operator()(const StoreCheckArguments& arguments) {
    return run_store_check(arguments, console);
  }
  int operator()(const StoreSalvageArguments& arguments) {
    return run_store_salvage(arguments, console);
  }
  int operator()(const StoreBackupArguments& arguments) {
    return run_store_backup(arguments, console);
  }
  int operator()(const StatusArguments& arguments) { return run_status(arguments, console); }
  int operator()(const FlushArguments& arguments) { return run_flush(arguments, console); }
  int operator()(const ConfigInitArguments& arguments) {
    return run_config_init(arguments, console);
  }
  int operator()(const ConfigCheckArguments& arguments) {
    return run_config_check(arguments, console);
  }
  int operator()(const ConfigShowArguments& arguments) {
    return run_config_show(arguments, console);
  }
  int operator()(const VersionArguments& arguments) { return run_version(arguments, console); }
};

}  // namespace

int run_command(const CommandArguments& command, Console& console) {
  const auto fail = [&console](int code, const std::string& message) {
    console.say("postbag: " + message);
    return code;
  };
  try {
    const int code = std::visit(Dispatch{console}, command);
    console.flush();
    return code;
  } catch (const CommandError& error) {
    return fail(error.exit_code(), error.what());
  } catch (const ConfigFileError& error) {
    return fail(exit_no_input, error.what());
  } catch (const ConfigError& error) {
    return fail(exit_config, error.what());
  } catch (const StoreError& error) {
    return fail(exit_code_of(error.code()), error.what());
  } catch (const std::invalid_argument& error) {
    return fail(exit_config,
                error.what());  // the engine's constructor: options that cannot be used
  } catch (const std::system_error& error) {
    return fail(exit_code_of(error.code()), error.what());
  } catch (const boost::system::system_error& error) {  // Asio's; no std::system_error
    return fail(exit_code_of(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return fail(exit_system, "out of memory");
  } catch (const std::exception& error) {
    return fail(exit_bug, std::string("this is a bug: ") + error.what());
  }
}

}  // namespace postbag
