#include "postbag/engine.h"

#include <algorithm>
#include <random>
#include <stdexcept>
#include <thread>

#include "engine/pure/url_hash.h"
#include "engine/shell/descriptor_room.h"
#include "engine/shell/engine_impl.h"
#include "engine/shell/guarded.h"
#include "engine/shell/http/http_transport.h"
#include "engine/shell/restart_keys.h"
#include "engine/shell/retry_job.h"
#include "postbag/json.h"

namespace postbag {
namespace {

// A look-up blocks its thread: as long as fewer are slow, the others go on.
constexpr std::size_t resolver_threads = 4;

// Unique in the process, because threads cache which targets a generation has admitted.
std::uint64_t next_policy_generation() {
  static std::atomic<std::uint64_t> generation{1};
  return generation.fetch_add(1);
}

std::uint32_t shard_count(const EngineOptions& options) {
  if (options.threads != 0) return options.threads;
  return std::max(2u, std::thread::hardware_concurrency()) - 1;
}

// They count against max_memory and may take half of it: hooks must find room all the same.
std::size_t ids_max(const EngineOptions& options) {
  return std::min<std::uint64_t>(remembered_ids_max, options.max_memory / 2 / IdTable::id_bytes);
}

Options checked(Options options) {
  if (auto wrong = validate_options(options)) throw std::invalid_argument(*wrong);
  return options;
}

std::unique_ptr<Store> checked(std::unique_ptr<Store> store) {
  if (store == nullptr) throw std::invalid_argument("an engine needs a store");
  return store;
}

}  // namespace

Engine::Impl::Impl(Options options, std::unique_ptr<Store> store, Logger logger)
    : options_(checked(std::move(options))),
      logger_(std::move(logger)),
      store_(checked(std::move(store))),
      store_info_(store_->info()),
      policies_(std::make_shared<const PolicyTable>(options_, next_policy_generation())),
      ids_{{}, IdTable(ids_max(options_.engine), options_.intake.id_window), logger_} {
  if (options_.store.durability != Durability::memory) {
    const Now now = clock_now();
    const std::error_code error =
        store_->load_ids(now.wall_ms, [&](const RememberedId& id) { ids_.table.restore(id, now); });
    // Without them every repeated call would be taken for a new one.
    if (error) throw std::system_error(error, "the remembered ids cannot be read");
    ids_.publish();
  }
  (void)check_json("0", false);  // a process's first call aborts for want of memory: make it now
  // 1024 more for the store, intake and the embedding program.
  reserve_descriptors(options_.engine.max_connections + std::size_t{1024});
  http_ = std::make_unique<HttpShared>(resolver_threads, options_.own_addresses, logger_);
  const std::uint32_t count = shard_count(options_.engine);
  std::random_device seed;
  for (std::uint32_t index = 0; index < count; ++index) {
    ShardCore::Config config;
    config.shard = index;
    config.durable = options_.store.durability != Durability::memory;
    config.store_tag = store_info_.store_tag;
    config.max_connections = std::max(1u, options_.engine.max_connections / count);
    config.random_seed = seed();
    config.read_bytes_max = options_.engine.max_memory / 4 / count;
    config.kept_bytes_max =
        std::min<std::size_t>(config.kept_bytes_max, options_.engine.max_memory / 8 / count);
    const std::size_t max_connections = config.max_connections;
    shards_.push_back(std::make_unique<Shard>(
        config, policies(), *this,
        [&](boost::asio::io_context& io, AttemptSink& sink, std::function<void()> wake) {
          return make_http_transport(io, *http_, sink, {max_connections}, steady_now,
                                     std::move(wake));
        },
        logger_));
  }
  store_thread_ = std::make_unique<StoreThread>(
      *store_, options_.store.durability,
      [this](std::unique_ptr<StorePart> part) {
        Shard& shard = *shards_[part->shard];
        shard.post_answer(std::move(part));
      },
      [this](std::error_code error) { fail(error); }, logger_, steady_now, count);
  store_thread_->set_retention(
      {options_.store.failed_max_age, options_.store.failed_max_bytes}, [this] {
        const std::lock_guard lock(claims_.mutex);
        return std::vector<FailedKey>(claims_.keys.begin(), claims_.keys.end());
      });
  for (auto& shard : shards_) shard->start(*store_thread_);
  warn_of_waiting();
}

// Without recover() they would wait for ever and nothing would say so. Silent where the store was
// opened without counting them, by who recovers.
void Engine::Impl::warn_of_waiting() const {
  if (options_.store.durability == Durability::memory || store_info_.pending_hooks == 0) return;
  call_guarded(logger_, [this] {
    logger_.log(LogLevel::warning,
                "hooks of an earlier run wait in the store for recover(), or `postbag serve`: " +
                    std::to_string(store_info_.pending_hooks),
                {{"event", "hooks_wait"}, {"hooks", store_info_.pending_hooks}});
  });
}

Engine::Impl::~Impl() {
  stopping_ = true;
  close_down();
  for (auto& shard : shards_) shard->stop();
  store_thread_->stop();
  for (auto& shard : shards_) shard->answer_rest();
  store_thread_.reset();
  shards_.clear();
}

bool Engine::Impl::is_engine_thread() const {
  return store_thread_->is_this_thread() ||
         std::any_of(shards_.begin(), shards_.end(),
                     [](const auto& shard) { return shard->is_this_thread(); });
}

// The call would wait for its own thread: a silent deadlock.
Engine::Impl& Engine::Impl::blocking(const char* call) {
  if (!is_engine_thread()) return *this;
  throw std::logic_error("Engine::" + std::string(call) +
                         "() blocks, and was called on a thread of its engine (in a callback)");
}

Shard& Engine::Impl::shard_of(std::string_view canonical_url) {
  // The table inside a shard uses the low bits.
  return *shards_[shard_index(url_hash(canonical_url), shards_.size())];
}

void Engine::Impl::hooks_ended(std::uint64_t hooks) {
  pending_.fetch_sub(hooks);
}

std::unique_lock<std::mutex> Engine::Impl::rows_told(std::uint64_t rows) {
  std::unique_lock lock(outcomes_mutex_);
  rows_told_ += rows;
  return lock;
}

void Engine::Impl::listeners_told() {
  if (pending_.load() == 0) notify();
}

void Engine::Impl::notify() {
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

// The store or a shard failed for good; the first reason stands.
void Engine::Impl::fail(std::error_code error) {
  stopping_ = true;
  std::function<void(std::error_code)> handler;
  {
    const std::lock_guard lock(mutex_);
    if (fatal_) return;
    fatal_ = error;
    handler.swap(fatal_handler_);  // a copy may need memory
  }
  changed_.notify_all();
  if (handler) call_guarded(logger_, [&] { handler(error); });
}

void Engine::Impl::on_fatal(std::function<void(std::error_code)> handler) {
  std::optional<std::error_code> already;
  {
    const std::lock_guard lock(mutex_);
    fatal_handler_ = handler;
    already = fatal_;
  }
  if (already && handler) handler(*already);
}

std::vector<std::string> Engine::Impl::reload(Options options) {
  const std::lock_guard reloading(reload_mutex_);
  std::vector<std::string> restart;
  std::shared_ptr<const PolicyTable> table;
  bool dropped = false;
  {
    const std::lock_guard lock(options_mutex_);
    dropped = !options_.store.keep_failed;
    options.own_addresses = options_.own_addresses;
    options = checked(std::move(options));
    restart = keys_for_restart(options_, options);
    table = std::make_shared<const PolicyTable>(options, next_policy_generation());
    options_.defaults = options.defaults;
    options_.targets = options.targets;
    options_.store.keep_failed = options.store.keep_failed;
  }
  // Shards discard failed hooks until they have the new policies.
  if (dropped) dropped_at_ = TimePoint::max();
  {
    const std::lock_guard lock(policies_mutex_);
    policies_ = table;
  }
  ask_shards([table](ShardCore& core, const Now& now) {
    core.set_policies(table, now);
    return true;
  });
  if (dropped) dropped_at_ = steady_now();
  for (auto& shard : shards_) shard->forget_connections();
  return restart;
}

// --- Engine: forwards

Engine::Engine(Options options, std::unique_ptr<Store> store, Logger logger)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(store), std::move(logger))) {}

// A callback may give its own engine up; its thread cannot wait for itself.
Engine::~Engine() {
  if (impl_->is_engine_thread()) std::thread([impl = std::move(impl_)] {}).detach();
}

void Engine::submit(HookList hooks, SubmitOptions options, SubmitHandler done) {
  impl_->submit(std::move(hooks), std::move(options), std::move(done));
}

SubmitResult Engine::submit(HookList hooks, SubmitOptions options) {
  Impl& impl = impl_->blocking("submit");
  std::promise<SubmitResult> answer;
  auto future = answer.get_future();
  impl.submit(std::move(hooks), std::move(options),
              [&answer](SubmitResult result) { answer.set_value(std::move(result)); });
  return future.get();
}

SubmitResult Engine::submit(std::string_view target, std::string_view payload) {
  HookList hooks;
  hooks.add(target, payload);
  return submit(std::move(hooks));
}

std::uint64_t Engine::recover(const std::function<void(std::uint64_t)>& progress,
                              const std::function<void()>& held) {
  return impl_->blocking("recover").recover(progress, held);
}
std::uint64_t Engine::flush(std::optional<std::string_view> target) {
  return impl_->blocking("flush").flush(target);
}
CancelResult Engine::cancel(std::string_view glob) {
  return impl_->blocking("cancel").cancel(glob);
}
bool Engine::wait_idle(std::optional<Duration> timeout) {
  return impl_->blocking("wait_idle").wait_idle(timeout);
}
DrainReport Engine::drain(Duration timeout) {
  return impl_->blocking("drain").drain(timeout);
}
void Engine::hurry() {
  impl_->hurry();
}

RetryProgress Engine::retry_failed(const RetryOptions& options) {
  auto job = std::make_shared<RetryJob>(impl_->blocking("retry_failed"), options);
  return job->run();
}
RetryPlan Engine::plan_retry(const RetryOptions& options) {
  return RetryJob::plan(impl_->blocking("plan_retry"), options);
}

std::error_code Engine::list_failed(const FailedFilter& filter, std::optional<FailedKey> after,
                                    const SliceLimits& limits, FailedPage& page) {
  return impl_->blocking("list_failed").store_thread().run([&](Store& store) {
    return store.list_failed(filter, after, limits, page);
  });
}
PurgeResult Engine::purge_failed(const FailedFilter& filter, std::optional<std::uint64_t> limit) {
  return impl_->blocking("purge_failed").purge_failed(filter, limit);
}
std::error_code Engine::backup(const std::string& path, const std::stop_token& stop) {
  return impl_->blocking("backup").backup(path, stop);
}
EngineStatus Engine::status() const {
  return impl_->status();
}
std::vector<TargetStatus> Engine::targets(std::size_t limit) const {
  return impl_->blocking("targets").targets(limit);
}
std::optional<HookStatus> Engine::find_hook(std::string_view id) const {
  return impl_->blocking("find_hook").find_hook(id);
}
std::vector<std::string> Engine::reload(Options options) {
  return impl_->blocking("reload").reload(std::move(options));
}
void Engine::on_fatal(std::function<void(std::error_code)> handler) {
  impl_->on_fatal(std::move(handler));
}

}  // namespace postbag
