#include "stage/frames.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "driver/errno.h"
#include "stage/frames_thread.h"

namespace cp::stage {

FramesStage::FramesStage(FramesOptions options)
    : options_(std::move(options)),
      admission_(std::make_shared<Admission>(
          *options_.port, options_.queue,
          std::min(options_.next_threads, options_.next->dispatcher().options().concurrency),
          options_.file_limit)),
      frames_(new std::unique_ptr<Frame>[options_.records->limit()]) {}

std::unique_ptr<FramesStage> FramesStage::start(FramesOptions options, driver::Result& error) {
  std::unique_ptr<FramesStage> stage(new FramesStage(std::move(options)));
  stage->options_.port->set_key_source(stage->options_.records);
  if (!stage->keep_farewells()) {
    error = -ENOMEM;
    return nullptr;
  }
  for (std::uint32_t i = 0; i < stage->options_.threads; ++i) {
    auto thread = std::make_unique<FramesThread>(*stage, i);
    error = thread->start();
    if (error < 0) return nullptr;
    stage->threads_.push_back(std::move(thread));
  }
  return stage;
}

FramesStage::~FramesStage() {
  stop();
  for (const Farewell* farewell : {&too_large_, &timed_out_, &failed_}) {
    if (farewell->length > 0) options_.port->pool().release_fixed(farewell->place);
  }
}

bool FramesStage::keep_farewells() {
  const auto keep = [this](const std::vector<std::uint8_t>& text, Farewell& out) {
    if (text.empty()) return true;
    if (!options_.port->pool().allocate_fixed(text.size(), out.place)) return false;
    out.length = text.size();
    std::memcpy(address_of(out.place), text.data(), out.length);
    return true;
  };
  return keep(options_.too_large, too_large_) && keep(options_.timed_out, timed_out_) &&
         keep(options_.failed, failed_);
}

/// Nobody holds a key here any more: what documents were in the middle of is given back.
void FramesStage::stop() {
  options_.port->close();
  for (const auto& thread : threads_) thread->join();
  for (std::size_t i = 0; i < options_.records->limit(); ++i) {
    const std::unique_ptr<Frame> frame = std::move(frames_[i]);
    if (!frame) continue;
    if (frame->capacity > 0) BufferPool::release(frame->place);
  }
}

std::int64_t FramesStage::listen(const driver::ListenOptions& options) {
  Port& port = *options_.port;
  if (!port.enter()) return kErrorPortClosed;
  const std::int64_t result = listen_on(port, options);
  port.leave();
  return result;
}

std::int64_t FramesStage::listen_on(Port& port, const driver::ListenOptions& options) {
  const driver::Result descriptor = port.driver().listen(options);
  if (descriptor < 0) return descriptor;
  HandleId id = 0;
  Handle* handle = port.create_handle(HandleKind::kListener, true, kListener, nullptr, id);
  if (handle == nullptr) {
    port.driver().discard(descriptor);
    if (!options.path.empty()) port.driver().remove_socket_file(options.path);
    return -EMFILE;
  }
  handle->accept_keyed = true;
  if (!options.path.empty()) handle->path = std::make_unique<std::string>(options.path);
  Port::adopt(*handle, port.driver(), descriptor);
  Port::publish(*handle, id);
  {
    std::lock_guard lock(mutex_);
    listeners_.push_back(id);
  }
  tell_listener(port, id, Notice::kListen);
  return static_cast<std::int64_t>(id);
}

/// Only a thread of the stage can accept or close: whichever comes first.
void FramesStage::tell_listener(Port& port, HandleId listener, Notice notice) {
  Packet packet;
  packet.kind = PacketKind::kNotice;
  packet.key = kListener;
  packet.handle = listener;
  packet.result = static_cast<double>(notice);
  port.dispatcher().push(packet, nullptr);
}

void FramesStage::stop_listening() {
  Port& port = *options_.port;
  if (!port.enter()) return;
  std::vector<HandleId> listeners;
  {
    std::lock_guard lock(mutex_);
    listeners.swap(listeners_);
  }
  for (const HandleId id : listeners) tell_listener(port, id, Notice::kEndListening);
  port.leave();
}

/// Those that are elsewhere find out when they come back.
void FramesStage::end_connections() {
  ending_ = true;
  Port& port = *options_.port;
  if (!port.enter()) return;
  options_.records->for_each([&port](const RecordHeader& header) {
    if (header.port == port.id()) Admission::tell(port, header.name, Notice::kEnd);
  });
  port.leave();
}

FramesStats FramesStage::stats() const {
  FramesStats stats;
  const auto read = [](const std::atomic<std::uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  stats.connections = read(counters_.connections);
  stats.documents = read(counters_.documents);
  stats.bytes = read(counters_.bytes);
  stats.spooled = read(counters_.spooled);
  stats.replies = read(counters_.replies);
  stats.timed_out = read(counters_.timed_out);
  stats.too_large = read(counters_.too_large);
  stats.failed = read(counters_.failed);
  stats.packets = read(counters_.packets);
  stats.queued = admission_->taken();
  stats.waiting = admission_->waiting();
  stats.in_files = admission_->in_files();
  return stats;
}

}  // namespace cp::stage
