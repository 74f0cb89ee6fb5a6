#include "engine/pure/hook_check.h"

#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "engine/pure/header_rules.h"
#include "engine/pure/url.h"
#include "engine/pure/url_hash.h"
#include "postbag/json.h"

namespace postbag {
namespace {

constexpr std::size_t admitted_bytes_max = 1 << 20;  // text, a thread

// Canonical targets that a policy table let through lately: to parse and judge a URL again for
// every hook would cost more than the hook itself. Per thread, so without a lock; of one
// generation, so a reload empties it. The text decides, not its hash: who knows the hash makes two
// texts of it, and the second one would be neither parsed nor judged.
class AdmittedTargets {
 public:
  bool has(std::string_view target, const PolicyTable& policies) {
    if (generation_ != policies.generation()) {
      generation_ = policies.generation();
      clear();
      return false;
    }
    const std::uint64_t hash = url_hash(target);
    const Slot& slot = slots_[hash % slots_count];
    return slot.tag == tag_of(hash) && slot.bytes == target.size() &&
           std::memcmp(slot.text.get(), target.data(), target.size()) == 0;
  }
  // Behind has(). Throws std::bad_alloc; what is in it is true all the same.
  void add(std::string_view target) {
    if (text_bytes_ + target.size() > admitted_bytes_max) clear();
    auto text = std::make_unique<char[]>(target.size());
    std::memcpy(text.get(), target.data(), target.size());
    const std::uint64_t hash = url_hash(target);
    Slot& slot = slots_[hash % slots_count];
    text_bytes_ += target.size();
    text_bytes_ -= slot.bytes;
    slot = {std::move(text), static_cast<std::uint32_t>(target.size()), tag_of(hash)};
  }

 private:
  static constexpr std::size_t slots_count = 8192;
  struct Slot {
    std::unique_ptr<char[]> text;
    std::uint32_t bytes = 0;  // 0: empty
    std::uint32_t tag = 0;
  };
  static std::uint32_t tag_of(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32); }
  void clear() {
    for (Slot& slot : std::span(slots_.get(), slots_count)) slot = {};
    text_bytes_ = 0;
  }

  std::uint64_t generation_ = 0;
  std::unique_ptr<Slot[]> slots_ = std::make_unique<Slot[]>(slots_count);
  std::size_t text_bytes_ = 0;
};

}  // namespace

std::optional<HookProblem> check_target_url(const PolicyTable& policies, std::string_view target,
                                            std::string& canonical) {
  std::string error;
  const auto url = parse_url(target, error);
  if (!url) return HookProblem{Errc::url_syntax, error};
  const NetworkRules::Verdict verdict = policies.find(url->canonical)->rules.judge_url(*url);
  if (!verdict.allowed) return HookProblem{Errc::target_forbidden, verdict.why};
  canonical = url->canonical;
  return std::nullopt;
}

std::optional<HookProblem> HookChecker::check_target(std::string_view target,
                                                     std::string& canonical) {
  canonical.clear();
  if (target.empty()) return HookProblem{Errc::bad_hook, "target is missing"};
  if (target == last_target_) return std::nullopt;
  thread_local AdmittedTargets admitted;
  if (admitted.has(target, policies_)) {
    last_target_ = target;
    return std::nullopt;
  }
  if (auto problem = check_target_url(policies_, target, canonical)) return problem;
  if (canonical != target) return std::nullopt;
  canonical.clear();
  admitted.add(target);
  last_target_ = target;
  return std::nullopt;
}

std::optional<HookProblem> HookChecker::check(const HookView& hook, bool json_checked,
                                              std::string& canonical) {
  if (auto problem = check_target(hook.target, canonical)) return problem;
  if (hook.body.empty()) return HookProblem{Errc::empty, "the payload is empty"};
  if (hook.body.size() > max_hook_bytes_) {
    return HookProblem{Errc::too_large, "the payload has " + std::to_string(hook.body.size()) +
                                            " bytes; max_hook allows " +
                                            std::to_string(max_hook_bytes_)};
  }
  if (!hook.event.empty()) {
    if (auto wrong = check_label("event", hook.event)) return HookProblem{Errc::bad_hook, *wrong};
  }
  if (!hook.group.empty()) {
    if (auto wrong = check_label("group", hook.group)) return HookProblem{Errc::bad_hook, *wrong};
  }
  if (!hook.id.empty() && !is_valid_hook_id(hook.id)) {
    return HookProblem{Errc::bad_hook, "id must be 1 to 64 characters of A-Z a-z 0-9 _ -"};
  }
  if (!hook.content_type.empty()) {
    if (auto wrong = check_content_type(hook.content_type)) {
      return HookProblem{Errc::bad_hook, *wrong};
    }
  }
  if (!hook.headers.empty()) {
    if (auto wrong = check_headers(hook.headers)) return HookProblem{Errc::header, *wrong};
  }
  if (!json_checked) {
    if (auto wrong = check_json(hook.body, false)) return HookProblem{Errc::not_json, *wrong};
  }
  return std::nullopt;
}

}  // namespace postbag
