#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "bench/batch_check.h"
#include "bench/counting_receiver.h"
#include "bench/delivery_case.h"
#include "postbag/engine.h"

namespace postbag {

constexpr std::size_t delivery_payload_bytes = 300;

// Which target the next hook goes to, and its place in that target's sequence. The targets of a
// group take turns until each has a full bag, then comes the next group: so a hundred thousand
// targets are all served, while the bags that fill at one time stay within the memory.
class FeedOrder {
 public:
  FeedOrder(const DeliveryCase& what, std::uint64_t group);
  struct Place {
    std::uint64_t target, sequence;
  };
  Place next();

 private:
  std::uint64_t targets_, group_, batch_;
  std::uint64_t first_ = 0, offset_ = 0, in_bag_ = 0, round_ = 0;
};

// Submits hooks in lists from the calling thread, a closed loop: at most 32 lists without an
// answer, at most `backlog` hooks not received yet, so that the engine always has work and never
// has to answer `full`. The payloads lie in memory of the feeder's own, which it uses again when
// the engine has let go of it; the engine checks and copies each as any other.
class DeliveryFeeder {
 public:
  // `backlog` 0: one that suits the case.
  DeliveryFeeder(Engine& engine, const DeliveryCase& what, const ReceiverCounters& received,
                 std::uint16_t port, std::uint64_t backlog);
  // False if something was refused for good, or nothing was received for 30 s. `each_percent` is
  // called at every hundredth of the hooks.
  bool feed(const std::function<void(int)>& each_percent = {});
  std::uint64_t full_answers() const { return full_answers_; }

  static std::uint64_t group_of(const DeliveryCase& what);

 private:
  struct Block {
    explicit Block(std::size_t places) : payloads(places, delivery_payload_bytes) {}
    PayloadBlock payloads;
    std::atomic<bool> is_free{true};
  };

  std::shared_ptr<Block> take_block();
  bool wait_for_room(std::uint64_t fed);
  HookList make_list(std::uint64_t hooks);
  void offer(HookList list);

  Engine& engine_;
  const DeliveryCase& case_;
  const ReceiverCounters& received_;
  std::uint64_t backlog_;
  std::vector<std::string> targets_;
  FeedOrder order_;
  std::vector<std::shared_ptr<Block>> blocks_;  // the engine has at most a few more than lists
  std::uint64_t full_answers_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t outstanding_ = 0;  // under mutex_
  bool failed_ = false;          // under mutex_
  bool full_ = false;            // under mutex_
};

}  // namespace postbag
