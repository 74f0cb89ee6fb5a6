#include "tests/support/fault_receiver.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace postbag {
namespace {

constexpr auto patience = std::chrono::seconds(20);

bool equal_names(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return std::tolower(static_cast<unsigned char>(x)) ==
                  std::tolower(static_cast<unsigned char>(y));
         });
}

// A write to a connection that the client has closed must not end the test process.
void block_sigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

int select_alpn(SSL*, const unsigned char** out, unsigned char* out_bytes, const unsigned char*,
                unsigned int, void* argument) {
  const auto& wanted = *static_cast<const std::string*>(argument);
  *out = reinterpret_cast<const unsigned char*>(wanted.data());
  *out_bytes = static_cast<unsigned char>(wanted.size());
  return SSL_TLSEXT_ERR_OK;
}

int accept_no_certificate(int ok, X509_STORE_CTX*) {
  return ok;
}

SSL_CTX* make_context(const ReceiverTls& tls) {
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  if (context == nullptr) throw std::runtime_error("receiver: TLS context");
  const auto read_pem = [](const std::string& text) {
    return BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
  };
  BIO* certificate_bio = read_pem(tls.certificate.certificate_pem);
  X509* certificate = PEM_read_bio_X509(certificate_bio, nullptr, nullptr, nullptr);
  BIO* key_bio = read_pem(tls.certificate.key_pem);
  EVP_PKEY* key = PEM_read_bio_PrivateKey(key_bio, nullptr, nullptr, nullptr);
  const bool usable = SSL_CTX_use_certificate(context, certificate) == 1 &&
                      SSL_CTX_use_PrivateKey(context, key) == 1;
  X509_free(certificate);
  EVP_PKEY_free(key);
  BIO_free(certificate_bio);
  BIO_free(key_bio);
  if (!usable) {
    SSL_CTX_free(context);
    throw std::runtime_error("receiver: certificate");
  }
  if (tls.max_version != 0) {
    SSL_CTX_set_cipher_list(context, "DEFAULT:@SECLEVEL=0");
    SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(context, tls.max_version);
  }
  if (tls.require_client_certificate) {
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       accept_no_certificate);
  }
  static constexpr unsigned char session_context[] = "postbag";
  SSL_CTX_set_session_id_context(context, session_context, sizeof session_context);
  if (tls.late_ticket) SSL_CTX_set_num_tickets(context, 0);
  if (!tls.alpn.empty()) {
    SSL_CTX_set_alpn_select_cb(context, select_alpn, const_cast<std::string*>(&tls.alpn));
  }
  return context;
}

const char* reason_phrase(int code) {
  return code == 200 ? "OK" : "Reply";
}

}  // namespace

std::string FaultRequest::header(std::string_view name) const {
  for (const auto& [field, value] : headers) {
    if (equal_names(field, name)) return value;
  }
  return {};
}

FaultReply FaultReply::status(int code, std::string_view body, const Headers& headers) {
  std::string text = "HTTP/1.1 " + std::to_string(code) + " " + reason_phrase(code) + "\r\n";
  for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
  if (code >= 200 && code != 204 && code != 304) {
    text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  }
  text += "\r\n";
  text += body;
  return raw(std::move(text));
}

FaultReply FaultReply::chunked(int code, const std::vector<std::string>& chunks) {
  std::string text = "HTTP/1.1 " + std::to_string(code) + " " + reason_phrase(code) +
                     "\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& chunk : chunks) {
    char size[20];
    std::snprintf(size, sizeof size, "%zx", chunk.size());
    text += size;
    text += "\r\n" + chunk + "\r\n";
  }
  return raw(text + "0\r\n\r\n");
}

FaultReply FaultReply::raw(std::string bytes) {
  return {{{Step::Kind::send, std::move(bytes)}}};
}
FaultReply FaultReply::drip(std::string bytes) {
  return {{{Step::Kind::drip, std::move(bytes)}}};
}
FaultReply FaultReply::close() {
  return {{{Step::Kind::close, {}}}};
}
FaultReply FaultReply::reset() {
  return {{{Step::Kind::reset, {}}}};
}
FaultReply FaultReply::hang() {
  return {{{Step::Kind::wait, {}}}};
}

FaultReply FaultReply::then(const FaultReply& more) const {
  FaultReply both = *this;
  both.steps.insert(both.steps.end(), more.steps.begin(), more.steps.end());
  return both;
}

class FaultReceiver::Impl {
 public:
  explicit Impl(ReceiverOptions options);
  ~Impl();

  struct Peer {
    int descriptor = -1;  // under the mutex: -1 once closed
    std::size_t number = 0;
    SSL* ssl = nullptr;
    std::string unread;
    std::thread thread;
  };

  template <typename Condition>
  bool wait_until(Condition condition) const {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, patience, condition);
  }
  void shut(bool with_reset);

  const ReceiverOptions options;
  int listener = -1;
  std::uint16_t port = 0;
  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  std::deque<FaultReply> queued;
  std::vector<FaultRequest> requests;
  std::list<Peer> peers;
  std::size_t ended = 0;
  bool released = false;
  bool stopping = false;

 private:
  void accept_all();
  void serve(Peer& peer);
  void serve_requests(Peer& peer);
  bool start_tls(Peer& peer);
  bool read_more(Peer& peer);
  bool read_head(Peer& peer, FaultRequest& request);
  bool read_body(Peer& peer, FaultRequest& request);
  bool read_chunks(Peer& peer, FaultRequest& request);
  bool send_bytes(Peer& peer, std::string_view bytes);
  bool play(Peer& peer, const FaultReply& reply);
  void end(Peer& peer, bool with_reset);
  std::optional<FaultReply> record(FaultRequest& request, bool takes_queued);

  SSL_CTX* context_ = nullptr;
  std::thread acceptor_;
};

FaultReceiver::Impl::Impl(ReceiverOptions receiver_options) : options(std::move(receiver_options)) {
  if (options.tls) context_ = make_context(*options.tls);
  listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0) throw std::runtime_error("receiver: socket");
  if (options.receive_buffer_bytes > 0) {  // before listen(), or the window is agreed on already
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer_bytes, sizeof(int));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
      listen(listener, 1024) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
    throw std::runtime_error("receiver: bind");
  }
  port = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

FaultReceiver::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
    released = true;
  }
  changed.notify_all();
  shutdown(listener, SHUT_RDWR);
  acceptor_.join();
  ::close(listener);
  shut(false);
  for (Peer& peer : peers) peer.thread.join();
  SSL_CTX_free(context_);
}

void FaultReceiver::Impl::accept_all() {
  while (true) {
    // Some tests take all descriptors away for a moment: none is asked for before somebody is
    // there.
    pollfd waiting{listener, POLLIN, 0};
    if (poll(&waiting, 1, -1) < 0 && errno != EINTR) return;
    const int descriptor = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (descriptor < 0 && (errno == EMFILE || errno == EINTR || errno == ECONNABORTED)) continue;
    if (descriptor < 0) return;
    const int on = 1;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const std::lock_guard lock(mutex);
    if (stopping) {
      ::close(descriptor);
      return;
    }
    Peer& peer = peers.emplace_back();
    peer.descriptor = descriptor;
    peer.number = peers.size() - 1;
    peer.thread = std::thread([this, &peer] { serve(peer); });
    changed.notify_all();
  }
}

// Wakes the threads of the connections; each closes its own descriptor.
void FaultReceiver::Impl::shut(bool with_reset) {
  const std::lock_guard lock(mutex);
  for (Peer& peer : peers) {
    if (peer.descriptor < 0) continue;
    if (with_reset) {
      const linger now{1, 0};
      setsockopt(peer.descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
      shutdown(peer.descriptor, SHUT_RD);
    } else {
      shutdown(peer.descriptor, SHUT_RDWR);
    }
  }
}

void FaultReceiver::Impl::end(Peer& peer, bool with_reset) {
  const std::lock_guard lock(mutex);
  if (peer.descriptor < 0) return;
  if (with_reset) {
    const linger now{1, 0};
    setsockopt(peer.descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  }
  ::close(peer.descriptor);
  peer.descriptor = -1;
  ++ended;
  changed.notify_all();
}

void FaultReceiver::Impl::serve(Peer& peer) {
  block_sigpipe();
  if ((!options.greeting || play(peer, *options.greeting)) &&
      (context_ == nullptr || start_tls(peer))) {
    serve_requests(peer);
  }
  end(peer, false);
  SSL_free(peer.ssl);
  ERR_clear_error();
}

bool FaultReceiver::Impl::start_tls(Peer& peer) {
  peer.ssl = SSL_new(context_);
  SSL_set_fd(peer.ssl, peer.descriptor);
  return SSL_accept(peer.ssl) == 1;
}

void FaultReceiver::Impl::serve_requests(Peer& peer) {
  while (true) {
    FaultRequest request;
    request.connection = peer.number;
    if (!read_head(peer, request)) return;
    if (options.early) {
      if (const std::optional<FaultReply> reply = options.early(request)) {
        record(request, false);
        if (!play(peer, *reply) || !read_body(peer, request)) return;
        continue;
      }
    }
    if (!read_body(peer, request)) return;
    std::optional<FaultReply> reply = record(request, true);
    if (!reply) reply = options.reply ? options.reply(request) : FaultReply::status(200);
    if (!play(peer, *reply)) return;
  }
}

// A queued answer is taken with it: whoever sees it counted may send another one.
std::optional<FaultReply> FaultReceiver::Impl::record(FaultRequest& request, bool takes_queued) {
  const std::lock_guard lock(mutex);
  request.index = requests.size();
  requests.push_back(request);
  changed.notify_all();
  if (!takes_queued || queued.empty()) return std::nullopt;
  FaultReply reply = std::move(queued.front());
  queued.pop_front();
  return reply;
}

bool FaultReceiver::Impl::read_more(Peer& peer) {
  char bytes[16 * 1024];
  const ssize_t count = peer.ssl != nullptr ? SSL_read(peer.ssl, bytes, sizeof bytes)
                                            : recv(peer.descriptor, bytes, sizeof bytes, 0);
  if (count <= 0) return false;
  peer.unread.append(bytes, static_cast<std::size_t>(count));
  return true;
}

bool FaultReceiver::Impl::read_head(Peer& peer, FaultRequest& request) {
  std::size_t end = 0;
  while ((end = peer.unread.find("\r\n\r\n")) == std::string::npos) {
    if (!read_more(peer)) return false;
  }
  std::string head = peer.unread.substr(0, end + 2);
  peer.unread.erase(0, end + 4);
  const std::size_t line_end = head.find("\r\n");
  const std::size_t space = head.find(' ');
  const std::size_t second = head.find(' ', space + 1);
  if (second == std::string::npos || second > line_end) return false;
  request.method = head.substr(0, space);
  request.path = head.substr(space + 1, second - space - 1);
  for (std::size_t at = line_end + 2; at < head.size();) {
    const std::size_t stop = head.find("\r\n", at);
    const std::size_t colon = head.find(':', at);
    if (colon == std::string::npos || colon > stop) return false;
    std::size_t value = colon + 1;
    while (value < stop && head[value] == ' ') ++value;
    request.headers.emplace_back(head.substr(at, colon - at), head.substr(value, stop - value));
    at = stop + 2;
  }
  if (peer.ssl != nullptr) {
    request.tls_resumed = SSL_session_reused(peer.ssl) == 1;
    request.tls_suite = SSL_get_cipher_name(peer.ssl);
    const char* name = SSL_get_servername(peer.ssl, TLSEXT_NAMETYPE_host_name);
    if (name != nullptr) request.server_name = name;
  }
  return true;
}

bool FaultReceiver::Impl::read_body(Peer& peer, FaultRequest& request) {
  if (equal_names(request.header("Transfer-Encoding"), "chunked"))
    return read_chunks(peer, request);
  const std::string length_text = request.header("Content-Length");
  const std::size_t length = length_text.empty() ? 0 : std::stoul(length_text);
  while (peer.unread.size() < length) {
    if (!read_more(peer)) return false;
  }
  request.body = peer.unread.substr(0, length);
  peer.unread.erase(0, length);
  return true;
}

bool FaultReceiver::Impl::read_chunks(Peer& peer, FaultRequest& request) {
  while (true) {
    std::size_t line_end = 0;
    while ((line_end = peer.unread.find("\r\n")) == std::string::npos) {
      if (!read_more(peer)) return false;
    }
    const std::size_t size = std::stoul(peer.unread.substr(0, line_end), nullptr, 16);
    while (peer.unread.size() < line_end + 2 + size + 2) {
      if (!read_more(peer)) return false;
    }
    request.body += peer.unread.substr(line_end + 2, size);
    peer.unread.erase(0, line_end + 2 + size + 2);
    if (size == 0) return true;
  }
}

bool FaultReceiver::Impl::send_bytes(Peer& peer, std::string_view bytes) {
  if (peer.ssl != nullptr && options.tls->late_ticket) SSL_new_session_ticket(peer.ssl);
  while (!bytes.empty()) {
    const ssize_t count = peer.ssl != nullptr
                              ? SSL_write(peer.ssl, bytes.data(), static_cast<int>(bytes.size()))
                              : send(peer.descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

// False: the connection is over.
bool FaultReceiver::Impl::play(Peer& peer, const FaultReply& reply) {
  for (const FaultReply::Step& step : reply.steps) {
    switch (step.kind) {
      case FaultReply::Step::Kind::send:
        if (!send_bytes(peer, step.bytes)) return false;
        break;
      case FaultReply::Step::Kind::drip:
        for (const char byte : step.bytes) {
          if (!send_bytes(peer, {&byte, 1})) return false;
        }
        break;
      case FaultReply::Step::Kind::wait: {
        std::unique_lock lock(mutex);
        changed.wait(lock, [this] { return released; });
        if (stopping) return false;
        break;
      }
      case FaultReply::Step::Kind::close_notify:
        if (peer.ssl != nullptr) SSL_shutdown(peer.ssl);
        break;
      case FaultReply::Step::Kind::close:
      case FaultReply::Step::Kind::reset:
        end(peer, step.kind == FaultReply::Step::Kind::reset);
        return false;
    }
  }
  return true;
}

FaultReceiver::FaultReceiver(ReceiverOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}

FaultReceiver::~FaultReceiver() = default;

std::uint16_t FaultReceiver::port() const {
  return impl_->port;
}

std::string FaultReceiver::url(std::string_view path) const {
  return (impl_->options.tls ? "https://127.0.0.1:" : "http://127.0.0.1:") +
         std::to_string(port()) + std::string(path);
}

void FaultReceiver::push(FaultReply reply) {
  const std::lock_guard lock(impl_->mutex);
  impl_->queued.push_back(std::move(reply));
}

void FaultReceiver::release() {
  const std::lock_guard lock(impl_->mutex);
  impl_->released = true;
  impl_->changed.notify_all();
}

void FaultReceiver::close_connections(bool with_reset) {
  impl_->shut(with_reset);
}

void FaultReceiver::stop_accepting() {
  shutdown(impl_->listener, SHUT_RDWR);
}

std::vector<FaultRequest> FaultReceiver::requests() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->requests;
}

std::size_t FaultReceiver::request_count() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->requests.size();
}

std::size_t FaultReceiver::connection_count() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->peers.size();
}

std::size_t FaultReceiver::ended_count() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->ended;
}

bool FaultReceiver::wait_for_requests(std::size_t count) const {
  return impl_->wait_until([this, count] { return impl_->requests.size() >= count; });
}

bool FaultReceiver::wait_for_connections(std::size_t count) const {
  return impl_->wait_until([this, count] { return impl_->peers.size() >= count; });
}

bool FaultReceiver::wait_for_ended(std::size_t count) const {
  return impl_->wait_until([this, count] { return impl_->ended >= count; });
}

}  // namespace postbag
