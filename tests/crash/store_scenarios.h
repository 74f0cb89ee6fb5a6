#pragma once

#include <string>
#include <vector>

#include "tests/crash/io_bench.h"
#include "tests/support/temp_directory.h"

namespace postbag::test {

// What a scenario begins with.
enum class Begin { nothing, closed, killed, version_1 };

// Something that is done with a store, in few steps, while something fails under it.
struct StoreScenario {
  const char* name;
  Begin begin = Begin::closed;
  bool opens_itself = false;  // else it gets an open store, and the fault comes after that
  void (*run)(IoBench&);
};

const std::vector<StoreScenario>& store_scenarios();

// Stores to begin with, made once. Throws std::runtime_error.
class StoreTemplates {
 public:
  StoreTemplates();

  void copy_to(Begin begin, const std::string& folder) const;
  StoreModel model(Begin begin) const { return begin == Begin::nothing ? StoreModel() : model_; }

 private:
  void make_version_1();

  TempDirectory closed_, killed_, version_1_;
  StoreModel model_;
};

}  // namespace postbag::test
