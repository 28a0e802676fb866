// One JavaScript environment attached to one port: the object lib/native/binding.ts calls
// NativeThread. What it asks of handles and memory, and of records, is said in parts of their own.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/native_handles.h"
#include "addon/native_records.h"
#include "addon/notifier.h"
#include "addon/submission.h"
#include "port/port.h"
#include "port/thread.h"

namespace cp::addon {

/// The arrays. Kept alive by the lane and by the ArrayBuffers that show them to JavaScript.
struct SharedArrays {
  alignas(64) Submission submissions[kSubmissionLimit] = {};
  alignas(64) PacketSlot completions[kBatchLimit] = {};
  std::uint32_t place[4] =
      {};  ///< chunk, offset, length that `unstash` tells; with a form, `takeMessage`
  alignas(64) PostRing posts = {};
  /// How many of the submissions are written; atomic.
  alignas(64) std::uint32_t published = 0;
};

class NativeThread final : public Napi::ObjectWrap<NativeThread>, private Outbox {
 public:
  static Napi::Function constructor(Napi::Env env);
  explicit NativeThread(const Napi::CallbackInfo& info);
  ~NativeThread() override;

  /// Throws what every function throws after `detach`.
  Thread& thread();
  SharedArrays& arrays() { return *arrays_; }

  /// A function of the JavaScript object that is one of its parts'.
  using Function = Napi::ClassPropertyDescriptor<NativeThread>;
  template <auto part, auto function>
  static Function function_of(const char* name) {
    return InstanceMethod<&NativeThread::call_part<part, function>>(name);
  }

 private:
  friend class NativeHandles;
  friend class NativeRecords;
  using Info = const Napi::CallbackInfo&;

  // The batch. These are called once a batch, so they pass by the look-up of the
  // wrapped object, which costs more than the rest of an empty call: each is a function that
  // carries the lane. They throw nothing and answer a number.
  static constexpr std::size_t kMostArguments = 3;
  using Hot = std::int64_t (NativeThread::*)(napi_env env, const napi_value* arguments);
  std::int64_t enter(napi_env env, const napi_value* arguments);
  std::int64_t get(napi_env env, const napi_value* arguments);
  std::int64_t hand_over(napi_env env, const napi_value* arguments);
  std::int64_t accept_posts(napi_env env, const napi_value* arguments);
  std::int64_t message_block(napi_env env, const napi_value* arguments);
  std::int64_t reserve(napi_env env, const napi_value* arguments);
  template <Hot function>
  static napi_value call(napi_env env, napi_callback_info info);
  template <auto part, auto function>
  Napi::Value call_part(Info info) {
    return ((this->*part).*function)(info);
  }
  template <Hot function>
  void define(Napi::Object self, const char* name);

  Napi::Value start(Info info);
  Napi::Value ref(Info info);
  Napi::Value unref(Info info);
  Napi::Value room(Info info);
  Napi::Value refusal(Info info);
  Napi::Value blocking(Info info);
  Napi::Value announce_close(Info info);
  Napi::Value close_announced(Info info);
  Napi::Value close_port(Info info);
  Napi::Value detach(Info info);
  Napi::Value stats(Info info);
  Napi::Value waits(Info info);

  void attach(Napi::Env env, Port& port);
  void describe(Napi::Env env, Port& port);
  void hand_over(std::uint32_t count);
  std::size_t published() const;
  bool pending() const override;
  void submit() override;
  void on_ready();
  void leave(bool died);
  void release_references();
  static void on_cleanup(void* self);
  static bool interrupted(void* self);
  std::shared_ptr<SharedArrays> arrays_ = std::make_shared<SharedArrays>();
  Port* port_ = nullptr;  ///< that of `thread_`, and there as long as that is
  Thread* thread_ = nullptr;
  std::size_t begun_ = 0;  ///< submissions that another thread has begun; guarded by the lane
  NativeHandles handles_{*this};
  NativeRecords records_{*this};
  Notifier* notifier_ = nullptr;
  Napi::FunctionReference ready_;
  Napi::FunctionReference nothing_;  ///< a JavaScript function that does nothing
  std::unique_ptr<Napi::AsyncContext> context_;
  bool hooked_ = false;
  bool in_callback_ = false;  ///< JavaScript may detach from inside `ready`
};

}  // namespace cp::addon
