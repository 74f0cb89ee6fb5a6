#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <system_error>

#include "cli/commands/commands.h"
#include "cli/daemon_answers.h"
#include "cli/document.h"
#include "cli/exit_codes.h"
#include "cli/failed_filter.h"
#include "cli/failed_pages.h"
#include "cli/failed_text.h"
#include "cli/intake/answers.h"
#include "cli/progress.h"
#include "cli/store_access.h"
#include "cli/table.h"
#include "cli/text/json_writer.h"
#include "engine/shell/clock.h"

namespace postbag {

namespace {

constexpr std::uint64_t list_rows_default = 100;
constexpr std::size_t table_rows_max = 1000;

// The file that export writes to: a new one of mode 0600, as it holds payloads and header values.
class ExportFile {
 public:
  ExportFile(const std::string& path, Console& console) : console_(console) {
    if (path == "-") return;
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
      const int error = errno;
      throw CommandError(error == EACCES ? exit_permission : exit_cannot_create,
                         "cannot create " + path + ": " + std::generic_category().message(error));
    }
    file_.reset(fdopen(fd, "w"));
  }

  void write(const std::string& line) {
    if (!file_) return console_.print_line(line);
    if (std::fprintf(file_.get(), "%s\n", line.c_str()) < 0) fail();
  }
  void finish() {
    if (file_ && std::fclose(file_.release()) != 0) fail();
  }

 private:
  [[noreturn]] static void fail() { throw CommandError(exit_io, "cannot write the export"); }
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  Console& console_;
  std::unique_ptr<std::FILE, Close> file_;
};

std::uint64_t purge_store(Store& store, const FailedFilter& filter,
                          std::optional<std::uint64_t> limit, Console& console) {
  ProgressBar bar(console, "purge");
  std::optional<FailedKey> after, next;
  std::uint64_t purged = 0;
  do {
    std::uint64_t now = 0;
    SliceLimits limits;
    if (limit) limits.rows = std::min<std::uint64_t>(limits.rows, *limit - purged);
    if (const auto error = store.purge_failed(filter, after, limits, {}, now, next)) {
      throw CommandError(exit_code_of(error), "cannot delete: " + error.message());
    }
    purged += now;
    bar.update(purged, 0);
    after = next;
  } while (next && (!limit || purged < *limit));
  // The scan's last slice is synced; where the limit ended it there was none.
  if (next) {
    if (const auto error = store.commit(StoreGroup{}, CommitLevel::sync)) {
      throw CommandError(exit_code_of(error), "cannot delete: " + error.message());
    }
  }
  return purged;
}

}  // namespace

int run_failed_list(const FailedListArguments& arguments, Console& console) {
  const FailedFilter filter = to_failed_filter(arguments.filter, wall_now_ms());
  const Options options = load_command_options(arguments).options;
  StoreHolder holder = open_daemon_or_store(options, StoreUse::look, console);
  const std::uint64_t limit = arguments.filter.limit.value_or(list_rows_default);
  // One row more than asked for tells whether there are more.
  FailedPages pages(holder, filter, limit + 1);
  std::vector<FailedHook> rows;
  std::vector<std::vector<std::string>> table = {failed_table_head()};
  std::uint64_t shown = 0;
  bool more = false;
  if (arguments.json) console.print("{\"failed\":[");
  while (pages.next(rows)) {
    for (const FailedHook& row : rows) {
      more = shown == limit;
      if (more) break;
      if (arguments.json) {
        console.print((shown > 0 ? "," : "") + failed_json(row));
      } else {
        table.push_back(failed_table_row(row));
      }
      ++shown;
    }
    // A long list is not held back for the width of its last row.
    if (table.size() > table_rows_max) {
      console.print(render_table(table, {4, 6}));
      table.resize(1);
    }
  }
  if (arguments.json) {
    console.print_line(std::string("],\"more\":") + (more ? "true" : "false") + "}");
  } else if (table.size() > 1) {
    console.print(render_table(table, {4, 6}));
  }
  console.say(counted(shown, "failed hook") + (more ? "; there are more (--limit)" : ""));
  return exit_ok;
}

int run_failed_show(const FailedShowArguments& arguments, Console& console) {
  FilterArguments by_id;
  by_id.ids = {arguments.id};
  const FailedFilter filter = to_failed_filter(by_id, wall_now_ms());
  const Options options = load_command_options(arguments).options;
  StoreHolder holder = open_daemon_or_store(options, StoreUse::look, console);
  FailedPages pages(holder, filter, 1);
  std::vector<FailedHook> rows;
  while (pages.next(rows)) {
    if (rows.empty()) continue;
    if (arguments.json) {
      console.print_line(failed_json(rows.front()));
    } else {
      console.print(failed_details(rows.front()));
    }
    return exit_ok;
  }
  throw CommandError(exit_no_input, "no failed hook has the id " + arguments.id);
}

int run_failed_export(const FailedExportArguments& arguments, Console& console) {
  const FailedFilter filter = to_failed_filter(arguments.filter, wall_now_ms());
  const Options options = load_command_options(arguments).options;
  StoreHolder holder = open_daemon_or_store(options, StoreUse::look, console);
  FailedPages pages(holder, filter, arguments.filter.limit, true);
  ExportFile file(arguments.file, console);
  ProgressBar bar(console, "export");
  std::vector<FailedHook> rows;
  std::uint64_t exported = 0, damaged = 0;
  while (pages.next(rows)) {
    for (const FailedHook& row : rows) {
      if (const auto line = export_line(row)) {
        file.write(*line);
        ++exported;
      } else {
        ++damaged;
      }
    }
    bar.update(exported, 0);
  }
  file.finish();
  // Standard output holds the lines; the document goes there only if they go to a file.
  if (arguments.json && arguments.file != "-") {
    print_document(console, [&](JsonWriter& json) {
      json.member("exported", exported);
      json.member("damaged", damaged);
    });
  }
  console.say("exported " + counted(exported, "failed hook") +
              (damaged > 0 ? "; left out " + counted(damaged, "damaged row") : ""));
  return damaged == 0 ? exit_ok : exit_bad_data;
}

int run_failed_purge(const FailedPurgeArguments& arguments, Console& console) {
  const FailedFilter filter = to_failed_filter(arguments.filter, wall_now_ms());
  const std::optional<std::uint64_t> limit = arguments.filter.limit;
  if (filter.empty() && !arguments.all) {
    throw CommandError(exit_usage, "failed purge deletes for good: name a filter, or --all");
  }
  if (!filter.empty() && arguments.all) {
    throw CommandError(exit_usage, "failed purge: a filter and --all contradict each other");
  }
  const Options options = load_command_options(arguments).options;
  StoreHolder holder = open_daemon_or_store(options, StoreUse::change, console);
  PurgeResult result;
  if (holder.daemon) {
    ControlRequest request;
    request.method = "DELETE";
    const std::string query = (arguments.all ? "all=true" : filter_query(filter)) +
                              (limit ? "&limit=" + std::to_string(*limit) : "");
    set_query(request, "/v1/failed", query);
    request.may_take_long = true;
    const ControlAnswer answer = holder.daemon->send(request);
    expect_success(answer);
    result.purged = json_number(answer.body, "purged");
    result.claimed = json_number(answer.body, "claimed");
  } else {
    result.purged = purge_store(*holder.store, filter, limit, console);
  }
  if (arguments.json) console.print_line(purge_answer(result).body);
  std::string said = "deleted " + counted(result.purged, "failed hook");
  if (result.claimed > 0) {
    said += "; " + std::to_string(result.claimed) + " more stay, as a retry run has them now";
  }
  console.say(said);
  return exit_ok;
}

}  // namespace postbag
