#include "engine/shell/part_answers.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "postbag/error.h"
#include "postbag/memory_store.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

// Whoever is refused frees what it added later, and the store was reading just that: its row then
// held other bytes under a right checksum.
TEST(PartAnswers, ARefusalWaitsForTheGroupThatIsBeingRead) {
  const auto control = std::make_shared<StoreControl>();
  control->sync_later();
  control->hold_syncs();
  control->refuse_syncs(Errc::store_failed);
  FailingStore store(make_memory_store(), control);
  std::atomic<bool> is_read = false, told_too_early = false;
  std::promise<void> told;
  PartAnswers answers(
      store, 2,
      [&](std::unique_ptr<StorePart> part) {
        EXPECT_EQ(part->append_error, Errc::store_failed);
        told_too_early = is_read.load();
        told.set_value();
      },
      [](std::error_code) {});
  std::vector<std::unique_ptr<StorePart>> parts;
  parts.push_back(std::make_unique<StorePart>());
  answers.push(parts, true);
  {
    const PartAnswers::Group group(answers);
    EXPECT_TRUE(group.may_be_read());
    is_read = true;
    control->release_syncs();
    // Gives the other thread every occasion to be wrong; nothing here depends on how long it takes.
    for (int turn = 0; turn < 2000; ++turn) std::this_thread::yield();
    is_read = false;
  }
  told.get_future().wait();
  EXPECT_FALSE(told_too_early);
  const PartAnswers::Group later(answers);
  EXPECT_FALSE(later.may_be_read());
}

}  // namespace
}  // namespace postbag::test
