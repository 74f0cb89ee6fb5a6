#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "cli/store_access.h"
#include "postbag/store.h"

namespace postbag {

// Reads failed rows, oldest first, a page at a time and so in bounded memory, from whoever holds
// the store. The holder must outlive it. Failures are CommandErrors.
class FailedPages {
 public:
  // `header_values`: rows of a daemon have those of all headers, else "***".
  FailedPages(StoreHolder& holder, FailedFilter filter, std::optional<std::uint64_t> limit,
              bool header_values = false);

  // The next rows; false at the end. A page may be empty.
  bool next(std::vector<FailedHook>& rows);

 private:
  bool next_of_store(std::vector<FailedHook>& rows);
  bool next_of_daemon(std::vector<FailedHook>& rows);

  StoreHolder& holder_;
  FailedFilter filter_;
  std::optional<std::uint64_t> left_;
  std::optional<FailedKey> after_;
  std::string cursor_;
  bool ended_ = false;
  const bool header_values_;
};

}  // namespace postbag
