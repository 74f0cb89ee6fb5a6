// SubmitOptions::durability: which commits are synced, by what the calls of a group ask for.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/pure/url_hash.h"
#include "tests/support/engine_support.h"
#include "tests/support/failing_store.h"

namespace postbag::test {
namespace {

class CallDurability : public testing::Test {
 protected:
  ~CallDurability() override { control->release(); }
  void start(Durability durability) {
    options.store.durability = durability;
    engine = std::make_unique<Engine>(options,
                                      std::make_unique<FailingStore>(make_memory_store(), control));
  }
  std::future<SubmitResult> give(Durability durability, const std::string& url = urls.front()) {
    SubmitOptions call;
    call.durability = durability;
    return submit_async(*engine, hooks_to(url, {"1"}), call);
  }
  // Until what was given before is on its way to the store, as far as it may be.
  void wait_handed_over() {
    engine->targets();
    engine->targets();
  }
  std::vector<StoreControl::Commit> appends() {
    std::vector<StoreControl::Commit> all = control->commits();
    std::erase_if(all, [](const StoreControl::Commit& commit) { return commit.appended == 0; });
    return all;
  }
  // The place after the last append in commits(), if that one was not synced; else 0.
  std::size_t after_unsynced_append() {
    const std::vector<StoreControl::Commit> all = control->commits();
    for (std::size_t count = all.size(); count > 0; --count) {
      if (all[count - 1].appended > 0) return all[count - 1].sync ? 0 : count;
    }
    return 0;
  }

  static const std::vector<std::string> urls;  // no bag is cut, so nothing is sent to them
  Options options = loopback_options();
  std::shared_ptr<StoreControl> control = std::make_shared<StoreControl>();
  std::unique_ptr<Engine> engine;
};

const std::vector<std::string> CallDurability::urls = {
    "http://127.0.0.1:9/a", "http://127.0.0.1:9/b", "http://127.0.0.1:9/c", "http://127.0.0.1:9/d",
    "http://127.0.0.1:9/e", "http://127.0.0.1:9/f", "http://127.0.0.1:9/g", "http://127.0.0.1:9/h"};

TEST_F(CallDurability, FsyncOnAnOsEngineIsSyncedBeforeItsAnswer) {
  start(Durability::os);
  for (std::size_t call = 0; call < 20; ++call) {
    ASSERT_TRUE(give(Durability::fsync).get().ok());
    const auto all = appends();
    ASSERT_EQ(all.size(), call + 1);
    EXPECT_TRUE(all.back().sync) << call;
  }
}

class LessThanTheEngines : public CallDurability, public testing::WithParamInterface<Durability> {};

TEST_P(LessThanTheEngines, IsAnsweredWithoutASyncThatFollows) {
  start(Durability::fsync);
  // A sync of the last 0.9 s is what allows to go without one; a slow machine gets more tries.
  std::size_t after = 0;
  for (int tries = 0; after == 0 && tries < 50; ++tries) {
    ASSERT_TRUE(engine->submit(hooks_to(urls.front(), {"1"})).ok());
    EXPECT_TRUE(appends().back().sync);
    ASSERT_TRUE(give(GetParam()).get().ok());
    after = after_unsynced_append();
  }
  ASSERT_GT(after, 0u);
  EXPECT_TRUE(control->wait_sync(after));
}

INSTANTIATE_TEST_SUITE_P(All, LessThanTheEngines,
                         testing::Values(Durability::os, Durability::memory),
                         [](const auto& test) { return std::string(durability_name(test.param)); });

// In either order: neither the first nor the last decides.
class OneOfThemWantsASync : public CallDurability, public testing::WithParamInterface<bool> {
 protected:
  const Durability first = GetParam() ? Durability::fsync : Durability::os;
  const Durability second = GetParam() ? Durability::os : Durability::fsync;
};

TEST_P(OneOfThemWantsASync, SyncsWhatOneShardHandsOver) {
  start(Durability::os);
  control->hold();
  std::vector<std::future<SubmitResult>> calls;
  calls.push_back(give(Durability::os));
  ASSERT_TRUE(control->wait_held());
  calls.push_back(give(Durability::os));
  wait_handed_over();  // two parts are out; what comes now is the third
  calls.push_back(give(first));
  calls.push_back(give(second));
  wait_handed_over();
  control->release();
  for (auto& call : calls) EXPECT_TRUE(call.get().ok());
  const auto all = appends();
  // The third part may catch up with the second.
  ASSERT_GE(all.size(), 2u);
  EXPECT_TRUE(all.back().sync);
}

TEST_P(OneOfThemWantsASync, SyncsWhatShardsHandOverTogether) {
  options.engine.threads = 2;
  start(Durability::os);
  const auto shard = [](const std::string& url) { return shard_index(url_hash(url), 2); };
  const std::string& here = urls.front();
  const auto there = std::find_if(
      urls.begin(), urls.end(), [&](const std::string& url) { return shard(url) != shard(here); });
  ASSERT_NE(there, urls.end());
  control->hold();
  std::vector<std::future<SubmitResult>> calls;
  calls.push_back(give(Durability::os, here));
  ASSERT_TRUE(control->wait_held());
  calls.push_back(give(first, here));
  wait_handed_over();
  calls.push_back(give(second, *there));
  wait_handed_over();
  control->release();
  for (auto& call : calls) EXPECT_TRUE(call.get().ok());
  const auto all = appends();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].appended, 2u);
  EXPECT_TRUE(all[1].sync);
}

INSTANTIATE_TEST_SUITE_P(BothOrders, OneOfThemWantsASync, testing::Bool(),
                         [](const auto& test) { return test.param ? "FsyncFirst" : "OsFirst"; });

}  // namespace
}  // namespace postbag::test
