// Handles and memory, for lib/native/binding.ts. Not on the path of a packet.
#include <string>
#include <string_view>
#include <vector>

#include "addon/address.h"
#include "addon/descriptor.h"
#include "addon/native_thread.h"
#include "port/unique_keys.h"

namespace cp::addon {
namespace {

constexpr double kChunkFactor = 4294967296.0;  // 2^32

std::uint32_t u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

HandleId handle_id(const Napi::Value& value) {
  return static_cast<HandleId>(value.As<Napi::Number>().Int64Value());
}

/// The key argument: -1 for a handle whose operations are awaited.
Thread::Association association(const Napi::Value& key) {
  const double number = key.As<Napi::Number>().DoubleValue();
  Thread::Association association;
  association.keyed = number >= 0;
  association.key = association.keyed ? static_cast<std::uint32_t>(number) : 0;
  return association;
}

Napi::Value number(Napi::Env env, std::int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

const char* name_of(HandleKind kind) {
  switch (kind) {
    case HandleKind::kFile:
      return "file";
    case HandleKind::kListener:
      return "listener";
    case HandleKind::kSocket:
      return "socket";
    case HandleKind::kTimer:
      return "timer";
  }
  return "";
}

const char* name_of(driver::FileKind kind) {
  switch (kind) {
    case driver::FileKind::kRegular:
      return "regular";
    case driver::FileKind::kDirectory:
      return "directory";
    case driver::FileKind::kStream:
      return "stream";
    case driver::FileKind::kDevice:
      return "device";
  }
  return "";
}

}  // namespace

// ---- opening ----------------------------------------------------------------------------------

Napi::Value NativeThread::open(Info info) {
  const auto path = info[0].As<Napi::Uint8Array>();
  Thread::Association with = association(info[3]);
  with.token = u32(info[4]);
  with.timeout = u32(info[5]);
  const std::string_view bytes(reinterpret_cast<const char*>(path.Data()), path.ByteLength());
  return number(Env(), thread().open(bytes, u32(info[1]), u32(info[2]), with));
}

Napi::Value NativeThread::open_descriptor(Info info) {
  const driver::Descriptor descriptor = native_descriptor(info[0].As<Napi::Number>().Int32Value());
  if (descriptor == driver::kNoDescriptor) return number(Env(), -9);  // EBADF
  return number(Env(), thread().open_descriptor(descriptor, association(info[1])));
}

Napi::Value NativeThread::adopt_socket(Info info) {
  const auto descriptor = static_cast<driver::Descriptor>(info[0].As<Napi::Number>().Int64Value());
  return number(Env(), thread().adopt_socket(descriptor, association(info[1])));
}

Napi::Value NativeThread::keep_open(Info info) {
  return number(Env(), thread().port().keep_open(handle_id(info[0])));
}

Napi::Value NativeThread::reopen(Info info) {
  return number(Env(), thread().reopen(handle_id(info[0]), association(info[1])));
}

Napi::Value NativeThread::file_size(Info info) {
  return number(Env(), Port::with_descriptor(handle_id(info[0]), &driver::size_of_file));
}

Napi::Value NativeThread::listen(Info info) {
  driver::ListenOptions options;
  const auto port = static_cast<std::uint16_t>(u32(info[1]));
  if (!parse_address(info[0].As<Napi::String>().Utf8Value(), port, options.address)) {
    return number(Env(), -22);  // EINVAL: the library resolves names before
  }
  options.path = file_of(info[0].As<Napi::String>().Utf8Value());
  options.backlog = info[2].As<Napi::Number>().Int32Value();
  options.reuse_port = info[3].ToBoolean();
  options.ipv6_only = info[4].ToBoolean();
  options.no_delay = info[7].ToBoolean();
  return number(Env(), thread().listen(options, info[6].ToBoolean(), association(info[5])));
}

Napi::Value NativeThread::connect(Info info) {
  driver::SocketAddress address;
  const auto port = static_cast<std::uint16_t>(u32(info[1]));
  if (!parse_address(info[0].As<Napi::String>().Utf8Value(), port, address)) {
    return number(Env(), -22);
  }
  Thread::Association with = association(info[2]);
  with.token = u32(info[3]);
  with.timeout = u32(info[4]);
  return number(Env(), thread().connect(address, with));
}

Napi::Value NativeThread::timer(Info info) {
  return number(Env(), thread().timer(association(info[0])));
}

// ---- asking a handle --------------------------------------------------------------------------

Napi::Value NativeThread::set_option(Info info) {
  driver::Driver& driver = thread().port().driver();
  const auto option = static_cast<driver::SocketOption>(u32(info[1]));
  const int value = info[2].As<Napi::Number>().Int32Value();
  return number(Env(),
                Port::with_descriptor(handle_id(info[0]), [&](driver::Descriptor descriptor) {
                  return driver.set_option(descriptor, option, value);
                }));
}

Napi::Value NativeThread::address(Info info) {
  driver::Driver& driver = thread().port().driver();
  const bool peer = info[1].ToBoolean();
  driver::SocketAddress raw;
  const driver::Result found = Port::with_descriptor(
      handle_id(info[0]),
      [&](driver::Descriptor descriptor) { return driver.address(descriptor, peer, raw); });
  if (found < 0) return number(Env(), found);
  NamedAddress named;
  if (!format_address(raw, named)) return number(Env(), -97);  // EAFNOSUPPORT
  Napi::Object out = Napi::Object::New(Env());
  out.Set("address", named.text);
  out.Set("port", static_cast<double>(named.port));
  out.Set("family", named.family);
  return out;
}

Napi::Value NativeThread::handle_info(Info info) {
  const HandleView view = thread().port().look_up(handle_id(info[0]));
  if (view.id == 0) return Env().Undefined();
  Napi::Object out = Napi::Object::New(Env());
  out.Set("kind", name_of(view.kind));
  out.Set("descriptor", static_cast<double>(view.descriptor));
  out.Set("key", static_cast<double>(view.key));
  out.Set("keyed", view.keyed);
  out.Set("inFlight", static_cast<double>(view.in_flight));
  out.Set("closing", view.closing);
  out.Set("fileKind", name_of(view.file_kind));
  out.Set("append", view.append);
  out.Set("direct", view.direct);
  if (!view.path.empty()) out.Set("path", view.path);
  return out;
}

Napi::Value NativeThread::bytes_moved(Info info) {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
  const bool known = Port::bytes_moved(handle_id(info[0]), received, sent);
  auto into = info[1].As<Napi::Float64Array>();
  into[0] = static_cast<double>(received);
  into[1] = static_cast<double>(sent);
  return Napi::Boolean::New(Env(), known);
}

Napi::Value NativeThread::idle_timeout(Info info) {
  const HandleId handle = handle_id(info[0]);
  if (!info[1].IsNumber()) return number(Env(), Port::idle_timeout(handle));
  return number(Env(), Port::set_idle_timeout(handle, u32(info[1])));
}

Napi::Value NativeThread::connections(Info info) {
  const auto connections = Port::connections_of(handle_id(info[0]));
  if (!connections) return number(Env(), kErrorHandleClosed);
  return number(Env(), connections->open.load());
}

Napi::Value NativeThread::most_connections(Info info) {
  const auto connections = Port::connections_of(handle_id(info[0]));
  if (!connections) return number(Env(), kErrorHandleClosed);
  if (info[1].IsNumber()) connections->most.store(u32(info[1]));
  return number(Env(), connections->most.load());
}

Napi::Value NativeThread::unique_key(Info) { return number(Env(), cp::unique_key()); }

Napi::Value NativeThread::hand_off(Info info) {
  const PortHold target = Port::find(u32(info[1]));
  if (!target) return number(Env(), kErrorPortClosed);
  return number(Env(), thread().port().hand_off(handle_id(info[0]), *target, u32(info[2])));
}

Napi::Value NativeThread::handles(Info) {
  const std::vector<HandleId> names = thread().port().handles();
  Napi::Array out = Napi::Array::New(Env(), names.size());
  for (std::uint32_t i = 0; i < names.size(); ++i) out.Set(i, static_cast<double>(names[i]));
  return out;
}

// ---- memory -----------------------------------------------------------------------------------

Napi::Value NativeThread::allocate(Info info) {
  Place place;
  const double size = info[0].As<Napi::Number>().DoubleValue();
  if (!thread().allocate(static_cast<std::uint64_t>(size), place, info[1].ToBoolean())) {
    return number(Env(), -1);
  }
  return Napi::Number::New(Env(), place.chunk * kChunkFactor + place.offset);
}

Napi::Value NativeThread::copy_block(Info info) {
  Place place;
  if (!thread().next_copy_block(info[0].ToBoolean(), info[1].ToBoolean(), place))
    return number(Env(), -1);
  return Napi::Number::New(Env(), place.chunk * kChunkFactor + place.offset);
}

Napi::Value NativeThread::release(Info info) {
  return Napi::Boolean::New(Env(), BufferPool::release({u32(info[0]), u32(info[1])}));
}

namespace {

/// The view pins the memory, so it stays mapped as long as JavaScript can see it. Node marks such
/// ArrayBuffers untransferable; `transfer()` on one would only move the pin.
Napi::ArrayBuffer show(Napi::Env env, Chunk& pinned, std::uint32_t offset, std::size_t length) {
  return Napi::ArrayBuffer::New(
      env, pinned.base() + offset, length, [](Napi::Env, void*, Chunk* chunk) { chunk->unpin(); },
      &pinned);
}

Chunk& pinned_chunk(Napi::Env env, const Napi::Value& id) {
  Chunk* chunk = Chunk::find(u32(id));
  if (chunk == nullptr || !chunk->pin()) throw Napi::RangeError::New(env, "No such chunk");
  return *chunk;
}

}  // namespace

Napi::Value NativeThread::chunk(Info info) {
  Chunk& chunk = pinned_chunk(Env(), info[0]);
  Napi::Object out = Napi::Object::New(Env());
  out.Set("memory", show(Env(), chunk, 0, chunk.size()));
  out.Set("blockSize", static_cast<double>(chunk.block_size()));
  return out;
}

Napi::Value NativeThread::expose(Info info) {
  Chunk& chunk = pinned_chunk(Env(), info[0]);
  const std::uint32_t offset = u32(info[1]);
  const std::size_t length = u32(info[2]);
  if (offset + length <= chunk.size()) return show(Env(), chunk, offset, length);
  chunk.unpin();
  throw Napi::RangeError::New(Env(), "No such memory");
}

Napi::Value NativeThread::revoke(Info info) {
  auto memory = info[0].As<Napi::ArrayBuffer>();
  if (!memory.IsDetached()) memory.Detach();
  return Env().Undefined();
}

Napi::Value NativeThread::is_used(Info info) {
  return Napi::Boolean::New(Env(), BufferPool::in_use({u32(info[0]), u32(info[1])}));
}

}  // namespace cp::addon
