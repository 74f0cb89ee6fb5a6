#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "postbag/error.h"
#include "postbag/sqlite_store.h"
#include "tests/support/store_groups.h"
#include "tests/support/temp_directory.h"
#include "tests/support/whole_file.h"

namespace postbag::test {

// Flips a bit of the only place where `bytes` stand in a closed store.
inline void damage(const std::string& path, const std::string& bytes) {
  std::string content = read_file(path);
  const std::size_t at = content.find(bytes);
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(content.find(bytes, at + 1), std::string::npos);
  content[at] = static_cast<char>(content[at] ^ 1);
  write_file(path, content);
}

// What a StoreError says, if there is one.
inline std::error_code open_fails(const std::function<void()>& open, std::string* what = nullptr) {
  try {
    open();
  } catch (const StoreError& error) {
    if (what != nullptr) *what = error.what();
    return error.code();
  }
  return {};
}

// A store in a file of its own.
class SqliteStoreFixture : public ::testing::Test {
 protected:
  void open(std::uint64_t max_bytes = 10ull << 30) {
    store_.reset();
    store_ = open_sqlite_store({.path = path_, .max_bytes = max_bytes});
  }

  std::error_code open_error(std::string* what = nullptr) {
    return open_fails([this] { (void)open_sqlite_store({.path = path_}); }, what);
  }

  void commit(const StoreGroup& group) {
    const std::error_code error = store_->commit(group, CommitLevel::sync);
    ASSERT_FALSE(error) << error.message();
  }

  void append(ChunkNumber number, const std::string& data) {
    GroupBuilder group;
    group.append(number, number, {data});
    commit(group.group());
  }

  void fail(ChunkNumber number, const std::string& body) {
    GroupBuilder group;
    FailBatch& batch =
        group.fail(number, "https://a.example/", {{failed_key(number, 0), "id", "push", body}});
    batch.reason = Reason::status;
    batch.status = 500;
    batch.response_excerpt = "the excerpt";
    commit(group.group());
  }

  std::vector<ChunkNumber> pending() { return pending_chunks(*store_); }

  TempDirectory directory_;
  std::string path_ = directory_.file("postbag.db");
  std::unique_ptr<Store> store_;
};

}  // namespace postbag::test
