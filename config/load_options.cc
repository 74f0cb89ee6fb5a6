#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "config/field_reader.h"
#include "config/file_checks.h"
#include "config/keys.h"
#include "config/toml_reader.h"
#include "postbag/config.h"

namespace postbag {
namespace {

constexpr std::size_t config_file_bytes_max = 16 << 20;

// Finds `name` in the table (of one section, or of all if `section` is empty) and reads it.
template <typename Root>
bool read_key(std::span<const Key<Root>> keys, std::string_view section, const TomlMember& member,
              Source& source, const std::string& path, Root& root) {
  for (const Key<Root>& key : keys) {
    if (key.name == member.key && (section.empty() || key.section == section)) {
      source.remember(path, member.node.position);
      std::visit(FieldReader<Root>(source, path, member.node, root), key.field);
      return true;
    }
  }
  return false;
}

// What a table may hold, for the message about an unknown key; and where the key belongs, if it is
// known elsewhere.
std::string unknown_key(std::string_view section, std::string_view name) {
  std::string allowed = section.empty() ? "url" : "";
  std::string elsewhere;
  auto visit = [&](const auto& keys, bool in_blocks) {
    for (const auto& key : keys) {
      if (section.empty() ? in_blocks : key.section == section)
        allowed.append(allowed.empty() ? "" : ", ").append(key.name);
      if (key.name == name) {
        elsewhere.append(elsewhere.empty() ? "; it is a key of [" : ", [");
        elsewhere.append(key.section).append("]");
      }
    }
  };
  visit(option_keys(), false);
  visit(policy_keys(), true);
  return "unknown key; allowed are " + allowed + elsewhere;
}

class Reader {
 public:
  explicit Reader(const std::string& file_name) : source_(file_name) {
    loaded_.options = default_options();
  }

  LoadedOptions read(const TomlNode& document) {
    const TomlMember* targets = nullptr;
    for (const TomlMember& member : std::get<TomlTable>(document.value)) {
      if (member.key == "target") {
        targets = &member;  // over the defaults, so after them
      } else {
        read_section(member);
      }
    }
    check_backoff(loaded_.options.defaults.retry, "retry");
    note_pair("batch", loaded_.options.defaults.batch);
    if (targets != nullptr) read_targets(targets->node);
    if (const auto problem = validate_options(loaded_.options)) source_.fail_at_path(*problem);
    note_process();
    return std::move(loaded_);
  }

 private:
  void read_section(const TomlMember& member) {
    std::string allowed;
    for (const Section& section : config_sections())
      allowed.append("[").append(section.name).append("], ");
    const std::string path = show_key(member.key);
    const auto known = [&](const Section& section) { return section.name == member.key; };
    if (std::none_of(config_sections().begin(), config_sections().end(), known)) {
      const bool is_table = std::holds_alternative<TomlTable>(member.node.value);
      source_.fail(member.position, path,
                   "unknown " + std::string(is_table ? "section" : "key outside of a section") +
                       "; allowed are " + allowed + "[[target]]");
    }
    const auto* table = std::get_if<TomlTable>(&member.node.value);
    if (table == nullptr) {
      source_.fail(
          member.node.position, path,
          "is " + std::string(type_name(member.node)) + "; allowed is a table, [" + path + "]");
    }
    source_.remember(path, member.node.position);
    Options& options = loaded_.options;
    start_pair(*table, options.defaults.batch, member.key == "batch");
    for (const TomlMember& key : *table) {
      const std::string key_path = path + "." + show_key(key.key);
      if (!read_key(option_keys(), member.key, key, source_, key_path, options) &&
          !read_key(policy_keys(), member.key, key, source_, key_path, options.defaults)) {
        source_.fail(key.position, key_path, unknown_key(member.key, key.key));
      }
    }
    check_pair(*table, options.defaults.batch, path);
  }

  void read_targets(const TomlNode& node) {
    const auto* blocks = std::get_if<TomlArray>(&node.value);
    if (blocks == nullptr) {
      source_.fail(node.position, "target",
                   "is " + std::string(type_name(node)) + "; allowed are blocks, [[target]]");
    }
    source_.remember("target", node.position);
    std::map<std::string, std::uint32_t> lines;  // of each url
    for (const TomlNode& block : *blocks) {
      const std::string path = "target[" + std::to_string(loaded_.options.targets.size()) + "]";
      if (loaded_.options.targets.size() == Limits::target_blocks_max) {
        source_.fail(
            block.position, path,
            "one block too many; allowed are " + std::to_string(Limits::target_blocks_max));
      }
      read_target(block, path, lines);
    }
  }

  void read_target(const TomlNode& node, const std::string& path,
                   std::map<std::string, std::uint32_t>& lines) {
    const auto* table = std::get_if<TomlTable>(&node.value);
    if (table == nullptr) {
      source_.fail(node.position, path,
                   "is " + std::string(type_name(node)) + "; allowed is a table");
    }
    source_.remember(path, node.position);
    TargetBlock block;
    block.policy = loaded_.options.defaults;
    const bool names_pair = start_pair(*table, block.policy.batch, true);
    for (const TomlMember& key : *table) {
      const std::string key_path = path + "." + show_key(key.key);
      if (key.key == "url") {
        read_url(key.node, key_path, block, lines);
      } else if (!read_key(policy_keys(), {}, key, source_, key_path, block.policy)) {
        source_.fail(key.position, key_path, unknown_key({}, key.key));
      }
    }
    if (block.url.empty()) {
      source_.fail(node.position, path + ".url",
                   "is missing; allowed is a url, with or without a * at its end");
    }
    check_pair(*table, block.policy.batch, path);
    check_backoff(block.policy.retry, path);
    if (names_pair) {
      // A query may hold a secret.
      const std::string shown = block.url.substr(0, block.url.find('?'));
      note_pair(path + " (" + shown + (block.prefix ? "*" : "") + ")", block.policy.batch);
    }
    loaded_.options.targets.push_back(std::move(block));
  }

  void read_url(const TomlNode& node, const std::string& path, TargetBlock& block,
                std::map<std::string, std::uint32_t>& lines) {
    const auto* text = std::get_if<std::string>(&node.value);
    if (text == nullptr) {
      source_.fail(node.position, path,
                   "is " + std::string(type_name(node)) + "; allowed is a string");
    }
    source_.remember(path, node.position);
    std::string error;
    std::string canonical = canonical_target(*text, error);
    if (canonical.empty()) source_.fail(node.position, path, error);
    const auto [first, is_new] = lines.emplace(canonical, node.position.line);
    if (!is_new) {
      source_.fail(node.position, path,
                   "the same url as in line " + std::to_string(first->second) +
                       "; a url may have one block");
    }
    block.prefix = canonical.ends_with('*');
    if (block.prefix) canonical.pop_back();
    block.url = std::move(canonical);
  }

  // size and time are one setting of two keys: where one is named, what was there before does not
  // count.
  static bool start_pair(const TomlTable& table, BatchPolicy& batch, bool has_pair) {
    if (!has_pair || find_pair(table) == nullptr) return false;
    batch.size = 0;
    batch.time = Duration::zero();
    return true;
  }

  static const TomlMember* find_pair(const TomlTable& table) {
    const auto found = std::find_if(table.begin(), table.end(), [](const TomlMember& member) {
      return member.key == "size" || member.key == "time";
    });
    return found == table.end() ? nullptr : &*found;
  }

  void check_pair(const TomlTable& table, const BatchPolicy& batch, const std::string& path) {
    if (batch.size == 0 && batch.time == Duration::zero()) {
      const TomlMember& named = *find_pair(table);  // the defaults are not off
      source_.fail(
          named.node.position, path + "." + named.key,
          "size and time are both off, a bag would wait for ever; allowed is at least one of "
          "them above 0 (where one is named, the other is off unless it is named too)");
    }
  }

  // validate_options() knows the values, and not which of them the file names.
  void check_backoff(const RetryPolicy& retry, const std::string& path) const {
    if (retry.backoff != Backoff::exponential || retry.max_interval >= retry.retry_interval) return;
    const std::string cap_path = path + ".max_interval";
    const std::string interval = format_duration(retry.retry_interval);
    const std::string cap = format_duration(retry.max_interval);
    if (const TomlPosition* at = source_.find(cap_path)) {
      source_.fail(*at, cap_path,
                   cap + " is less than retry_interval (" + interval +
                       "); allowed with backoff \"exponential\" is at least that");
    }
    const std::string from = source_.find("retry.max_interval") != nullptr ? "" : ", the default";
    const std::string interval_path = path + ".retry_interval";
    if (const TomlPosition* at = source_.find(interval_path)) {
      source_.fail(*at, interval_path,
                   interval + " is more than max_interval (" + cap + from +
                       "); allowed with backoff \"exponential\" is at most that");
    }
    const std::string backoff_path = path + ".backoff";
    if (const TomlPosition* at = source_.find(backoff_path)) {
      source_.fail(*at, backoff_path,
                   "is \"exponential\", and max_interval (" + cap + from +
                       ") is less than retry_interval (" + interval +
                       "); allowed is \"fixed\", or a larger max_interval");
    }
  }

  void note_pair(const std::string& where, const BatchPolicy& batch) {
    if (batch.time == Duration::zero() && batch.size == 1) return;  // nothing waits
    if (batch.time == Duration::zero()) {
      loaded_.notes.push_back(
          where + ": waits without limit until " + std::to_string(batch.size) +
          " hooks are there (no time is set); a bag is cut earlier by its bytes, by "
          "a flush, at the end, and where max_memory is reached and nothing "
          "else makes room");
    } else if (batch.size == 0) {
      loaded_.notes.push_back(where + ": sends what is there after " + format_duration(batch.time) +
                              ", up to " + std::to_string(batch_size_max) +
                              " hooks a batch (no size is set)");
    }
  }

  // What works but may not be meant.
  void note_process() {
    const Options& options = loaded_.options;
    auto& notes = loaded_.notes;
    if (options.store.durability == Durability::memory) {
      notes.push_back(
          "store.durability: \"memory\": accepted hooks are lost when the process is killed");
    }
    if (!options.store.keep_failed)
      notes.push_back("store.keep_failed: false: hooks that used up their attempts are discarded");
    const std::string& listen = options.intake.listen;
    if (options.intake.token_file.empty() && !listen.starts_with("127.") &&
        !listen.starts_with("[::1]:")) {
      loaded_.warnings.push_back(
          "intake.listen: " + listen +
          " is not loopback and no token_file is set: whoever reaches it may use it");
    }
    if (!options.intake.token_file.empty() && is_readable_by_others(options.intake.token_file))
      loaded_.warnings.push_back("intake.token_file: others may read the file; chmod 600");
    note_sizes();
  }

  // Each is good alone, and cannot be reached beside the other.
  void note_sizes() {
    const Options& options = loaded_.options;
    const auto note = [&](const char* key, std::uint64_t bytes, const char* other,
                          std::uint64_t limit) {
      if (bytes <= limit) return;
      loaded_.notes.push_back(std::string(key) + ": " + format_size(bytes) + " is more than " +
                              other + " (" + format_size(limit) + ") lets in");
    };
    note("intake.max_hook", options.intake.max_hook, "intake.max_body", options.intake.max_body);
    note("intake.max_body", options.intake.max_body, "engine.max_memory",
         options.engine.max_memory);
    note("batch.bytes", options.defaults.batch.bytes, "engine.max_memory",
         options.engine.max_memory);
  }

  Source source_;
  LoadedOptions loaded_;
};

bool has_headers(const Options& options) {
  return !options.defaults.delivery.headers.empty() ||
         std::any_of(options.targets.begin(), options.targets.end(), [](const TargetBlock& block) {
           return !block.policy.delivery.headers.empty();
         });
}

}  // namespace

Options default_options() {
  Options options;
  options.store.durability = Durability::fsync;
  return options;
}

LoadedOptions parse_options(std::string_view toml, const std::string& file_name) {
  return Reader(file_name).read(parse_toml(toml, file_name));
}

LoadedOptions load_options(const std::string& path) {
  std::string error;
  const auto text = read_small_file(path, config_file_bytes_max, error);
  if (!text) throw ConfigFileError(path + ": cannot be read: " + error);
  LoadedOptions loaded = parse_options(*text, path);
  if (has_headers(loaded.options) && is_readable_by_others(path)) {
    loaded.warnings.push_back("delivery.headers: others may read the values in " + path +
                              "; chmod 600");
  }
  return loaded;
}

}  // namespace postbag
