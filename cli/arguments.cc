#include "cli/arguments.h"

#include <CLI/CLI.hpp>

#include <functional>
#include <memory>
#include <sstream>
#include <utility>

#include "cli/exit_codes.h"
#include "postbag/engine.h"

namespace postbag {

namespace {

constexpr const char* top_examples = R"(Examples:
  postbag demo                          see it work, in 7 seconds
  postbag config init && postbag serve  the daemon
  postbag send hooks.ndjson             deliver the hooks of a file and end
  postbag retry-failed-hooks            deliver what failed before

Exit codes: 0 done; 1 some hooks failed, or stopped early; 64 usage; 65 bad data; 66 no such file;
  69 daemon unreachable; 70 bug; 71 system; 73 cannot create; 74 I/O; 75 store busy;
  77 permission; 78 configuration.)";

// CLI11's own says the name of a positional twice, shows how a value is checked and leaves two
// blank lines between groups of options.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    return CLI::detail::find_and_replace(CLI::Formatter::make_help(app, std::move(name), mode),
                                         "\n\n\n", "\n\n");
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_positional() || option->get_type_size() == 0) return {};
    const std::string type = option->get_type_name();
    std::string text = " " + type.substr(0, type.find(':'));
    if (option->get_expected_max() > 1) text += " ...";
    if (option->get_required()) text += " (required)";
    return text;
  }
};

// Builds the tree of commands; the chosen one leaves its arguments in `chosen`.
class ArgumentTree {
 public:
  ArgumentTree() : app_("Postbag gathers webhooks into batches and delivers them.", "postbag") {
    app_.formatter(std::make_shared<HelpFormatter>());
    app_.require_subcommand(1);
    app_.footer(top_examples);
    app_.set_version_flag("--version", std::string("postbag ").append(version()));
    app_.failure_message([](const CLI::App*, const CLI::Error& error) {
      return std::string("postbag: ") + error.what() + "\nRun with --help for more information.\n";
    });
    add_engine_commands();
    add_tool_commands();
    add_failed_commands();
    add_store_commands();
    add_config_commands();
  }

  CLI::App& app() { return app_; }
  // What is said where a command should stand and another word does; empty if all is well.
  std::string wrong_command(int argc, const char* const* argv) const;
  // Of the command that was parsed.
  CommandArguments chosen() const { return chosen_ ? chosen_() : CommandArguments(); }

 private:
  template <typename Arguments>
  CLI::App* command(CLI::App& parent, const char* name, const char* what, const char* examples,
                    std::shared_ptr<Arguments>& arguments) {
    arguments = std::make_shared<Arguments>();
    CLI::App* sub = parent.add_subcommand(name, what);
    sub->footer(std::string("Examples:\n") + examples);
    sub->add_option("-c,--config", arguments->config,
                    "Configuration file (default: ./postbag.toml where it exists)")
        ->type_name("FILE");
    sub->add_flag("--json", arguments->json, "Print one JSON document on standard output");
    sub->callback(
        [this, arguments] { chosen_ = [arguments] { return CommandArguments(*arguments); }; });
    return sub;
  }
  CLI::App* group(const char* name, const char* what, const char* examples) {
    CLI::App* sub = app_.add_subcommand(name, what);
    sub->footer(std::string("Examples:\n") + examples);
    sub->require_subcommand(1);
    return sub;
  }

  // A script whose variable is not set must not act on everything. (An empty group or event is that
  // of hooks without one.)
  static CLI::Validator not_empty() {
    return CLI::Validator(
        [](std::string& text) { return text.empty() ? std::string("is empty") : std::string(); },
        "");
  }

  static void add_filter(CLI::App* sub, FilterArguments& filter) {
    const char* part = "Filters (all that are given must hold)";
    const auto text = [&](const char* name, auto& value, const char* what, const char* type) {
      return sub->add_option(name, value, what)->type_name(type)->group(part);
    };
    text("--target", filter.target, "Target URL; * and ? stand for anything; or #HASH of the log",
         "GLOB")
        ->check(not_empty());
    text("--group", filter.group, "Group, exactly", "TEXT");
    text("--event", filter.event, "Event, exactly", "TEXT");
    sub->add_option("--status", filter.status, "Last HTTP status")
        ->check(CLI::Range(100, 999))
        ->type_name("NNN")
        ->group(part);
    text("--reason", filter.reason, "Reason: connect_refused, timeout, status_503, ...", "TOKEN")
        ->check(not_empty());
    text("--since", filter.since,
         "Failed at or after: 2026-01-31T12:00:00Z, or an age: 90s, 1h, 7d", "TIME")
        ->check(not_empty());
    text("--until", filter.until, "Failed before, likewise", "TIME")->check(not_empty());
    text("--id", filter.ids, "Hook id; may be repeated", "ID")->check(not_empty());
    sub->add_option("--limit", filter.limit, "At most so many, oldest first")
        ->check(CLI::Range(std::uint64_t{1}, UINT64_MAX - 1))
        ->type_name("N")
        ->group(part);
  }

  void add_engine_commands();
  void add_tool_commands();
  void add_failed_commands();
  void add_store_commands();
  void add_config_commands();

  CLI::App app_;
  std::function<CommandArguments()> chosen_;
};

std::string ArgumentTree::wrong_command(int argc, const char* const* argv) const {
  const CLI::App* at = &app_;
  std::string name = "postbag";
  for (int i = 1; i < argc && at->get_require_subcommand_min() > 0; ++i) {
    const std::string word = argv[i];
    if (word == "-h" || word == "--help" || word == "--version") return {};
    if (word.starts_with("-")) {
      return "postbag: options stand behind the command: " + name + " COMMAND " + word + " ...\n";
    }
    const auto commands =
        at->get_subcommands([&](const CLI::App* sub) { return sub->get_name() == word; });
    if (commands.empty()) {
      return "postbag: there is no command \"" + word + "\"; " + name + " --help lists them\n";
    }
    at = commands.front();
    name += " " + word;
  }
  return {};
}

void ArgumentTree::add_engine_commands() {
  std::shared_ptr<ServeArguments> serve;
  CLI::App* sub = command(app_, "serve", "Run the daemon: HTTP intake, delivery, control socket",
                          R"(  postbag serve
  postbag serve -c /etc/postbag.toml
  kill -HUP PID    reads targets and policies again
  kill PID         drains and ends with 0)",
                          serve);
  sub->add_flag("--accept-loss", serve->accept_loss,
                "Start even where the store's witness says that accepted hooks are missing");

  std::shared_ptr<SendArguments> send;
  sub = command(app_, "send", "Deliver the hooks of a file or of standard input, then end",
                R"(  postbag send hooks.ndjson
      lines like {"target": "https://example.com/h", "data": {"n": 1}, "event": "push"}
  tail -n 100 events.ndjson | postbag send --target https://example.com/h
Where a daemon holds the store it gets the hooks, and send waits for their outcomes.)",
                send);
  sub->add_option("--target", send->target, "Every line is one JSON payload for this URL")
      ->check(not_empty())
      ->type_name("URL");
  sub->add_option("FILE", send->file, "Lines to send; - is standard input")->type_name("FILE");
  sub->add_flag("--durable", send->durable, "Store the hooks before they are sent");

  std::shared_ptr<RetryArguments> retry;
  sub = command(app_, "retry-failed-hooks", "Deliver hooks that failed before, oldest first",
                R"(  postbag retry-failed-hooks
  postbag retry-failed-hooks --dry-run --target 'https://example.com/*' --since 1d
  postbag retry-failed-hooks --reason connect_refused --retries 0 --limit 1000
Ctrl-C stops after what is in flight, a second one at once; what was not sent keeps its row.)",
                retry);
  add_filter(sub, retry->filter);
  sub->add_option("--retries", retry->retries, "More attempts a batch, instead of the target's own")
      ->check(CLI::Range(0u, 1'000'000u))
      ->type_name("N");
  sub->add_flag("--dry-run", retry->dry_run, "Only say what would be sent");
}

void ArgumentTree::add_tool_commands() {
  std::shared_ptr<ListenArguments> listen;
  CLI::App* sub = command(app_, "listen", "A receiver on 127.0.0.1 to try things with",
                          R"(  postbag listen --port 8421
  postbag listen --fail-first 3            the first 3 requests get 503
  postbag listen --status 500 --delay 2s   every request gets 500, two seconds late
A configuration that allows it as a target: [network] allow_http = true, allow = ["127.0.0.1"].
With --json one line a request is printed, as it comes.)",
                          listen);
  sub->add_option("--port", listen->port, "Port; 0 is any free one (default 8421)")
      ->check(CLI::Range(0, 65535))
      ->type_name("N");
  sub->add_option("--status", listen->status, "Answer (default 200; of --fail-first: 503)")
      ->check(CLI::Range(200, 599))
      ->type_name("NNN");
  sub->add_option("--fail-first", listen->fail_first, "Fail the first N requests, accept the rest")
      ->check(CLI::Range(std::uint64_t{1}, UINT64_MAX - 1))
      ->type_name("N");
  sub->add_option("--delay", listen->delay, "Wait before each answer")->type_name("DURATION");
  CLI::Option* hang = sub->add_flag("--hang", listen->hang, "Never answer");
  sub->add_flag("--drop", listen->drop, "Close the connection instead of an answer")
      ->excludes(hang);
  sub->add_flag("--bodies", listen->bodies, "Print the bodies too");

  std::shared_ptr<DemoArguments> demo;
  command(app_, "demo", "Show batches, retries and failed hooks at work, on this machine alone",
          R"(  postbag demo
  postbag demo --json    the numbers of the closing table)",
          demo);

  std::shared_ptr<StatusArguments> status;
  command(app_, "status", "Numbers of the daemon; without one, of the store",
          R"(  postbag status
  postbag status --json)",
          status);

  std::shared_ptr<FlushArguments> flush;
  sub = command(app_, "flush", "Cut the daemon's bags now instead of when they are due",
                R"(  postbag flush
  postbag flush --target https://example.com/h)",
                flush);
  sub->add_option("--target", flush->target, "Only the bags of this URL")
      ->check(not_empty())
      ->type_name("URL");

  std::shared_ptr<CancelArguments> cancel;
  sub =
      command(app_, "cancel", "Move a daemon's waiting hooks to the failed ones (reason cancelled)",
              R"(  postbag cancel --target 'https://gone.example.com/*')", cancel);
  sub->add_option("--target", cancel->target,
                  "Target URL; * and ? stand for anything; or #HASH of the log")
      ->required()
      ->check(not_empty())
      ->type_name("GLOB");

  std::shared_ptr<VersionArguments> version;
  command(app_, "version", "Print the version", "  postbag version", version);
}

void ArgumentTree::add_failed_commands() {
  CLI::App* failed = group("failed", "Look at, export or delete failed hooks",
                           R"(  postbag failed list --since 1h
  postbag failed show ID
  postbag failed export > failed.ndjson
  postbag failed purge --until 30d)");

  std::shared_ptr<FailedListArguments> list;
  CLI::App* sub = command(*failed, "list", "List failed hooks, oldest first",
                          R"(  postbag failed list
  postbag failed list --target 'https://example.com/*' --status 503 --since 1h
  postbag failed list --json --limit 10)",
                          list);
  add_filter(sub, list->filter);

  std::shared_ptr<FailedShowArguments> show;
  sub = command(*failed, "show", "Show one failed hook with its body and the last answer",
                "  postbag failed show 01935a6f-7d1e-7000-8000-000000000000", show);
  sub->add_option("ID", show->id, "The hook's id")->required()->type_name("ID");

  std::shared_ptr<FailedExportArguments> exported;
  sub = command(*failed, "export", "Write failed hooks as lines that `send` reads",
                R"(  postbag failed export > failed.ndjson
  postbag failed export --target 'https://example.com/*' failed.ndjson)",
                exported);
  add_filter(sub, exported->filter);
  sub->add_option("FILE", exported->file, "A new file; - is standard output")->type_name("FILE");

  std::shared_ptr<FailedPurgeArguments> purge;
  sub = command(*failed, "purge", "Delete failed hooks for good",
                R"(  postbag failed purge --target 'https://gone.example.com/*'
  postbag failed purge --until 30d
  postbag failed purge --all)",
                purge);
  add_filter(sub, purge->filter);
  sub->add_flag("--all", purge->all, "Delete every failed hook");
}

void ArgumentTree::add_store_commands() {
  CLI::App* store = group("store", "Check, rescue or copy the store",
                          R"(  postbag store check
  postbag store salvage rescued.db
  postbag store backup postbag-$(date +%F).db)");

  std::shared_ptr<StoreCheckArguments> check;
  command(*store, "check", "Look at the structure and at every row; changes nothing",
          "  postbag store check", check);

  std::shared_ptr<StoreSalvageArguments> salvage;
  CLI::App* sub =
      command(*store, "salvage", "Copy what can be read of a damaged store to a new file",
              "  postbag store salvage rescued.db", salvage);
  sub->add_option("FILE", salvage->file, "The new file")
      ->required()
      ->check(not_empty())
      ->type_name("FILE");

  std::shared_ptr<StoreBackupArguments> backup;
  sub = command(*store, "backup", "Copy the store to a new file, also while the daemon runs",
                "  postbag store backup postbag-$(date +%F).db", backup);
  sub->add_option("FILE", backup->file, "The new file")
      ->required()
      ->check(not_empty())
      ->type_name("FILE");
}

void ArgumentTree::add_config_commands() {
  CLI::App* config = group("config", "Make, check or show the configuration",
                           R"(  postbag config init
  postbag config check -c new.toml && kill -HUP PID
  postbag config show)");

  std::shared_ptr<ConfigInitArguments> init;
  command(*config, "init", "Write a commented file of all keys; never overwrites one",
          R"(  postbag config init
  postbag config init -c /etc/postbag.toml)",
          init);
  std::shared_ptr<ConfigCheckArguments> check;
  command(*config, "check", "Say what is wrong with the file, and what its settings mean",
          R"(  postbag config check
  postbag config check -c new.toml && kill -HUP PID)",
          check);
  std::shared_ptr<ConfigShowArguments> show;
  command(*config, "show", "Print the effective values, secrets masked", "  postbag config show",
          show);
}

}  // namespace

ParsedArguments parse_arguments(int argc, const char* const* argv) {
  ParsedArguments parsed;
  ArgumentTree tree;
  if (argc <= 1) {
    parsed.err = tree.app().help();
    parsed.exit_code = exit_usage;
    return parsed;
  }
  if (std::string wrong = tree.wrong_command(argc, argv); !wrong.empty()) {
    parsed.err = std::move(wrong);
    parsed.exit_code = exit_usage;
    return parsed;
  }
  try {
    tree.app().parse(argc, argv);
    parsed.command = tree.chosen();
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    const int code = tree.app().exit(error, out, err);
    parsed.out = out.str();
    parsed.err = err.str();
    parsed.exit_code = code == 0 ? exit_ok : exit_usage;
  }
  return parsed;
}

}  // namespace postbag
