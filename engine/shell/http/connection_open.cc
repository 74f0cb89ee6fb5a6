// The first part of a connection's life: resolve, vet, connect, TLS. connection.cc has the rest.
#include <netinet/in.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <cerrno>
#include <utility>

#include "engine/shell/http/connection.h"
#include "engine/shell/http/transport_impl.h"

namespace postbag {
namespace {

boost::asio::ip::tcp::endpoint to_endpoint(const IpAddress& address, std::uint16_t port) {
  if (address.is_v4) {
    boost::asio::ip::address_v4::bytes_type bytes{};
    std::copy_n(address.bytes.begin(), bytes.size(), bytes.begin());
    return {boost::asio::ip::address_v4(bytes), port};
  }
  return {boost::asio::ip::address_v6(address.bytes), port};
}

std::optional<IpAddress> parse_literal(const std::string& host) {
  if (std::optional<IpAddress> v4 = parse_ipv4(host)) return v4;
  return parse_ipv6(host);
}

// For NetworkRules: the destination as far as the policy looks at it.
Url to_url(const Destination& destination, const std::optional<IpAddress>& literal) {
  Url url;
  url.scheme = destination.scheme;
  url.host = destination.host;
  url.literal = literal;
  url.port = destination.port;
  url.path_and_query = "/";
  return url;
}

bool is_local_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM ||
         error == EADDRNOTAVAIL;
}

bool is_out_of_descriptors(const boost::system::error_code& error) {
  return error.value() == EMFILE || error.value() == ENFILE;
}

Reason dial_reason(int error) {
  if (is_local_shortage(error)) return Reason::local_resource;
  if (error == ECONNREFUSED) return Reason::connect_refused;
  if (error == ETIMEDOUT) return Reason::connect_timeout;
  if (error == ECONNRESET) return Reason::reset;
  return Reason::net_unreachable;
}

}  // namespace

void Connection::open(Attempt& attempt) {
  attempt_ = &attempt;
  attempt.connection = this;
  const Destination& destination = *attempt.request.destination;
  dialling_ = std::make_unique<Dialling>(owner_->io());
  dialling_->budget = destination.connect_timeout;
  dialling_->literal = parse_literal(destination.host);
  owner_->arm(phase_, destination.connect_timeout);

  AttemptResult result;
  result.final = true;
  result.reason = Reason::ssrf_denied;
  if (!prepare(destination, result.detail)) return fail_with(std::move(result));
  const NetworkRules::Verdict verdict =
      pool_.rules->judge_url(to_url(destination, dialling_->literal));
  if (!verdict.allowed) {
    result.detail = verdict.why;
    return fail_with(std::move(result));
  }
  if (dialling_->literal) return vet_and_dial({*dialling_->literal});
  state_ = State::resolving;
  if (const ResolveResultPtr known = owner_->resolve(destination.host, *this)) resolved(*known);
}

// The compiled policy of the pool; the TLS context waits until the handshake.
bool Connection::prepare(const Destination& destination, std::string& refusal) {
  if (!pool_.rules) pool_.rules = owner_->state().rules(destination.network, refusal);
  return pool_.rules != nullptr;
}

void Connection::resolved(const ResolveResult& result) {
  if (result.reason == Reason::none) return vet_and_dial(result.addresses);
  AttemptResult failure;
  failure.reason = result.reason;
  failure.detail = result.detail;
  failure.counted = result.reason != Reason::local_resource;
  fail_with(std::move(failure));
}

// One forbidden address among them and nothing is dialled: who controls the name must not get to
// choose by retrying.
void Connection::vet_and_dial(const std::vector<IpAddress>& addresses) {
  const Destination& destination = *attempt_->request.destination;
  if (!pool_.rules) {  // a reload came between
    std::string refusal;
    if (!prepare(destination, refusal)) return fail(Reason::ssrf_denied, std::move(refusal));
  }
  for (const IpAddress& address : addresses) {
    const NetworkRules::Verdict verdict =
        pool_.rules->judge_address(address, destination.port, destination.host);
    if (verdict.allowed) continue;
    AttemptResult result;
    result.reason = Reason::ssrf_denied;
    result.final = true;
    result.detail = verdict.why;
    return fail_with(std::move(result));
  }
  const std::size_t count = std::min(addresses.size(), addresses_dialled_max);
  dialling_->addresses.assign(addresses.begin(),
                              addresses.begin() + static_cast<std::ptrdiff_t>(count));
  state_ = State::connecting;
  dial_next();
}

// In order. While others are left an address gets half of what the one before had, so that a black
// hole in front does not use up the whole budget; phase_ bounds them all.
void Connection::dial_next() {
  const std::uint16_t port = attempt_->request.destination->port;
  while (dialling_->next < dialling_->addresses.size()) {
    const auto endpoint = to_endpoint(dialling_->addresses[dialling_->next++], port);
    Error error;
    Socket& socket = dialling_->socket;
    socket.close(error);
    socket.open(endpoint.protocol(), error);
    // A connection that is only kept must not cost a target its attempt.
    while (is_out_of_descriptors(error) && owner_->close_longest_idle()) {
      socket.open(endpoint.protocol(), error);
    }
    if (!error) socket.non_blocking(true, error);
    if (!error) socket.set_option(boost::asio::ip::tcp::no_delay(true), error);
    if (error) {
      dialling_->error = dial_reason(error.value());
      dialling_->detail = error.message();
      continue;
    }
    step_.unlink();
    if (dialling_->next < dialling_->addresses.size()) {
      dialling_->budget /= 2;
      owner_->arm(step_, std::max<Duration>(dialling_->budget, std::chrono::milliseconds(1)));
    }
    const std::uint32_t serial = ++dial_serial_;
    socket.async_connect(endpoint, [self = boost::intrusive_ptr<Connection>(this),
                                    serial](const Error& connect_error) {
      if (self->owner_ != nullptr && self->dial_serial_ == serial) self->connected(connect_error);
    });
    return;
  }
  AttemptResult result;
  result.reason = dialling_->error;
  result.detail = std::move(dialling_->detail);
  result.counted = result.reason != Reason::local_resource;
  fail_with(std::move(result));
}

void Connection::connected(const Error& error) {
  if (error) {
    dialling_->error = dial_reason(error.value());
    dialling_->detail = error.message();
    return dial_next();
  }
  step_.unlink();
  ++dial_serial_;
  ++owner_->counters.connects;
  // From here on the poller watches it instead of the io_context.
  Error ignored;
  socket_ = dialling_->socket.release(ignored);
  if (!owner_->poller().add(socket_, *this)) {
    AttemptResult result;
    result.reason = Reason::local_resource;
    result.detail = Error(errno, boost::system::system_category()).message();
    result.counted = false;
    return fail_with(std::move(result));
  }
  if (attempt_->request.destination->scheme == "https") return start_handshake();
  secured();
}

void Connection::start_handshake() {
  const Destination& destination = *attempt_->request.destination;
  std::string error;
  if (!pool_.tls) pool_.tls = owner_->state().tls(destination.tls, error);
  if (!pool_.tls) return fail(Reason::tls_cert, std::move(error));
  tls_ = std::make_unique<TlsSession>(pool_.tls, destination.host, dialling_->literal,
                                      pool_.resumption);
  state_ = State::handshaking;
  continue_handshake();
}

// Until need_more: then all the input is used.
void Connection::continue_handshake() {
  const TlsSession::Step step = tls_->handshake();
  if (step == TlsSession::Step::done) return secured();
  write_some();  // what the handshake, or its failure, has to say
  if (step == TlsSession::Step::need_more || owner_ == nullptr) return;
  fail(tls_->reason(), tls_->detail());
}

void Connection::secured() {
  dialling_.reset();
  phase_.unlink();
  begin_exchange();
}

}  // namespace postbag
