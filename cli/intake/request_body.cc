#include "cli/intake/request_body.h"

#include <cstring>
#include <utility>

#include "postbag/json.h"

namespace postbag {

bool ByteBudget::try_charge(std::uint64_t bytes) {
  if (used_bytes_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_bytes_) return true;
  release(bytes);
  return false;
}

RequestBody::RequestBody(std::shared_ptr<ByteBudget> budget, std::size_t bytes)
    : budget_(std::move(budget)),
      bytes_(std::make_unique_for_overwrite<char[]>(bytes + json_padding)),
      size_(bytes) {
  std::memset(bytes_.get() + bytes, 0, json_padding);
}

RequestBody::RequestBody(std::shared_ptr<ByteBudget> budget, std::string_view bytes)
    : RequestBody(std::move(budget), bytes.size()) {
  if (!bytes.empty()) std::memcpy(bytes_.get(), bytes.data(), bytes.size());
  received_ = bytes.size();
  charged_ = bytes.size();
}

RequestBody::~RequestBody() {
  budget_->release(charged_);
}

bool RequestBody::receive(std::size_t bytes) {
  if (!budget_->try_charge(bytes)) return false;
  charged_ += bytes;
  received_ += bytes;
  return true;
}

}  // namespace postbag
