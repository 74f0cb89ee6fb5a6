#include "cli/demo/payloads.h"

#include <array>
#include <cstdio>

#include "cli/text/json_writer.h"
#include "cli/text/rfc3339.h"

namespace postbag {

namespace {

constexpr std::array<std::string_view, 6> people = {"octocat", "mona",       "hubot",
                                                    "zoë",     "łukasz-dev", "ren\"o\"ir"};
constexpr std::array<std::string_view, 4> repositories = {"octo-org/hello-world", "octo-org/spoon",
                                                          "acme/checkout", "acme/docs"};
constexpr std::array<std::string_view, 6> messages = {
    "Fix the race between timer and size", "Update README.md\n\nThe old link was dead.",
    "Bump actions/checkout from 3 to 4",   "Traduire les messages d'erreur en français",
    "Revert \"Speed up the build\"",       "🚀 Ship it"};
constexpr std::array<std::string_view, 5> titles = {
    "Crash on start without a config file", "Support \\ in paths", "Typo in the docs",
    "Größe der Bilder stimmt nicht", "Please add dark mode 🌙"};

// splitmix64: spreads a number over 64 bits, so that hashes look like hashes.
std::uint64_t mixed(std::uint64_t number) {
  number += 0x9E3779B97F4A7C15u;
  number = (number ^ (number >> 30)) * 0xBF58476D1CE4E5B9u;
  number = (number ^ (number >> 27)) * 0x94D049BB133111EBu;
  return number ^ (number >> 31);
}

std::string sha(std::uint64_t number) {
  char text[41];
  std::snprintf(text, sizeof text, "%016llx%016llx%08x",
                static_cast<unsigned long long>(mixed(number)),
                static_cast<unsigned long long>(mixed(number ^ 0xABCDEF)),
                static_cast<unsigned>(mixed(number + 7)));
  return text;
}

template <std::size_t Size>
std::string_view pick(const std::array<std::string_view, Size>& from, std::uint64_t number) {
  return from[mixed(number) % Size];
}

void write_person(JsonWriter& json, std::string_view name, std::uint64_t number) {
  json.key(name);
  json.begin_object();
  json.member("login", pick(people, number));
  json.member("id", 1000 + mixed(number) % 9000);
  json.member("type", "User");
  json.member("site_admin", false);
  json.end_object();
}

void write_repository(JsonWriter& json, std::uint64_t number) {
  const std::string name(pick(repositories, number));
  json.key("repository");
  json.begin_object();
  json.member("id", 186'853'002 + mixed(number) % 1000);
  json.member("full_name", name);
  json.member("private", number % 3 == 0);
  json.member("html_url", "https://github.com/" + name);
  json.key("description");
  json.null();
  json.member("open_issues_count", number % 40);
  json.end_object();
}

std::string time_text(std::uint64_t number) {
  return format_rfc3339(1'750'000'000'000 + static_cast<std::int64_t>(number) * 61'007);
}

}  // namespace

DemoPayload demo_push(std::uint64_t number) {
  DemoPayload payload{"push", {}};
  JsonWriter json(payload.body);
  json.begin_object();
  json.member("ref", number % 4 == 0 ? "refs/heads/release" : "refs/heads/main");
  json.member("before", sha(number));
  json.member("after", sha(number + 1));
  json.member("delivery", number);
  json.key("commits");
  json.begin_array();
  for (std::uint64_t i = 0; i <= number % 3; ++i) {
    json.begin_object();
    json.member("id", sha(number * 10 + i));
    json.member("message", pick(messages, number + i));
    json.member("timestamp", time_text(number));
    json.member("distinct", i == 0);
    json.end_object();
  }
  json.end_array();
  write_repository(json, number);
  write_person(json, "sender", number);
  json.end_object();
  return payload;
}

DemoPayload demo_issue(std::uint64_t number) {
  DemoPayload payload{"issues", {}};
  JsonWriter json(payload.body);
  json.begin_object();
  json.member("action", number % 2 == 0 ? "opened" : "labeled");
  json.key("issue");
  json.begin_object();
  json.member("number", number);
  json.member("title", pick(titles, number));
  json.member("comments", mixed(number) % 20);
  json.member("created_at", time_text(number));
  write_person(json, "user", number + 3);
  json.end_object();
  write_repository(json, number);
  write_person(json, "sender", number);
  json.end_object();
  return payload;
}

DemoPayload demo_release(std::uint64_t number) {
  DemoPayload payload{"release", {}};
  JsonWriter json(payload.body);
  json.begin_object();
  json.member("action", "published");
  json.key("release");
  json.begin_object();
  json.member("tag_name", "v1." + std::to_string(number) + ".0");
  json.member("prerelease", number % 5 == 0);
  json.member("published_at", time_text(number));
  json.member("body", pick(messages, number));
  json.end_object();
  write_repository(json, number);
  write_person(json, "sender", number);
  json.end_object();
  return payload;
}

}  // namespace postbag
