#include "store/sync_ledger.h"

#include <algorithm>

namespace postbag {
namespace {

constexpr std::size_t withheld_max = 32;  // the witness has room for no more

}  // namespace

SyncLedger::SyncLedger(bool unsynced, std::uint64_t sequence)
    : commits_(unsynced), synced_(sequence) {
  withheld_.reserve(withheld_max);  // what is committed cannot fail any more
}

void SyncLedger::announce(const WitnessRecord& record) {
  witness_.write(record);
  witness_.sync();
}

void SyncLedger::committed(const WitnessRecord& record, bool advanced, CommitLevel level,
                           std::uint64_t frames) {
  bool moved = false;
  {
    const std::lock_guard lock(mutex_);
    ++commits_;
    newest_ = record;
    frames_ = frames;
    if (level == CommitLevel::sync) {
      synced_frames_ = frames;
      moved = commits_ > synced_commits_ + 1;
      advance(commits_, record);
    } else if (advanced && level == CommitLevel::sync_later) {
      if (withheld_.size() == withheld_max) withheld_.erase(withheld_.begin());
      withheld_.push_back(record);
    } else if (advanced) {
      write(record);
    }
  }
  if (moved) witness_.sync_if_due();
}

void SyncLedger::log_is_copied(const WitnessRecord& record) {
  const std::lock_guard lock(mutex_);
  advance(commits_, record);
  ++logs_;
  frames_ = synced_frames_ = 0;
}

std::uint64_t SyncLedger::synced_frames() {
  const std::lock_guard lock(mutex_);
  return synced_frames_;
}

void SyncLedger::begin_or_end(const WitnessRecord& record) {
  const std::lock_guard lock(mutex_);
  advance(commits_, record);
  synced_ = record.sequence;
  write(record);
}

SyncLedger::Covered SyncLedger::covered() {
  const std::lock_guard lock(mutex_);
  return {commits_, newest_, logs_, frames_};
}

void SyncLedger::synced(const Covered& covered) {
  {
    const std::lock_guard lock(mutex_);
    advance(covered.commits, covered.newest);
    if (covered.log == logs_) synced_frames_ = std::max(synced_frames_, covered.frames);
  }
  witness_.sync_if_due();
}

void SyncLedger::advance(std::uint64_t commits, const WitnessRecord& newest) {
  if (commits > synced_commits_) synced_commits_ = commits;
  if (newest.sequence <= synced_) return;
  synced_ = newest.sequence;
  const auto end = std::find_if(withheld_.begin(), withheld_.end(), [&](const auto& record) {
    return record.sequence > newest.sequence;
  });
  for (auto record = withheld_.begin(); record != end; ++record) {
    if (record->sequence < newest.sequence) write(*record);
  }
  withheld_.erase(withheld_.begin(), end);
  write(newest);
}

void SyncLedger::write(WitnessRecord record) {
  record.synced = synced_;
  witness_.write(record);
}

}  // namespace postbag
