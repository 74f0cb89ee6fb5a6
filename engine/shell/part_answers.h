#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/pure/shard_core.h"
#include "postbag/store.h"

namespace postbag {

// Answers parts whose group is committed, in the order they come in: those that have to be on disk
// once a sync that began after them has ended. It syncs on a thread of its own, so that the next
// group is written meanwhile; all that waits when a sync begins shares it.
class PartAnswers {
 public:
  using Answer = std::function<void(std::unique_ptr<StorePart>)>;

  // `answer` is called on either thread; `failed` on that of the syncs.
  PartAnswers(Store& store, Answer answer, std::function<void(std::error_code)> failed);
  // Syncs and answers everything first.
  ~PartAnswers();
  PartAnswers(const PartAnswers&) = delete;
  PartAnswers& operator=(const PartAnswers&) = delete;

  // That of the syncs.
  bool is_this_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

  // One thread. Parts that need no sync are answered at once if none waits before them.
  void push(std::vector<std::unique_ptr<StorePart>> parts, bool wants_sync);

 private:
  struct Group {
    std::vector<std::unique_ptr<StorePart>> parts;
    bool wants_sync = false;
  };
  void loop();
  void answer(std::vector<Group>& groups, std::error_code error);

  Store& store_;
  Answer answer_;
  std::function<void(std::error_code)> failed_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Group> waiting_;
  bool is_syncing_ = false;  // or answering
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace postbag
