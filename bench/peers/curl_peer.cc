// libcurl's multi interface as a webhook sender: N easy handles, each with its connection, POST one
// ready body over and over to a counting receiver in a process of its own. Prints one line of JSON.

#include <curl/curl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

#include "bench/batch_check.h"
#include "bench/bench_support.h"

namespace postbag {
namespace {

constexpr const char* usage =
    "curl_peer [--loop poll|socket_action] [--handles N] [--batch N] [--requests N] [--pin]\n"
    "  --loop  who waits: curl_multi_poll (default), or epoll here with curl_multi_socket_action\n"
    "  --pin   client on core 0, receiver on core 1\n";

std::size_t drop_answer(char*, std::size_t size, std::size_t count, void*) {
  return size * count;
}

class CurlClient {
 public:
  CurlClient(std::uint16_t port, const std::string& body, std::uint64_t batch,
             std::uint64_t handles, std::uint64_t requests)
      : requests_(requests) {
    url_ = "http://127.0.0.1:" + std::to_string(port) + "/t/0";
    add_header("Content-Type: application/json");
    add_header(("Postbag-Batch-Size: " + std::to_string(batch)).c_str());
    // Or libcurl would wait for "100 Continue" with large bodies.
    add_header("Expect:");
    multi_ = curl_multi_init();
    if (multi_ == nullptr) throw std::runtime_error("curl_multi_init");
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, static_cast<long>(handles));
    for (std::uint64_t i = 0; i < handles; ++i) easy_.push_back(make_easy(body));
  }
  ~CurlClient() {
    for (CURL* easy : easy_) {
      curl_multi_remove_handle(multi_, easy);
      curl_easy_cleanup(easy);
    }
    curl_multi_cleanup(multi_);
    curl_slist_free_all(headers_);
    if (epoll_ >= 0) close(epoll_);
  }
  CurlClient(const CurlClient&) = delete;
  CurlClient& operator=(const CurlClient&) = delete;

  void run_poll() {
    start_all();
    int running = 0;
    while (answered_ < requests_) {
      check(curl_multi_perform(multi_, &running));
      restart_done();
      if (answered_ < requests_) check(curl_multi_poll(multi_, nullptr, 0, 1000, nullptr));
    }
  }

  void run_socket_action() {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    start_all();
    int running = 0;
    std::array<epoll_event, 256> events;
    while (answered_ < requests_) {
      // Asked for within a call of libcurl, and not to be answered before that returns.
      if (timer_ms_ == 0) {
        timer_ms_ = -1;
        check(curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running));
        restart_done();
        continue;
      }
      const int wait_ms = timer_ms_ < 0 ? 1000 : static_cast<int>(std::min(timer_ms_, 1000L));
      const int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms);
      if (n < 0 && errno != EINTR) throw std::runtime_error("epoll_wait");
      if (n == 0) timer_ms_ = 0;
      for (int i = 0; i < n; ++i) {
        const epoll_event& event = events[static_cast<std::size_t>(i)];
        const int what = ((event.events & EPOLLIN) ? CURL_CSELECT_IN : 0) |
                         ((event.events & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
                         ((event.events & (EPOLLERR | EPOLLHUP)) ? CURL_CSELECT_ERR : 0);
        check(curl_multi_socket_action(multi_, event.data.fd, what, &running));
      }
      restart_done();
    }
  }

  std::uint64_t answered() const { return answered_; }

 private:
  static void check(CURLMcode code) {
    if (code != CURLM_OK) throw std::runtime_error(curl_multi_strerror(code));
  }

  void add_header(const char* line) { headers_ = curl_slist_append(headers_, line); }

  CURL* make_easy(const std::string& body) {
    CURL* easy = curl_easy_init();
    if (easy == nullptr) throw std::runtime_error("curl_easy_init");
    curl_easy_setopt(easy, CURLOPT_URL, url_.c_str());
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    // Not copied: `body` outlives the client.
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_answer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    return easy;
  }

  void start_all() {
    for (CURL* easy : easy_) start(easy);
  }

  void start(CURL* easy) {
    if (started_ == requests_) return;
    ++started_;
    check(curl_multi_add_handle(multi_, easy));
  }

  void restart_done() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      CURL* easy = message->easy_handle;
      const CURLcode result = message->data.result;
      long status = 0;
      curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
      if (result != CURLE_OK) throw std::runtime_error(curl_easy_strerror(result));
      if (status != 200) throw std::runtime_error("unexpected status " + std::to_string(status));
      ++answered_;
      check(curl_multi_remove_handle(multi_, easy));
      start(easy);
    }
  }

  static int watch_socket(CURL*, curl_socket_t socket, int what, void* self, void* known) {
    auto* client = static_cast<CurlClient*>(self);
    if (what == CURL_POLL_REMOVE) {
      epoll_ctl(client->epoll_, EPOLL_CTL_DEL, socket, nullptr);
      return 0;
    }
    epoll_event event{};
    event.events =
        ((what & CURL_POLL_IN) ? EPOLLIN : 0u) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0u);
    event.data.fd = socket;
    epoll_ctl(client->epoll_, known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event);
    curl_multi_assign(client->multi_, socket, client);
    return 0;
  }

  static int set_timer(CURLM*, long timeout_ms, void* self) {
    static_cast<CurlClient*>(self)->timer_ms_ = timeout_ms;
    return 0;
  }

  std::uint64_t requests_, started_ = 0, answered_ = 0;
  std::string url_;
  curl_slist* headers_ = nullptr;
  CURLM* multi_ = nullptr;
  std::vector<CURL*> easy_;
  int epoll_ = -1;
  long timer_ms_ = -1;  // -1: none
};

int run(int argc, char** argv) {
  const Arguments arguments(argc, argv, {"loop=", "handles=", "batch=", "requests=", "pin"}, usage);
  const std::uint64_t batch = arguments.number("batch", 1);
  ReceiverProcessOptions receiver_options;
  receiver_options.pin = arguments.has("pin");
  ReceiverProcess receiver(receiver_options);
  if (arguments.has("pin")) pin_to_core(0);
  PayloadMaker maker;
  std::string body = "[";
  for (std::uint64_t i = 0; i < batch; ++i) {
    if (i > 0) body += ",";
    body += maker.make(0, i);
  }
  body += "]";
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CurlClient client(receiver.port(), body, batch,
                    std::max<std::uint64_t>(1, arguments.number("handles", 16)),
                    arguments.number("requests", 50'000));
  const double start = now_s();
  const double cpu_start = process_cpu_s();
  if (arguments.text("loop", "poll") == "poll")
    client.run_poll();
  else
    client.run_socket_action();
  const double seconds = now_s() - start;
  const double cpu_s = process_cpu_s() - cpu_start;
  const std::uint64_t received = receiver.counters().hooks;
  const bool ok = received == client.answered() * batch;
  Report(true)
      .text("result", ok ? "ok" : "FAILED")
      .number("hooks", static_cast<double>(received))
      .number("seconds", seconds, 6)
      .number("cpu_s", cpu_s, 6)
      .print();
  receiver.stop();
  return ok ? 0 : 1;
}

}  // namespace
}  // namespace postbag

int main(int argc, char** argv) {
  return postbag::run_program("curl_peer", postbag::run, argc, argv);
}
