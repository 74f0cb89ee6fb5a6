#include "config/keys.h"

namespace postbag {
namespace {

using std::string_view;
using O = Options;
using P = TargetPolicy;

// In the order of the enums.
constexpr string_view durability_words[] = {"memory", "os", "fsync"};
constexpr string_view backoff_words[] = {"fixed", "exponential"};
constexpr string_view batch_format_words[] = {"json-array"};
constexpr string_view level_words[] = {"debug", "info", "warning", "error", "off"};
constexpr string_view log_format_words[] = {"text", "json"};

constexpr Section sections[] = {
    {"store", "Where accepted hooks and failed hooks are kept."},
    {"intake", "The HTTP intake of the daemon."},
    {"batch",
     "When a bag is cut into a batch. This section and [retry], [delivery], [network] and [tls] "
     "hold\n"
     "for every target; a [[target]] block may override any of their keys."},
    {"retry", "What happens after a failed attempt."},
    {"delivery", "How a batch is sent."},
    {"network",
     "Where requests may go. By default only https, and no loopback, private, link-local or "
     "otherwise\n"
     "special address."},
    {"tls", "Whom to trust."},
    {"engine", "The whole process."},
    {"log", "What the daemon tells on standard error."},
};

// Where a value lives: in a section's struct of the root.
template <auto Section, auto Value, typename Root>
auto& at(Root& root) {
  return root.*Section.*Value;
}

constexpr Key<Options> options_table[] = {
    {"store", "path", TextField<O>{at<&O::store, &StoreOptions::path>, TextRule::store_path},
     "SQLite file, relative to the working directory. The command line reaches the daemon at "
     "<path>.sock."},
    {"store", "durability",
     ChoiceField<O>{durability_words,
                    [](const O& o) { return static_cast<std::size_t>(o.store.durability); },
                    [](O& o, std::size_t i) { o.store.durability = static_cast<Durability>(i); }},
     "What \"accepted\" survives. \"fsync\": a power loss. \"os\": a kill; at a power loss at most "
     "the last\n"
     "second is lost. \"memory\": neither; only failed hooks reach the file."},
    {"store", "keep_failed", FlagField<O>{at<&O::store, &StoreOptions::keep_failed>},
     "false: hooks that used up their attempts are discarded instead of stored as failed."},
    {"store", "max_bytes",
     SizeField<O>{at<&O::store, &StoreOptions::max_bytes>, Limits::store_max_bytes},
     "Of the file and its WAL; intake answers disk_low at 90 %, the rest is for settling."},
    {"store", "failed_max_age",
     DurationField<O>{at<&O::store, &StoreOptions::failed_max_age>, Limits::store_failed_max_age},
     "Failed hooks that are older are deleted; 0 = never."},
    {"store", "failed_max_bytes",
     SizeField<O>{at<&O::store, &StoreOptions::failed_max_bytes>, Limits::store_failed_max_bytes},
     "Beyond this many bytes the oldest failed hooks are deleted; 0 = no limit."},

    {"intake", "listen", TextField<O>{at<&O::intake, &IntakeOptions::listen>, TextRule::listen},
     "Address and port; port 0 = any free one."},
    {"intake", "token_file",
     TextField<O>{at<&O::intake, &IntakeOptions::token_file>, TextRule::token_file},
     "A file with a token a line: requests then need \"Authorization: Bearer TOKEN\". \"\" = no "
     "tokens."},
    {"intake", "max_body",
     SizeField<O>{at<&O::intake, &IntakeOptions::max_body>, Limits::intake_max_body},
     "Of one request."},
    {"intake", "max_hook",
     SizeField<O>{at<&O::intake, &IntakeOptions::max_hook>, Limits::intake_max_hook},
     "Of the payload of one hook."},
    {"intake", "id_window",
     DurationField<O>{at<&O::intake, &IntakeOptions::id_window>, Limits::intake_id_window},
     "How long ids given by producers are remembered, so that a repeated call is not delivered "
     "twice."},

    {"engine", "threads",
     CountField<O>{at<&O::engine, &EngineOptions::threads>, Limits::engine_threads},
     "Threads that deliver; 0 = number of cores - 1, at least 1."},
    {"engine", "max_memory",
     SizeField<O>{at<&O::engine, &EngineOptions::max_memory>, Limits::engine_max_memory},
     "For hooks and the state of targets; what waits beyond it is in the store only."},
    {"engine", "max_connections",
     CountField<O>{at<&O::engine, &EngineOptions::max_connections>, Limits::engine_max_connections},
     "To all targets together."},
    {"engine", "drain_timeout",
     DurationField<O>{at<&O::engine, &EngineOptions::drain_timeout>, Limits::engine_drain_timeout},
     "Longest end after SIGTERM; what is left then stays in the store."},

    {"log", "level",
     ChoiceField<O>{level_words, [](const O& o) { return static_cast<std::size_t>(o.log.level); },
                    [](O& o, std::size_t i) { o.log.level = static_cast<LogLevel>(i); }},
     "\"debug\", \"info\", \"warning\", \"error\" or \"off\"."},
    {"log", "format",
     ChoiceField<O>{log_format_words,
                    [](const O& o) { return static_cast<std::size_t>(o.log.format); },
                    [](O& o, std::size_t i) { o.log.format = static_cast<LogFormat>(i); }},
     "\"text\" for people or \"json\"."},
};

constexpr Key<TargetPolicy> policy_table[] = {
    {"batch", "size", CountField<P>{at<&P::batch, &BatchPolicy::size>, Limits::batch_size},
     "Hooks. size and time are one setting: both = whichever comes first; one of them alone, or "
     "the other\n"
     "at 0 = that one only; at most 16000. Without both keys: 100 hooks and 1 s."},
    {"batch", "time", DurationField<P>{at<&P::batch, &BatchPolicy::time>, Limits::batch_time},
     "Since the first hook of the bag came."},
    {"batch", "bytes", SizeField<P>{at<&P::batch, &BatchPolicy::bytes>, Limits::batch_bytes},
     "Of the request body; a hook that is larger goes alone."},
    {"batch", "format",
     ChoiceField<P>{batch_format_words, [](const P&) -> std::size_t { return 0; },
                    [](P&, std::size_t) {}},
     "\"json-array\": a JSON array of the payloads, byte for byte as given."},

    {"retry", "retries", CountField<P>{at<&P::retry, &RetryPolicy::retries>, Limits::retry_retries},
     "Further attempts after the first; then the hooks are stored as failed."},
    {"retry", "retry_interval",
     DurationField<P>{at<&P::retry, &RetryPolicy::retry_interval>, Limits::retry_retry_interval},
     "From the end of a failed attempt to the start of the next."},
    {"retry", "max_retrying",
     CountField<P>{at<&P::retry, &RetryPolicy::max_retrying>, Limits::retry_max_retrying},
     "Batches of a target that wait for a retry; at that number the newer ones wait unattempted."},
    {"retry", "backoff",
     ChoiceField<P>{backoff_words,
                    [](const P& p) { return static_cast<std::size_t>(p.retry.backoff); },
                    [](P& p, std::size_t i) { p.retry.backoff = static_cast<Backoff>(i); }},
     "\"fixed\", or \"exponential\": the interval doubles with every attempt up to max_interval."},
    {"retry", "max_interval",
     DurationField<P>{at<&P::retry, &RetryPolicy::max_interval>, Limits::retry_max_interval},
     "For exponential backoff; not less than retry_interval."},
    {"retry", "jitter", ShareField<P>{at<&P::retry, &RetryPolicy::jitter>, Limits::retry_jitter},
     "0.0 to 1.0: each interval is longer by up to this share of it."},

    {"delivery", "timeout",
     DurationField<P>{at<&P::delivery, &DeliveryPolicy::timeout>, Limits::delivery_timeout},
     "Of a whole attempt."},
    {"delivery", "connect_timeout",
     DurationField<P>{at<&P::delivery, &DeliveryPolicy::connect_timeout>,
                      Limits::delivery_connect_timeout},
     "Name lookup, TCP and TLS together."},
    {"delivery", "in_flight",
     CountField<P>{at<&P::delivery, &DeliveryPolicy::in_flight>, Limits::delivery_in_flight},
     "Batches of a target on the wire at once; with more than 1 their order is not promised."},
    {"delivery", "ordered", FlagField<P>{at<&P::delivery, &DeliveryPolicy::ordered>},
     "true: the next batch of a bag waits for the outcome of the one before, retries included."},
    {"delivery", "headers", HeadersField<P>{at<&P::delivery, &DeliveryPolicy::headers>},
     "Sent with every request, as { \"Authorization\" = \"Bearer ...\" }. Values are secrets: "
     "`postbag config\n"
     "show` masks them; let nobody else read this file."},

    {"network", "allow_http", FlagField<P>{at<&P::network, &NetworkPolicy::allow_http>},
     "true: targets may be http:// too."},
    {"network", "allow", ListField<P>{at<&P::network, &NetworkPolicy::allow>},
     "Opens exactly what it names, as [\"10.1.0.0/16:8080\", \"127.0.0.1\", \"localhost\"]: "
     "addresses,\n"
     "networks, host names; without a port every port."},

    {"tls", "ca_file", TextField<P>{at<&P::tls, &TlsPolicy::ca_file>, TextRule::ca_file},
     "A PEM file of certificates that are trusted in addition to the system's. \"\" = none."},
};

}  // namespace

std::span<const Section> config_sections() {
  return sections;
}
std::span<const Key<Options>> option_keys() {
  return options_table;
}
std::span<const Key<TargetPolicy>> policy_keys() {
  return policy_table;
}

std::string quote_toml(string_view text) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.append({'\\', c});
    } else if (byte < 0x20 || byte == 0x7f) {
      out.append("\\u00").append({hex[byte >> 4], hex[byte & 15]});
    } else {
      out.push_back(c);
    }
  }
  return out.append("\"");
}

}  // namespace postbag
