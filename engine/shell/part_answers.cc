#include "engine/shell/part_answers.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "postbag/error.h"

namespace postbag {

PartAnswers::PartAnswers(Store& store, Answer answer, std::function<void(std::error_code)> failed)
    : store_(store), answer_(std::move(answer)), failed_(std::move(failed)) {
  if (!store.syncs_later()) return;
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "postbag-sync");
}

PartAnswers::~PartAnswers() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void PartAnswers::push(std::vector<std::unique_ptr<StorePart>> parts, bool wants_sync) {
  {
    const std::lock_guard lock(mutex_);
    if (wants_sync || is_syncing_ || !waiting_.empty()) {
      waiting_.push_back({std::move(parts), wants_sync});
      wake_.notify_one();
      return;
    }
  }
  for (auto& part : parts) answer_(std::move(part));
}

void PartAnswers::loop() {
  std::vector<Group> groups;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return !waiting_.empty() || stop_; });
    if (waiting_.empty()) return;
    groups.swap(waiting_);
    is_syncing_ = true;
    lock.unlock();
    const bool wants_sync = std::any_of(groups.begin(), groups.end(),
                                        [](const Group& group) { return group.wants_sync; });
    const std::error_code error = wants_sync ? store_.sync() : std::error_code();
    if (error) failed_(error);
    answer(groups, error);
    groups.clear();
    lock.lock();
    is_syncing_ = false;
  }
}

void PartAnswers::answer(std::vector<Group>& groups, std::error_code error) {
  for (Group& group : groups) {
    for (auto& part : group.parts) {
      if (error) {
        if (part->append_error == Errc::ok) part->append_error = Errc::store_failed;
        if (part->error == Errc::ok) part->error = Errc::store_failed;
      }
      answer_(std::move(part));
    }
  }
}

}  // namespace postbag
