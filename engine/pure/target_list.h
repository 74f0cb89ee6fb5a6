#pragma once

#include <cstddef>

#include "engine/pure/check.h"
#include "engine/pure/target.h"

namespace postbag {

// Targets in the order in which they were added. A target is in one list at a time and says itself
// in which (TargetState::list). Owns none of them.
class TargetList {
 public:
  // `name`: what a target in it says; no other list has the same.
  explicit TargetList(TargetState::List name) : name_(name) {}

  bool has(const TargetState& target) const { return target.list == name_; }
  TargetState* first() const { return first_; }  // null: it is empty
  std::size_t size() const { return size_; }

  // As the last. It must be in no list.
  void add(TargetState& target) {
    check(target.list == TargetState::List::none);
    target.list = name_;
    target.prev = last_;
    target.next = nullptr;
    (last_ != nullptr ? last_->next : first_) = &target;
    last_ = &target;
    size_ += 1;
  }

  // It must be in this one.
  void remove(TargetState& target) {
    check(has(target));
    (target.prev != nullptr ? target.prev->next : first_) = target.next;
    (target.next != nullptr ? target.next->prev : last_) = target.prev;
    target.list = TargetState::List::none;
    size_ -= 1;
  }

 private:
  const TargetState::List name_;
  TargetState* first_ = nullptr;
  TargetState* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace postbag
