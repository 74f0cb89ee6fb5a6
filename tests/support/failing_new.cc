#include "tests/support/failing_new.h"

#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

namespace postbag::test {
namespace {

// Which arm() holds; 0: none. A thread's own number is that of the arm() it called.
std::atomic<std::uint64_t> armed{0};
std::atomic<std::uint64_t> arms{0};
std::atomic<bool> every_thread{false};
std::atomic<std::uint64_t> seen{0};
std::atomic<std::uint64_t> first{0};
std::atomic<std::uint64_t> behind_last{0};
thread_local std::uint64_t armed_here = 0;

bool fails_now() {
  const std::uint64_t number = armed.load(std::memory_order_acquire);
  if (number == 0 || (!every_thread.load(std::memory_order_relaxed) && armed_here != number)) {
    return false;
  }
  const std::uint64_t at = seen.fetch_add(1, std::memory_order_relaxed);
  return at >= first.load(std::memory_order_relaxed) &&
         at < behind_last.load(std::memory_order_relaxed);
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (fails_now()) return nullptr;
  if (bytes == 0) bytes = 1;
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  if (void* memory = allocate(bytes, alignment)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void FailingNew::arm(Who who, std::uint64_t nth, std::uint64_t failures) {
  disarm();
  constexpr std::uint64_t forever = std::numeric_limits<std::uint64_t>::max();
  seen = 0;
  first = nth;
  behind_last = failures > forever - nth ? forever : nth + failures;
  every_thread = who == Who::every_thread;
  armed_here = ++arms;
  armed.store(armed_here, std::memory_order_release);
}

std::uint64_t FailingNew::disarm() {
  if (armed.exchange(0) == 0) return 0;
  const std::uint64_t all = seen.load();
  if (all <= first) return 0;
  return (all < behind_last ? all : behind_last.load()) - first;
}

std::uint64_t FailingNew::allocations() {
  return seen.load();
}

}  // namespace postbag::test

using postbag::test::allocate;
using postbag::test::allocate_or_throw;

constexpr std::size_t usual = __STDCPP_DEFAULT_NEW_ALIGNMENT__;

void* operator new(std::size_t bytes) {
  return allocate_or_throw(bytes, usual);
}
void* operator new[](std::size_t bytes) {
  return allocate_or_throw(bytes, usual);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return allocate(bytes, usual);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return allocate(bytes, usual);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return allocate_or_throw(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment,
                     const std::nothrow_t&) noexcept {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
  std::free(memory);
}
