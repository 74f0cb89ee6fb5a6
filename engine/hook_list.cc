#include "postbag/hook.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/pure/json.h"

namespace postbag {
namespace {

// A block begins with its size, so that clear() can keep the largest one; then bytes for copies,
// then padding, which makes json_padding bytes behind every copy readable without a check.
constexpr std::size_t block_head_bytes = sizeof(std::size_t);
constexpr std::size_t first_block_bytes = 4 << 10;
constexpr std::size_t block_bytes_max = 256 << 10;
// A body from here on gets a block of its own: it would waste the rest of the open one.
constexpr std::size_t big_bytes = 32 << 10;
// What a reusable list may hold on to.
constexpr std::size_t kept_bytes_max = 1 << 20;

std::unique_ptr<char[]> make_block(std::size_t bytes) {
  auto block = std::make_unique_for_overwrite<char[]>(block_head_bytes + bytes + json_padding);
  std::memcpy(block.get(), &bytes, sizeof bytes);
  return block;
}

std::size_t block_bytes(const std::unique_ptr<char[]>& block) {
  std::size_t bytes = 0;
  std::memcpy(&bytes, block.get(), sizeof bytes);
  return bytes;
}

}  // namespace

HookList::HookList() = default;
HookList::~HookList() = default;

HookList::HookList(HookList&& other) noexcept {
  *this = std::move(other);
}

HookList& HookList::operator=(HookList&& other) noexcept {
  if (this == &other) return *this;
  // Blocks, header vectors and owners move as they are, so every view stays valid.
  entries_ = std::exchange(other.entries_, {});
  headers_ = std::exchange(other.headers_, {});
  blocks_ = std::exchange(other.blocks_, {});
  free_ = std::exchange(other.free_, nullptr);
  free_bytes_ = std::exchange(other.free_bytes_, 0);
  owner_ = std::exchange(other.owner_, {});
  more_owners_ = std::exchange(other.more_owners_, {});
  body_bytes_ = std::exchange(other.body_bytes_, 0);
  return *this;
}

std::string_view HookList::copy(std::string_view bytes) {
  if (bytes.empty()) return {};
  if (bytes.size() > free_bytes_) {
    if (bytes.size() >= big_bytes) {
      blocks_.push_back(make_block(bytes.size()));
      char* own = blocks_.back().get() + block_head_bytes;
      std::memcpy(own, bytes.data(), bytes.size());
      return {own, bytes.size()};
    }
    // Doubling: a list of one hook stays small, a list of many takes few allocations.
    const std::size_t last = blocks_.empty() ? 0 : block_bytes(blocks_.back());
    const std::size_t wanted = std::clamp(last * 2, first_block_bytes, block_bytes_max);
    free_bytes_ = std::max(wanted, bytes.size());
    blocks_.push_back(make_block(free_bytes_));
    free_ = blocks_.back().get() + block_head_bytes;
  }
  char* const begin = free_;
  std::memcpy(begin, bytes.data(), bytes.size());
  free_ += bytes.size();
  free_bytes_ -= bytes.size();
  return {begin, bytes.size()};
}

std::span<const HeaderView> HookList::copy_headers(std::span<const HeaderView> headers, bool deep) {
  if (headers.empty()) return {};
  std::vector<HeaderView>& copies = headers_.emplace_back(headers.begin(), headers.end());
  if (deep) {
    for (HeaderView& header : copies) header = {copy(header.name), copy(header.value)};
  }
  return copies;
}

void HookList::add(const HookView& hook) {
  HookView view;
  // Hooks mostly come in runs of one target; a view's bytes are not ours to share.
  if (!entries_.empty() && entries_.back().copied && entries_.back().view.target == hook.target) {
    view.target = entries_.back().view.target;
  } else {
    view.target = copy(hook.target);
  }
  view.body = copy(hook.body);
  view.event = copy(hook.event);
  view.group = copy(hook.group);
  view.id = copy(hook.id);
  view.content_type = copy(hook.content_type);
  view.headers = copy_headers(hook.headers, true);
  entries_.push_back({view, false, true});
  body_bytes_ += hook.body.size();
}

void HookList::add(std::string_view target, std::string_view body) {
  HookView view;
  view.target = target;
  view.body = body;
  add(view);
}

void HookList::adopt(std::shared_ptr<const void> owner) {
  if (owner_) more_owners_.push_back(std::move(owner));
  if (!owner_) owner_ = std::move(owner);
}

void HookList::add_view(const HookView& hook) {
  add_entry(hook, false);
}

void HookList::add_checked_view(const HookView& hook) {
  add_entry(hook, true);
}

void HookList::add_entry(const HookView& hook, bool checked) {
  Entry& entry = entries_.emplace_back(Entry{hook, checked, false});
  if (!hook.headers.empty()) entry.view.headers = copy_headers(hook.headers, false);
  body_bytes_ += hook.body.size();
}

void HookList::set_target(std::size_t index, std::string_view canonical) {
  entries_[index].view.target = copy(canonical);
}

void HookList::clear() {
  entries_.clear();
  headers_.clear();
  owner_.reset();
  more_owners_.clear();
  body_bytes_ = 0;
  std::unique_ptr<char[]> keep;
  for (std::unique_ptr<char[]>& block : blocks_) {
    if (block_bytes(block) > kept_bytes_max) continue;
    if (!keep || block_bytes(block) > block_bytes(keep)) keep = std::move(block);
  }
  blocks_.clear();
  free_ = nullptr;
  free_bytes_ = 0;
  if (!keep) return;
  blocks_.push_back(std::move(keep));
  free_bytes_ = block_bytes(blocks_.back());
  free_ = blocks_.back().get() + block_head_bytes;
}

}  // namespace postbag
