#include "postbag/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/keys.h"
#include "postbag/limits.h"

namespace postbag {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;

Options parse(const std::string& toml) {
  return parse_options(toml, "t.toml").options;
}

// The message of the ConfigError, or "" if the text is taken.
std::string refusal(const std::string& toml) {
  try {
    parse_options(toml, "t.toml");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> notes(const std::string& toml) {
  return parse_options(toml, "t.toml").notes;
}

// A file that lives as long as the test.
class TempFile {
 public:
  explicit TempFile(const std::string& text, mode_t mode = 0600) {
    static int count = 0;
    path_ = testing::TempDir() + "postbag_config_" + std::to_string(::getpid()) + "_" +
            std::to_string(count++);
    std::ofstream(path_, std::ios::binary) << text;
    ::chmod(path_.c_str(), mode);
  }
  ~TempFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

constexpr char pem[] = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

// The bindings stop compiling when a section gets a field that is not compared.
bool same(const StoreOptions& a, const StoreOptions& b) {
  const auto& [path, durability, keep, bytes, age, failed_bytes] = a;
  return path == b.path && durability == b.durability && keep == b.keep_failed &&
         bytes == b.max_bytes && age == b.failed_max_age && failed_bytes == b.failed_max_bytes;
}
bool same(const IntakeOptions& a, const IntakeOptions& b) {
  const auto& [listen, token_file, body, hook, window] = a;
  return listen == b.listen && token_file == b.token_file && body == b.max_body &&
         hook == b.max_hook && window == b.id_window;
}
bool same(const EngineOptions& a, const EngineOptions& b) {
  const auto& [threads, memory, connections, drain] = a;
  return threads == b.threads && memory == b.max_memory && connections == b.max_connections &&
         drain == b.drain_timeout;
}
bool same(const LogOptions& a, const LogOptions& b) {
  const auto& [level, format] = a;
  return level == b.level && format == b.format;
}
bool same(const TargetBlock& a, const TargetBlock& b) {
  const auto& [url, prefix, policy] = a;
  return url == b.url && prefix == b.prefix && policy == b.policy;
}
bool same(const Options& a, const Options& b) {
  const auto& [store, intake, defaults, targets, engine, log, own] = a;
  return same(store, b.store) && same(intake, b.intake) && defaults == b.defaults &&
         std::equal(targets.begin(), targets.end(), b.targets.begin(), b.targets.end(),
                    [](const TargetBlock& x, const TargetBlock& y) { return same(x, y); }) &&
         same(engine, b.engine) && same(log, b.log) && own == b.own_addresses;
}

TEST(ConfigDefaults, AreThoseOfTheContract) {
  const Options o = default_options();
  EXPECT_EQ(o.store.path, "postbag.db");
  EXPECT_EQ(o.store.durability, Durability::fsync);
  EXPECT_TRUE(o.store.keep_failed);
  EXPECT_EQ(o.store.max_bytes, 10ull << 30);
  EXPECT_EQ(o.store.failed_max_age, Duration::zero());
  EXPECT_EQ(o.store.failed_max_bytes, 0u);
  EXPECT_EQ(o.intake.listen, "127.0.0.1:8420");
  EXPECT_EQ(o.intake.token_file, "");
  EXPECT_EQ(o.intake.max_body, 8u << 20);
  EXPECT_EQ(o.intake.max_hook, 1u << 20);
  EXPECT_EQ(o.intake.id_window, 10min);
  EXPECT_EQ(o.defaults.batch, (BatchPolicy{100, 1s, 1 << 20}));
  EXPECT_EQ(o.defaults.retry, (RetryPolicy{5, 5s, 16, Backoff::fixed, 1h, 0}));
  EXPECT_EQ(o.defaults.delivery, (DeliveryPolicy{30s, 5s, 1, false, {}}));
  EXPECT_EQ(o.defaults.network, (NetworkPolicy{false, {}}));
  EXPECT_EQ(o.defaults.tls.ca_file, "");
  EXPECT_EQ(o.engine.threads, 0u);
  EXPECT_EQ(o.engine.max_memory, 256u << 20);
  EXPECT_EQ(o.engine.max_connections, 1024u);
  EXPECT_EQ(o.engine.drain_timeout, 30s);
  EXPECT_EQ(o.log.level, LogLevel::info);
  EXPECT_EQ(o.log.format, LogFormat::text);
  EXPECT_THAT(o.targets, IsEmpty());
  EXPECT_EQ(validate_options(o), std::nullopt);
}

TEST(ConfigDefaults, AnEmptyFileIsTheDefaults) {
  EXPECT_TRUE(same(parse(""), default_options()));
  EXPECT_TRUE(same(parse("# nothing\n[batch]\n[store]\n"), default_options()));
  EXPECT_THAT(notes(""), IsEmpty());
}

struct KeyCase {
  std::string section;
  std::string key;
  std::string value;
  std::function<bool(const Options&)> landed;
};

template <typename Get, typename Value>
std::function<bool(const Options&)> is(Get get, Value value) {
  return [get, value](const Options& o) { return get(o) == value; };
}

#define AT(member) [](const Options& o) { return o.member; }

// No value is the default, so each case fails if the key were ignored.
std::vector<KeyCase> option_cases(const std::string& token_path) {
  return {
      {"store", "path", "\"/var/lib/a.db\"", is(AT(store.path), "/var/lib/a.db")},
      {"store", "durability", "\"os\"", is(AT(store.durability), Durability::os)},
      {"store", "keep_failed", "false", is(AT(store.keep_failed), false)},
      {"store", "max_bytes", "\"2GiB\"", is(AT(store.max_bytes), 2ull << 30)},
      {"store", "failed_max_age", "\"7d\"", is(AT(store.failed_max_age), 168h)},
      {"store", "failed_max_bytes", "1000", is(AT(store.failed_max_bytes), 1000u)},
      {"intake", "listen", "\"[::1]:0\"", is(AT(intake.listen), "[::1]:0")},
      {"intake", "token_file", quote_toml(token_path), is(AT(intake.token_file), token_path)},
      {"intake", "max_body", "\"1MB\"", is(AT(intake.max_body), 1'000'000u)},
      {"intake", "max_hook", "\"64KiB\"", is(AT(intake.max_hook), 65'536u)},
      {"intake", "id_window", "0.5", is(AT(intake.id_window), 500ms)},
      {"engine", "threads", "3", is(AT(engine.threads), 3u)},
      {"engine", "max_memory", "\"1GiB\"", is(AT(engine.max_memory), 1u << 30)},
      {"engine", "max_connections", "7", is(AT(engine.max_connections), 7u)},
      {"engine", "drain_timeout", "\"2m\"", is(AT(engine.drain_timeout), 2min)},
      {"log", "level", "\"error\"", is(AT(log.level), LogLevel::error)},
      {"log", "format", "\"json\"", is(AT(log.format), LogFormat::json)},
  };
}

std::vector<KeyCase> policy_cases(const std::string& ca_path) {
  const HeaderList headers = {{"X-B", "1"}, {"X-A", "2"}};
  const std::vector<std::string> allow = {"10.1.0.0/16:8080", "127.0.0.1", "localhost"};
  return {
      {"batch", "size", "16000", is(AT(defaults.batch.size), 16'000u)},
      {"batch", "time", "60", is(AT(defaults.batch.time), 60s)},
      {"batch", "bytes", "\"2MiB\"", is(AT(defaults.batch.bytes), 2u << 20)},
      {"batch", "format", "\"json-array\"", [](const Options&) { return true; }},
      {"retry", "retries", "100000", is(AT(defaults.retry.retries), 100'000u)},
      {"retry", "retry_interval", "\"250ms\"", is(AT(defaults.retry.retry_interval), 250ms)},
      {"retry", "max_retrying", "1", is(AT(defaults.retry.max_retrying), 1u)},
      {"retry", "backoff", "\"exponential\"", is(AT(defaults.retry.backoff), Backoff::exponential)},
      {"retry", "max_interval", "\"10m\"", is(AT(defaults.retry.max_interval), 10min)},
      {"retry", "jitter", "0.25", is(AT(defaults.retry.jitter), 0.25)},
      {"delivery", "timeout", "2.5", is(AT(defaults.delivery.timeout), 2500ms)},
      {"delivery", "connect_timeout", "1", is(AT(defaults.delivery.connect_timeout), 1s)},
      {"delivery", "in_flight", "1024", is(AT(defaults.delivery.in_flight), 1024u)},
      {"delivery", "ordered", "true", is(AT(defaults.delivery.ordered), true)},
      {"delivery", "headers", "{ \"X-B\" = \"1\", X-A = \"2\" }",
       is(AT(defaults.delivery.headers), headers)},
      {"network", "allow_http", "true", is(AT(defaults.network.allow_http), true)},
      {"network", "allow", "[\"10.1.0.0/16:8080\", \"127.0.0.1\", \"localhost\"]",
       is(AT(defaults.network.allow), allow)},
      {"tls", "ca_file", quote_toml(ca_path), is(AT(defaults.tls.ca_file), ca_path)},
  };
}

TEST(ConfigKeys, EachLandsInItsField) {
  const TempFile token("secret\n");
  const TempFile ca(pem);
  auto cases = option_cases(token.path());
  for (auto& one : policy_cases(ca.path())) {
    cases.push_back(one);
  }
  std::set<std::pair<std::string, std::string>> tested;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.section + "." + one.key);
    const std::string toml = "[" + one.section + "]\n" + one.key + " = " + one.value + "\n";
    EXPECT_EQ(refusal(toml), "");
    const bool is_default = one.landed(default_options());
    EXPECT_EQ(is_default, one.key == "format" && one.section == "batch");
    EXPECT_TRUE(one.landed(parse(toml)));
    tested.emplace(one.section, one.key);
  }
  std::set<std::pair<std::string, std::string>> known;
  for (const auto& key : option_keys()) {
    known.emplace(key.section, key.name);
  }
  for (const auto& key : policy_keys()) {
    known.emplace(key.section, key.name);
  }
  EXPECT_EQ(tested, known);
}

TEST(ConfigKeys, EachPolicyKeyOverridesInATargetAndOnlyThere) {
  const TempFile ca(pem);
  for (const auto& one : policy_cases(ca.path())) {
    SCOPED_TRACE(one.key);
    const std::string toml =
        "[[target]]\nurl = \"https://example.com/\"\n" + one.key + " = " + one.value + "\n";
    ASSERT_EQ(refusal(toml), "");
    Options options = parse(toml);
    EXPECT_EQ(options.defaults, default_options().defaults);
    ASSERT_EQ(options.targets.size(), 1u);
    options.defaults = options.targets[0].policy;  // the cases look there
    EXPECT_TRUE(one.landed(options));
  }
}

TEST(ConfigKeys, OrderOfKeysAndSectionsDoesNotMatter) {
  EXPECT_TRUE(same(parse("[[target]]\nretries = 1\nurl = \"https://a.example/\"\n"
                         "[retry]\nretry_interval = 9\nretries = 7\n[batch]\ntime = 2\nsize = 3\n"),
                   parse("[batch]\nsize = 3\ntime = 2\n[retry]\nretries = 7\nretry_interval = 9\n"
                         "[[target]]\nurl = \"https://a.example/\"\nretries = 1\n")));
}

TEST(ConfigErrors, UnknownKeysInEverySectionHaveTheirPlace) {
  for (const auto& section : config_sections()) {
    const std::string name(section.name);
    EXPECT_THAT(refusal("\n[" + name + "]\n  bogus = 1\n"),
                StartsWith("t.toml:3:3: " + name + ".bogus: unknown key; allowed are "));
  }
  EXPECT_THAT(
      refusal("[[target]]\nurl = \"https://example.com/\"\nbogus = 1\n"),
      StartsWith("t.toml:3:1: target[0].bogus: unknown key; allowed are url, size, time, "));
  EXPECT_THAT(refusal("[bogus]\nsize = 1\n"),
              StartsWith("t.toml:1:2: bogus: unknown section; allowed are [store], "));
  EXPECT_THAT(refusal("size = 1\n"),
              StartsWith("t.toml:1:1: size: unknown key outside of a section; "));
  EXPECT_THAT(refusal("[batch]\n\"a\\nb\" = 1\n"),
              StartsWith("t.toml:2:1: batch.\"a\\u000Ab\": unknown key"));
}

TEST(ConfigErrors, AKeyInTheWrongSectionIsToldWhereItBelongs) {
  EXPECT_THAT(refusal("[delivery]\nretries = 1\n"), HasSubstr("it is a key of [retry]"));
  EXPECT_THAT(refusal("[engine]\nformat = \"text\"\n"), HasSubstr("it is a key of [log], [batch]"));
  // What holds for the whole process cannot be set for a target.
  EXPECT_THAT(refusal("[[target]]\nurl = \"https://example.com/\"\nthreads = 1\n"),
              HasSubstr("it is a key of [engine]"));
}

TEST(ConfigErrors, TheFirstInTheFileIsReported) {
  EXPECT_THAT(refusal("[store]\nzzz = 1\naaa = 1\n"), StartsWith("t.toml:2:1: store.zzz: "));
}

struct RefusalCase {
  std::string section;
  std::string line;
  std::string message;
};

TEST(ConfigErrors, WrongTypes) {
  const std::vector<RefusalCase> cases = {
      {"store", "path = 1", "store.path: is an integer; allowed is a string"},
      {"store", "keep_failed = 1", "store.keep_failed: is an integer; allowed is true or false"},
      {"store", "keep_failed = \"true\"",
       "store.keep_failed: is a string; allowed is true or false"},
      {"store", "max_bytes = 1.5",
       "store.max_bytes: is a number with a fraction; allowed is bytes or"},
      {"store", "durability = true",
       "store.durability: is true or false; allowed is \"memory\", \"os\", \"fsync\""},
      {"batch", "size = \"3\"", "batch.size: is a string; allowed is an integer from 0 to 16000"},
      {"batch", "size = 3.0", "batch.size: is a number with a fraction; allowed is an integer"},
      {"batch", "time = 2020-01-01",
       "batch.time: is a date or time; allowed is seconds or a string"},
      {"batch", "time = true", "batch.time: is true or false; allowed is seconds or a string"},
      {"retry", "jitter = \"0.1\"", "retry.jitter: is a string; allowed is a number from 0 to 1"},
      {"delivery", "headers = [\"a\"]",
       "delivery.headers: is an array; allowed is a table of strings"},
      {"delivery", "headers = { A = 1 }", "delivery.headers.A: is an integer; allowed is a string"},
      {"delivery", "headers.A.B = \"s\"", "delivery.headers.A: is a table; allowed is a string"},
      {"network", "allow = \"localhost\"",
       "network.allow: is a string; allowed is an array of strings"},
      {"network", "allow = [\"localhost\", 1]",
       "network.allow[1]: is an integer; allowed is a string"},
  };
  for (const auto& one : cases) {
    const std::string message = refusal("[" + one.section + "]\n" + one.line + "\n");
    EXPECT_THAT(message, StartsWith("t.toml:2:")) << one.line;
    EXPECT_THAT(message, HasSubstr(": " + one.message)) << one.line;
  }
  EXPECT_THAT(refusal("batch = 1\n"),
              StartsWith("t.toml:1:9: batch: is an integer; allowed is a table, [batch]"));
  EXPECT_THAT(refusal("[[batch]]\nsize = 1\n"),
              HasSubstr(": batch: is an array; allowed is a table"));
  EXPECT_THAT(refusal("[target]\nsize = 1\n"),
              HasSubstr(": target: is a table; allowed are blocks, [[target]]"));
  EXPECT_THAT(refusal("\n  [target.x]\n"), StartsWith("t.toml:2:3: target: "));
  EXPECT_THAT(refusal("target = [1]\n"), StartsWith("t.toml:1:11: target[0]: is an integer"));
}

TEST(ConfigErrors, HeaderValuesAreNeverRepeated) {
  const std::string long_value(5000, 's');
  for (const std::string value : {"\"hunter2\\nX: y\"", "\" hunter2\"", "\"hunter2\\u0000\""}) {
    const std::string message = refusal("[delivery]\nheaders = { X-Key = " + value + " }\n");
    EXPECT_THAT(message, StartsWith("t.toml:2:13: delivery.headers.X-Key: ")) << message;
    EXPECT_THAT(message, testing::Not(HasSubstr("hunter2")));
  }
  EXPECT_THAT(refusal("[delivery]\nheaders = { X-Key = \"" + long_value + "\" }\n"),
              testing::Not(HasSubstr("ssss")));
}

TEST(ConfigErrors, Ranges) {
  struct Case {
    std::string section;
    std::string key;
    std::vector<std::string> good;
    std::vector<std::string> bad;
  };
  const std::vector<Case> cases = {
      {"store", "max_bytes", {"65536", "\"1024TiB\""}, {"0", "65535", "-1", "\"1025TiB\""}},
      {"store", "failed_max_age", {"0", "\"36500d\""}, {"-1", "\"36501d\""}},
      {"store", "failed_max_bytes", {"0"}, {"-1"}},
      {"intake", "max_body", {"1", "\"1GiB\""}, {"0", "\"2GiB\""}},
      {"intake", "max_hook", {"1", "\"1GiB\""}, {"0", "\"2GiB\""}},
      {"intake", "id_window", {"0", "\"30d\""}, {"-0.5", "\"31d\""}},
      {"batch", "size", {"1", "16000"}, {"-1", "16001", "4294967296", "9223372036854775807"}},
      {"batch",
       "time",
       {"1e-9", "\"366d\""},
       {"-1", "-0.1", "\"367d\"", "nan", "inf", "-inf", "1e300", "1e-12", "9223372036854775807"}},
      {"batch", "bytes", {"1", "\"1GiB\""}, {"0", "1073741825"}},
      {"retry", "retries", {"0", "1000000"}, {"-1", "1000001"}},
      {"retry", "retry_interval", {"0", "\"366d\""}, {"-1", "\"367d\""}},
      {"retry", "max_retrying", {"1", "1000000"}, {"0", "1000001"}},
      {"retry", "max_interval", {"0.001", "\"366d\""}, {"0", "\"1us\"", "\"367d\""}},
      {"retry", "jitter", {"0", "1", "0.5"}, {"-0.1", "1.1", "2", "nan", "inf"}},
      {"delivery", "timeout", {"\"1ms\"", "\"1d\""}, {"0", "\"25h\""}},
      {"delivery", "connect_timeout", {"\"1ms\"", "\"1d\""}, {"0", "\"25h\""}},
      {"delivery", "in_flight", {"1", "1024"}, {"0", "1025"}},
      {"engine", "threads", {"0", "256"}, {"-1", "257"}},
      {"engine", "max_memory", {"\"64KiB\"", "\"16TiB\""}, {"0", "65535", "\"17TiB\""}},
      {"engine", "max_connections", {"1", "1000000"}, {"0", "1000001"}},
      {"engine", "drain_timeout", {"0", "\"1d\""}, {"-1", "\"25h\""}},
  };
  for (const auto& one : cases) {
    const std::string before = "[" + one.section + "]\n" + one.key + " = ";
    for (const auto& value : one.good) {
      EXPECT_EQ(refusal(before + value), "");
    }
    for (const auto& value : one.bad) {
      const std::string message = refusal(before + value);
      EXPECT_THAT(message, StartsWith("t.toml:2:" + std::to_string(one.key.size() + 4) + ": " +
                                      one.section + "." + one.key + ": "))
          << value;
      EXPECT_THAT(message, HasSubstr(" is out of range; allowed is ")) << value;
    }
  }
}

TEST(ConfigErrors, WordsAndTexts) {
  EXPECT_THAT(
      refusal("[log]\nlevel = \"loud\"\n"),
      StartsWith("t.toml:2:9: log.level: \"loud\" is not known; allowed is \"debug\", \"info\", "));
  EXPECT_THAT(refusal("[batch]\nformat = \"cloudevents\"\n"),
              HasSubstr("allowed is \"json-array\""));
  for (const std::string path : {"", "file:a.db?mode=memory", ":memory:", "a\\u0000b"}) {
    EXPECT_THAT(refusal("[store]\npath = \"" + path + "\"\n"),
                StartsWith("t.toml:2:8: store.path: "))
        << path;
  }
  for (const std::string listen : {"", "8420", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                   "::1:80", "127.1:80", "[::1]", "host:80", "127.0.0.1:+80"}) {
    EXPECT_THAT(refusal("[intake]\nlisten = \"" + listen + "\"\n"),
                StartsWith("t.toml:2:10: intake.listen: "))
        << listen;
  }
  EXPECT_THAT(
      refusal("[retry]\nretry_interval = \"5sec\"\n"),
      StartsWith(
          "t.toml:2:18: retry.retry_interval: \"5sec\" is not a duration; allowed is seconds"));
  EXPECT_THAT(refusal("[batch]\nbytes = \"1Mib\"\n"),
              StartsWith("t.toml:2:9: batch.bytes: \"1Mib\" is not a size; allowed is bytes"));
}

TEST(ConfigErrors, SyntaxHasItsPlace) {
  EXPECT_THAT(refusal("[batch]\nsize = \n"), StartsWith("t.toml:2:8: not valid TOML: "));
  EXPECT_THAT(refusal("[batch]\nsize = 1\nsize = 2\n"), StartsWith("t.toml:3:"));
  EXPECT_THAT(refusal("[batch]\n[batch]\n"), StartsWith("t.toml:2:"));
  EXPECT_THAT(refusal("[batch]\nsize = 99999999999999999999\n"), StartsWith("t.toml:2:"));
  EXPECT_THAT(refusal("a = \"\xff\"\n"), StartsWith("t.toml:1:"));
  EXPECT_THAT(refusal("a = " + std::string(5000, '[')), StartsWith("t.toml:1:"));
}

TEST(ConfigErrors, HeadersAndAllowAreCheckedWithTheirPlace) {
  EXPECT_THAT(refusal("[delivery]\n[delivery.headers]\nX-Good = \"1\"\nHost = \"h\"\n"),
              StartsWith("t.toml:4:1: delivery.headers.Host: "));
  EXPECT_THAT(refusal("[delivery]\nheaders = { X-A = \"1\", x-a = \"2\" }\n"),
              StartsWith("t.toml:2:11: delivery.headers: "));
  EXPECT_THAT(
      refusal("[[target]]\nurl = \"https://example.com/\"\nheaders = { \"B ad\" = \"1\" }\n"),
      StartsWith("t.toml:3:11: target[0].headers: "));
  EXPECT_THAT(refusal("[network]\nallow = [\n  \"localhost\",\n  \"10.0.0.0/33\",\n]\n"),
              StartsWith("t.toml:4:3: network.allow[1]: "));
}

TEST(ConfigErrors, AnAllowListOfEverythingIsRefused) {
  for (const std::string list :
       {"\"0.0.0.0/0\"", "\"::/0\"", "\"[::]/0:80\"", "\"0.0.0.0/1\", \"128.0.0.0/1\"",
        "\"::/1\", \"8000::/1\"",
        "\"128.0.0.0/2\", \"0.0.0.0/1:80\", \"192.0.0.0/2\", \"10.0.0.0/8\""}) {
    EXPECT_THAT(refusal("[network]\nallow = [" + list + "]\n"), StartsWith("t.toml:2:")) << list;
  }
  // Nested and repeated networks do not count twice; the two families are apart.
  for (const std::string list : {"\"0.0.0.0/1\", \"0.0.0.0/1\", \"64.0.0.0/2\"",
                                 "\"0.0.0.0/1\", \"8000::/1\"", "\"10.0.0.0/8\", \"fd00::/8\""}) {
    EXPECT_EQ(refusal("[network]\nallow = [" + list + "]\n"), "") << list;
  }
}

TEST(ConfigErrors, ExponentialBackoffNeedsACapAboveTheInterval) {
  const std::string keys = "retry_interval = \"2h\"\n";
  EXPECT_EQ(refusal("[retry]\n" + keys), "");
  EXPECT_THAT(refusal("[retry]\n" + keys + "backoff = \"exponential\"\n"),
              StartsWith("t.toml:1:1: retry.max_interval: "));
  EXPECT_THAT(refusal("[retry]\n" + keys + "backoff = \"exponential\"\nmax_interval = 5\n"),
              StartsWith("t.toml:4:16: retry.max_interval: "));
  EXPECT_EQ(refusal("[retry]\n" + keys + "backoff = \"exponential\"\nmax_interval = \"3h\"\n"), "");
}

struct PairCase {
  std::string keys;
  std::uint32_t size;
  Duration time;
  std::string note;  // "" = none
};

const PairCase pair_cases[] = {
    {"", 100, 1s, ""},
    {"size = 500\n", 500, 0s, "waits without limit until 500 hooks are there"},
    {"time = 5\n", 0, 5s, "sends what is there after 5s"},
    {"size = 3\ntime = 60\n", 3, 60s, ""},
    {"time = 60\nsize = 3\n", 3, 60s, ""},
    {"size = 3\ntime = 0\n", 3, 0s, "waits without limit until 3 hooks are there"},
    {"size = 0\ntime = \"250ms\"\n", 0, 250ms, "sends what is there after 250ms"},
    {"bytes = 10\n", 100, 1s, ""},
};

void expect_note(const std::vector<std::string>& notes, const std::string& start,
                 const PairCase& one) {
  if (one.note.empty()) {
    EXPECT_THAT(notes, IsEmpty());
  } else {
    EXPECT_THAT(notes, ElementsAre(testing::AllOf(StartsWith(start), HasSubstr(one.note))));
  }
}

TEST(ConfigPair, InBatch) {
  for (const auto& one : pair_cases) {
    SCOPED_TRACE(one.keys);
    const LoadedOptions loaded = parse_options("[batch]\n" + one.keys, "t.toml");
    EXPECT_EQ(loaded.options.defaults.batch.size, one.size);
    EXPECT_EQ(loaded.options.defaults.batch.time, one.time);
    expect_note(loaded.notes, "batch: ", one);
  }
}

TEST(ConfigPair, InATargetReplacesThePairOfTheDefaults) {
  for (const auto& one : pair_cases) {
    SCOPED_TRACE(one.keys);
    const bool inherits = one.keys.empty() || one.keys == "bytes = 10\n";
    const LoadedOptions loaded = parse_options(
        "[batch]\nsize = 7\ntime = 8\n[[target]]\nurl = \"https://example.com/a?key=hunter2*\"\n" +
            one.keys,
        "t.toml");
    const BatchPolicy& batch = loaded.options.targets[0].policy.batch;
    EXPECT_EQ(batch.size, inherits ? 7 : one.size);
    EXPECT_EQ(batch.time, inherits ? 8s : one.time);
    expect_note(loaded.notes, "target[0] (https://example.com/a*): ", one);
  }
}

TEST(ConfigPair, BothOffIsRefused) {
  for (const std::string keys :
       {"size = 0\n", "time = 0\n", "time = \"0ms\"\n", "size = 0\ntime = 0\n"}) {
    EXPECT_THAT(refusal("[batch]\n" + keys),
                testing::MatchesRegex("t.toml:2:8: batch.(size|time): size and "
                                      "time are both off.*"));
    // Also where the defaults have a pair: it is replaced, not completed.
    EXPECT_THAT(refusal("[[target]]\nurl = \"https://example.com/\"\n" + keys),
                StartsWith("t.toml:3:8: target[0]."));
  }
}

TEST(ConfigTargets, OverrideSingleKeysOverTheDefaults) {
  const Options options = parse(
      "[retry]\nretries = 9\n[delivery]\nin_flight = 4\nheaders = { X-A = \"1\" }\n"
      "[[target]]\nurl = \"https://example.com/hooks*\"\nsize = 3\ntime = 60\nretries = "
      "2\nretry_interval = 5\n"
      "[[target]]\nurl = \"http://localhost:8080/x\"\nallow_http = true\nallow = [\"localhost\"]\n"
      "[target.headers]\nX-B = \"2\"\n");
  ASSERT_EQ(options.targets.size(), 2u);
  TargetPolicy first = options.defaults;
  first.batch = {3, 60s, 1 << 20};
  first.retry.retries = 2;
  EXPECT_TRUE(same(options.targets[0], {"https://example.com/hooks", true, first}));
  TargetPolicy second = options.defaults;
  second.network = {true, {"localhost"}};
  second.delivery.headers = {{"X-B", "2"}};  // a key is replaced whole
  EXPECT_TRUE(same(options.targets[1], {"http://localhost:8080/x", false, second}));
  EXPECT_EQ(options.targets[0].policy.delivery.in_flight, 4u);
  EXPECT_THAT(options.defaults.delivery.headers, ElementsAre(Pair("X-A", "1")));
}

TEST(ConfigTargets, UrlsAreCanonical) {
  struct Case {
    std::string written;
    std::string url;
    bool prefix;
  };
  const std::vector<Case> cases = {
      {"HTTPS://Example.COM", "https://example.com/", false},
      {"https://example.com.:443/A?B", "https://example.com/A?B", false},
      {"https://Example.com:443/Hooks*", "https://example.com/Hooks", true},
      {"https://example.com/*", "https://example.com/", true},
      {"https://example.com:8443/a?b=*", "https://example.com:8443/a?b=", true},
  };
  for (const auto& one : cases) {
    const Options options = parse("[[target]]\nurl = \"" + one.written + "\"\n");
    ASSERT_EQ(options.targets.size(), 1u) << one.written;
    EXPECT_EQ(options.targets[0].url, one.url);
    EXPECT_EQ(options.targets[0].prefix, one.prefix) << one.written;
  }
}

TEST(ConfigTargets, BadUrlsAreRefusedWithoutRepeatingThem) {
  for (const std::string url :
       {"", "*", "https://*", "https://example.com*", "https://example.com:8443*",
        "https://example.com?x*", "https://example.com?x/*", "https://*.example.com/",
        "https://example.com/*/x", "https://example.com/**", "ftp://example.com/",
        "example.com/hooks", "https://u:hunter2@example.com/", "https://example.com/#hunter2",
        "https://example.com/a b", "https://0x7f.1/"}) {
    const std::string message = refusal("[[target]]\nurl = \"" + url + "\"\n");
    EXPECT_THAT(message, StartsWith("t.toml:2:7: target[0].url: ")) << url;
    EXPECT_THAT(message, testing::Not(HasSubstr("hunter2"))) << url;
  }
  EXPECT_THAT(refusal("[[target]]\nsize = 1\n"),
              StartsWith("t.toml:1:1: target[0].url: is missing"));
}

TEST(ConfigTargets, TheSameUrlTwiceIsRefusedInAnySpelling) {
  auto two = [](const std::string& a, const std::string& b) {
    return refusal("[[target]]\nurl = \"" + a + "\"\n[[target]]\nurl = \"" + b + "\"\n");
  };
  EXPECT_THAT(two("https://example.com/", "https://example.com/"),
              StartsWith("t.toml:4:7: target[1].url: the same url as in line 2"));
  EXPECT_THAT(two("https://example.com/a*", "HTTPS://EXAMPLE.com:443/a*"),
              HasSubstr("the same url"));
  EXPECT_THAT(two("https://example.com", "https://example.com./"), HasSubstr("the same url"));
  EXPECT_EQ(two("https://example.com/a", "https://example.com/a*"), "");
  EXPECT_EQ(two("https://example.com/a", "https://example.com/A"), "");
}

TEST(ConfigTargets, AUrlThatItsOwnPolicyForbidsIsRefusedWithTheKeys) {
  const std::string block = "[[target]]\nurl = \"http://127.0.0.1:8080/x\"\n";
  const std::string message = refusal(block);
  EXPECT_THAT(message, StartsWith("t.toml:2:7: target[0].url: "));
  EXPECT_THAT(message, HasSubstr("allow_http"));
  EXPECT_THAT(message, HasSubstr("127.0.0.1"));
  EXPECT_NE(refusal(block + "allow_http = true\n"), "");
  EXPECT_EQ(refusal(block + "allow_http = true\nallow = [\"127.0.0.1\"]\n"), "");
  EXPECT_EQ(refusal("[network]\nallow_http = true\nallow = [\"127.0.0.0/8\"]\n" + block), "");
  EXPECT_THAT(refusal("[[target]]\nurl = \"http://example.com/*\"\n"), HasSubstr("allow_http"));
}

TEST(ConfigFiles, MustBeReadableAndHaveSomethingInThem) {
  const TempFile empty("");
  const TempFile blank("\n \n");
  const TempFile good_ca(pem);
  const TempFile good_tokens("\nabc\n");
  struct Case {
    std::string key;
    std::string path;
    std::string problem;  // "" = taken
  };
  const std::vector<Case> cases = {
      {"tls.ca_file", empty.path(), "is empty"},
      {"tls.ca_file", blank.path(), "has no PEM certificate"},
      {"tls.ca_file", good_tokens.path(), "has no PEM certificate"},
      {"tls.ca_file", testing::TempDir() + "postbag/not/there",
       "cannot be read: No such file or directory"},
      {"tls.ca_file", testing::TempDir(), "is not a regular file"},
      {"tls.ca_file", good_ca.path(), ""},
      {"tls.ca_file", "", ""},
      {"intake.token_file", empty.path(), "has no token"},
      {"intake.token_file", blank.path(), "has no token"},
      {"intake.token_file", "not/there", "cannot be read: No such file or directory"},
      {"intake.token_file", good_tokens.path(), ""},
      {"intake.token_file", "", ""},
  };
  for (const auto& one : cases) {
    const std::string message = refusal(one.key + " = " + quote_toml(one.path) + "\n");
    if (one.problem.empty()) {
      EXPECT_EQ(message, "");
    } else {
      EXPECT_THAT(message, StartsWith("t.toml:1:" + std::to_string(one.key.size() + 4) + ": " +
                                      one.key + ": "));
      EXPECT_THAT(message, HasSubstr(one.problem));
    }
  }
  EXPECT_THAT(refusal("[[target]]\nurl = \"https://example.com/\"\nca_file = \"not/there\"\n"),
              StartsWith("t.toml:3:11: target[0].ca_file: "));
}

TEST(ConfigLoad, ReadsAFileAndNamesIt) {
  const TempFile file("[batch]\nsize = 4\n");
  EXPECT_EQ(load_options(file.path()).options.defaults.batch.size, 4u);
  const TempFile bad("[batch]\nsize = -4\n");
  try {
    load_options(bad.path());
    FAIL();
  } catch (const ConfigFileError&) {
    FAIL() << "a bad value is not an unreadable file";
  } catch (const ConfigError& error) {
    EXPECT_THAT(error.what(), StartsWith(bad.path() + ":2:8: batch.size: "));
  }
}

TEST(ConfigLoad, AnUnreadableFileIsItsOwnError) {
  for (const std::string& path : {testing::TempDir() + "postbag/not/there", testing::TempDir()}) {
    try {
      load_options(path);
      FAIL() << path;
    } catch (const ConfigFileError& error) {
      EXPECT_THAT(error.what(), StartsWith(path + ": cannot be read: "));
    }
  }
}

TEST(ConfigNotes, WhatMayNotBeMeant) {
  EXPECT_THAT(notes("[store]\ndurability = \"memory\"\n"),
              ElementsAre(StartsWith("store.durability: ")));
  EXPECT_THAT(notes("[store]\nkeep_failed = false\n"),
              ElementsAre(StartsWith("store.keep_failed: ")));
  EXPECT_THAT(notes("[intake]\nlisten = \"0.0.0.0:8420\"\n"),
              ElementsAre(StartsWith("intake.listen: ")));
  EXPECT_THAT(notes("[intake]\nlisten = \"[::1]:8420\"\n"), IsEmpty());
  const TempFile hidden("t\n", 0600);
  EXPECT_THAT(
      notes("[intake]\nlisten = \"0.0.0.0:8420\"\ntoken_file = " + quote_toml(hidden.path())),
      IsEmpty());
  const TempFile open("t\n", 0644);
  EXPECT_THAT(notes("[intake]\ntoken_file = " + quote_toml(open.path())),
              ElementsAre(StartsWith("intake.token_file: ")));
}

TEST(ConfigNotes, HeadersInAFileThatOthersMayRead) {
  const std::string text =
      "[[target]]\nurl = \"https://example.com/\"\nheaders = { X-Key = \"hunter2\" }\n";
  const TempFile open(text, 0644);
  EXPECT_THAT(load_options(open.path()).notes, ElementsAre(StartsWith("delivery.headers: ")));
  const TempFile hidden(text, 0600);
  EXPECT_THAT(load_options(hidden.path()).notes, IsEmpty());
  const TempFile without("[retry]\nretries = 1\n", 0644);
  EXPECT_THAT(load_options(without.path()).notes, IsEmpty());
}

TEST(ConfigInit, HasEveryKeyWithItsDefaultAndAComment) {
  const std::string text = default_config_text();
  const LoadedOptions loaded = parse_options(text, "t.toml");
  EXPECT_TRUE(same(loaded.options, default_options()));
  EXPECT_THAT(loaded.notes, IsEmpty());
  auto expect_key = [&](const auto& key) {
    EXPECT_THAT(text, HasSubstr("\n" + std::string(key.name) + " = "));
    EXPECT_FALSE(key.comment.empty()) << key.name;
  };
  for (const auto& key : option_keys()) expect_key(key);
  for (const auto& key : policy_keys()) expect_key(key);
  // Every line is read on a terminal.
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = text.find('\n', begin);
    EXPECT_LE(end - begin, 110u) << text.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(ConfigInit, TheExampleInItIsValid) {
  const std::string text = default_config_text();
  const std::size_t start = text.find("# [[target]]");
  ASSERT_NE(start, std::string::npos);
  std::string example;
  for (std::size_t i = start; i < text.size(); ++i) {
    if (text.compare(i, 2, "# ") == 0 && text[i - 1] == '\n') {
      ++i;
    } else {
      example += text[i];
    }
  }
  const Options options = parse(example);
  ASSERT_EQ(options.targets.size(), 1u);
  EXPECT_EQ(options.targets[0].policy.batch, (BatchPolicy{3, 60s, 1 << 20}));
}

TEST(ConfigShow, ReadsBackEqualExceptForTheMasks) {
  const TempFile token("secret\n");
  const TempFile ca(pem);
  std::string toml;
  std::string block = "[[target]]\nurl = \"https://example.com/a*\"\n";
  for (const auto& one : option_cases(token.path())) {
    toml += one.section + "." + one.key + " = " + one.value + "\n";
  }
  for (const auto& one : policy_cases(ca.path())) {
    toml += one.section + "." + one.key + " = " + one.value + "\n";
  }
  toml +=
      "[[target]]\nurl = \"https://example.com/a*\"\nsize = 2\nallow = []\nheaders = { \"X-S\" = "
      "\"hunter2\" }\n"
      "[[target]]\nurl = \"https://example.com/b\"\nca_file = \"\"\nbackoff = \"fixed\"\nordered = "
      "false\n"
      "[[target]]\nurl = \"https://example.com/c\"\nheaders = {}\ntime = 0.001\njitter = 0\n";
  Options options = parse(toml);
  const std::string text = effective_config_text(options);
  EXPECT_THAT(text, testing::Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, HasSubstr("headers = { \"X-B\" = \"***\", \"X-A\" = \"***\" }"));
  auto mask = [](TargetPolicy& policy) {
    for (auto& header : policy.delivery.headers) header.second = "***";
  };
  mask(options.defaults);
  for (auto& target : options.targets) mask(target.policy);
  EXPECT_TRUE(same(parse(text), options)) << text;
  EXPECT_TRUE(same(parse(effective_config_text(default_options())), default_options()));
}

TEST(ConfigShow, StringsAreQuoted) {
  Options options = default_options();
  options.store.path = "a\"b\\c\td\x7f\xc3\xa9";
  EXPECT_EQ(parse(effective_config_text(options)).store.path, options.store.path);
}

TEST(ConfigUnits, Durations) {
  const std::vector<std::pair<std::string, Duration>> good = {
      {"0", 0s},
      {"5", 5s},
      {"0.25", 250ms},
      {"1ns", 1ns},
      {"3us", 3us},
      {"250ms", 250ms},
      {"5s", 5s},
      {"1.5h", 90min},
      {"10m", 10min},
      {"2d", 48h},
      {"0.1s", 100ms},
      {"0.123456789s", 123'456'789ns},
      {"1.000000001", 1'000'000'001ns},
      {"007s", 7s},
      {"0.0s", 0s},
      {"106751d", 106'751 * 24h},
      {"9223372036854775807ns", Duration::max()}};
  for (const auto& [text, duration] : good) {
    EXPECT_EQ(parse_duration(text), duration) << text;
  }
  for (const std::string text : {"",
                                 "s",
                                 "-1",
                                 "-1s",
                                 "+1s",
                                 " 1s",
                                 "1s ",
                                 "1 s",
                                 "1.s",
                                 ".5s",
                                 "1.5.5s",
                                 "1sec",
                                 "1S",
                                 "1H",
                                 "1min",
                                 "1w",
                                 "1h30m",
                                 "1e3",
                                 "1e3s",
                                 "0x10s",
                                 "nan",
                                 "inf",
                                 "1,5s",
                                 "106752d",
                                 "9223372036854775808ns",
                                 "18446744073709551616",
                                 "99999999999999999999999999s",
                                 "0.1ns",
                                 "0.0000000001s",
                                 "0.1234567890123456789s"}) {
    EXPECT_EQ(parse_duration(text), std::nullopt) << text;
  }
}

TEST(ConfigUnits, Sizes) {
  const std::vector<std::pair<std::string, std::uint64_t>> good = {
      {"0", 0},
      {"1", 1},
      {"512B", 512},
      {"1KiB", 1024},
      {"1KB", 1000},
      {"1kB", 1000},
      {"8MiB", 8u << 20},
      {"1MB", 1'000'000},
      {"10GiB", 10ull << 30},
      {"10GB", 10'000'000'000},
      {"2TiB", 2ull << 40},
      {"1TB", 1'000'000'000'000},
      {"1.5MiB", 1'572'864},
      {"0.5KiB", 512},
      {"18446744073709551615", std::numeric_limits<std::uint64_t>::max()}};
  for (const auto& [text, bytes] : good) {
    EXPECT_EQ(parse_size(text), bytes) << text;
  }
  for (const std::string text :
       {"", "MiB", "-1", "-1MiB", "1 MiB", "1Mib", "1mib", "1M", "1K", "1mb", "1Kb", "1MiBs", "1e6",
        "0.1B", "18446744073709551616", "16777216TiB", "1PiB"}) {
    EXPECT_EQ(parse_size(text), std::nullopt) << text;
  }
}

TEST(ConfigUnits, FormatsReadWellAndBackToTheSame) {
  const std::vector<std::pair<Duration, std::string>> durations = {
      {0s, "0s"},
      {1ns, "1ns"},
      {1500ns, "1500ns"},
      {3us, "3us"},
      {250ms, "250ms"},
      {1s, "1s"},
      {90s, "90s"},
      {60s, "1m"},
      {90min, "90m"},
      {1h, "1h"},
      {24h, "1d"},
      {36h, "36h"},
      {Duration::max(), "9223372036854775807ns"}};
  for (const auto& [duration, text] : durations) {
    EXPECT_EQ(format_duration(duration), text);
    EXPECT_EQ(parse_duration(text), duration);
  }
  const std::vector<std::pair<std::uint64_t, std::string>> sizes = {
      {0, "0"},
      {1, "1"},
      {1024, "1KiB"},
      {1000, "1KB"},
      {1 << 20, "1MiB"},
      {1536, "1536"},
      {10ull << 30, "10GiB"},
      {1'000'000, "1MB"},
      {1025, "1025"},
      {1ull << 40, "1TiB"},
      {std::numeric_limits<std::uint64_t>::max(), "18446744073709551615"}};
  for (const auto& [bytes, text] : sizes) {
    EXPECT_EQ(format_size(bytes), text);
    EXPECT_EQ(parse_size(text), bytes);
  }
}

// What an embedding program may set without a file.
using OptionChanges = std::vector<std::pair<std::string, std::function<void(Options&)>>>;

void expect_refused(const OptionChanges& changes) {
  for (const auto& [start, change] : changes) {
    Options options;
    change(options);
    EXPECT_THAT(validate_options(options).value_or(""), StartsWith(start));
  }
}

TEST(ValidateOptions, TakesTheDefaults) {
  EXPECT_EQ(validate_options(Options()), std::nullopt);
}

TEST(ValidateOptions, RefusesBadValuesByTheirKey) {
  expect_refused({
      {"batch.size: ",
       [](Options& o) {
         o.defaults.batch = {0, 0s, 100};
       }},
      {"batch.size: ", [](Options& o) { o.defaults.batch.size = 16'001; }},
      {"batch.time: ", [](Options& o) { o.defaults.batch.time = -1ns; }},
      {"batch.bytes: ", [](Options& o) { o.defaults.batch.bytes = 0; }},
      {"retry.retries: ", [](Options& o) { o.defaults.retry.retries = 1'000'001; }},
      {"retry.retry_interval: ", [](Options& o) { o.defaults.retry.retry_interval = -1s; }},
      {"retry.max_retrying: ", [](Options& o) { o.defaults.retry.max_retrying = 0; }},
      {"retry.max_interval: ", [](Options& o) { o.defaults.retry.max_interval = 0s; }},
      {"retry.jitter: ", [](Options& o) { o.defaults.retry.jitter = std::nan(""); }},
      {"delivery.timeout: ", [](Options& o) { o.defaults.delivery.timeout = 0s; }},
      {"delivery.connect_timeout: ", [](Options& o) { o.defaults.delivery.connect_timeout = 25h; }},
      {"delivery.in_flight: ", [](Options& o) { o.defaults.delivery.in_flight = 0; }},
      {"delivery.headers.Host: ",
       [](Options& o) {
         o.defaults.delivery.headers = {{"Host", "a"}};
       }},
      {"delivery.headers: ",
       [](Options& o) {
         o.defaults.delivery.headers = {{"A: b", "a"}};
       }},
      {"network.allow[0]: ", [](Options& o) { o.defaults.network.allow = {"a b"}; }},
      {"network.allow: ", [](Options& o) { o.defaults.network.allow.assign(1025, "10.0.0.1"); }},
      {"store.max_bytes: ", [](Options& o) { o.store.max_bytes = 1; }},
      {"store.failed_max_age: ", [](Options& o) { o.store.failed_max_age = -1s; }},
      {"intake.listen: ", [](Options& o) { o.intake.listen = "here"; }},
      {"intake.max_body: ", [](Options& o) { o.intake.max_body = 0; }},
      {"intake.max_hook: ", [](Options& o) { o.intake.max_hook = 0; }},
      {"intake.id_window: ", [](Options& o) { o.intake.id_window = -1s; }},
      {"engine.threads: ", [](Options& o) { o.engine.threads = 257; }},
      {"engine.max_memory: ", [](Options& o) { o.engine.max_memory = 0; }},
      {"engine.max_connections: ", [](Options& o) { o.engine.max_connections = 0; }},
      {"engine.drain_timeout: ", [](Options& o) { o.engine.drain_timeout = -1s; }},
  });
}

TEST(ValidateOptions, RefusesBadTargets) {
  expect_refused({
      {"target: ", [](Options& o) { o.targets.resize(10'001); }},
      {"target[0].size: ",
       [](Options& o) {
         o.targets = {{"https://a.example/", false, {}}};
         o.targets[0].policy.batch = {0, 0s, 1};
       }},
      {"target[0].url: ",
       [](Options& o) {
         o.targets = {{"https://A.example/", false, {}}};
       }},
      {"target[0].url: ",
       [](Options& o) {
         o.targets = {{"https://a.example/*", false, {}}};
       }},
      {"target[0].url: ",
       [](Options& o) {
         o.targets = {{"", true, {}}};
       }},
      {"target[0].url: ",
       [](Options& o) {
         o.targets = {{"http://a.example/", false, {}}};
       }},
      {"target[1].url: ",
       [](Options& o) {
         o.targets.assign(2, {"https://a.example/", false, {}});
       }},
      {"target[0].url: ",
       [](Options& o) {  // never to ourselves, whatever is allowed
         o.own_addresses = {"127.0.0.1:8420"};
         o.targets = {{"http://127.0.0.1:8420/v1/hooks", false, {}}};
         o.targets[0].policy.network = {true, {"127.0.0.1"}};
       }},
  });
}

}  // namespace
}  // namespace postbag
