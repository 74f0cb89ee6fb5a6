#include "engine/pure/batch_pool.h"

#include <memory>
#include <new>

namespace postbag {

BatchPool::~BatchPool() {
  while (kept_count_ > 0) ::operator delete(kept_[--kept_count_]);
}

Batch& BatchPool::make() {
  void* const memory = kept_count_ > 0 ? kept_[--kept_count_] : ::operator new(sizeof(Batch));
  return *new (memory) Batch;
}

void BatchPool::destroy(Batch& batch) noexcept {
  std::destroy_at(&batch);
  if (kept_count_ < kept_max) {
    kept_[kept_count_++] = &batch;
  } else {
    ::operator delete(&batch);
  }
}

}  // namespace postbag
