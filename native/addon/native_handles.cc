#include "addon/native_handles.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "addon/address.h"
#include "addon/descriptor.h"
#include "addon/native_thread.h"
#include "addon/settings.h"
#include "addon/shared_listener.h"
#include "addon/shown_memory.h"
#include "addon/values.h"
#include "driver/half_close.h"
#include "port/unique_keys.h"

namespace cp::addon {
namespace {

constexpr double kChunkFactor = 4294967296.0;  // 2^32

/// The key argument: -1 for a handle whose operations are awaited.
Thread::Association association(const Napi::Value& key) {
  const double number = key.As<Napi::Number>().DoubleValue();
  Thread::Association association;
  association.keyed = number >= 0;
  association.key = association.keyed ? static_cast<std::uint32_t>(number) : 0;
  return association;
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

void NativeHandles::define(std::vector<NativeThread::Function>& functions) {
  const auto add = [&]<auto function>(const char* name) {
    functions.push_back(NativeThread::function_of<&NativeThread::handles_, function>(name));
  };
  add.operator()<&NativeHandles::open>("open");
  add.operator()<&NativeHandles::open_descriptor>("openDescriptor");
  add.operator()<&NativeHandles::adopt_socket>("adoptSocket");
  add.operator()<&NativeHandles::own_connection>("ownConnection");
  add.operator()<&NativeHandles::parcel>("parcel");
  add.operator()<&NativeHandles::drop_parcel>("dropParcel");
  add.operator()<&NativeHandles::claim>("claim");
  add.operator()<&NativeHandles::unclaimed>("unclaimed");
  add.operator()<&NativeHandles::take_received>("takeReceived");
  add.operator()<&NativeHandles::lets_go>("letsGo");
  add.operator()<&NativeHandles::reopen>("reopen");
  add.operator()<&NativeHandles::file_size>("fileSize");
  add.operator()<&NativeHandles::listen>("listen");
  add.operator()<&NativeHandles::connect>("connect");
  add.operator()<&NativeHandles::timer>("timer");
  add.operator()<&NativeHandles::set_option>("setOption");
  add.operator()<&NativeHandles::option>("option");
  add.operator()<&NativeHandles::address>("address");
  add.operator()<&NativeHandles::handle_info>("handleInfo");
  add.operator()<&NativeHandles::bytes_moved>("bytesMoved");
  add.operator()<&NativeHandles::idle_timeout>("idleTimeout");
  add.operator()<&NativeHandles::connections>("connections");
  add.operator()<&NativeHandles::most_connections>("mostConnections");
  add.operator()<&NativeHandles::unique_key>("uniqueKey");
  add.operator()<&NativeHandles::hand_off>("handOff");
  add.operator()<&NativeHandles::handles>("handles");
  add.operator()<&NativeHandles::allocate>("allocate");
  add.operator()<&NativeHandles::copy_block>("copyBlock");
  add.operator()<&NativeHandles::publish>("publish");
  add.operator()<&NativeHandles::retain>("retain");
  add.operator()<&NativeHandles::release>("release");
  add.operator()<&NativeHandles::chunk>("chunk");
  add.operator()<&NativeHandles::is_used>("isUsed");
  add.operator()<&NativeHandles::expose>("expose");
  add.operator()<&NativeHandles::revoke>("revoke");
}

Napi::Env NativeHandles::Env() const { return whole_.Env(); }

Thread& NativeHandles::thread() const { return whole_.thread(); }

// ---- opening ----------------------------------------------------------------------------------

Napi::Value NativeHandles::open(Info info) {
  const auto path = info[0].As<Napi::Uint8Array>();
  Thread::Association with = association(info[3]);
  with.token = u32(info[4]);
  with.timeout = u32(info[5]);
  const std::string_view bytes(reinterpret_cast<const char*>(path.Data()), path.ByteLength());
  return number(Env(), thread().open(bytes, u32(info[1]), u32(info[2]), with));
}

Napi::Value NativeHandles::open_descriptor(Info info) {
  const driver::Descriptor descriptor = native_descriptor(info[0].As<Napi::Number>().Int32Value());
  if (descriptor == driver::kNoDescriptor) return number(Env(), -9);  // EBADF
  return number(Env(), thread().open_descriptor(descriptor, association(info[1])));
}

Napi::Value NativeHandles::adopt_socket(Info info) {
  const auto descriptor = static_cast<driver::Descriptor>(info[0].As<Napi::Number>().Int64Value());
  return number(Env(), thread().adopt_socket(descriptor, association(info[1])));
}

/// Takes and owns in one call: Node.js refuses the calls of a worker that is to end, and whatever
/// one of them had returned for the next would be nobody's.
Napi::Value NativeHandles::own_connection(Info info) {
  Thread& owner = thread();
  return number(Env(), owner.own_connection(take_from(info[0].As<Napi::Object>()), {}));
}

/// Of numbers: of a handle, or -1 less a descriptor of the process.
Napi::Value NativeHandles::parcel(Info info) {
  const auto numbers = info[0].As<Napi::Array>();
  driver::Driver& driver = thread().port().driver();
  auto parcel = std::make_unique<Parcel>();
  for (std::uint32_t i = 0; i < numbers.Length(); ++i) {
    const std::int64_t each = Napi::Value(numbers[i]).As<Napi::Number>().Int64Value();
    driver::FileKind kind{};
    const auto duplicate = [&](driver::Descriptor fd) { return driver.duplicate(fd, kind); };
    const driver::Result copy = each < 0
                                    ? duplicate(static_cast<driver::Descriptor>(-1 - each))
                                    : Port::with_descriptor(static_cast<HandleId>(each), duplicate);
    if (copy < 0) return number(Env(), copy);
    parcel->passed.numbers.push_back(static_cast<driver::Descriptor>(copy));
  }
  return number(Env(), thread().keep(std::move(parcel), false));
}

Napi::Value NativeHandles::drop_parcel(Info info) {
  thread().take_parcel(u32(info[0]));
  return Env().Undefined();
}

/// What is the program's from now on.
Napi::Value NativeHandles::claim(Info info) {
  if (const auto parcel = thread().take_parcel(u32(info[0]))) parcel->passed.numbers.clear();
  return Env().Undefined();
}

/// The descriptor that a packet brings, by the packet's place in the completion array: it is closed
/// with the thread unless it is claimed. Until this call it is the packet's (Port::dispose).
Napi::Value NativeHandles::unclaimed(Info info) {
  Thread& owner = thread();
  PacketSlot& slot = whole_.arrays().completions[u32(info[0]) * 4 / sizeof(PacketSlot)];
  auto parcel = std::make_unique<Parcel>();
  parcel->passed.numbers.push_back(static_cast<driver::Descriptor>(slot.result) - 1);
  const std::uint32_t kept = owner.keep(std::move(parcel), true);
  std::atomic_ref(slot.state).store(kSlotDone);
  return number(Env(), kept);
}

Napi::Value NativeHandles::take_received(Info info) {
  std::unique_ptr<Parcel> parcel = thread().take_received(u32(info[0]));
  if (parcel == nullptr) return Env().Undefined();
  const std::size_t length = std::min<std::size_t>(u32(info[1]), parcel->bytes.length);
  Napi::Object out = Napi::Object::New(Env());
  out.Set("data", Napi::Buffer<std::uint8_t>::Copy(
                      Env(), static_cast<const std::uint8_t*>(parcel->bytes.base), length));
  const std::vector<driver::Descriptor>& numbers = parcel->passed.numbers;
  Napi::Array descriptors = Napi::Array::New(Env(), numbers.size());
  for (std::uint32_t i = 0; i < numbers.size(); ++i) {
    descriptors.Set(i, static_cast<double>(numbers[i]));
  }
  out.Set("descriptors", descriptors);
  out.Set("truncated", parcel->passed.cut);
  parcel->give_back();
  out.Set("parcel", static_cast<double>(thread().keep(std::move(parcel), true)));
  return out;
}

Napi::Value NativeHandles::lets_go(Info info) {
  return number(Env(), thread().port().lets_go(handle_id(info[0])));
}

Napi::Value NativeHandles::reopen(Info info) {
  return number(Env(), thread().reopen(handle_id(info[0]), association(info[1])));
}

Napi::Value NativeHandles::file_size(Info info) {
  return number(Env(), Port::with_descriptor(handle_id(info[0]), &driver::size_of_file));
}

Napi::Value NativeHandles::listen(Info info) {
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
  options.settings = settings_in(info[8]);
  options.messages = info[9].ToBoolean();
  return number(Env(), thread().listen(options, info[6].ToBoolean(), association(info[5])));
}

Napi::Value NativeHandles::connect(Info info) {
  driver::ConnectTarget target;
  const auto port = static_cast<std::uint16_t>(u32(info[1]));
  if (!parse_address(info[0].As<Napi::String>().Utf8Value(), port, target.peer)) {
    return number(Env(), -22);
  }
  if (info[6].IsString()) {
    const auto local_port = static_cast<std::uint16_t>(u32(info[7]));
    const std::string local = info[6].As<Napi::String>().Utf8Value();
    if (!parse_address(local, local_port, target.local)) return number(Env(), -22);
  }
  target.path = file_of(info[0].As<Napi::String>().Utf8Value());
  target.settings = settings_in(info[5]);
  target.messages = info[8].ToBoolean();
  Thread::Association with = association(info[2]);
  with.token = u32(info[3]);
  with.timeout = u32(info[4]);
  return number(Env(), thread().connect(std::move(target), with));
}

Napi::Value NativeHandles::timer(Info info) {
  return number(Env(), thread().timer(association(info[0])));
}

// ---- asking a handle --------------------------------------------------------------------------

Napi::Value NativeHandles::set_option(Info info) {
  driver::Driver& driver = thread().port().driver();
  const auto option = static_cast<driver::SocketOption>(u32(info[1]));
  const int value = info[2].As<Napi::Number>().Int32Value();
  return number(Env(),
                Port::with_descriptor(handle_id(info[0]), [&](driver::Descriptor descriptor) {
                  return driver.set_option(descriptor, option, value);
                }));
}

Napi::Value NativeHandles::option(Info info) {
  driver::Driver& driver = thread().port().driver();
  const auto option = static_cast<driver::SocketOption>(u32(info[1]));
  return number(Env(),
                Port::with_descriptor(handle_id(info[0]), [&](driver::Descriptor descriptor) {
                  return driver.option(descriptor, option);
                }));
}

Napi::Value NativeHandles::address(Info info) {
  driver::Driver& driver = thread().port().driver();
  const bool peer = info[1].ToBoolean();
  driver::SocketAddress raw;
  const driver::Result found = Port::with_descriptor(
      handle_id(info[0]),
      [&](driver::Descriptor descriptor) { return driver.address(descriptor, peer, raw); });
  if (found < 0) return number(Env(), found);
  NamedAddress named;
  if (!format_address(raw, named)) return number(Env(), -97);  // EAFNOSUPPORT
  // Windows keeps no name of a named pipe: the listener's handle does.
  const bool unnamed = named.text.empty() && std::string_view(named.family) == "unix";
  if (unnamed && !peer) named.text = thread().port().look_up(handle_id(info[0])).path;
  Napi::Object out = Napi::Object::New(Env());
  out.Set("address", named.text);
  out.Set("port", static_cast<double>(named.port));
  out.Set("family", named.family);
  return out;
}

Napi::Value NativeHandles::handle_info(Info info) {
  const HandleView view = thread().port().look_up(handle_id(info[0]));
  if (view.id == 0) return Env().Undefined();
  Napi::Object out = Napi::Object::New(Env());
  out.Set("kind", name_of(view.kind));
  out.Set("descriptor", static_cast<double>(view.descriptor));
  out.Set("port", static_cast<double>(view.port));
  out.Set("key", static_cast<double>(view.key));
  out.Set("keyed", view.keyed);
  out.Set("inFlight", static_cast<double>(view.in_flight));
  out.Set("closing", view.closing);
  out.Set("fileKind", name_of(view.file_kind));
  out.Set("append", view.append);
  out.Set("direct", view.direct);
  out.Set("messages", view.messages);
  out.Set("halfCloses", driver::half_closes(view.descriptor));
  if (!view.path.empty()) out.Set("path", view.path);
  return out;
}

Napi::Value NativeHandles::bytes_moved(Info info) {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
  const bool known = Port::bytes_moved(handle_id(info[0]), received, sent);
  auto into = info[1].As<Napi::Float64Array>();
  into[0] = static_cast<double>(received);
  into[1] = static_cast<double>(sent);
  return Napi::Boolean::New(Env(), known);
}

Napi::Value NativeHandles::idle_timeout(Info info) {
  const HandleId handle = handle_id(info[0]);
  if (!info[1].IsNumber()) return number(Env(), Port::idle_timeout(handle));
  return number(Env(), Port::set_idle_timeout(handle, u32(info[1])));
}

Napi::Value NativeHandles::connections(Info info) {
  const auto connections = Port::connections_of(handle_id(info[0]));
  if (!connections) return number(Env(), kErrorHandleClosed);
  return number(Env(), connections->open.load());
}

Napi::Value NativeHandles::most_connections(Info info) {
  const auto connections = Port::connections_of(handle_id(info[0]));
  if (!connections) return number(Env(), kErrorHandleClosed);
  if (info[1].IsNumber()) connections->most.store(u32(info[1]));
  return number(Env(), connections->most.load());
}

Napi::Value NativeHandles::unique_key(Info) { return number(Env(), cp::unique_key()); }

Napi::Value NativeHandles::hand_off(Info info) {
  const PortHold target = Port::find(u32(info[1]));
  if (!target) return number(Env(), kErrorPortClosed);
  return number(Env(), thread().port().hand_off(handle_id(info[0]), *target, u32(info[2])));
}

Napi::Value NativeHandles::handles(Info) {
  const std::vector<HandleId> names = thread().port().handles();
  Napi::Array out = Napi::Array::New(Env(), names.size());
  for (std::uint32_t i = 0; i < names.size(); ++i) out.Set(i, static_cast<double>(names[i]));
  return out;
}

// ---- memory -----------------------------------------------------------------------------------

Napi::Value NativeHandles::allocate(Info info) {
  Place place;
  const double size = info[0].As<Napi::Number>().DoubleValue();
  if (!thread().allocate(static_cast<std::uint64_t>(size), place, info[1].ToBoolean())) {
    return number(Env(), -1);
  }
  return Napi::Number::New(Env(), place.chunk * kChunkFactor + place.offset);
}

Napi::Value NativeHandles::copy_block(Info info) {
  Place place;
  if (!thread().next_copy_block(info[0].ToBoolean(), info[1].ToBoolean(), place))
    return number(Env(), -1);
  return Napi::Number::New(Env(), place.chunk * kChunkFactor + place.offset);
}

/// Keys, how many of them; the port they are of; chunk, start, length, form, whether the block is
/// its own; or a number. 0, an error, or the limit of the queue, which they are more than.
Napi::Value NativeHandles::publish(Info info) {
  const auto keys = info[0].As<Napi::Uint32Array>();
  const auto most = static_cast<std::uint32_t>(keys.ElementLength());
  const std::uint32_t count = std::min(u32(info[1]), most);
  Packet message;
  if (info[8].IsNumber()) {
    message.kind = PacketKind::kPosted;
    message.result = info[8].As<Napi::Number>().DoubleValue();
  } else {
    message.kind = PacketKind::kMessage;
    message.chunk = u32(info[3]);
    message.offset = u32(info[4]);
    message.result = u32(info[5]);
    message.token = u32(info[6]);
  }
  Port& here = thread().port();
  const std::uint32_t target = u32(info[2]);
  const PortHold there = target == here.id() ? PortHold(here) : Port::find(target);
  const bool published =
      thread().publish(message, info[7].ToBoolean(), keys.Data(), count, there.get());
  if (published) return number(Env(), 0);
  if (!there || there->dispatcher().closed()) return number(Env(), kErrorPortClosed);
  const std::uint32_t limit = there->dispatcher().queue_limit();
  if (count > limit) return number(Env(), limit);
  return number(Env(), kErrorQueueFull);
}

Napi::Value NativeHandles::retain(Info info) {
  return Napi::Boolean::New(Env(), thread().retain({u32(info[0]), u32(info[1])}));
}

Napi::Value NativeHandles::release(Info info) {
  const Place place{u32(info[0]), u32(info[1])};
  return Napi::Boolean::New(Env(), BufferPool::release(place) || thread().let_go(place));
}

namespace {

struct Unpin {
  void operator()(Chunk* chunk) const { chunk->unpin(); }
};

/// The view pins the memory, so it stays mapped as long as JavaScript can see it. Node marks such
/// ArrayBuffers untransferable; `transfer()` on one would only move the pin.
std::unique_ptr<Chunk, Unpin> pinned_chunk(Napi::Env env, const Napi::Value& id) {
  Chunk* chunk = Chunk::find(u32(id));
  if (chunk == nullptr || !chunk->pin()) throw Napi::RangeError::New(env, "No such chunk");
  return std::unique_ptr<Chunk, Unpin>(chunk);
}

}  // namespace

Napi::Value NativeHandles::chunk(Info info) {
  auto pinned = pinned_chunk(Env(), info[0]);
  Chunk& chunk = *pinned;
  Napi::Object out = Napi::Object::New(Env());
  out.Set("blockSize", static_cast<double>(chunk.block_size()));
  out.Set("memory", show(Env(), chunk.base(), chunk.size(), std::move(pinned)));
  return out;
}

Napi::Value NativeHandles::expose(Info info) {
  auto pinned = pinned_chunk(Env(), info[0]);
  Chunk& chunk = *pinned;
  const std::uint32_t offset = u32(info[1]);
  const std::size_t length = u32(info[2]);
  if (offset + length > chunk.size()) throw Napi::RangeError::New(Env(), "No such memory");
  return show(Env(), chunk.base() + offset, length, std::move(pinned));
}

Napi::Value NativeHandles::revoke(Info info) {
  auto memory = info[0].As<Napi::ArrayBuffer>();
  if (!memory.IsDetached()) memory.Detach();
  return Env().Undefined();
}

Napi::Value NativeHandles::is_used(Info info) {
  return Napi::Boolean::New(Env(), BufferPool::in_use({u32(info[0]), u32(info[1])}));
}

}  // namespace cp::addon
