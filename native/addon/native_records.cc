#include "addon/native_records.h"

#include <algorithm>
#include <vector>

#include "addon/native_thread.h"
#include "addon/stage_binding.h"
#include "addon/values.h"
#include "stage/reply.h"
#include "stage/stash.h"

namespace cp::addon {
void NativeRecords::define(std::vector<NativeThread::Function>& functions) {
  const auto add = [&]<auto function>(const char* name) {
    functions.push_back(NativeThread::function_of<&NativeThread::records_, function>(name));
  };
  add.operator()<&NativeRecords::release_key>("letGo");
  add.operator()<&NativeRecords::pin_key>("pinKey");
  add.operator()<&NativeRecords::use_records>("useRecords");
  add.operator()<&NativeRecords::release_record>("releaseRecord");
  add.operator()<&NativeRecords::watch_deadline>("watchDeadline");
  add.operator()<&NativeRecords::stash>("stash");
  add.operator()<&NativeRecords::unread>("unread");
  add.operator()<&NativeRecords::unstash>("unstash");
  add.operator()<&NativeRecords::take_message>("takeMessage");
  add.operator()<&NativeRecords::document_parts>("documentParts");
  add.operator()<&NativeRecords::document_batch>("documentBatch");
  add.operator()<&NativeRecords::document_begun>("documentBegun");
  add.operator()<&NativeRecords::reply>("reply");
}

Napi::Env NativeRecords::Env() const { return whole_.Env(); }

Thread& NativeRecords::thread() const { return whole_.thread(); }

Napi::Value NativeRecords::release_key(Info info) {
  return Napi::Boolean::New(Env(), thread().release_key(u32(info[0])));
}

Napi::Value NativeRecords::pin_key(Info info) {
  thread().pin_key(u32(info[0]), handle_id(info[1]), info[2].ToBoolean());
  return Env().Undefined();
}

Napi::Value NativeRecords::use_records(Info info) {
  table_ = find_records(u32(info[0]));
  if (!table_) throw Napi::RangeError::New(Env(), "No such records");
  thread().port().set_key_source(table_);
  return Env().Undefined();
}

stage::RecordTable& NativeRecords::records() const {
  if (!table_) throw Napi::Error::New(Env(), "useRecords comes first");
  return *table_;
}

Napi::Value NativeRecords::release_record(Info info) {
  return Napi::Boolean::New(Env(), records().release(u32(info[0]), thread()));
}

Napi::Value NativeRecords::watch_deadline(Info info) {
  records().watch(u32(info[0]));
  return Env().Undefined();
}

Napi::Value NativeRecords::stash(Info info) {
  const stage::Piece piece{{u32(info[1]), u32(info[2])}, u32(info[3])};
  return Napi::Boolean::New(Env(), stage::stash(records().cargo(u32(info[0])), piece));
}

Napi::Value NativeRecords::unread(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  const auto view = info[1].As<Napi::Uint8Array>();
  const auto length = static_cast<std::uint32_t>(view.ByteLength());
  return number(Env(), stage::unread(thread(), cargo, view.Data(), length, info[2].ToBoolean()));
}

Napi::Value NativeRecords::unstash(Info info) {
  stage::Cargo* cargo = records().cargo(u32(info[0]));
  Place place;
  const std::int64_t length = stage::unstash(thread(), cargo, info[1].ToBoolean() ? 2 : 1, place);
  if (length > 0) {
    whole_.arrays().place[0] = place.chunk;
    whole_.arrays().place[1] = place.offset;
    whole_.arrays().place[2] = static_cast<std::uint32_t>(length);
  }
  return number(Env(), length);
}

Napi::Value NativeRecords::document_parts(Info info) {
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
Napi::Value NativeRecords::document_batch(Info info) {
  constexpr double kCount = 4294967296.0;
  const stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo == nullptr) return Napi::Number::New(Env(), 0);
  const stage::Document& document = cargo->document;
  const std::size_t count = std::max<std::size_t>(1, document.parts.size());
  return Napi::Number::New(Env(),
                           static_cast<double>(count) * kCount + static_cast<double>(document.raw));
}

Napi::Value NativeRecords::document_begun(Info info) {
  const stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo != nullptr && cargo->document.lease) cargo->document.lease->begun();
  return Env().Undefined();
}

Napi::Value NativeRecords::take_message(Info info) {
  stage::Cargo* cargo = records().find_cargo(u32(info[0]));
  if (cargo == nullptr || cargo->messages.empty()) return Env().Undefined();
  const Packet message = cargo->messages.front();
  cargo->messages.pop_front();
  if (message.kind == PacketKind::kPosted) return Napi::Number::New(Env(), message.result);
  if (message.shares()) thread().retain_held({message.chunk, message.offset});
  whole_.arrays().place[0] = message.chunk;
  whole_.arrays().place[1] = message.offset;
  whole_.arrays().place[2] = static_cast<std::uint32_t>(message.result);
  whole_.arrays().place[3] = message.token;
  return Napi::Boolean::New(Env(), true);
}

Napi::Value NativeRecords::reply(Info info) {
  stage::Answer answer;
  answer.memory = {{u32(info[1]), u32(info[2])}, u32(info[3])};
  answer.file = handle_id(info[4]);
  answer.file_offset = static_cast<std::uint64_t>(info[5].As<Napi::Number>().Int64Value());
  answer.file_length = static_cast<std::uint64_t>(info[6].As<Napi::Number>().Int64Value());
  answer.closes = info[7].ToBoolean().Value();
  return number(Env(), stage::lay_reply(thread(), records().cargo(u32(info[0])), answer));
}

}  // namespace cp::addon
