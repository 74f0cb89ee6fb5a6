#include "postbag/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/config_support.h"

namespace postbag {
namespace {

using namespace std::chrono_literals;
using namespace test;
using testing::StartsWith;

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
      {"retry.max_interval: ",
       [](Options& o) {
         o.defaults.retry.backoff = Backoff::exponential;
         o.defaults.retry.retry_interval = 2h;
       }},
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
