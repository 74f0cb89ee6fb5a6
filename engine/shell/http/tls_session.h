#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/pure/url.h"
#include "postbag/outcome.h"

// OpenSSL's own types, so that its headers stay in tls_session.cc.
struct ssl_ctx_st;
struct ssl_session_st;
struct ssl_st;

namespace postbag {

// More at a time the C library copies with `rep movsb` where the processor says that it is fast;
// some are not (Zen 3 and 4, glibc bug 30994: up to 20 times slower where addresses lie badly).
// What is to be encrypted, and what was, is copied in such pieces.
inline constexpr std::size_t copied_at_once_bytes = 2048;

// What an earlier connection left for the next one to the same origin. Empty or one session.
struct TlsResumption {
  struct Free {
    void operator()(ssl_session_st* session) const;
  };
  std::unique_ptr<ssl_session_st, Free> session;
};

// The trust and the rules of TLS clients: the system's CAs and those of `ca_file`, TLS 1.2 at
// least, no renegotiation, no compression, verification always. Immutable, may be shared by
// threads.
class TlsContext {
 public:
  // Nothing if the file cannot be used; `error` says why. There is no fall-back to less
  // verification.
  static std::shared_ptr<TlsContext> make(const std::string& ca_file, std::string& error);
  ~TlsContext();
  TlsContext(const TlsContext&) = delete;
  TlsContext& operator=(const TlsContext&) = delete;

 private:
  friend class TlsSession;
  explicit TlsContext(ssl_ctx_st* context) : context_(context) {}
  ssl_ctx_st* context_;
};

// One TLS client connection without a socket: ciphertext goes in by receive(), comes out in
// output(). One thread.
class TlsSession {
 public:
  enum class Step : std::uint8_t {
    done,       // handshake complete, or plaintext read or written
    need_more,  // ciphertext
    closed,     // the peer ended the stream properly (close_notify)
    failed,     // reason() and detail()
  };

  // `host` is what the certificate must be for: a name (also sent as SNI), or `literal`.
  // `resumption` outlives the session; it gets the new session that the peer offers.
  TlsSession(std::shared_ptr<TlsContext> context, const std::string& host,
             const std::optional<IpAddress>& literal, TlsResumption& resumption);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // The bytes must stay until a step has answered need_more, closed or failed.
  void receive(std::string_view ciphertext) { input_ = ciphertext; }
  Step handshake();
  Step read(char* to, std::size_t room, std::size_t& count);
  // All of `plaintext`, at most 16 KiB: one record.
  Step write(std::string_view plaintext);
  // A session that the peer offers from now on is dropped: it was verified by rules that do not
  // hold any more.
  void keep_no_session() { resumption_ = nullptr; }
  // Says goodbye (close_notify) into output().
  void close();

  // Ciphertext that waits to be sent, without what sent() was called for.
  std::string_view output() const { return std::string_view(output_).substr(output_sent_); }
  void sent(std::size_t count);
  // The larger one of the output's memory and `memory` becomes the output's, or goes to `memory`.
  // Only while no output waits.
  void take_memory(std::string& memory);
  void give_memory(std::string& memory);

  Reason reason() const { return reason_; }
  const std::string& detail() const { return detail_; }

 private:
  friend struct TlsBio;
  friend struct TlsCallbacks;
  Step step(int result);
  Step fail_from_queue();
  Step fail(Reason reason, std::string detail);

  std::shared_ptr<TlsContext> context_;
  TlsResumption* resumption_;
  ssl_st* ssl_ = nullptr;
  std::string_view input_;
  std::string output_;
  std::size_t output_sent_ = 0;
  bool handshake_done_ = false;
  bool certificate_asked_ = false;  // by the peer, of us
  Reason reason_ = Reason::none;
  std::string detail_;
};

}  // namespace postbag
