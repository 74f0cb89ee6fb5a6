#include "postbag/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/keys.h"
#include "tests/support/config_support.h"

namespace postbag {
namespace {

using namespace std::chrono_literals;
using namespace test;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

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
  EXPECT_THAT(
      refusal("[retry]\nretry_interval = \"5\"\n"),
      StartsWith("t.toml:2:18: retry.retry_interval: \"5\" has no unit; allowed is seconds"));
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
        "\"::/1\", \"8000::/1\"", "\"::ffff:0.0.0.0/97\", \"::ffff:128.0.0.0/97\"",
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
  // The cap was blamed, in line 1, where the file does not name it.
  EXPECT_THAT(refusal("[retry]\n" + keys + "backoff = \"exponential\"\n"),
              StartsWith("t.toml:2:18: retry.retry_interval: 2h is more than max_interval (1h, the "
                         "default); allowed "));
  EXPECT_THAT(refusal("[retry]\n" + keys + "backoff = \"exponential\"\nmax_interval = 5\n"),
              StartsWith("t.toml:4:16: retry.max_interval: 5s is less than retry_interval (2h); "
                         "allowed "));
  const std::string block = "[[target]]\nurl = \"https://example.com/\"\n";
  EXPECT_THAT(
      refusal("[retry]\n" + keys + block + "backoff = \"exponential\"\n"),
      StartsWith("t.toml:5:11: target[0].backoff: is \"exponential\", and max_interval (1h, "
                 "the default) is less than retry_interval (2h); allowed "));
  EXPECT_THAT(
      refusal("[retry]\nmax_interval = \"90m\"\n" + block + keys + "backoff = \"exponential\"\n"),
      StartsWith("t.toml:5:18: target[0].retry_interval: 2h is more than max_interval "
                 "(90m); allowed "));
  EXPECT_EQ(refusal("[retry]\n" + keys + "backoff = \"exponential\"\nmax_interval = \"3h\"\n"), "");
}

TEST(ConfigFiles, MustBeReadableAndHaveSomethingInThem) {
  const TempFile empty("");
  const TempFile blank("\n \n");
  const TempFile good_ca(pem);
  const TempFile good_tokens("\nabc\n");
  const TempFile commented("abc\n# old\n");
  const TempFile many(std::string(1000, '\n') + "abc");
  const TempFile long_line(std::string(4097, 'a'));
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
      {"intake.token_file", commented.path(), "line 2 is no bearer token"},
      {"intake.token_file", many.path(), "has over 1000 lines"},
      {"intake.token_file", long_line.path(), "one of over 4096 bytes"},
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
  // What was good here ended the start.
  const std::string secret = "two words";
  const TempFile no_tokens("abc\n" + secret + "\n");
  const std::string message =
      refusal("[intake]\ntoken_file = " + quote_toml(no_tokens.path()) + "\n");
  EXPECT_THAT(message, AllOf(StartsWith("t.toml:2:14: intake.token_file: "),
                             HasSubstr(" line 2 is no bearer token: "), Not(HasSubstr(secret))));
  EXPECT_THAT(refusal("[[target]]\nurl = \"https://example.com/\"\nca_file = \"not/there\"\n"),
              StartsWith("t.toml:3:11: target[0].ca_file: "));
}

}  // namespace
}  // namespace postbag
