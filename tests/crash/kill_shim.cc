// Preloaded into the real daemon (LD_PRELOAD): kills it at the n-th time that it comes to a named
// point, or makes the disk fail there. So the product needs no hook of its own.
//   POSTBAG_KILL_POINT=wal.sync.before   a name of tests/crash/kill_points.cc
//   POSTBAG_KILL_NTH=3                   from 1
//   POSTBAG_KILL_EIO=1                   from then on the call fails with EIO instead
//   POSTBAG_NO_THREAD_FROM=2             the second and all further threads cannot be made
// System calls are made directly: the functions of the C library are what is replaced here.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

enum class Role : unsigned char { none, target, intake };
enum class When { before, torn, after };

constexpr int fds_max = 4096;
std::atomic<Role> roles[fds_max];
std::atomic<std::uint64_t> times{0};
std::uint64_t wanted_time = 0;  // 0: nothing is to happen
std::atomic<std::uint64_t> threads{0};
std::uint64_t no_thread_from = 0;  // 0: all can be made
bool fails_instead = false;
char point[64];

[[gnu::constructor]] void read_environment() {
  if (const char* from = std::getenv("POSTBAG_NO_THREAD_FROM")) {
    no_thread_from = std::strtoull(from, nullptr, 10);
  }
  const char* name = std::getenv("POSTBAG_KILL_POINT");
  const char* nth = std::getenv("POSTBAG_KILL_NTH");
  if (name == nullptr || nth == nullptr) return;
  std::snprintf(point, sizeof point, "%s", name);
  fails_instead = std::getenv("POSTBAG_KILL_EIO") != nullptr;
  wanted_time = std::strtoull(nth, nullptr, 10);
}

void set_role(int fd, Role role) {
  if (fd >= 0 && fd < fds_max) roles[fd] = role;
}

// "target" or "intake"; empty: no socket that matters.
std::string_view peer_of(int fd) {
  const Role role = fd >= 0 && fd < fds_max ? roles[fd].load() : Role::none;
  if (role == Role::none) return {};
  return role == Role::target ? "target" : "intake";
}

std::string_view kind_of_path(std::string_view path) {
  if (path.ends_with("-wal")) return "wal";
  if (path.ends_with(".db")) return "db";
  if (path.ends_with(".witness")) return "witness";
  return {};
}

std::string_view kind_of_file(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) return "folder";
  char link[64], path[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path);
  return size > 0 ? kind_of_path({path, static_cast<std::size_t>(size)}) : std::string_view();
}

bool is_point(std::string_view what, std::string_view call, When when) {
  if (wanted_time == 0 || what.empty()) return false;
  std::string_view left = point;
  for (const std::string_view part : {what, call}) {
    if (!left.starts_with(part) || left.substr(part.size(), 1) != ".") return false;
    left.remove_prefix(part.size() + 1);
  }
  const std::string_view name = when == When::before ? "before"
                                : when == When::torn ? "torn"
                                                     : "after";
  if (left != name) return false;
  const std::uint64_t time = ++times;
  return fails_instead ? time >= wanted_time : time == wanted_time;
}

void die() {
  ::syscall(SYS_kill, ::getpid(), SIGKILL);
  for (;;) ::pause();
}

// True: the call has to fail.
bool reached(std::string_view what, std::string_view call, When when) {
  if (!is_point(what, call, when)) return false;
  if (!fails_instead) die();
  errno = EIO;
  return true;
}

ssize_t write_at(int fd, const void* bytes, std::size_t size, off_t offset) {
  const std::string_view kind = wanted_time == 0 ? std::string_view() : kind_of_file(fd);
  if (reached(kind, "write", When::before)) return -1;
  if (is_point(kind, "write", When::torn)) {
    ::syscall(SYS_pwrite64, fd, bytes, size / 2, offset);
    die();
  }
  const ssize_t done = ::syscall(SYS_pwrite64, fd, bytes, size, offset);
  reached(kind, "write", When::after);
  return done;
}

int sync_by(long call, int fd) {
  const std::string_view kind = wanted_time == 0 ? std::string_view() : kind_of_file(fd);
  if (reached(kind, "sync", When::before)) return -1;
  const long code = ::syscall(call, fd);
  reached(kind, "sync", When::after);
  return static_cast<int>(code);
}

template <class... Arguments>
ssize_t transfer(const char* name, long call, int fd, Arguments... arguments) {
  const std::string_view peer = peer_of(fd);
  reached(peer, name, When::before);
  const ssize_t done = ::syscall(call, fd, arguments...);
  const int error = errno;
  if (done > 0) reached(peer, name, When::after);
  errno = error;
  return done;
}

int taken(int fd) {
  if (fd < 0) return fd;
  int domain = 0;
  socklen_t size = sizeof domain;
  ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size);
  const bool is_intake = domain == AF_INET || domain == AF_INET6;
  set_role(fd, is_intake ? Role::intake : Role::none);
  if (is_intake) reached("intake", "accept", When::after);
  return fd;
}

}  // namespace

extern "C" {

ssize_t pwrite(int fd, const void* bytes, std::size_t size, off_t offset) {
  return write_at(fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void* bytes, std::size_t size, off64_t offset) {
  return write_at(fd, bytes, size, offset);
}
int fdatasync(int fd) {
  return sync_by(SYS_fdatasync, fd);
}
int fsync(int fd) {
  return sync_by(SYS_fsync, fd);
}
int unlink(const char* path) noexcept {
  const std::string_view kind = kind_of_path(path);
  reached(kind, "unlink", When::before);
  const long code = ::syscall(SYS_unlink, path);
  const int error = errno;
  reached(kind, "unlink", When::after);
  errno = error;
  return static_cast<int>(code);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  using Create = int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static auto* const create = reinterpret_cast<Create*>(::dlsym(RTLD_NEXT, "pthread_create"));
  if (no_thread_from != 0 && ++threads >= no_thread_from) return EAGAIN;
  return create(thread, attributes, start, argument);
}

int connect(int fd, const sockaddr* address, socklen_t size) {
  const bool is_target = address->sa_family == AF_INET || address->sa_family == AF_INET6;
  set_role(fd, is_target ? Role::target : Role::none);
  reached(peer_of(fd), "connect", When::before);
  const long code = ::syscall(SYS_connect, fd, address, size);
  const int error = errno;
  reached(peer_of(fd), "connect", When::after);
  errno = error;
  return static_cast<int>(code);
}
int accept(int fd, sockaddr* address, socklen_t* size) {
  return taken(static_cast<int>(::syscall(SYS_accept4, fd, address, size, 0)));
}
int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return taken(static_cast<int>(::syscall(SYS_accept4, fd, address, size, flags)));
}
int close(int fd) {
  const std::string_view peer = peer_of(fd);
  reached(peer, "close", When::before);
  set_role(fd, Role::none);
  return static_cast<int>(::syscall(SYS_close, fd));
}

ssize_t send(int fd, const void* bytes, std::size_t size, int flags) {
  return transfer("send", SYS_sendto, fd, bytes, size, flags, nullptr, 0);
}
ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  return transfer("send", SYS_sendmsg, fd, message, flags);
}
ssize_t writev(int fd, const iovec* pieces, int count) {
  return transfer("send", SYS_writev, fd, pieces, count);
}
ssize_t recv(int fd, void* bytes, std::size_t size, int flags) {
  return transfer("recv", SYS_recvfrom, fd, bytes, size, flags, nullptr, nullptr);
}
ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return transfer("recv", SYS_recvmsg, fd, message, flags);
}
ssize_t readv(int fd, const iovec* pieces, int count) {
  return transfer("recv", SYS_readv, fd, pieces, count);
}

}  // extern "C"
