// What a thread of a stage asks for, for lib/native/binding.ts: keys that stay with it, and what
// travels with a connection.
#pragma once

#include <napi.h>

#include <memory>
#include <vector>

#include "port/thread.h"
#include "stage/record_table.h"

namespace cp::addon {

class NativeThread;

class NativeRecords {
 public:
  explicit NativeRecords(NativeThread& whole) : whole_(whole) {}
  NativeRecords(const NativeRecords&) = delete;
  NativeRecords& operator=(const NativeRecords&) = delete;

  /// Adds its functions, by the names that JavaScript has for them.
  static void define(std::vector<Napi::ClassPropertyDescriptor<NativeThread>>& functions);
  /// Null: it belongs to no pipeline.
  stage::RecordTable* table() const { return table_.get(); }

 private:
  using Info = const Napi::CallbackInfo&;

  Napi::Value release_key(Info info);
  Napi::Value pin_key(Info info);
  Napi::Value use_records(Info info);
  Napi::Value release_record(Info info);
  Napi::Value watch_deadline(Info info);
  Napi::Value stash(Info info);
  Napi::Value unread(Info info);
  Napi::Value unstash(Info info);
  Napi::Value take_message(Info info);
  Napi::Value document_parts(Info info);
  Napi::Value document_batch(Info info);
  Napi::Value document_begun(Info info);
  Napi::Value reply(Info info);

  Napi::Env Env() const;
  Thread& thread() const;
  stage::RecordTable& records() const;

  NativeThread& whole_;
  std::shared_ptr<stage::RecordTable> table_;
};

}  // namespace cp::addon
