#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace postbag {

// What every command takes.
struct CommonArguments {
  std::optional<std::string> config;  // -c; nothing: ./postbag.toml where it exists
  bool json = false;
};

// Which failed hooks; texts as typed. failed_filter.h makes a FailedFilter of them.
struct FilterArguments {
  std::string target;  // glob
  std::optional<std::string> group, event;
  std::optional<int> status;
  std::string reason;
  std::string since, until;  // RFC 3339, or an age: "1h"
  std::vector<std::string> ids;
  std::optional<std::uint64_t> limit;
};

struct ServeArguments : CommonArguments {
  bool accept_loss = false;
};
struct SendArguments : CommonArguments {
  std::string target;      // empty: the lines are intake objects
  std::string file = "-";  // "-": standard input
  bool durable = false;
};
struct ListenArguments : CommonArguments {
  std::uint16_t port = 8421;
  int status = 200;
  std::uint64_t fail_first = 0;
  std::string delay;
  bool hang = false, drop = false, bodies = false;
};
struct DemoArguments : CommonArguments {};
struct RetryArguments : CommonArguments {
  FilterArguments filter;
  std::optional<std::uint32_t> retries;
  bool dry_run = false;
};
struct FailedListArguments : CommonArguments {
  FilterArguments filter;
};
struct FailedShowArguments : CommonArguments {
  std::string id;
};
struct FailedExportArguments : CommonArguments {
  FilterArguments filter;
  std::string file = "-";
};
struct FailedPurgeArguments : CommonArguments {
  FilterArguments filter;
  bool all = false;
};
struct CancelArguments : CommonArguments {
  std::string target;
};
struct StoreCheckArguments : CommonArguments {};
struct StoreSalvageArguments : CommonArguments {
  std::string file;
};
struct StoreBackupArguments : CommonArguments {
  std::string file;
};
struct StatusArguments : CommonArguments {};
struct FlushArguments : CommonArguments {
  std::string target;
};
struct ConfigInitArguments : CommonArguments {};
struct ConfigCheckArguments : CommonArguments {};
struct ConfigShowArguments : CommonArguments {};
struct VersionArguments : CommonArguments {};

using CommandArguments =
    std::variant<std::monostate, ServeArguments, SendArguments, ListenArguments, DemoArguments,
                 RetryArguments, FailedListArguments, FailedShowArguments, FailedExportArguments,
                 FailedPurgeArguments, CancelArguments, StoreCheckArguments, StoreSalvageArguments,
                 StoreBackupArguments, StatusArguments, FlushArguments, ConfigInitArguments,
                 ConfigCheckArguments, ConfigShowArguments, VersionArguments>;

struct ParsedArguments {
  CommandArguments command;  // monostate: nothing to run, `exit_code` and the texts say why
  int exit_code = 0;
  std::string out, err;  // for standard output (help that was asked for), for standard error
};

// Pure: reads no file and no environment. Whatever is wrong with the arguments is exit code 64.
ParsedArguments parse_arguments(int argc, const char* const* argv);

}  // namespace postbag
