#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "postbag/limits.h"
#include "postbag/options.h"

namespace postbag {

// The one table of configuration keys: the reader, `config init` and `config show` all walk it, so
// that none of them can know a key that the others do not. Root is Options, or TargetPolicy for the
// keys that a [[target]] may override.

// How a value is written in TOML, where it lives, what it may be.
template <typename Root>
struct FlagField {
  bool& (*at)(Root&);
};
template <typename Root>
struct CountField {
  std::uint32_t& (*at)(Root&);
  Range<std::uint32_t> range;
};
template <typename Root>
struct SizeField {
  std::uint64_t& (*at)(Root&);
  Range<std::uint64_t> range;
};
template <typename Root>
struct DurationField {
  Duration& (*at)(Root&);
  Range<Duration> range;
};
template <typename Root>
struct ShareField {
  double& (*at)(Root&);
  Range<double> range;
};

// What stands for a header's value where the configuration is shown; no value in a file.
inline constexpr std::string_view masked_value = "***";

enum class TextRule { store_path, listen, token_file, ca_file };
template <typename Root>
struct TextField {
  std::string& (*at)(Root&);
  TextRule rule;
};

// One of some words; get and set speak of the word's index.
template <typename Root>
struct ChoiceField {
  std::span<const std::string_view> words;
  std::size_t (*get)(const Root&);
  void (*set)(Root&, std::size_t);
};
template <typename Root>
struct ListField {
  std::vector<std::string>& (*at)(Root&);
};
template <typename Root>
struct HeadersField {
  HeaderList& (*at)(Root&);
};

template <typename Root>
using Field = std::variant<FlagField<Root>, CountField<Root>, SizeField<Root>, DurationField<Root>,
                           ShareField<Root>, TextField<Root>, ChoiceField<Root>, ListField<Root>,
                           HeadersField<Root>>;

template <typename Root>
struct Key {
  std::string_view section;
  std::string_view name;
  Field<Root> field;
  std::string_view comment;  // for `config init`; lines end with \n but for the last
};

struct Section {
  std::string_view name;
  std::string_view comment;
};

// In the order of the file.
std::span<const Section> config_sections();
// [store] [intake] [engine] [log]
std::span<const Key<Options>> option_keys();
// [batch] [retry] [delivery] [network] [tls], and flat in [[target]]: the names are unique over the
// sections.
std::span<const Key<TargetPolicy>> policy_keys();

// A TOML basic string with its quotes; also makes a foreign key harmless in a message.
std::string quote_toml(std::string_view text);

}  // namespace postbag
