#pragma once

#include <atomic>
#include <cstdint>
#include <forward_list>
#include <memory>
#include <string>
#include <string_view>

namespace postbag {

// Bytes of request bodies held at a time, over all connections. Any thread.
class ByteBudget {
 public:
  explicit ByteBudget(std::uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  bool try_charge(std::uint64_t bytes);
  void release(std::uint64_t bytes) { used_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  std::uint64_t limit_bytes() const { return limit_bytes_; }
  std::uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }

 private:
  const std::uint64_t limit_bytes_;
  std::atomic<std::uint64_t> used_bytes_{0};
};

// The body of one request, with json_padding readable bytes behind it, and the strings made from
// it. A HookList adopts it: its views point in here, so nothing is copied before the bag. The
// budget is charged for bytes as they arrive (a large Content-Length alone costs nothing) and gets
// them back when the last owner lets go, on whatever thread.
class RequestBody {
 public:
  // Room for exactly `bytes`, to be filled by receive().
  RequestBody(std::shared_ptr<ByteBudget> budget, std::size_t bytes);
  // A copy of bytes that were charged already: the charge goes over to this object.
  RequestBody(std::shared_ptr<ByteBudget> budget, std::string_view bytes);
  ~RequestBody();
  RequestBody(const RequestBody&) = delete;
  RequestBody& operator=(const RequestBody&) = delete;

  // Where the next bytes go, and how many are missing.
  char* free_begin() { return bytes_.get() + received_; }
  std::size_t missing() const { return size_ - received_; }
  // So many bytes were written to free_begin(). False: the budget has no room for them.
  bool receive(std::size_t bytes);

  // What has been received.
  std::string_view view() const { return {bytes_.get(), received_}; }
  // Keeps a string as long as the body.
  std::string_view keep(std::string text) { return kept_.emplace_front(std::move(text)); }

 private:
  std::shared_ptr<ByteBudget> budget_;
  std::unique_ptr<char[]> bytes_;
  std::size_t size_;
  std::size_t received_ = 0;
  std::uint64_t charged_ = 0;
  std::forward_list<std::string> kept_;
};

}  // namespace postbag
