#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "postbag/policy.h"
#include "postbag/time.h"

namespace postbag {

// What "accepted" survives. See README, "What it guarantees". With os and fsync hooks outlive the
// process: the next one delivers them only once it calls Engine::recover(), so call it before the
// first submit().
enum class Durability : std::uint8_t {
  memory,  // a drain, not a kill: only failures reach the store
  os,      // a kill; at power loss at most the last second is lost
  fsync,   // power loss too: committed with synchronous=FULL before the answer
};

std::string_view durability_name(Durability durability);

// [store]
struct StoreOptions {
  std::string path = "postbag.db";             // this and max_bytes are for who opens the store
  Durability durability = Durability::memory;  // the daemon's default is fsync (config/)
  bool keep_failed = true;
  std::uint64_t max_bytes = 10ull << 30;
  Duration failed_max_age = Duration::zero();  // 0 = no limit
  std::uint64_t failed_max_bytes = 0;          // 0 = no limit
};

// [intake], of the daemon.
struct IntakeOptions {
  std::string listen = "127.0.0.1:8420";  // address:port; port 0 = any free one
  std::string token_file;
  std::uint64_t max_body = 8 << 20;
  std::uint64_t max_hook = 1 << 20;  // bytes of one payload; holds for submit() too
  Duration id_window = std::chrono::minutes(10);
};

// [engine]
struct EngineOptions {
  std::uint32_t threads = 0;  // shards; 0 = cores - 1, at least 1
  std::uint64_t max_memory = 256ull << 20;
  std::uint32_t max_connections = 1024;
  Duration drain_timeout = std::chrono::seconds(30);
};

enum class LogLevel : std::uint8_t { debug, info, warning, error, off };
enum class LogFormat : std::uint8_t { text, json };

// [log]
struct LogOptions {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
};

// Everything that the configuration file can say. Every default is visible here and in policy.h;
// config/ is checked against them. Engine's constructor validates (validate_options).
struct Options {
  StoreOptions store;
  IntakeOptions intake;
  TargetPolicy defaults;             // [batch] [retry] [delivery] [network] [tls]
  std::vector<TargetBlock> targets;  // [[target]]
  EngineOptions engine;
  LogOptions log;
  // The daemon's own addresses ("127.0.0.1:8420"): never a target, whatever `allow` says.
  std::vector<std::string> own_addresses;
};

// Empty when the options can be used, else a message that names the key, what is wrong and what
// would be right. The key is spelled as its place in the file and ends at the first ": ":
// "batch.size", "target[0].url", "delivery.headers.NAME", "network.allow[2]". Ranges are those of
// postbag/limits.h. Opens no file.
std::optional<std::string> validate_options(const Options& options);

// The canonical text of the `url` of a [[target]] block, its closing `*` kept: scheme and host in
// lower case, no default port, no trailing dot of the host. Empty if it cannot be one, and `error`
// says why without repeating the url, which may hold a secret. A `*` stands only at the end and
// only behind scheme, host and the first '/' of the path: "https://example.com*" would also match
// "https://example.com.attacker.example/".
std::string canonical_target(std::string_view url, std::string& error);

}  // namespace postbag
