#pragma once

#include <string>
#include <vector>

struct x509_st;
struct evp_pkey_st;

namespace postbag {

struct TestCertificate {
  std::string certificate_pem;
  std::string key_pem;
};

struct CertificateSpec {
  std::string common_name = "postbag test";
  std::vector<std::string> dns_names;
  std::vector<std::string> ip_addresses;
  int valid_from_days = -1;  // relative to now
  int valid_to_days = 30;
  bool self_signed = false;
};

// A certificate authority made at run time (P-256 keys, nothing is read from or left on disk but
// ca_file(), which the destructor removes). Throws std::runtime_error where OpenSSL fails.
class TestCa {
 public:
  TestCa();
  ~TestCa();
  TestCa(const TestCa&) = delete;
  TestCa& operator=(const TestCa&) = delete;

  // For [tls] ca_file.
  const std::string& ca_file() const { return ca_file_; }
  const std::string& certificate_pem() const { return certificate_pem_; }

  TestCertificate issue(const CertificateSpec& spec) const;
  // For localhost, 127.0.0.1 and ::1.
  TestCertificate good() const;
  TestCertificate expired() const;
  TestCertificate not_yet_valid() const;
  TestCertificate wrong_name() const;
  TestCertificate self_signed() const;

 private:
  evp_pkey_st* key_ = nullptr;
  x509_st* certificate_ = nullptr;
  std::string certificate_pem_;
  std::string ca_file_;
};

}  // namespace postbag
