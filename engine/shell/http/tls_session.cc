#include "engine/shell/http/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace postbag {

// OpenSSL's side of input_ and output_: reads without a copy, never blocks, never touches a socket.
struct TlsBio {
  static TlsSession& session(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* to, std::size_t room, std::size_t* count) {
    std::string_view& input = session(bio).input_;
    BIO_clear_retry_flags(bio);
    *count = std::min(room, input.size());
    if (*count == 0) {
      BIO_set_retry_read(bio);
      return 0;
    }
    std::memcpy(to, input.data(), *count);
    input.remove_prefix(*count);
    return 1;
  }

  static int write(BIO* bio, const char* from, std::size_t bytes, std::size_t* count) {
    BIO_clear_retry_flags(bio);
    try {
      for (std::string_view left(from, bytes); !left.empty();) {
        const std::string_view part = left.substr(0, copied_at_once_bytes);
        session(bio).output_.append(part);
        left.remove_prefix(part.size());
      }
    } catch (const std::bad_alloc&) {  // must not pass through C
      *count = 0;
      return 0;
    }
    *count = bytes;
    return 1;
  }

  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* method() {
    static BIO_METHOD* const made = [] {
      BIO_METHOD* fresh = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postbag");
      if (fresh == nullptr) throw std::bad_alloc();
      BIO_meth_set_read_ex(fresh, read);
      BIO_meth_set_write_ex(fresh, write);
      BIO_meth_set_ctrl(fresh, control);
      return fresh;
    }();
    return made;
  }
};

struct TlsCallbacks {
  static TlsSession* session(SSL* ssl) { return static_cast<TlsSession*>(SSL_get_app_data(ssl)); }

  // Called for every ticket; the newest is kept. Returns 1 if the reference is ours now.
  static int new_session(SSL* ssl, SSL_SESSION* fresh) {
    TlsResumption* const resumption = session(ssl)->resumption_;
    if (resumption == nullptr) return 0;
    resumption->session.reset(fresh);
    return 1;
  }

  // Called when the peer asks for a client certificate. We have none; the handshake goes on
  // without.
  static int certificate_asked(SSL* ssl, void*) {
    session(ssl)->certificate_asked_ = true;
    return 1;
  }
};

namespace {

constexpr unsigned char alpn_http_1_1[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
constexpr unsigned int host_flags =
    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;

std::string queue_text() {
  const unsigned long error = ERR_peek_last_error();
  const char* text = error == 0 ? nullptr : ERR_reason_error_string(error);
  return text == nullptr ? "TLS error" : text;
}

// OpenSSL finds itself that the peer chose a protocol that was not offered, but has no error code
// for that alone.
bool is_alpn_error() {
  const char* function = nullptr;
  ERR_peek_error_func(&function);
  return function != nullptr && std::string_view(function).find("alpn") != std::string_view::npos;
}

// Of the suites of TLS 1.3 that the system allows, AES of 128 bits first, as browsers with hardware
// for it have it: large bodies cost less on both sides, and nobody knows how to break either. False
// for want of memory.
bool prefer_small_aes(SSL_CTX* context) {
  constexpr std::string_view preferred = "TLS_AES_128_GCM_SHA256";
  std::string names;
  const STACK_OF(SSL_CIPHER)* const all = SSL_CTX_get_ciphers(context);
  for (int i = 0; i < sk_SSL_CIPHER_num(all); ++i) {
    const std::string_view name = SSL_CIPHER_get_name(sk_SSL_CIPHER_value(all, i));
    if (!name.starts_with("TLS_")) continue;  // of TLS 1.2 and before
    if (name == preferred) names.insert(0, std::string(name) + (names.empty() ? "" : ":"));
    if (name != preferred) names.append(names.empty() ? "" : ":").append(name);
  }
  return names.empty() || SSL_CTX_set_ciphersuites(context, names.c_str()) == 1;
}

// From the OpenSSL error that ended a handshake or a read. `asked`: the peer wanted a client
// certificate.
Reason reason_of(unsigned long error, bool asked) {
  if (ERR_GET_LIB(error) != ERR_LIB_SSL) return Reason::tls_protocol;
  switch (ERR_GET_REASON(error)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return Reason::tls_cert;
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_VERSION_TOO_HIGH:
      return Reason::tls_version;
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
      return Reason::tls_alpn;
    case SSL_R_BAD_EXTENSION:
      return is_alpn_error() ? Reason::tls_alpn : Reason::tls_protocol;
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return Reason::tls_client_cert;
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
      return asked ? Reason::tls_client_cert : Reason::tls_protocol;
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return Reason::tls_eof;
    default:
      return Reason::tls_protocol;
  }
}

}  // namespace

void TlsResumption::Free::operator()(ssl_session_st* session) const {
  SSL_SESSION_free(session);
}

std::shared_ptr<TlsContext> TlsContext::make(const std::string& ca_file, std::string& error) {
  ERR_clear_error();
  SSL_CTX* raw = SSL_CTX_new(TLS_client_method());
  if (raw == nullptr) {
    error = queue_text();
    return nullptr;
  }
  std::shared_ptr<TlsContext> context(new TlsContext(raw));
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(raw, TlsCallbacks::new_session);
  SSL_CTX_set_cert_cb(raw, TlsCallbacks::certificate_asked, nullptr);
  if (SSL_CTX_set_alpn_protos(raw, alpn_http_1_1, sizeof alpn_http_1_1) != 0 ||
      SSL_CTX_set_default_verify_paths(raw) != 1 || !prefer_small_aes(raw)) {
    error = queue_text();
    return nullptr;
  }
  if (!ca_file.empty() && SSL_CTX_load_verify_file(raw, ca_file.c_str()) != 1) {
    error = "[tls] ca_file cannot be used: " + queue_text();
    return nullptr;
  }
  return context;
}

TlsContext::~TlsContext() {
  SSL_CTX_free(context_);
}

TlsSession::TlsSession(std::shared_ptr<TlsContext> context, const std::string& host,
                       const std::optional<IpAddress>& literal, TlsResumption& resumption)
    : context_(std::move(context)), resumption_(&resumption), ssl_(SSL_new(context_->context_)) {
  if (ssl_ == nullptr) throw std::bad_alloc();
  BIO* bio = BIO_new(TlsBio::method());
  if (bio == nullptr) {
    SSL_free(ssl_);
    throw std::bad_alloc();
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_, bio, bio);
  SSL_set_app_data(ssl_, this);
  SSL_set_connect_state(ssl_);
  SSL_set_hostflags(ssl_, host_flags);
  bool named = false;
  if (literal) {
    named = X509_VERIFY_PARAM_set1_ip(SSL_get0_param(ssl_), literal->bytes.data(),
                                      literal->is_v4 ? 4 : 16) == 1;
  } else {
    named =
        SSL_set1_host(ssl_, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl_, host.c_str()) == 1;
  }
  if (!named) {
    SSL_free(ssl_);
    throw std::bad_alloc();  // the only way that these calls fail for a canonical host
  }
  if (resumption.session) SSL_set_session(ssl_, resumption.session.get());
}

TlsSession::~TlsSession() {
  // OpenSSL makes the session of a connection that ends without goodbyes unusable for resumption.
  // Ours end so all the time, after a complete answer; a session of one that failed is not used
  // again.
  if (handshake_done_ && reason_ == Reason::none) {
    SSL_set_shutdown(ssl_, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  }
  SSL_free(ssl_);
}

void TlsSession::sent(std::size_t count) {
  output_sent_ += count;
  if (output_sent_ < output_.size()) return;
  output_.clear();
  output_sent_ = 0;
}

void TlsSession::take_memory(std::string& memory) {
  if (output().empty() && memory.capacity() > output_.capacity()) output_.swap(memory);
}

void TlsSession::give_memory(std::string& memory) {
  if (!output().empty()) return;
  if (memory.capacity() < output_.capacity()) output_.swap(memory);
  std::string().swap(output_);
}

TlsSession::Step TlsSession::fail(Reason reason, std::string detail) {
  reason_ = reason;
  detail_ = std::move(detail);
  return Step::failed;
}

TlsSession::Step TlsSession::fail_from_queue() {
  const long verified = SSL_get_verify_result(ssl_);
  const unsigned long error = ERR_peek_error();
  Reason reason = reason_of(error, certificate_asked_);
  std::string detail = queue_text();
  if (reason == Reason::tls_cert) {
    detail = X509_verify_cert_error_string(verified);
    if (verified == X509_V_ERR_HOSTNAME_MISMATCH || verified == X509_V_ERR_IP_ADDRESS_MISMATCH) {
      reason = Reason::tls_name;
    }
  }
  ERR_clear_error();
  return fail(reason, std::move(detail));
}

TlsSession::Step TlsSession::step(int result) {
  if (result == 1) return Step::done;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return Step::need_more;
    case SSL_ERROR_ZERO_RETURN:
      return Step::closed;
    default:
      return fail_from_queue();
  }
}

TlsSession::Step TlsSession::handshake() {
  ERR_clear_error();
  const Step result = step(SSL_do_handshake(ssl_));
  if (result == Step::closed) return fail(Reason::tls_eof, "closed during the TLS handshake");
  if (result != Step::done) return result;
  const unsigned char* chosen = nullptr;
  unsigned int chosen_bytes = 0;
  SSL_get0_alpn_selected(ssl_, &chosen, &chosen_bytes);
  const std::string_view protocol(reinterpret_cast<const char*>(chosen), chosen_bytes);
  if (!protocol.empty() && protocol != "http/1.1") {
    return fail(Reason::tls_alpn, "the peer chose a protocol that was not offered");
  }
  // SSL_VERIFY_PEER has failed the handshake already; no byte of a hook leaves without this being
  // so.
  if (SSL_get_verify_result(ssl_) != X509_V_OK) return fail(Reason::tls_cert, "not verified");
  handshake_done_ = true;
  return Step::done;
}

TlsSession::Step TlsSession::read(char* to, std::size_t room, std::size_t& count) {
  count = 0;
  // To ask would cost a buffer, for every answer.
  if (input_.empty() && SSL_has_pending(ssl_) == 0) return Step::need_more;
  ERR_clear_error();
  return step(SSL_read_ex(ssl_, to, room, &count));
}

TlsSession::Step TlsSession::write(std::string_view plaintext) {
  ERR_clear_error();
  std::size_t count = 0;
  return step(SSL_write_ex(ssl_, plaintext.data(), plaintext.size(), &count));
}

void TlsSession::close() {
  ERR_clear_error();
  if (handshake_done_ && reason_ == Reason::none) SSL_shutdown(ssl_);
}

}  // namespace postbag
