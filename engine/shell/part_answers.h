#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "engine/pure/store_part.h"
#include "postbag/store.h"

namespace postbag {

// Answers parts whose group is committed, in the order they come in: those that have to be on disk
// once a sync that began after them has ended. It syncs on a thread of its own, so that the next
// group is written meanwhile; all that waits when a sync begins shares it.
class PartAnswers {
 public:
  using Answer = std::function<void(std::unique_ptr<StorePart>)>;

  // `answer` is called on either thread; `failed` on that of the syncs, when everybody concerned
  // was answered. Neither throws. No more than `parts_max` are under way: room for them is taken
  // here, so that nothing later needs memory.
  PartAnswers(Store& store, std::size_t parts_max, Answer answer,
              std::function<void(std::error_code)> failed);
  ~PartAnswers();
  PartAnswers(const PartAnswers&) = delete;
  PartAnswers& operator=(const PartAnswers&) = delete;

  // A group whose parts' bodies the store may be reading, of the thread that commits. Who is
  // refused frees what came after it, so while one is under way no refusal of a failed sync is
  // told.
  class Group {
   public:
    explicit Group(PartAnswers& answers);
    ~Group();
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;
    // False: a sync has failed; the bodies may be gone, the parts can only be pushed.
    bool may_be_read() const { return may_be_read_; }

   private:
    PartAnswers& answers_;
    bool may_be_read_;
  };

  // That of the syncs.
  bool is_this_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

  // One thread. Takes the parts out of `parts`; null: was taken before. Those that need no sync are
  // answered at once if none waits before them. After a sync that failed all are refused: what
  // came before them in the store may be gone.
  void push(std::vector<std::unique_ptr<StorePart>>& parts, bool wants_sync);
  // Syncs and answers everything; then nothing may be pushed. More than once is as good as once.
  void stop();

 private:
  void loop();
  std::error_code sync() noexcept;
  void answer(std::vector<std::unique_ptr<StorePart>>& parts, std::error_code error);

  Store& store_;
  Answer answer_;
  std::function<void(std::error_code)> failed_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::unique_ptr<StorePart>> waiting_;
  bool wants_sync_ = false;  // what waits, or what was committed without a part
  bool is_syncing_ = false;  // or answering
  bool group_is_read_ = false;
  bool stop_ = false;
  std::error_code error_;                          // of the sync that failed
  std::vector<std::unique_ptr<StorePart>> taken_;  // that thread's
  std::thread thread_;
};

}  // namespace postbag
