#pragma once

#include <cstddef>
#include <new>
#include <utility>

namespace postbag {

// Room for the handler of one asynchronous operation that an object starts over and over: to start
// it again takes no memory, so it cannot fail for want of it. What does not fit, or comes while the
// room is taken, is allocated. Must outlive the operation. Allocation and release never overlap:
// the caller sees to it that one thread at a time starts the operation, and Asio frees the room
// before it calls the handler.
class HandlerMemory {
 public:
  HandlerMemory() = default;
  HandlerMemory(const HandlerMemory&) = delete;
  HandlerMemory& operator=(const HandlerMemory&) = delete;

  void* take(std::size_t bytes) {
    if (is_taken_ || bytes > sizeof room_) return ::operator new(bytes);
    is_taken_ = true;
    return room_;
  }
  void give_back(void* memory) noexcept {
    if (memory != room_) return ::operator delete(memory);
    is_taken_ = false;
  }

 private:
  alignas(std::max_align_t) std::byte room_[256];
  bool is_taken_ = false;
};

template <typename T>
struct HandlerAllocator {
  using value_type = T;

  explicit HandlerAllocator(HandlerMemory& room) : memory(&room) {}
  template <typename Other>
  HandlerAllocator(const HandlerAllocator<Other>& other) : memory(other.memory) {}
  T* allocate(std::size_t count) { return static_cast<T*>(memory->take(count * sizeof(T))); }
  void deallocate(T* pointer, std::size_t) noexcept { memory->give_back(pointer); }
  template <typename Other>
  bool operator==(const HandlerAllocator<Other>& other) const {
    return memory == other.memory;
  }

  HandlerMemory* memory;
};

// `handler`, to be kept in `memory` while it waits.
template <typename Handler>
class HandlerIn {
 public:
  using allocator_type = HandlerAllocator<std::byte>;

  HandlerIn(HandlerMemory& memory, Handler handler)
      : memory_(&memory), handler_(std::move(handler)) {}
  allocator_type get_allocator() const noexcept { return allocator_type(*memory_); }
  template <typename... Arguments>
  void operator()(Arguments&&... arguments) {
    handler_(std::forward<Arguments>(arguments)...);
  }

 private:
  HandlerMemory* memory_;
  Handler handler_;
};

}  // namespace postbag
