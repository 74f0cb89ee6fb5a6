#include "tests/support/config_support.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>

namespace postbag::test {
namespace {

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

}  // namespace

Options parse(const std::string& toml) {
  return parse_options(toml, "t.toml").options;
}

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

std::vector<std::string> warnings(const std::string& toml) {
  return parse_options(toml, "t.toml").warnings;
}

TempFile::TempFile(const std::string& text, mode_t mode) {
  static int count = 0;
  path_ = testing::TempDir() + "postbag_config_" + std::to_string(::getpid()) + "_" +
          std::to_string(count++);
  std::ofstream(path_, std::ios::binary) << text;
  ::chmod(path_.c_str(), mode);
}

TempFile::~TempFile() {
  std::remove(path_.c_str());
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

}  // namespace postbag::test
