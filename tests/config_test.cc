#include "postbag/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "config/keys.h"
#include "tests/support/config_support.h"

namespace postbag {
namespace {

using namespace std::chrono_literals;
using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;

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

struct PairCase {
  std::string keys;
  std::uint32_t size;
  Duration time;
  std::string note;  // "" = none
};

const PairCase pair_cases[] = {
    {"", 100, 1s, ""},
    {"size = 500\n", 500, 0s, "waits without limit until 500 hooks are there"},
    {"size = 1\n", 1, 0s, ""},
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

// It does not wait for them where memory is short, and said that it does.
TEST(ConfigPair, TheNoteNamesTheLimitOfTheWait) {
  EXPECT_THAT(parse_options("[batch]\nsize = 500\n", "t.toml").notes,
              ElementsAre(AllOf(HasSubstr("earlier by its bytes"),
                                HasSubstr("where max_memory is reached"))));
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
}

TEST(ConfigNotes, SizesThatCannotBeReached) {
  EXPECT_THAT(
      notes("[intake]\nmax_body = \"64KiB\"\n"),
      ElementsAre(StartsWith("intake.max_hook: 1MiB is more than intake.max_body (64KiB)")));
  EXPECT_THAT(notes("[batch]\nbytes = \"4MiB\"\n[engine]\nmax_memory = \"2MiB\"\n"),
              ElementsAre(StartsWith("intake.max_body: "), StartsWith("batch.bytes: 4MiB ")));
}

TEST(ConfigErrors, NumbersAreShownAsTheyMayHaveBeenWritten) {
  EXPECT_THAT(refusal("[batch]\ntime = 1e300\n"), HasSubstr("batch.time: 1e+300 is out of range"));
  EXPECT_THAT(refusal("[retry]\njitter = 1.1\n"), HasSubstr("retry.jitter: 1.1 is out of range"));
  EXPECT_THAT(
      refusal("[retry]\nbackoff = \"exponential\"\nmax_interval = 1\nretry_interval = 2.5\n"),
      HasSubstr("max_interval: 1s is less than retry_interval (2500ms)"));
}

// An intake that is open to everybody was a line of level info.
TEST(ConfigWarnings, WhatIsOpenToStrangers) {
  EXPECT_THAT(warnings("[intake]\nlisten = \"0.0.0.0:8420\"\n"),
              ElementsAre(StartsWith("intake.listen: ")));
  EXPECT_THAT(warnings("[intake]\nlisten = \"[::1]:8420\"\n"), IsEmpty());
  const TempFile hidden("t\n", 0600);
  EXPECT_THAT(
      warnings("[intake]\nlisten = \"0.0.0.0:8420\"\ntoken_file = " + quote_toml(hidden.path())),
      IsEmpty());
  const TempFile open("t\n", 0644);
  EXPECT_THAT(warnings("[intake]\ntoken_file = " + quote_toml(open.path())),
              ElementsAre(StartsWith("intake.token_file: ")));
}

TEST(ConfigWarnings, HeadersInAFileThatOthersMayRead) {
  const std::string text =
      "[[target]]\nurl = \"https://example.com/\"\nheaders = { X-Key = \"hunter2\" }\n";
  const TempFile open(text, 0644);
  EXPECT_THAT(load_options(open.path()).warnings, ElementsAre(StartsWith("delivery.headers: ")));
  const TempFile hidden(text, 0600);
  EXPECT_THAT(load_options(hidden.path()).warnings, IsEmpty());
  const TempFile without("[retry]\nretries = 1\n", 0644);
  EXPECT_THAT(load_options(without.path()).warnings, IsEmpty());
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
    for (auto& header : policy.delivery.headers) header.second = "value";
  };
  mask(options.defaults);
  for (auto& target : options.targets) mask(target.policy);
  std::string filled_in = text;
  for (std::size_t at = 0; (at = filled_in.find("\"***\"", at)) != std::string::npos;) {
    filled_in.replace(at, 5, "\"value\"");
  }
  EXPECT_TRUE(same(parse(filled_in), options)) << text;
  EXPECT_TRUE(same(parse(effective_config_text(default_options())), default_options()));
}

// What config show had printed was a good file, and every target got "***" for its credentials.
TEST(ConfigShow, AMaskIsNoValue) {
  const Options options = parse("[delivery]\nheaders = { \"X-Key\" = \"hunter2\" }\n");
  EXPECT_THAT(refusal(effective_config_text(options)),
              HasSubstr("delivery.headers.X-Key: is \"***\", by which config show hides a value; "
                        "allowed is the value itself"));
  EXPECT_EQ(parse("[delivery]\nheaders = { \"X-Key\" = \"****\" }\n").defaults.delivery.headers,
            (HeaderList{{"X-Key", "****"}}));
}

TEST(ConfigShow, StringsAreQuoted) {
  Options options = default_options();
  options.store.path = "a\"b\\c\td\x7f\xc3\xa9";
  EXPECT_EQ(parse(effective_config_text(options)).store.path, options.store.path);
}

}  // namespace
}  // namespace postbag
