#include "tests/support/test_ca.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <stdexcept>

namespace postbag {
namespace {

using X509Ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using BioPtr = std::unique_ptr<BIO, decltype(&BIO_free_all)>;

constexpr long seconds_per_day = 24 * 60 * 60;

void require(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string("test CA: ") + what);
}

KeyPtr make_key() {
  KeyPtr key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  require(key != nullptr, "key");
  return key;
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  return std::string(bytes, static_cast<std::size_t>(size));
}

std::string certificate_text(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()), BIO_free_all);
  require(bio != nullptr && PEM_write_bio_X509(bio.get(), certificate) == 1, "write certificate");
  return text_of(bio.get());
}

std::string key_text(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()), BIO_free_all);
  require(bio != nullptr &&
              PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "write key");
  return text_of(bio.get());
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  require(extension != nullptr, "extension");
  const int added = X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  require(added == 1, "add extension");
}

X509Ptr make_certificate(const CertificateSpec& spec, EVP_PKEY* key) {
  X509Ptr certificate(X509_new(), X509_free);
  require(certificate != nullptr, "certificate");
  X509_set_version(certificate.get(), 2);
  std::uint32_t serial = 0;
  require(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1, "serial");
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), std::uint64_t{serial} + 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), spec.valid_from_days * seconds_per_day);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), spec.valid_to_days * seconds_per_day);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(spec.common_name.c_str()), -1,
                             -1, 0);
  require(X509_set_pubkey(certificate.get(), key) == 1, "public key");
  return certificate;
}

void sign(X509* certificate, X509* issuer, EVP_PKEY* issuer_key) {
  require(X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1, "issuer");
  require(X509_sign(certificate, issuer_key, EVP_sha256()) != 0, "sign");
}

std::string write_temporary(const std::string& text) {
  std::string path = (std::filesystem::temp_directory_path() / "postbag-test-ca-XXXXXX").string();
  const int descriptor = mkstemp(path.data());
  require(descriptor >= 0, "temporary file");
  const ssize_t written = write(descriptor, text.data(), text.size());
  close(descriptor);
  require(written == static_cast<ssize_t>(text.size()), "write file");
  return path;
}

CertificateSpec localhost_spec() {
  CertificateSpec spec;
  spec.dns_names = {"localhost"};
  spec.ip_addresses = {"127.0.0.1", "::1"};
  return spec;
}

}  // namespace

TestCa::TestCa() {
  KeyPtr key = make_key();
  CertificateSpec spec;
  spec.common_name = "postbag test CA";
  X509Ptr certificate = make_certificate(spec, key.get());
  require(X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get())) == 1,
          "issuer");
  add_extension(certificate.get(), certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  add_extension(certificate.get(), certificate.get(), NID_key_usage,
                "critical,keyCertSign,cRLSign");
  add_extension(certificate.get(), certificate.get(), NID_subject_key_identifier, "hash");
  sign(certificate.get(), certificate.get(), key.get());
  certificate_pem_ = certificate_text(certificate.get());
  ca_file_ = write_temporary(certificate_pem_);
  key_ = key.release();
  certificate_ = certificate.release();
}

TestCa::~TestCa() {
  std::error_code ignored;
  std::filesystem::remove(ca_file_, ignored);
  X509_free(certificate_);
  EVP_PKEY_free(key_);
}

TestCertificate TestCa::issue(const CertificateSpec& spec) const {
  const KeyPtr key = make_key();
  const X509Ptr certificate = make_certificate(spec, key.get());
  X509* issuer = spec.self_signed ? certificate.get() : certificate_;
  add_extension(certificate.get(), issuer, NID_basic_constraints, "critical,CA:FALSE");
  std::string names;
  for (const std::string& name : spec.dns_names) names += (names.empty() ? "DNS:" : ",DNS:") + name;
  for (const std::string& address : spec.ip_addresses)
    names += (names.empty() ? "IP:" : ",IP:") + address;
  if (!names.empty()) add_extension(certificate.get(), issuer, NID_subject_alt_name, names);
  sign(certificate.get(), issuer, spec.self_signed ? key.get() : key_);
  return {certificate_text(certificate.get()), key_text(key.get())};
}

TestCertificate TestCa::good() const {
  return issue(localhost_spec());
}

TestCertificate TestCa::expired() const {
  CertificateSpec spec = localhost_spec();
  spec.valid_from_days = -30;
  spec.valid_to_days = -1;
  return issue(spec);
}

TestCertificate TestCa::not_yet_valid() const {
  CertificateSpec spec = localhost_spec();
  spec.valid_from_days = 10;
  return issue(spec);
}

TestCertificate TestCa::wrong_name() const {
  CertificateSpec spec;
  spec.dns_names = {"other.example"};
  return issue(spec);
}

TestCertificate TestCa::self_signed() const {
  CertificateSpec spec = localhost_spec();
  spec.self_signed = true;
  return issue(spec);
}

}  // namespace postbag
