#include "cli/intake/listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/ip/address.hpp>
#include <stdexcept>
#include <system_error>

#include "cli/own_addresses.h"

namespace postbag {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using UnixProtocol = asio::local::stream_protocol;

namespace {

[[noreturn]] void fail(const error_code& error, const std::string& what) {
  throw std::system_error(std::error_code(error.value(), std::generic_category()), what);
}

// Somebody accepts connections there.
bool answers(asio::io_context& context, const std::string& path) {
  UnixProtocol::socket probe(context);
  error_code error;
  probe.connect(UnixProtocol::endpoint(path), error);
  return !error;
}

void remove_stale_socket(asio::io_context& context, const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return;
  const std::string what = "the control socket " + path;
  if (!S_ISSOCK(info.st_mode)) {
    throw std::system_error(std::make_error_code(std::errc::file_exists),
                            what + ": another file that is not a socket stands there");
  }
  if (answers(context, path)) {
    throw std::system_error(std::make_error_code(std::errc::address_in_use),
                            what + ": another process serves it");
  }
  if (::unlink(path.c_str()) != 0) {
    throw std::system_error(errno, std::generic_category(),
                            what + " of a dead process cannot be removed");
  }
}

}  // namespace

TcpAcceptor listen_on_tcp(asio::io_context& context, const std::string& listen) {
  const auto address = parse_listen(listen);
  if (!address) {
    throw std::invalid_argument(
        "intake.listen: '" + listen +
        "' is not an address and a port, like 127.0.0.1:8420 or [::1]:8420");
  }
  const tcp::endpoint endpoint(asio::ip::make_address(address->host), address->port);
  TcpAcceptor acceptor(context);
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(TcpAcceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(error, "intake.listen: cannot listen on " + listen);
  return acceptor;
}

UnixAcceptor listen_on_unix(asio::io_context& context, const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    throw std::system_error(std::make_error_code(std::errc::filename_too_long),
                            "the control socket " + path +
                                ": the path is longer than the 107 bytes that a socket's may have");
  }
  remove_stale_socket(context, path);
  UnixAcceptor acceptor(context);
  error_code error;
  acceptor.open(UnixProtocol(), error);
  // Linux gives the new file the mode of the socket: there is no moment at which others may
  // connect.
  if (!error && ::fchmod(acceptor.native_handle(), 0600) != 0) {
    error = error_code(errno, boost::system::generic_category());
  }
  if (!error) acceptor.bind(UnixProtocol::endpoint(path), error);
  if (!error && ::chmod(path.c_str(), 0600) != 0) {
    error = error_code(errno, boost::system::generic_category());
  }
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) fail(error, "cannot listen on the control socket " + path);
  return acceptor;
}

FileIdentity identity_of(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return {};
  return std::pair<std::uint64_t, std::uint64_t>{info.st_dev, info.st_ino};
}

}  // namespace postbag
