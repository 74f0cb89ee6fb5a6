#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/pure/network_policy.h"
#include "engine/pure/transport.h"
#include "engine/pure/url.h"
#include "engine/shell/http/deadlines.h"
#include "engine/shell/http/poller.h"
#include "engine/shell/http/resolver.h"
#include "engine/shell/http/response_reader.h"
#include "engine/shell/http/tls_session.h"

namespace postbag {

class Connection;
class HttpTransport;

// One start() until its attempt_done(). It can pass from a dropped connection to a fresh one.
struct Attempt {
  Attempt() : deadline(AttemptDeadline::Kind::attempt, this) {}

  AttemptToken token = nullptr;
  AttemptRequest request;
  AttemptDeadline deadline;
  Connection* connection = nullptr;  // nothing while it waits for one
  std::list<Attempt*>::iterator waiting;
  bool resent = false;
};

// What may share connections, by Destination::pool_key.
struct Pool {
  std::string key;
  // The last one in is the first one out: it is the least likely to be stale.
  std::vector<Connection*> idle;
  std::size_t connections = 0;  // idle ones included
  std::shared_ptr<const NetworkRules> rules;
  std::shared_ptr<TlsContext> tls;
  TlsResumption resumption;
};

// One connection to one origin, one request at a time, on the shard's thread. A state machine of
// events: it is always watched for reading, so the end of an idle connection and an answer that
// comes early are noticed alike. Kept alive by the transport and by the handler of a connection
// attempt; close() cuts it off from the transport, after that a late handler does nothing.
class Connection final
    : public boost::intrusive_ref_counter<Connection, boost::thread_unsafe_counter>,
      private PollerClient {
 public:
  Connection(HttpTransport& owner, Pool& pool);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Resolves, vets, connects, sends. Once.
  void open(Attempt& attempt);
  // On an idle connection.
  void send(Attempt& attempt);
  void resolved(const ResolveResult& result);
  void close();

  // A deadline of this connection (phase, step) or of its attempt has passed.
  void expire(AttemptDeadline::Kind kind, TimePoint now);
  // Ends the attempt with `reason`, unless the answer has decided it already.
  void abort(Reason reason);
  // Not used again after the request that is under way.
  void retire() {
    retired_ = true;
    if (tls_) tls_->keep_no_session();  // the next connection verifies by today's rules
  }

  bool is_idle() const { return state_ == State::idle; }
  Pool& pool() { return pool_; }
  TimePoint idle_until() const { return idle_until_; }

  // The transport's own notes.
  using IdleLink = boost::intrusive::list_member_hook<
      boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;
  IdleLink idle_link;
  std::size_t index = 0;     // in its list
  std::uint64_t lookup = 0;  // the pending one, or 0

 private:
  using Socket = boost::asio::basic_stream_socket<boost::asio::ip::tcp,
                                                  boost::asio::io_context::executor_type>;
  using Error = boost::system::error_code;
  enum class State : std::uint8_t { resolving, connecting, handshaking, busy, idle, closed };

  // connection_open.cc
  bool prepare(const Destination& destination, std::string& refusal);
  void vet_and_dial(const std::vector<IpAddress>& addresses);
  void dial_next();
  void connected(const Error& error);
  void start_handshake();
  void continue_handshake();
  void secured();

  // connection.cc
  void begin_exchange();
  void write_some();
  std::size_t gather_plain();
  std::size_t gather_copied();
  bool encrypt();
  std::size_t copy_request(char* to, std::size_t room);
  std::string_view record_plaintext();
  void advance(std::size_t count);
  std::string_view piece(std::size_t number) const;
  bool request_left() const;
  void write_failed(int error);
  void ready(bool readable, bool writable) override;  // of Poller
  bool send_pieces(std::size_t count, std::size_t& sent);
  void read_some();
  void on_ciphertext(std::string_view bytes);
  ResponseReader::Progress drain_tls(bool& ended);
  void on_plaintext(ResponseReader::Progress progress, bool ended);
  void on_end(const Error& error);
  void finish_answer(bool reusable);
  void fail(Reason reason, std::string detail);
  void fail_with(AttemptResult&& result);
  Reason phase_timeout() const;

  HttpTransport* owner_;  // nothing once closed
  Pool& pool_;
  int socket_ = -1;  // once connected
  Attempt* attempt_ = nullptr;
  State state_ = State::resolving;
  bool reused_ = false;
  bool retired_ = false;
  bool written_ = false;  // the whole request is with the kernel
  bool write_waits_ = false;
  bool write_watched_ = false;  // by the poller
  bool write_broken_ = false;
  bool draining_ = false;  // the head is there, the rest of the body is not
  std::uint32_t dial_serial_ = 0;
  std::size_t piece_ = 0;  // of the request: 0 is the head
  std::size_t piece_offset_ = 0;
  // Connect, drain or idle. Where it waits for idleness to end a request does not move it: it fires
  // early then, and is armed again.
  AttemptDeadline phase_;
  TimePoint idle_until_{};
  AttemptDeadline step_;  // one address, or a write without progress
  ResponseReader reader_;
  std::unique_ptr<TlsSession> tls_;

  struct Dialling {
    explicit Dialling(boost::asio::io_context& io) : socket(io) {}
    Socket socket;
    std::vector<IpAddress> addresses;
    std::size_t next = 0;
    Duration budget{};
    std::optional<IpAddress> literal;
    Reason error = Reason::net_unreachable;
    std::string detail;
  };
  std::unique_ptr<Dialling> dialling_;  // until connected
};

}  // namespace postbag
