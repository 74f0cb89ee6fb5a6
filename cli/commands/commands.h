#pragma once

#include "cli/arguments.h"
#include "cli/console.h"

namespace postbag {

// One function per command, each in the file of its name. They return the exit code, or throw what
// run_command() turns into one. Blocking; call on the main thread before any other thread is made
// (signals).
int run_serve(const ServeArguments& arguments, Console& console);
int run_send(const SendArguments& arguments, Console& console);
int run_listen(const ListenArguments& arguments, Console& console);
int run_demo(const DemoArguments& arguments, Console& console);
int run_retry(const RetryArguments& arguments, Console& console);
int run_failed_list(const FailedListArguments& arguments, Console& console);
int run_failed_show(const FailedShowArguments& arguments, Console& console);
int run_failed_export(const FailedExportArguments& arguments, Console& console);
int run_failed_purge(const FailedPurgeArguments& arguments, Console& console);
int run_cancel(const CancelArguments& arguments, Console& console);
int run_store_check(const StoreCheckArguments& arguments, Console& console);
int run_store_salvage(const StoreSalvageArguments& arguments, Console& console);
int run_store_backup(const StoreBackupArguments& arguments, Console& console);
int run_status(const StatusArguments& arguments, Console& console);
int run_flush(const FlushArguments& arguments, Console& console);
int run_config_init(const ConfigInitArguments& arguments, Console& console);
int run_config_check(const ConfigCheckArguments& arguments, Console& console);
int run_config_show(const ConfigShowArguments& arguments, Console& console);
int run_version(const VersionArguments& arguments, Console& console);

// Dispatches, and turns every exception into a message on standard error and an exit code.
int run_command(const CommandArguments& command, Console& console);

}  // namespace postbag
