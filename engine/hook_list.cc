#include "postbag/hook.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "postbag/json.h"

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

bool has_more(const HookView& hook) {
  return !hook.event.empty() || !hook.group.empty() || !hook.id.empty() ||
         !hook.content_type.empty() || !hook.headers.empty();
}

// Only of hooks without an id or headers of their own, which are hardly ever the same.
bool same_labels(const HookView& left, const HookView& right) {
  return left.event == right.event && left.group == right.group &&
         left.content_type == right.content_type && left.id.empty() && right.id.empty() &&
         left.headers.empty() && right.headers.empty();
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
  more_ = std::exchange(other.more_, {});
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

std::uint32_t HookList::bounded(std::size_t bytes) {
  constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
  return static_cast<std::uint32_t>(std::min(bytes, most));
}

void HookList::push(const HookView& hook, std::uint32_t more, bool checked, bool copied) {
  static_assert(sizeof(Entry) == 32);
  entries_.push_back({hook.target.data(), hook.body.data(), bounded(hook.target.size()),
                      bounded(hook.body.size()), more, checked, copied});
  body_bytes_ += hook.body.size();
}

std::uint32_t HookList::add_more(const More& more) {
  more_.push_back(more);
  return static_cast<std::uint32_t>(more_.size());
}

void HookList::add(const HookView& hook) {
  // Hooks mostly come in runs of one target and one event; a view's bytes are not ours to share.
  const bool follows_copy = !entries_.empty() && entries_.back().copied;
  const HookView last = follows_copy ? (*this)[size() - 1] : HookView();
  HookView view;
  view.target = follows_copy && last.target == hook.target ? last.target : copy(hook.target);
  view.body = copy(hook.body);
  std::uint32_t more = 0;
  if (has_more(hook)) {
    const bool is_same = follows_copy && same_labels(last, hook);
    more = is_same ? entries_.back().more
                   : add_more({copy(hook.event), copy(hook.group), copy(hook.id),
                               copy(hook.content_type), copy_headers(hook.headers, true)});
  }
  push(view, more, false, true);
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
  std::uint32_t more = 0;
  if (has_more(hook)) {
    more = add_more(
        {hook.event, hook.group, hook.id, hook.content_type, copy_headers(hook.headers, false)});
  }
  push(hook, more, checked, false);
}

void HookList::set_target(std::size_t index, std::string_view canonical) {
  const std::string_view own = copy(canonical);
  entries_[index].target = own.data();
  entries_[index].target_bytes = bounded(own.size());
}

void HookList::clear() {
  entries_.clear();
  more_.clear();
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
