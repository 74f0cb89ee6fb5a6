#include <charconv>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "config/keys.h"
#include "postbag/config.h"

namespace postbag {
namespace {

constexpr std::string_view default_preamble =
    "# Configuration of Postbag: every key with its default. A key may be left out.\n"
    "# Durations: a number is seconds (fractions too), or a string as \"250ms\", \"5s\", \"10m\", "
    "\"1h\", \"7d\".\n"
    "# Sizes: a number is bytes, or a string as \"1MiB\", \"10GB\".\n";

constexpr std::string_view default_postscript =
    "\n"
    "# Policy of single targets: any key of [batch], [retry], [delivery], [network] and [tls]. A * "
    "at the end of\n"
    "# the url stands for everything that begins so; of several blocks that match, the longest url "
    "wins. A block\n"
    "# that names size or time replaces both.\n"
    "#\n"
    "# [[target]]\n"
    "# url = \"https://example.com/hooks*\"\n"
    "# size = 3\n"
    "# time = 60\n"
    "# retries = 2\n"
    "# retry_interval = 5\n";

void append_comment(std::string& out, std::string_view comment) {
  while (!comment.empty()) {
    const std::size_t end = comment.find('\n');
    out.append("# ").append(comment.substr(0, end)).append("\n");
    comment.remove_prefix(end == std::string_view::npos ? comment.size() : end + 1);
  }
}

std::string format_number(double number) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
  std::string text(buffer, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// The value of a field as TOML.
template <typename Root>
class Formatter {
 public:
  explicit Formatter(Root& root) : root_(root) {}

  std::string operator()(const FlagField<Root>& field) const {
    return field.at(root_) ? "true" : "false";
  }
  std::string operator()(const CountField<Root>& field) const {
    return std::to_string(field.at(root_));
  }
  std::string operator()(const SizeField<Root>& field) const {
    const std::string text = format_size(field.at(root_));
    const bool has_unit = text.back() < '0' || text.back() > '9';
    return has_unit ? quote_toml(text) : text;
  }
  std::string operator()(const DurationField<Root>& field) const {
    return quote_toml(format_duration(field.at(root_)));
  }
  std::string operator()(const ShareField<Root>& field) const {
    return format_number(field.at(root_));
  }
  std::string operator()(const TextField<Root>& field) const { return quote_toml(field.at(root_)); }
  std::string operator()(const ChoiceField<Root>& field) const {
    return quote_toml(field.words[field.get(root_)]);
  }
  std::string operator()(const ListField<Root>& field) const {
    std::string out;
    for (const std::string& item : field.at(root_))
      out.append(out.empty() ? "[" : ", ").append(quote_toml(item));
    return out.empty() ? "[]" : out + "]";
  }
  std::string operator()(const HeadersField<Root>& field) const {
    std::string out;
    for (const auto& [name, value] : field.at(root_)) {
      out.append(out.empty() ? "{ " : ", ").append(quote_toml(name)).append(" = ");
      out.append(quote_toml(masked_value));
    }
    return out.empty() ? "{}" : out + " }";
  }

 private:
  Root& root_;
};

template <typename Root>
void append_section(std::string& out, std::string_view section, std::span<const Key<Root>> keys,
                    Root& root, bool with_comments) {
  for (const auto& key : keys) {
    if (key.section != section) continue;
    if (with_comments) append_comment(out, key.comment);
    out.append(key.name).append(" = ");
    out.append(std::visit(Formatter<Root>(root), key.field)).append("\n");
  }
}

// The accessors of the table are for writers too, so they want an lvalue: both functions work on a
// copy.
std::string write_sections(Options options, bool with_comments) {
  std::string out;
  for (const Section& section : config_sections()) {
    if (!out.empty()) out += "\n";
    if (with_comments) append_comment(out, section.comment);
    out.append("[").append(section.name).append("]\n");
    append_section(out, section.name, option_keys(), options, with_comments);
    append_section(out, section.name, policy_keys(), options.defaults, with_comments);
  }
  return out;
}

// True if the block's key differs from the defaults. Header values count, though they are masked in
// the text.
struct Differs {
  TargetPolicy& a;
  TargetPolicy& b;

  template <typename Kind>
  bool operator()(const Kind& field) const {
    if constexpr (std::is_same_v<Kind, ChoiceField<TargetPolicy>>) {
      return field.get(a) != field.get(b);
    } else {
      return field.at(a) != field.at(b);
    }
  }
};

// Only what the block changes: the rest is read above it.
void append_target(std::string& out, TargetBlock block, TargetPolicy defaults) {
  out.append("\n[[target]]\nurl = ").append(quote_toml(block.url + (block.prefix ? "*" : "")));
  out.append("\n");
  const bool pair = block.policy.batch.size != defaults.batch.size ||
                    block.policy.batch.time != defaults.batch.time;
  for (const auto& key : policy_keys()) {
    const bool in_pair = key.section == "batch" && (key.name == "size" || key.name == "time");
    if (in_pair ? pair : std::visit(Differs{block.policy, defaults}, key.field)) {
      out.append(key.name).append(" = ");
      out.append(std::visit(Formatter<TargetPolicy>(block.policy), key.field)).append("\n");
    }
  }
}

}  // namespace

std::string default_config_text() {
  std::string out(default_preamble);
  out.append("\n").append(write_sections(default_options(), true));
  return out.append(default_postscript);
}

std::string effective_config_text(const Options& options) {
  std::string out = write_sections(options, false);
  for (const TargetBlock& block : options.targets) append_target(out, block, options.defaults);
  return out;
}

}  // namespace postbag
