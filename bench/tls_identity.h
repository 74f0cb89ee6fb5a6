#pragma once

#include <memory>
#include <string>

struct ssl_ctx_st;

namespace postbag {

// A fresh self-signed certificate for 127.0.0.1 and localhost, made anew by each program: no key is
// ever stored in the tree. `pem` is what a client has to trust (`[tls] ca_file`).
class TlsIdentity {
 public:
  TlsIdentity();  // throws std::runtime_error
  ~TlsIdentity();
  TlsIdentity(const TlsIdentity&) = delete;
  TlsIdentity& operator=(const TlsIdentity&) = delete;

  ssl_ctx_st* server_context() const { return context_; }
  const std::string& pem() const { return pem_; }

 private:
  ssl_ctx_st* context_ = nullptr;
  std::string pem_;
};

}  // namespace postbag
