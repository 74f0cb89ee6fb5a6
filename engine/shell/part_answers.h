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

// Answers parts whose group has been committed, in order. A part that must be on disk is answered
// once a sync that began after its commit has ended. Syncs run on a thread of this class, so that
// the next group is written meanwhile; all parts that wait when a sync begins share it.
class PartAnswers {
 public:
  using Answer = std::function<void(std::unique_ptr<StorePart>)>;

  // `answer` is called on the pushing or the syncing thread; `failed` on the syncing thread, after
  // all parts concerned were answered. Neither may throw. At most `parts_max` parts are under way;
  // room for them is reserved here, so that nothing later allocates.
  PartAnswers(Store& store, std::size_t parts_max, Answer answer,
              std::function<void(std::error_code)> failed);
  ~PartAnswers();
  PartAnswers(const PartAnswers&) = delete;
  PartAnswers& operator=(const PartAnswers&) = delete;

  // Scope, on the committing thread, in which the store may read the bodies of the parts. A shard
  // that is refused frees the bodies that came after the refused ones, so while a Group exists the
  // refusals that follow a failed sync are held back.
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

  // Whether the caller is on the syncing thread.
  bool is_this_thread() const { return thread_.get_id() == std::this_thread::get_id(); }

  // Called by one thread. Takes the parts out of `parts`, skipping nulls (already taken). Parts
  // that need no sync are answered at once unless others wait before them. After a failed sync all
  // are refused: what came before them in the store may be gone.
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
