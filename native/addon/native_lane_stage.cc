// What a thread of a stage asks for, for lib/binding.ts: keys that stay with it, and what travels
// with a connection.
#include "addon/native_lane.h"

namespace cp::addon {
namespace {

std::uint32_t u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

}  // namespace

Napi::Value NativeLane::let_go(Info info) {
  return Napi::Boolean::New(Env(), thread().let_go(u32(info[0])));
}

Napi::Value NativeLane::pin_key(Info info) {
  thread().pin_key(u32(info[0]), u32(info[1]), info[2].ToBoolean());
  return Env().Undefined();
}

Napi::Value NativeLane::use_records(Info info) {
  records_ = find_records(u32(info[0]));
  if (!records_) throw Napi::RangeError::New(Env(), "No such records");
  thread().port().set_key_source(records_);
  return Env().Undefined();
}

stage::RecordTable& NativeLane::records() {
  if (!records_) throw Napi::Error::New(Env(), "useRecords comes first");
  return *records_;
}

Napi::Value NativeLane::release_record(Info info) {
  return Napi::Boolean::New(Env(), records().release(u32(info[0]), thread()));
}

Napi::Value NativeLane::stash(Info info) {
  const Place place{u32(info[1]), u32(info[2])};
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  if (cargo == nullptr) {
    BufferPool::release(place);
    return Napi::Boolean::New(Env(), false);
  }
  // Whichever thread takes it out again has it then.
  BufferPool::assign(place, 0);
  cargo->stash.push_back({place, u32(info[3])});
  return Napi::Boolean::New(Env(), true);
}

Napi::Value NativeLane::unstash(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  if (cargo == nullptr || cargo->stash.empty()) return Napi::Boolean::New(Env(), false);
  const stage::Piece piece = cargo->stash.front();
  cargo->stash.erase(cargo->stash.begin());
  BufferPool::assign(piece.place, thread().number());
  arrays_->place[0] = piece.place.chunk;
  arrays_->place[1] = piece.place.offset;
  arrays_->place[2] = piece.length;
  return Napi::Boolean::New(Env(), true);
}

Napi::Value NativeLane::reply(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  if (cargo == nullptr) return Napi::Number::New(Env(), kErrorHandleClosed);
  stage::RecordTable::release_reply(*cargo);
  stage::Reply& reply = cargo->reply;
  reply.present = true;
  reply.memory = {{u32(info[1]), u32(info[2])}, u32(info[3])};
  if (reply.memory.place.chunk != driver::kNoChunk) BufferPool::assign(reply.memory.place, 0);
  const std::uint32_t file = u32(info[4]);
  if (file != 0) {
    driver::FileKind kind{};
    reply.file = Port::with_descriptor(file, [&](driver::Descriptor descriptor) {
      return thread().port().driver().duplicate_own(descriptor, kind);
    });
  }
  reply.file_offset = static_cast<std::uint64_t>(info[5].As<Napi::Number>().Int64Value());
  reply.file_length = static_cast<std::uint64_t>(info[6].As<Napi::Number>().Int64Value());
  if (file != 0 && reply.file < 0) {
    const driver::Result error = reply.file;
    reply.file = driver::kNoDescriptor;
    return Napi::Number::New(Env(), static_cast<double>(error));
  }
  return Napi::Number::New(Env(), 0);
}

}  // namespace cp::addon
