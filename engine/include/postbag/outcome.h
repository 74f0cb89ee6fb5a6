#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace postbag {

// Why an attempt or a hook did not end as delivered. The tokens (reason_token) are stable: they
// stand in failed rows, JSON answers, logs and filters.
enum class Reason : std::uint8_t {
  none,  // delivered
  // Network
  connect_refused,
  connect_timeout,
  net_unreachable,
  local_resource,  // no descriptor or local port left; the peer has no part in it
  reset,
  write_timeout,
  timeout,  // the whole attempt took longer than [delivery] timeout
  closed_no_response,
  // TLS
  tls_cert,
  tls_name,
  tls_version,
  tls_timeout,
  tls_eof,
  tls_protocol,
  tls_client_cert,
  tls_alpn,
  // DNS
  dns_not_found,
  dns_timeout,
  dns_failed,
  // HTTP
  truncated_header,
  header_limit,
  bad_framing,
  bad_response,
  bad_protocol,
  too_many_1xx,
  early_success,  // a 2xx before the request was written: the receiver cannot have read it
  status,         // a final status other than 2xx; the token is status_NNN
  // Decided by Postbag
  ssrf_denied,  // the network policy forbids the address
  shutdown,     // memory mode: the engine ended first
  cancelled,    // by an operator
  corrupt_payload,
  url_syntax,  // the stored target is no URL: damaged, or of a version that took it
};

// The stable token: "connect_refused", "status_503" (with `status`), "delivered" for Reason::none.
std::string reason_token(Reason reason, int status);

// The inverse; `status` is set for status_NNN. Empty for an unknown token.
struct ParsedReason {
  Reason reason = Reason::none;
  int status = 0;
};
std::optional<ParsedReason> parse_reason(std::string_view token);

// How a hook left the engine.
struct HookOutcome {
  bool delivered = false;
  Reason reason = Reason::none;
  int status = 0;
};

}  // namespace postbag
