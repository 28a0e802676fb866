// What a thread of a stage asks for, for lib/native/binding.ts: keys that stay with it, and what
// travels with a connection.
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "addon/native_thread.h"
#include "driver/errno.h"

namespace cp::addon {
namespace {

std::uint32_t u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

HandleId handle_id(const Napi::Value& value) {
  return static_cast<HandleId>(value.As<Napi::Number>().Int64Value());
}

/// What travels with a connection is read without asking once more whether it is there.
bool holds(const stage::Piece& piece) {
  if (BufferPool::use(piece.place, piece.length) == nullptr) return false;
  BufferPool::unuse(piece.place);
  return true;
}

}  // namespace

Napi::Value NativeThread::release_key(Info info) {
  return Napi::Boolean::New(Env(), thread().release_key(u32(info[0])));
}

Napi::Value NativeThread::pin_key(Info info) {
  thread().pin_key(u32(info[0]), handle_id(info[1]), info[2].ToBoolean());
  return Env().Undefined();
}

Napi::Value NativeThread::use_records(Info info) {
  records_ = find_records(u32(info[0]));
  if (!records_) throw Napi::RangeError::New(Env(), "No such records");
  thread().port().set_key_source(records_);
  return Env().Undefined();
}

stage::RecordTable& NativeThread::records() {
  if (!records_) throw Napi::Error::New(Env(), "useRecords comes first");
  return *records_;
}

Napi::Value NativeThread::release_record(Info info) {
  return Napi::Boolean::New(Env(), records().release(u32(info[0]), thread()));
}

Napi::Value NativeThread::watch_deadline(Info info) {
  records().watch(u32(info[0]));
  return Env().Undefined();
}

Napi::Value NativeThread::stash(Info info) {
  const stage::Piece piece{{u32(info[1]), u32(info[2])}, u32(info[3])};
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  if (cargo == nullptr || !holds(piece)) {
    BufferPool::release(piece.place);
    return Napi::Boolean::New(Env(), false);
  }
  stage::Received bytes(piece);
  bytes.set_aside();
  cargo->stash.push_back(std::move(bytes));
  return Napi::Boolean::New(Env(), true);
}

Napi::Value NativeThread::unread(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  if (cargo == nullptr) return Napi::Number::New(Env(), kErrorHandleClosed);
  const auto view = info[1].As<Napi::Uint8Array>();
  const auto length = static_cast<std::uint32_t>(view.ByteLength());
  const bool merges = info[2].ToBoolean() && !cargo->stash.empty();
  const std::uint32_t behind = merges ? cargo->stash.front().size() : 0;
  Place place;
  if (!thread().allocate(length + behind, place)) return Napi::Number::New(Env(), -ENOMEM);
  std::uint8_t* out = Chunk::find(place.chunk)->base() + place.offset;
  std::memcpy(out, view.Data(), length);
  if (merges) {
    std::memcpy(out + length, cargo->stash.front().bytes(), behind);
    cargo->stash.pop_front();
  }
  stage::Received bytes(stage::Piece{place, length + behind});
  bytes.set_aside();
  cargo->stash.push_front(std::move(bytes));
  return Napi::Number::New(Env(), 0);
}

Napi::Value NativeThread::unstash(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  const std::size_t count = info[1].ToBoolean() ? 2 : 1;
  if (cargo == nullptr || cargo->stash.size() < count) return Napi::Number::New(Env(), 0);
  std::uint32_t length = 0;
  for (std::size_t i = 0; i < count; ++i) length += cargo->stash[i].size();
  Place place = cargo->stash.front().place();
  if (count > 1 || place.chunk == driver::kNoChunk) {
    if (!thread().allocate(length, place)) return Napi::Number::New(Env(), -ENOMEM);
    const Chunk& chunk = *Chunk::find(place.chunk);
    std::uint8_t* out = chunk.base() + place.offset;
    for (std::size_t i = 0; i < count; ++i) {
      const stage::Received& bytes = cargo->stash[i];
      std::memcpy(out, bytes.bytes(), bytes.size());
      out += bytes.size();
    }
    // JavaScript is lent the block: nothing of who had it before.
    std::memset(out, 0, chunk.block_size() - length);
  } else {
    place = cargo->stash.front().let_go();
    BufferPool::assign(place, thread().number());
  }
  for (std::size_t i = 0; i < count; ++i) cargo->stash.pop_front();
  arrays_->place[0] = place.chunk;
  arrays_->place[1] = place.offset;
  arrays_->place[2] = length;
  return Napi::Number::New(Env(), length);
}

Napi::Value NativeThread::document_parts(Info info) {
  const stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo == nullptr || cargo->document.parts.empty()) return Env().Undefined();
  const std::vector<stage::Part>& parts = cargo->document.parts;
  Napi::Uint32Array out = Napi::Uint32Array::New(Env(), 2 * parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    out[2 * i] = parts[i].start;
    out[2 * i + 1] = parts[i].length;
  }
  return out;
}

/// Their number and, behind the 32nd bit of it, how long they all are with their delimiters: at
/// most 2^17 times 2^32.
Napi::Value NativeThread::document_batch(Info info) {
  constexpr double kCount = 4294967296.0;
  const stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo == nullptr) return Napi::Number::New(Env(), 0);
  const stage::Document& document = cargo->document;
  const std::size_t count = std::max<std::size_t>(1, document.parts.size());
  return Napi::Number::New(Env(),
                           static_cast<double>(count) * kCount + static_cast<double>(document.raw));
}

Napi::Value NativeThread::take_message(Info info) {
  stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo == nullptr || cargo->messages.empty()) return Env().Undefined();
  const double message = cargo->messages.front();
  cargo->messages.pop_front();
  return Napi::Number::New(Env(), message);
}

Napi::Value NativeThread::reply(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  const stage::Piece memory{{u32(info[1]), u32(info[2])}, u32(info[3])};
  const bool none = memory.place.chunk == driver::kNoChunk;
  if (!none && !holds(memory)) return Napi::Number::New(Env(), kErrorBufferReleased);
  // Whoever has a document has a place in the queue, too, which comes back with the answer.
  if (cargo == nullptr || !cargo->document.lease) {
    if (!none) BufferPool::release(memory.place);
    return Napi::Number::New(Env(), kErrorNotSupported);
  }
  stage::RecordTable::release_reply(*cargo);
  stage::Reply& reply = cargo->reply;
  reply.present = true;
  if (!none) {
    reply.memory = memory;
    BufferPool::assign(memory.place, 0);
  }
  const HandleId file = handle_id(info[4]);
  if (file != 0) {
    driver::FileKind kind{};
    reply.file = Port::with_descriptor(file, [&](driver::Descriptor descriptor) {
      return thread().port().driver().duplicate_own(descriptor, kind);
    });
  }
  reply.file_offset = static_cast<std::uint64_t>(info[5].As<Napi::Number>().Int64Value());
  reply.file_length = static_cast<std::uint64_t>(info[6].As<Napi::Number>().Int64Value());
  reply.closes = info[7].ToBoolean().Value();
  if (file != 0 && reply.file < 0) {
    const driver::Result error = reply.file;
    reply.file = driver::kNoDescriptor;
    stage::RecordTable::release_reply(*cargo);  // half an answer is none
    return Napi::Number::New(Env(), static_cast<double>(error));
  }
  return Napi::Number::New(Env(), cargo->document.stage);
}

}  // namespace cp::addon
