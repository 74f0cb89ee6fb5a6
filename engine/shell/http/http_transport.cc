#include "engine/shell/http/http_transport.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <utility>

#include "engine/shell/http/transport_impl.h"

namespace postbag {
namespace {

constexpr std::size_t parked_pools_max = 512;

}  // namespace

class HttpTransport::Deferring {
 public:
  Deferring(HttpTransport& transport, bool called_by_shard)
      : transport_(transport),
        deferring_before_(transport.deferring_),
        quiet_before_(transport.quiet_) {
    transport.deferring_ = true;
    transport.quiet_ = transport.quiet_ || (called_by_shard && !transport.in_sink_);
  }
  ~Deferring() {
    transport_.deferring_ = deferring_before_;
    transport_.quiet_ = quiet_before_;
  }
  Deferring(const Deferring&) = delete;
  Deferring& operator=(const Deferring&) = delete;

 private:
  HttpTransport& transport_;
  const bool deferring_before_;
  const bool quiet_before_;
};

HttpTransport::HttpTransport(boost::asio::io_context& io, HttpShared& shared, AttemptSink& sink,
                             HttpTransportOptions options, std::function<TimePoint()> clock,
                             std::function<void()> wake)
    : io_(io),
      state_(shared.state()),
      sink_(sink),
      options_(options),
      clock_(std::move(clock)),
      wake_(std::move(wake)),
      mailbox_(std::make_shared<Mailbox>()),
      poller_(Poller::make(io)) {
  mailbox_->io = &io;
  mailbox_->transport = this;
  poller_->set_round_end([mailbox = mailbox_] { hand_over_results(mailbox); });
}

HttpTransport::~HttpTransport() {
  {
    const std::lock_guard lock(mailbox_->mutex);
    mailbox_->io = nullptr;
    mailbox_->transport = nullptr;
  }
  serving_ = true;  // nothing new starts
  while (!connections_.empty()) {
    const boost::intrusive_ptr<Connection> connection = connections_.back();
    connection->close();
  }
  poller_->stop();
}

// What happens in one round of the poller happens at one time.
void HttpTransport::read_clock() {
  if (begin_ != TimePoint{}) {
    now_ = begin_;
    return;
  }
  const std::uint64_t round = poller_->round();
  if (round != 0 && round == round_of_now_) return;
  round_of_now_ = round;
  now_ = clock_();
}

TimePoint HttpTransport::read_now() {
  read_clock();
  return now_;
}

void HttpTransport::arm(AttemptDeadline& node, Duration delay) {
  const TimePoint before = deadlines_.next();
  node.unlink();
  read_clock();
  deadlines_.add(node, now_, delay);
  if (deadlines_.next() < before && !quiet_) wake_();
}

Attempt& HttpTransport::take_attempt() {
  if (free_attempts_.empty()) {
    Attempt& fresh = attempts_.emplace_back();
    if (free_attempts_.capacity() < attempts_.size()) free_attempts_.reserve(2 * attempts_.size());
    return fresh;  // giving back never allocates
  }
  Attempt& attempt = *free_attempts_.back();
  free_attempts_.pop_back();
  return attempt;
}

void HttpTransport::start(AttemptToken token, AttemptRequest request) {
  const Deferring deferring(*this, true);
  Attempt& attempt = take_attempt();
  begin_ = request.begin;
  attempt.token = token;
  attempt.request = std::move(request);
  attempt.connection = nullptr;
  attempt.waiting = waiting_.end();
  attempt.resent = false;
  arm(attempt.deadline, attempt.request.destination->timeout);
  begin_ = TimePoint{};  // a connect has its own
  if (!waiting_.empty() || !place(attempt)) {
    attempt.waiting = waiting_.insert(waiting_.end(), &attempt);
  }
}

// Gives the attempt an idle connection or a new one, at the cost of the connection that is idle for
// the longest time if need be. False if every connection is busy.
bool HttpTransport::place(Attempt& attempt) {
  const auto known = pools_.find(attempt.request.destination->pool_key);
  if (known != pools_.end() && !known->second.idle.empty()) {
    Pool& pool = known->second;
    while (!pool.idle.empty()) {
      Connection& connection = *pool.idle.back();
      if (connection.idle_until() <= now_) {
        const bool last = pool.idle.size() == 1;
        connection.close();
        if (last) break;  // the pool may be gone
        continue;
      }
      pool.idle.pop_back();
      connection.idle_link.unlink();
      --counters.connections_idle;
      ++counters.reused;
      connection.send(attempt);
      return true;
    }
  }
  if (connections_.size() >= std::max<std::size_t>(1, options_.max_connections)) {
    if (!close_longest_idle()) return false;
  }
  open_connection(attempt);
  return true;
}

bool HttpTransport::close_longest_idle() {
  if (idle_order_.empty()) return false;
  const boost::intrusive_ptr<Connection> closing(&idle_order_.front());
  closing->close();
  return true;
}

void HttpTransport::open_connection(Attempt& attempt) {
  const std::string& key = attempt.request.destination->pool_key;
  const auto [entry, fresh] = pools_.try_emplace(key);
  if (fresh) entry->second.key = key;
  const boost::intrusive_ptr<Connection> connection(new Connection(*this, entry->second));
  connection->index = connections_.size();
  connections_.push_back(connection);
  ++entry->second.connections;
  connection->open(attempt);
}

void HttpTransport::became_idle(Connection& connection) {
  connection.pool().idle.push_back(&connection);
  idle_order_.push_back(connection);
  ++counters.connections_idle;
}

void HttpTransport::closed(Connection& connection) {
  Pool& pool = connection.pool();
  if (connection.idle_link.is_linked()) {
    connection.idle_link.unlink();
    --counters.connections_idle;
    pool.idle.erase(std::find(pool.idle.begin(), pool.idle.end(), &connection));
  }
  if (connection.lookup != 0) lookups_.erase(connection.lookup);
  const std::size_t index = connection.index;
  connections_.back()->index = index;
  std::swap(connections_[index], connections_.back());
  connections_.pop_back();
  if (--pool.connections == 0) release_pool(pool);
}

// A pool without a connection is kept for a while if it holds a TLS session.
void HttpTransport::release_pool(Pool& pool) {
  if (!pool.resumption.session) {
    pools_.erase(pools_.find(pool.key));
    return;
  }
  parked_.push_back(pool.key);
  if (parked_.size() <= parked_pools_max) return;
  const auto oldest = pools_.find(parked_.front());
  if (oldest != pools_.end() && oldest->second.connections == 0) pools_.erase(oldest);
  parked_.pop_front();
}

void HttpTransport::serve_waiting() {
  if (serving_ || waiting_.empty()) return;
  const Deferring deferring(*this, false);
  serving_ = true;
  while (!waiting_.empty()) {
    Attempt& attempt = *waiting_.front();
    if (!place(attempt)) break;
    // A place is final: even if the connection failed at once the attempt was completed, not queued
    // again.
    waiting_.pop_front();
  }
  serving_ = false;
}

void HttpTransport::complete(Attempt& attempt, AttemptResult&& result) {
  const AttemptToken token = attempt.token;
  attempt.deadline.unlink();
  attempt.connection = nullptr;
  attempt.request = AttemptRequest{};
  free_attempts_.push_back(&attempt);
  serve_waiting();
  // Those of a round are handed over together: the sink's code and its data stay in the caches.
  const bool in_round = poller_->round() != 0;
  if (in_round || deferring_) {
    results_.emplace_back(token, std::move(result));
    if (!in_round) post_results();
    return;
  }
  tell_sink(token, std::move(result));
}

void HttpTransport::tell_sink(AttemptToken token, AttemptResult&& result) {
  in_sink_ = true;
  sink_.attempt_done(token, std::move(result));
  in_sink_ = false;
}

void HttpTransport::resend(Attempt& attempt) {
  attempt.resent = true;
  ++counters.resent;
  open_connection(attempt);
}

void HttpTransport::abort_all(Reason reason) {
  const Deferring deferring(*this, true);
  serving_ = true;
  std::list<Attempt*> waiting;
  waiting.swap(waiting_);
  const std::vector<boost::intrusive_ptr<Connection>> connections = connections_;
  for (const boost::intrusive_ptr<Connection>& connection : connections) connection->abort(reason);
  AttemptResult aborted;
  aborted.reason = reason;
  for (Attempt* attempt : waiting) complete(*attempt, AttemptResult(aborted));
  serving_ = false;
}

void HttpTransport::forget_connections() {
  const Deferring deferring(*this, true);
  const std::vector<boost::intrusive_ptr<Connection>> connections = connections_;
  for (const boost::intrusive_ptr<Connection>& connection : connections) {
    if (connection->is_idle()) {
      connection->close();
    } else {
      connection->retire();
    }
  }
  for (auto& [key, pool] : pools_) {
    pool.rules.reset();
    pool.tls.reset();
    pool.resumption.session.reset();
  }
  state_.forget();
  serve_waiting();
}

void HttpTransport::on_deadline(TimePoint at) {
  const Deferring deferring(*this, true);
  deadlines_.take_due(at);
  while (AttemptDeadline* node = deadlines_.next_due()) {
    if (node->kind != AttemptDeadline::Kind::attempt) {
      const boost::intrusive_ptr<Connection> connection(static_cast<Connection*>(node->owner));
      connection->expire(node->kind, at);
      continue;
    }
    Attempt& attempt = *static_cast<Attempt*>(node->owner);
    if (attempt.connection != nullptr) {
      const boost::intrusive_ptr<Connection> connection(attempt.connection);
      connection->expire(node->kind, at);
      continue;
    }
    waiting_.erase(attempt.waiting);
    AttemptResult result;
    result.reason = Reason::local_resource;
    result.detail = "every connection was busy for the whole attempt";
    result.counted = false;
    complete(attempt, std::move(result));
  }
  serve_waiting();
}

TransportStats HttpTransport::stats() const {
  TransportStats stats = counters;
  stats.connections_open = connections_.size();
  return stats;
}

ResolveResultPtr HttpTransport::resolve(const std::string& host, Connection& connection) {
  const std::uint64_t lookup = ++last_lookup_;
  ResolveResultPtr known =
      state_.resolver->resolve(host, [mailbox = mailbox_, lookup](ResolveResultPtr result) {
        deliver(mailbox, lookup, std::move(result));
      });
  if (!known) {
    lookups_[lookup] = &connection;
    connection.lookup = lookup;
  }
  return known;
}

// On a resolver thread. The transport may be gone; a posted handler keeps the mailbox, not the
// transport.
void HttpTransport::deliver(const std::shared_ptr<Mailbox>& mailbox, std::uint64_t lookup,
                            ResolveResultPtr result) {
  const std::lock_guard lock(mailbox->mutex);
  if (mailbox->io == nullptr) return;
  mailbox->results.emplace_back(lookup, std::move(result));
  if (mailbox->posted) return;
  boost::asio::post(*mailbox->io, [mailbox] { collect(mailbox); });
  mailbox->posted = true;  // only now: for want of memory the next result posts
}

void HttpTransport::collect(const std::shared_ptr<Mailbox>& mailbox) {
  std::vector<std::pair<std::uint64_t, ResolveResultPtr>> results;
  {
    const std::lock_guard lock(mailbox->mutex);
    mailbox->posted = false;
    results.swap(mailbox->results);
  }
  for (const auto& [lookup, result] : results) {
    HttpTransport* const transport = mailbox->transport;
    if (transport == nullptr) return;
    const auto waiting = transport->lookups_.find(lookup);
    if (waiting == transport->lookups_.end()) continue;  // abandoned
    const boost::intrusive_ptr<Connection> connection(waiting->second);
    transport->lookups_.erase(waiting);
    connection->lookup = 0;
    connection->resolved(*result);
  }
}

void HttpTransport::post_results() {
  if (results_posted_) return;
  results_posted_ = true;
  boost::asio::post(io_, [mailbox = mailbox_] {
    if (mailbox->transport != nullptr) mailbox->transport->results_posted_ = false;
    hand_over_results(mailbox);
  });
}

void HttpTransport::hand_over_results(const std::shared_ptr<Mailbox>& mailbox) {
  HttpTransport* const transport = mailbox->transport;
  if (transport == nullptr) return;
  std::vector<std::pair<AttemptToken, AttemptResult>> results;
  results.swap(transport->results_);
  for (auto& [token, result] : results) transport->tell_sink(token, std::move(result));
  if (!transport->results_.empty()) return;
  results.clear();
  results.swap(transport->results_);  // for its memory
}

std::unique_ptr<Transport> make_http_transport(boost::asio::io_context& io, HttpShared& shared,
                                               AttemptSink& sink, HttpTransportOptions options,
                                               std::function<TimePoint()> clock,
                                               std::function<void()> wake) {
  return std::make_unique<HttpTransport>(io, shared, sink, options, std::move(clock),
                                         std::move(wake));
}

}  // namespace postbag
