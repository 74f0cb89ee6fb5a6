#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "postbag/error.h"
#include "postbag/hook.h"
#include "postbag/store.h"

namespace postbag {

// Gathers the answer to a call: a shard reports the id each hook got and, once per shard, that all
// of the call's hooks on that shard were accepted or refused. Implemented by the shell; called on
// the shard's thread.
class CallSink {
 public:
  virtual ~CallSink() = default;
  virtual void hook_bagged(std::size_t index, const HookId& id) = 0;
  virtual void shard_done(Errc error, std::uint32_t shard) = 0;
  virtual bool wants_ids() const = 0;
};

// What became of rows that a run of retry-failed-hooks had taken.
enum class RowsOutcome : std::uint8_t {
  delivered,  // and deleted
  failed,     // again: the row says so, or is as it was if the run ended between two attempts
  untouched,  // the run ended before their attempt did: they are as they were
};

// Told how the rows of a retry-failed-hooks run fared. Implemented by the shell; called on the
// shard's thread, once for each row.
class RetrySink {
 public:
  // `run`: no other one that lives has it.
  explicit RetrySink(std::uint64_t run) : number(run) {}
  virtual ~RetrySink() = default;
  const std::uint64_t number;
  // `body_bytes`: of their bodies, a byte for the bracket or comma before each included.
  virtual void rows_done(std::span<const FailedKey> keys, std::uint64_t body_bytes,
                         RowsOutcome outcome) = 0;
};

}  // namespace postbag
