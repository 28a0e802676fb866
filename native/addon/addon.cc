// The addon's entry: what lib/native/binding.ts calls Binding.
#include <napi.h>

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#include <windows.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>

#include "addon/channel_binding.h"
#include "addon/native_thread.h"
#include "addon/shared_listener.h"
#include "addon/stage_binding.h"
#include "addon/submission.h"
#include "addon/turn_binding.h"
#include "driver/capabilities.h"
#include "driver/choose.h"
#include "driver/driver.h"
#include "port/shared_queue.h"

namespace cp::addon {
namespace {

std::uint32_t available_parallelism() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    return static_cast<std::uint32_t>(std::max(1, CPU_COUNT(&set)));
  }
#elif defined(_WIN32)
  // Since Windows 11 a process spans all groups of processors, of 64 each; the mask knows one.
  std::array<USHORT, 64> groups;
  auto count = static_cast<USHORT>(groups.size());
  if (GetProcessGroupAffinity(GetCurrentProcess(), &count, groups.data()) && count > 1) {
    DWORD processors = 0;
    for (USHORT i = 0; i < count; ++i) processors += GetActiveProcessorCount(groups[i]);
    return std::max<std::uint32_t>(1, processors);
  }
  DWORD_PTR own = 0, all = 0;
  if (GetProcessAffinityMask(GetCurrentProcess(), &own, &all) && own != 0) {
    return static_cast<std::uint32_t>(std::popcount(static_cast<std::uint64_t>(own)));
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

Napi::Value default_driver(const Napi::CallbackInfo& info) {
  driver::Result error = 0;
  const driver::Choice choice = driver::default_choice(error);
  if (error < 0) {
    Napi::Error refused = Napi::Error::New(info.Env(), choice.reason);
    refused.Set("errno", static_cast<double>(error));
    throw refused;
  }
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("name", choice.name);
  out.Set("reason", choice.reason);
  return out;
}

Napi::Value capabilities(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const driver::Capability& found : driver::capabilities()) {
    Napi::Object one = Napi::Object::New(info.Env());
    one.Set("name", found.name);
    one.Set("since", found.since);
    one.Set("required", found.required);
    one.Set("errno", static_cast<double>(found.result));
    out.Set(out.Length(), one);
  }
  return out;
}

/// What handles have to send: memory of the process, which stays.
Napi::Value outgoing(const Napi::CallbackInfo& info) {
  return Napi::ArrayBuffer::New(info.Env(), HandleTable::instance().outgoing(),
                                HandleTable::outgoing_size(), [](Napi::Env, void*) {});
}

Napi::Value nudging(const Napi::CallbackInfo& info) {
  const driver::Nudging found = driver::nudging();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("mode", found.mode);
  out.Set("reason", found.reason);
  return out;
}

/// Names this copy of the addon in this process: another copy has a table of ports of its own, in
/// which the same numbers mean other ports.
const std::string& instance() {
  static const std::string name = [] {
    static const char place = 0;
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    char text[40];
    std::snprintf(text, sizeof text, "%llx-%llx", static_cast<unsigned long long>(now),
                  static_cast<unsigned long long>(reinterpret_cast<std::uintptr_t>(&place)));
    return std::string(text);
  }();
  return name;
}

Napi::Value remains(const Napi::CallbackInfo& info) {
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("ports", static_cast<double>(Port::count()));
  out.Set("pools", static_cast<double>(BufferPool::count()));
  out.Set("channels", static_cast<double>(SharedQueue::count()));
  return out;
}

/// Whether somebody takes the packets of a port, to whoever has only its number.
Napi::Value queue_of(const Napi::CallbackInfo& info) {
  const PortHold port = Port::find(info[0].As<Napi::Number>().Uint32Value());
  if (!port) return info.Env().Undefined();
  const PortStats stats = port->stats();
  Napi::Object out = Napi::Object::New(info.Env());
  out.Set("queueDepth", static_cast<double>(stats.queue_depth));
  out.Set("running", static_cast<double>(stats.running));
  out.Set("batches", static_cast<double>(stats.batches));
  return out;
}

Napi::Value make_lane(const Napi::CallbackInfo& info) {
  auto* constructor = info.Env().GetInstanceData<Napi::FunctionReference>();
  return constructor->New({info[0]});
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* constructor = new Napi::FunctionReference(Napi::Persistent(NativeThread::constructor(env)));
  env.SetInstanceData<Napi::FunctionReference>(constructor);
  exports.Set("abi", static_cast<double>(kAbi));
  exports.Set("instance", instance());
  exports.Set("defaultDriver", Napi::Function::New(env, default_driver));
  exports.Set("capabilities", Napi::Function::New(env, capabilities));
  exports.Set("outgoing", Napi::Function::New(env, outgoing));
  exports.Set("nudging", Napi::Function::New(env, nudging));
  exports.Set("remains", Napi::Function::New(env, remains));
  exports.Set("queueOf", Napi::Function::New(env, queue_of));
  exports.Set("createPort", Napi::Function::New(env, make_lane));
  exports.Set("attachPort", Napi::Function::New(env, make_lane));
  exports.Set("availableParallelism",
              Napi::Function::New(env, [](const Napi::CallbackInfo& call) -> Napi::Value {
                return Napi::Number::New(call.Env(), available_parallelism());
              }));
  exports.Set("turns", Napi::Function::New(env, make_turns, "turns"));
  exports.Set("channels", Napi::Function::New(env, make_channels, "channels"));
  export_stages(env, exports);
  export_listeners(env, exports);
  return exports;
}

}  // namespace
}  // namespace cp::addon

namespace {
Napi::Object Init(Napi::Env env, Napi::Object exports) { return cp::addon::init(env, exports); }
}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
