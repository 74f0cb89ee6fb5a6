#include "engine/shell/part_answers.h"

#include <pthread.h>

#include <new>
#include <utility>

#include "postbag/error.h"

namespace postbag {

PartAnswers::Group::Group(PartAnswers& answers) : answers_(answers) {
  const std::lock_guard lock(answers_.mutex_);
  may_be_read_ = !answers_.error_;
  answers_.group_is_read_ = true;
}

PartAnswers::Group::~Group() {
  {
    const std::lock_guard lock(answers_.mutex_);
    answers_.group_is_read_ = false;
    if (!answers_.error_) return;
  }
  answers_.wake_.notify_one();
}

PartAnswers::PartAnswers(Store& store, std::size_t parts_max, Answer answer,
                         std::function<void(std::error_code)> failed)
    : store_(store), answer_(std::move(answer)), failed_(std::move(failed)) {
  if (!store.syncs_later()) return;
  waiting_.reserve(parts_max);
  taken_.reserve(parts_max);
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "postbag-sync");
}

PartAnswers::~PartAnswers() {
  stop();
}

void PartAnswers::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void PartAnswers::push(std::vector<std::unique_ptr<StorePart>>& parts, bool wants_sync) {
  std::error_code error;
  {
    const std::lock_guard lock(mutex_);
    if (wants_sync || wants_sync_ || is_syncing_ || !waiting_.empty()) {
      for (auto& part : parts) {
        if (part) waiting_.push_back(std::move(part));
      }
      wants_sync_ = wants_sync_ || wants_sync;
      wake_.notify_one();
      return;
    }
    error = error_;
  }
  answer(parts, error);
}

void PartAnswers::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [&] { return !waiting_.empty() || wants_sync_ || stop_; });
    if (waiting_.empty() && !wants_sync_) return;
    taken_.swap(waiting_);
    const bool syncs = std::exchange(wants_sync_, false) && !error_;
    is_syncing_ = true;
    lock.unlock();
    const std::error_code error = syncs ? sync() : std::error_code();
    lock.lock();
    if (error) {
      error_ = error;
      wake_.wait(lock, [&] { return !group_is_read_; });
    }
    lock.unlock();
    answer(taken_, error_);
    taken_.clear();
    if (error) failed_(error);
    lock.lock();
    is_syncing_ = false;
  }
}

std::error_code PartAnswers::sync() noexcept {
  try {
    return store_.sync();
  } catch (const std::bad_alloc&) {
    return std::make_error_code(std::errc::not_enough_memory);
  }
}

void PartAnswers::answer(std::vector<std::unique_ptr<StorePart>>& parts, std::error_code error) {
  for (auto& part : parts) {
    if (!part) continue;
    if (error) {
      if (part->append_error == Errc::ok) part->append_error = Errc::store_failed;
      if (part->error == Errc::ok) part->error = Errc::store_failed;
    }
    answer_(std::move(part));
  }
}

}  // namespace postbag
