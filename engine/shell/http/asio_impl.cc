// The one translation unit that holds the code of Asio (BOOST_ASIO_SEPARATE_COMPILATION). TLS does
// not go through Asio: tls_session.cc drives OpenSSL itself.
#include <boost/asio/impl/src.hpp>
