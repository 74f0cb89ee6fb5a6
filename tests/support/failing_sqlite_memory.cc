#include "tests/support/failing_sqlite_memory.h"

#include <sqlite3.h>

#include <stdexcept>

namespace postbag::test {
namespace {

sqlite3_mem_methods system_memory{};
bool armed = false;
std::uint64_t seen = 0, first = 0, failures_left = 0, failed = 0;
std::int64_t given_out = 0;

bool fails_now() {
  if (!armed) return false;
  if (seen++ < first || failures_left == 0) return false;
  --failures_left;
  ++failed;
  return true;
}

void* allocate(int bytes) {
  if (fails_now()) return nullptr;
  void* memory = system_memory.xMalloc(bytes);
  if (memory != nullptr) ++given_out;
  return memory;
}

void give_back(void* memory) {
  if (memory != nullptr) --given_out;
  system_memory.xFree(memory);
}

void* resize(void* memory, int bytes) {
  return fails_now() ? nullptr : system_memory.xRealloc(memory, bytes);
}

}  // namespace

void FailingSqliteMemory::install() {
  if (system_memory.xMalloc != nullptr) return;
  if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory) != SQLITE_OK) {
    throw std::runtime_error("SQLite is in use already");
  }
  sqlite3_mem_methods methods = system_memory;
  methods.xMalloc = allocate;
  methods.xFree = give_back;
  methods.xRealloc = resize;
  if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK ||
      sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) != SQLITE_OK ||
      sqlite3_config(SQLITE_CONFIG_PAGECACHE, nullptr, 0, 0) != SQLITE_OK) {
    throw std::runtime_error("SQLite takes no allocator");
  }
}

void FailingSqliteMemory::arm(std::uint64_t nth, std::uint64_t failures) {
  seen = failed = 0;
  first = nth;
  failures_left = failures;
  armed = true;
}

std::uint64_t FailingSqliteMemory::disarm() {
  armed = false;
  return failed;
}

std::uint64_t FailingSqliteMemory::allocations() {
  return seen;
}

std::int64_t FailingSqliteMemory::outstanding() {
  return given_out;
}

}  // namespace postbag::test
