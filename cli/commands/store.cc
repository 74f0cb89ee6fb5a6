#include "postbag/store.h"

#include <unistd.h>

#include <filesystem>

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/store_access.h"
#include "cli/text/json_writer.h"
#include "postbag/error.h"
#include "postbag/sqlite_store.h"

namespace postbag {

namespace {

// The daemon holds the store: SQLite 3.40 can corrupt a WAL that two connections write, so nobody
// else opens it.
void refuse_beside_daemon(const Options& options, const char* command) {
  if (!connect_daemon(options)) return;
  throw CommandError(exit_store_busy, std::string(command) + ": a daemon holds " +
                                          located(options.store.path) + "; stop it first");
}

void refuse_missing(const std::string& path) {
  if (access(path.c_str(), F_OK) != 0) throw no_such_store(path);
}

void refuse_existing(const std::string& path) {
  if (access(path.c_str(), F_OK) == 0) {
    throw CommandError(exit_cannot_create, path + " is there already; it is not overwritten");
  }
}

std::string lost(std::uint64_t count, bool is_exact, std::string_view thing) {
  return (is_exact ? "" : "at least ") + counted(count, thing);
}

}  // namespace

int run_store_check(const StoreCheckArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  refuse_beside_daemon(options, "store check");
  refuse_missing(options.store.path);
  const std::vector<std::string> findings = check_sqlite_store(options.store.path);
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) {
      json.member("store", options.store.path);
      json.member("sound", findings.empty());
      json.key("findings");
      json.begin_array();
      for (const std::string& finding : findings) json.value(finding);
      json.end_array();
    });
  } else {
    for (const std::string& finding : findings) console.print_line(printable(finding));
  }
  console.say(options.store.path + (findings.empty() ? " is sound" : " is damaged"));
  return findings.empty() ? exit_ok : exit_bad_data;
}

int run_store_salvage(const StoreSalvageArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  refuse_beside_daemon(options, "store salvage");
  refuse_missing(options.store.path);
  refuse_existing(arguments.file);
  const SalvageReport report = salvage_sqlite_store(options.store.path, arguments.file);
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) {
      json.member("file", arguments.file);
      json.member("chunks", report.chunks);
      json.member("failed", report.failed);
      json.member("lost_chunks", report.lost_chunks);
      json.member("lost_failed", report.lost_failed);
      json.member("lost_chunks_exact", report.lost_chunks_exact);
      json.member("lost_failed_exact", report.lost_failed_exact);
    });
  }
  console.say("saved " + counted(report.chunks, "pending chunk") + " and " +
              counted(report.failed, "failed hook") + " to " + arguments.file + "; lost " +
              lost(report.lost_chunks, report.lost_chunks_exact, "chunk") + " and " +
              lost(report.lost_failed, report.lost_failed_exact, "failed hook"));
  console.say("to go on with it, put it in the place of " + options.store.path + " and remove " +
              options.store.path + "-wal");
  return report.lost_chunks + report.lost_failed == 0 ? exit_ok : exit_hooks_failed;
}

int run_store_backup(const StoreBackupArguments& arguments, Console& console) {
  const Options options = load_command_options(arguments).options;
  refuse_existing(arguments.file);
  const std::string part = arguments.file + ".part";
  if (access(part.c_str(), F_OK) == 0) {
    throw CommandError(exit_cannot_create, part +
                                               " is there already: another copy is being made, or "
                                               "one was killed; then delete it");
  }
  auto daemon =
      daemon_or_alone(options, [&] { backup_sqlite_store(options.store.path, arguments.file); });
  if (daemon) {
    // The daemon writes the file: the path must mean the same in its working directory.
    const std::string path = std::filesystem::absolute(arguments.file).string();
    ControlRequest request;
    request.method = "POST";
    request.path = "/v1/store/backup?path=" + query_escape(path);
    request.may_take_long = true;
    const ControlAnswer answer = daemon->send(request);
    if (!answer.ok()) {
      const DaemonError error = parse_daemon_error(answer.body);
      throw CommandError(
          exit_code_of_daemon(error.code, answer.status),
          "the daemon cannot copy the store to " + path + ": " + printable(error.message));
    }
  }
  if (arguments.json) {
    print_document(console, [&](JsonWriter& json) { json.member("file", arguments.file); });
  }
  console.say("copied " + options.store.path + " to " + arguments.file);
  return exit_ok;
}

}  // namespace postbag
