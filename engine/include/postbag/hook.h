#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace postbag {

// The id that the engine gives a hook or a batch: a UUIDv7 (RFC 9562 5.7) whose free bits say where
// the hook is, so that it costs no memory and no index. From the highest bit:
//
//   high: 48 bits wall time in ms, 4 version, 12 chunk number (its upper bits)
//   low:   2 bits variant, 32 chunk number (its lower bits), 14 index, 16 store tag
//
// Packing: engine/pure/hook_id.cc.
struct HookId {
  std::uint64_t high = 0;
  std::uint64_t low = 0;

  auto operator<=>(const HookId&) const = default;
  bool is_null() const { return high == 0 && low == 0; }
};

// "0190a6f2-...": 36 characters, lower case.
std::string to_string(const HookId& id);
void append_to(std::string& out, const HookId& id);
// Any 36-character UUID of version 7; nothing else.
std::optional<HookId> parse_hook_id(std::string_view text);

struct HeaderView {
  std::string_view name;
  std::string_view value;
};

// One hook as the producer offers it. Only target and body are required. Views only: whoever calls
// keeps the bytes.
struct HookView {
  std::string_view target;
  std::string_view body;   // JSON text, delivered byte for byte
  std::string_view event;  // at most 128 bytes of UTF-8 without control characters
  std::string_view group;  // at most 128 bytes; hooks of different groups never share a batch
  std::string_view id;     // [A-Za-z0-9_-]{1,64}; empty: the engine makes one
  std::string_view content_type;  // empty: application/json
  std::span<const HeaderView> headers;
};

// Hooks for one submit() call, accepted all or none. Owns (or shares) the bytes that its views
// point to, so that a payload is copied once here or not at all, and once more into its bag. Not
// thread-safe. Reusable after clear().
class HookList {
 public:
  HookList();
  ~HookList();
  HookList(HookList&&) noexcept;
  HookList& operator=(HookList&&) noexcept;

  // Copies everything the view points to.
  void add(const HookView& hook);
  void add(std::string_view target, std::string_view body);

  // Without a copy: the views must stay valid as long as `owner` (shared by adopt()) lives. The
  // engine lets go of it, on a thread of its own, when all hooks of the call are in their bags.
  void adopt(std::shared_ptr<const void> owner);
  void add_view(const HookView& hook);
  // The same, and the caller has checked that the body is valid JSON (check_json() of
  // postbag/json.h): it is not checked again.
  void add_checked_view(const HookView& hook);
  // Room for so many hooks, for who knows how many will come.
  void reserve(std::size_t hooks) { entries_.reserve(hooks); }

  std::size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  // Its views stay where they are until clear(), also when the list is moved.
  HookView operator[](std::size_t index) const;
  // Whether it came by add_checked_view().
  bool is_checked(std::size_t index) const { return entries_[index].checked; }
  // Bytes of all payloads.
  std::uint64_t body_bytes() const { return body_bytes_; }
  void clear();

 private:
  friend class Engine;
  // What most hooks have nothing of.
  struct More {
    std::string_view event;
    std::string_view group;
    std::string_view id;
    std::string_view content_type;
    std::span<const HeaderView> headers;
  };
  // Half a cache line: one core writes a call's entries and another reads them, and for small hooks
  // moving the lines between them is much of what a hook costs.
  struct Entry {
    const char* target = nullptr;
    const char* body = nullptr;
    std::uint32_t target_bytes = 0;  // of 4 GiB or more: 4 GiB - 1, which every limit refuses, too
    std::uint32_t body_bytes = 0;
    std::uint32_t more = 0;  // its place in more_, counted from one; 0: none
    bool checked = false;
    bool copied = false;
  };
  static std::uint32_t bounded(std::size_t bytes);
  void push(const HookView& hook, std::uint32_t more, bool checked, bool copied);
  std::uint32_t add_more(const More& more);
  // The engine's own: replaces a hook's target by its canonical form (copied).
  void set_target(std::size_t index, std::string_view canonical);
  void add_entry(const HookView& hook, bool checked);
  std::string_view copy(std::string_view bytes);
  std::span<const HeaderView> copy_headers(std::span<const HeaderView> headers, bool deep);

  std::vector<Entry> entries_;
  std::vector<More> more_;
  std::vector<std::vector<HeaderView>> headers_;  // a moved vector keeps its bytes
  std::vector<std::unique_ptr<char[]>>
      blocks_;  // every byte has json_padding readable bytes behind it
  char* free_ = nullptr;
  std::size_t free_bytes_ = 0;
  std::shared_ptr<const void> owner_;  // of nearly every list the only one
  std::vector<std::shared_ptr<const void>> more_owners_;
  std::uint64_t body_bytes_ = 0;
};

inline HookView HookList::operator[](std::size_t index) const {
  const Entry& entry = entries_[index];
  HookView view;
  view.target = {entry.target, entry.target_bytes};
  view.body = {entry.body, entry.body_bytes};
  if (entry.more == 0) return view;
  const More& more = more_[entry.more - 1];
  view.event = more.event;
  view.group = more.group;
  view.id = more.id;
  view.content_type = more.content_type;
  view.headers = more.headers;
  return view;
}

}  // namespace postbag
