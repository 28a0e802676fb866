// One JavaScript environment attached to one port: the object lib/native/binding.ts calls
// NativeThread.
#pragma once

#include <napi.h>

#include <memory>

#include "addon/notifier.h"
#include "addon/stage_binding.h"
#include "addon/submission.h"
#include "port/port.h"
#include "port/thread.h"

namespace cp::addon {

/// The arrays. Kept alive by the lane and by the ArrayBuffers that show them to JavaScript.
struct SharedArrays {
  alignas(64) Submission submissions[kSubmissionLimit] = {};
  alignas(64) PacketSlot completions[kBatchLimit] = {};
  std::uint32_t place[4] = {};  ///< chunk, offset and length that `unstash` tells
  alignas(64) PostRing posts = {};
  /// How many of the submissions are written; atomic.
  alignas(64) std::uint32_t published = 0;
};

class NativeThread final : public Napi::ObjectWrap<NativeThread>, private Outbox {
 public:
  static Napi::Function constructor(Napi::Env env);
  explicit NativeThread(const Napi::CallbackInfo& info);
  ~NativeThread() override;

 private:
  using Info = const Napi::CallbackInfo&;

  // The batch: native_thread.cc. These are called once a batch, so they pass by the look-up of the
  // wrapped object, which costs more than the rest of an empty call: each is a function that
  // carries the lane. They throw nothing and answer a number.
  static constexpr std::size_t kMostArguments = 3;
  using Hot = std::int64_t (NativeThread::*)(napi_env env, const napi_value* arguments);
  std::int64_t enter(napi_env env, const napi_value* arguments);
  std::int64_t get(napi_env env, const napi_value* arguments);
  std::int64_t hand_over(napi_env env, const napi_value* arguments);
  std::int64_t accept_posts(napi_env env, const napi_value* arguments);
  std::int64_t reserve(napi_env env, const napi_value* arguments);
  template <Hot function>
  static napi_value call(napi_env env, napi_callback_info info);
  template <Hot function>
  void define(Napi::Object self, const char* name);

  Napi::Value start(Info info);
  Napi::Value ref(Info info);
  Napi::Value unref(Info info);
  Napi::Value room(Info info);
  Napi::Value refusal(Info info);
  Napi::Value blocking(Info info);
  Napi::Value close_port(Info info);
  Napi::Value detach(Info info);
  Napi::Value stats(Info info);
  Napi::Value waits(Info info);

  // Handles and memory: native_thread_handles.cc
  Napi::Value open(Info info);
  Napi::Value open_descriptor(Info info);
  Napi::Value adopt_socket(Info info);
  Napi::Value keep_open(Info info);
  Napi::Value reopen(Info info);
  Napi::Value file_size(Info info);
  Napi::Value listen(Info info);
  Napi::Value connect(Info info);
  Napi::Value timer(Info info);
  Napi::Value set_option(Info info);
  Napi::Value address(Info info);
  Napi::Value handle_info(Info info);
  Napi::Value bytes_moved(Info info);
  Napi::Value idle_timeout(Info info);
  Napi::Value connections(Info info);
  Napi::Value most_connections(Info info);
  Napi::Value unique_key(Info info);
  Napi::Value allocate(Info info);
  Napi::Value copy_block(Info info);
  Napi::Value release(Info info);
  Napi::Value chunk(Info info);
  Napi::Value is_used(Info info);
  Napi::Value expose(Info info);
  Napi::Value revoke(Info info);
  Napi::Value hand_off(Info info);
  Napi::Value handles(Info info);

  // Stages: native_thread_stage.cc
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
  Napi::Value reply(Info info);
  stage::RecordTable& records();

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
  /// Throws what every function throws after `detach`.
  Thread& thread();

  std::shared_ptr<SharedArrays> arrays_ = std::make_shared<SharedArrays>();
  Port* port_ = nullptr;  ///< that of `thread_`, and there as long as that is
  Thread* thread_ = nullptr;
  std::size_t begun_ = 0;  ///< submissions that another thread has begun; guarded by the lane
  std::shared_ptr<stage::RecordTable> records_;
  Notifier* notifier_ = nullptr;
  Napi::FunctionReference ready_;
  Napi::FunctionReference nothing_;  ///< a JavaScript function that does nothing
  std::unique_ptr<Napi::AsyncContext> context_;
  bool hooked_ = false;
  bool in_callback_ = false;  ///< JavaScript may detach from inside `ready`
};

}  // namespace cp::addon
