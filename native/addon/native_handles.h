// A thread's handles and memory, for lib/native/binding.ts. Not on the path of a packet.
#pragma once

#include <napi.h>

#include <vector>

#include "port/thread.h"

namespace cp::addon {

class NativeThread;

class NativeHandles {
 public:
  explicit NativeHandles(NativeThread& whole) : whole_(whole) {}
  NativeHandles(const NativeHandles&) = delete;
  NativeHandles& operator=(const NativeHandles&) = delete;

  /// Adds its functions, by the names that JavaScript has for them.
  static void define(std::vector<Napi::ClassPropertyDescriptor<NativeThread>>& functions);

 private:
  using Info = const Napi::CallbackInfo&;

  Napi::Value open(Info info);
  Napi::Value open_descriptor(Info info);
  Napi::Value adopt_socket(Info info);
  Napi::Value own_connection(Info info);
  Napi::Value parcel(Info info);
  Napi::Value drop_parcel(Info info);
  Napi::Value claim(Info info);
  Napi::Value unclaimed(Info info);
  Napi::Value take_received(Info info);
  Napi::Value lets_go(Info info);
  Napi::Value reopen(Info info);
  Napi::Value file_size(Info info);
  Napi::Value listen(Info info);
  Napi::Value connect(Info info);
  Napi::Value timer(Info info);
  Napi::Value set_option(Info info);
  Napi::Value option(Info info);
  Napi::Value address(Info info);
  Napi::Value handle_info(Info info);
  Napi::Value bytes_moved(Info info);
  Napi::Value idle_timeout(Info info);
  Napi::Value connections(Info info);
  Napi::Value most_connections(Info info);
  Napi::Value unique_key(Info info);
  Napi::Value hand_off(Info info);
  Napi::Value handles(Info info);
  Napi::Value allocate(Info info);
  Napi::Value copy_block(Info info);
  Napi::Value publish(Info info);
  Napi::Value retain(Info info);
  Napi::Value release(Info info);
  Napi::Value chunk(Info info);
  Napi::Value is_used(Info info);
  Napi::Value expose(Info info);
  Napi::Value revoke(Info info);

  Napi::Env Env() const;
  Thread& thread() const;

  NativeThread& whole_;
};

}  // namespace cp::addon
