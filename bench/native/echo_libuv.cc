// An echo server on libuv, as its guide writes one: what Node's `net` stands on, without
// JavaScript.
#include <uv.h>

#include <cstdlib>
#include <vector>

#include "support/server.h"
#include "support/socket.h"

namespace cp::bench {
namespace {

constexpr std::size_t kBufferSize = 65536;
constexpr std::uint64_t kLookMilliseconds = 100;

/// A send with its bytes behind it; libuv keeps both until the callback.
struct Write {
  uv_write_t request;
  std::vector<char> bytes;
};

ServerRun run;
char buffer[kBufferSize];  // free again when on_read returns: what it holds is sent or copied

void on_closed(uv_handle_t* handle) { delete reinterpret_cast<uv_tcp_t*>(handle); }

void give_buffer(uv_handle_t*, std::size_t, uv_buf_t* out) {
  *out = uv_buf_init(buffer, kBufferSize);
}

void on_written(uv_write_t* request, int) { delete static_cast<Write*>(request->data); }

/// Most sends fit at once and then cost no allocation.
void echo(uv_stream_t* stream, std::size_t size) {
  uv_buf_t bytes = uv_buf_init(buffer, static_cast<unsigned>(size));
  const int sent = uv_try_write(stream, &bytes, 1);
  const std::size_t done = sent > 0 ? static_cast<std::size_t>(sent) : 0;
  if (done == size) return;
  auto* write = new Write{{}, {buffer + done, buffer + size}};
  write->request.data = write;
  bytes = uv_buf_init(write->bytes.data(), static_cast<unsigned>(write->bytes.size()));
  if (uv_write(&write->request, stream, &bytes, 1, on_written) == 0) return;
  ++run.errors;
  delete write;
}

void on_read(uv_stream_t* stream, ssize_t got, const uv_buf_t*) {
  if (got == 0) return;
  if (got < 0) return uv_close(reinterpret_cast<uv_handle_t*>(stream), on_closed);
  ++run.messages;
  run.bytes += static_cast<std::uint64_t>(got);
  echo(stream, static_cast<std::size_t>(got));
}

void on_connection(uv_stream_t* listener, int status) {
  auto* connection = new uv_tcp_t;
  uv_tcp_init(listener->loop, connection);
  auto* stream = reinterpret_cast<uv_stream_t*>(connection);
  if (status < 0 || uv_accept(listener, stream) < 0) {
    ++run.errors;
    uv_close(reinterpret_cast<uv_handle_t*>(connection), on_closed);
    return;
  }
  ++run.connections;
  uv_read_start(stream, give_buffer, on_read);
}

void look_for_the_end(uv_timer_t* timer) {
  if (stopping()) uv_stop(timer->loop);
}

}  // namespace
}  // namespace cp::bench

int main(int argc, char** argv) {
  using namespace cp::bench;
  const std::string help = std::string("echo_libuv: echoes TCP on libuv\n") + kServerHelp;
  Arguments arguments(argc, argv, help.c_str());
  ServerOptions options = server_options(arguments);
  arguments.end();
  raise_descriptor_limit();
  uv_loop_t* loop = uv_default_loop();
  uv_tcp_t listener;
  uv_tcp_init(loop, &listener);
  uv_tcp_open(&listener, listen_at(options.host, options.port, true));
  uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 511, on_connection);
  uv_timer_t timer;
  uv_timer_init(loop, &timer);
  uv_timer_start(&timer, look_for_the_end, kLookMilliseconds, kLookMilliseconds);
  run.ready(options.port, options.seconds);
  uv_run(loop, UV_RUN_DEFAULT);
  run.report(JsonLine().add("program", "echo_libuv"), -1);
}
