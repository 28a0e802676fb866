#include "addon/stage_binding.h"

#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "addon/address.h"
#include "addon/settings.h"
#include "addon/shown_memory.h"
#include "addon/values.h"
#include "driver/errno.h"
#include "port/port.h"
#include "stage/cpus.h"
#include "stage/frames.h"

namespace cp::addon {
namespace {

using Info = const Napi::CallbackInfo&;

// ---- threads and their CPUs -------------------------------------------------------------------

Napi::Value pin_thread(Info info) { return number(info.Env(), stage::bind_to_cpu(u32(info[0]))); }

Napi::Value allowed_cpus(Info info) {
  Napi::Array out = Napi::Array::New(info.Env());
  for (const std::uint32_t cpu : stage::allowed_cpus()) {
    out.Set(out.Length(), static_cast<double>(cpu));
  }
  return out;
}

// ---- records ----------------------------------------------------------------------------------

/// The tables of the process: a pipeline's workers find its table by number.
struct Registry {
  std::mutex mutex;
  std::map<std::uint32_t, std::shared_ptr<stage::RecordTable>> tables;
  std::uint32_t last = 0;

  /// Leaked on purpose: nothing is ended by the end of the process that no environment has ended.
  static Registry& instance() {
    static Registry* const registry = new Registry;
    return *registry;
  }

  std::shared_ptr<stage::RecordTable> take_out(std::uint32_t id) {
    std::lock_guard lock(mutex);
    const auto found = tables.find(id);
    if (found == tables.end()) return nullptr;
    std::shared_ptr<stage::RecordTable> table = std::move(found->second);
    tables.erase(found);
    return table;
  }
};

/// The environment that made the table ends: its clock must not run on into the end of the process.
void close_table(void* id) {
  const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(id));
  if (const auto table = Registry::instance().take_out(number)) table->close();
}

void* as_argument(std::uint32_t id) {
  return reinterpret_cast<void*>(static_cast<std::uintptr_t>(id));
}

Napi::Value create_records(Info info) {
  auto table = stage::RecordTable::make(u32(info[0]), u32(info[1]), u32(info[2]));
  if (!table) return number(info.Env(), -ENOMEM);
  Registry& registry = Registry::instance();
  std::uint32_t id = 0;
  {
    std::lock_guard lock(registry.mutex);
    id = ++registry.last;
    registry.tables[id] = std::move(table);
  }
  napi_add_env_cleanup_hook(info.Env(), close_table, as_argument(id));
  return number(info.Env(), id);
}

Napi::Value close_records(Info info) {
  const std::uint32_t id = u32(info[0]);
  napi_remove_env_cleanup_hook(info.Env(), close_table, as_argument(id));
  close_table(as_argument(id));
  return info.Env().Undefined();
}

Napi::Value record_memory(Info info) {
  const auto table = find_records(u32(info[0]));
  if (!table) throw Napi::RangeError::New(info.Env(), "No such records");
  return show(info.Env(), table->memory(), table->size(), table);
}

Napi::Value trace_memory(Info info) {
  const auto table = find_records(u32(info[0]));
  if (!table) throw Napi::RangeError::New(info.Env(), "No such records");
  const stage::Trace* trace = table->trace();
  if (trace == nullptr) return info.Env().Undefined();
  return show(info.Env(), trace->memory(), trace->size(), table);
}

Napi::Value create_record(Info info) {
  const auto table = find_records(u32(info[0]));
  return number(info.Env(), table ? table->create(u32(info[1]), 0) : 0);
}

// ---- frames -----------------------------------------------------------------------------------

struct FramesRegistry {
  std::mutex mutex;
  std::map<std::uint32_t, std::shared_ptr<stage::FramesStage>> stages;
  std::uint32_t last = 0;

  static FramesRegistry& instance() {
    static FramesRegistry* const registry = new FramesRegistry;
    return *registry;
  }

  std::shared_ptr<stage::FramesStage> find(std::uint32_t id) {
    std::lock_guard lock(mutex);
    const auto found = stages.find(id);
    return found == stages.end() ? nullptr : found->second;
  }

  std::shared_ptr<stage::FramesStage> take_out(std::uint32_t id) {
    std::lock_guard lock(mutex);
    const auto found = stages.find(id);
    if (found == stages.end()) return nullptr;
    std::shared_ptr<stage::FramesStage> stage = std::move(found->second);
    stages.erase(found);
    return stage;
  }
};

/// Its threads end before the environment that started them does.
void stop_frames(void* id) {
  const auto number = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(id));
  if (const auto stage = FramesRegistry::instance().take_out(number)) stage->stop();
}

std::vector<std::uint8_t> bytes_of(const Napi::Value& value) {
  if (!value.IsTypedArray()) return {};
  const auto bytes = value.As<Napi::Uint8Array>();
  return {bytes.Data(), bytes.Data() + bytes.ByteLength()};
}

stage::Framing framing_of(const Napi::Object& from) {
  using Kind = stage::Framing::Kind;
  static const std::map<std::string, Kind> kinds = {
      {"u8", Kind::kU8},       {"u16be", Kind::kU16be},   {"u32be", Kind::kU32be},
      {"u32le", Kind::kU32le}, {"varint", Kind::kVarint}, {"delimiter", Kind::kDelimiter}};
  const auto kind = kinds.find(from.Get("length").As<Napi::String>().Utf8Value());
  if (kind == kinds.end()) throw Napi::RangeError::New(from.Env(), "No such framing");
  std::vector<std::uint8_t> delimiter = bytes_of(from.Get("delimiter"));
  if (kind->second == Kind::kDelimiter && delimiter.empty()) {
    throw Napi::RangeError::New(from.Env(), "A delimiter has at least one byte");
  }
  return stage::Framing(kind->second, std::move(delimiter));
}

/// lib/stage checks the values.
stage::FramesOptions read_frames_options(const Napi::Object& from) {
  const auto number_of = [&](const char* name) {
    return from.Get(name).As<Napi::Number>().DoubleValue();
  };
  const auto whole = [&](const char* name) { return static_cast<std::uint64_t>(number_of(name)); };
  stage::FramesOptions options;
  options.port = Port::find(static_cast<std::uint32_t>(whole("port")));
  options.next = Port::find(static_cast<std::uint32_t>(whole("nextPort")));
  options.records = find_records(static_cast<std::uint32_t>(whole("records")));
  options.stage = static_cast<std::uint8_t>(whole("stage"));
  options.next_stage = static_cast<std::uint8_t>(whole("nextStage"));
  options.threads = static_cast<std::uint32_t>(whole("threads"));
  options.next_threads = static_cast<std::uint32_t>(whole("nextThreads"));
  const auto cpus = from.Get("cpus").As<Napi::Array>();
  for (std::uint32_t i = 0; i < cpus.Length(); ++i) options.cpus.push_back(u32(cpus.Get(i)));
  options.framing = framing_of(from);
  options.max = whole("max");
  options.spool_to_file = from.Get("spoolToFile").ToBoolean();
  options.in_memory = whole("inMemory");
  options.directory = from.Get("directory").As<Napi::String>().Utf8Value();
  options.queue = static_cast<std::uint32_t>(whole("queue"));
  options.pipelined = static_cast<std::uint32_t>(whole("pipelined"));
  options.file_limit = whole("fileLimit");
  options.min_rate = number_of("minRate");
  options.idle_timeout = number_of("idleTimeout");
  options.stall_timeout = number_of("stallTimeout");
  options.document_timeout = number_of("documentTimeout");
  options.farewell_timeout = number_of("farewellTimeout");
  options.too_large = bytes_of(from.Get("tooLarge"));
  options.timed_out = bytes_of(from.Get("timedOut"));
  options.failed = bytes_of(from.Get("failed"));
  return options;
}

Napi::Value create_frames(Info info) {
  stage::FramesOptions options = read_frames_options(info[0].As<Napi::Object>());
  if (!options.port || !options.next || !options.records) {
    return number(info.Env(), kErrorPortClosed);
  }
  driver::Result error = 0;
  std::shared_ptr<stage::FramesStage> stage = stage::FramesStage::start(std::move(options), error);
  if (!stage) return number(info.Env(), error);
  FramesRegistry& registry = FramesRegistry::instance();
  std::uint32_t id = 0;
  {
    std::lock_guard lock(registry.mutex);
    id = ++registry.last;
    registry.stages[id] = std::move(stage);
  }
  napi_add_env_cleanup_hook(info.Env(), stop_frames, as_argument(id));
  return number(info.Env(), id);
}

Napi::Value close_frames(Info info) {
  const std::uint32_t id = u32(info[0]);
  napi_remove_env_cleanup_hook(info.Env(), stop_frames, as_argument(id));
  stop_frames(as_argument(id));
  return info.Env().Undefined();
}

Napi::Value frames_listen(Info info) {
  const auto stage = FramesRegistry::instance().find(u32(info[0]));
  if (!stage) return number(info.Env(), kErrorPortClosed);
  driver::ListenOptions options;
  const auto port = static_cast<std::uint16_t>(u32(info[2]));
  if (!parse_address(info[1].As<Napi::String>().Utf8Value(), port, options.address)) {
    return number(info.Env(), -EINVAL);
  }
  options.path = file_of(info[1].As<Napi::String>().Utf8Value());
  options.backlog = info[3].As<Napi::Number>().Int32Value();
  options.reuse_port = info[4].ToBoolean();
  options.ipv6_only = info[5].ToBoolean();
  options.no_delay = info[6].ToBoolean();
  options.settings = settings_in(info[7]);
  return number(info.Env(), stage->listen(options));
}

Napi::Value frames_stop_listening(Info info) {
  if (const auto stage = FramesRegistry::instance().find(u32(info[0]))) stage->stop_listening();
  return info.Env().Undefined();
}

Napi::Value frames_end_connections(Info info) {
  if (const auto stage = FramesRegistry::instance().find(u32(info[0]))) stage->end_connections();
  return info.Env().Undefined();
}

Napi::Value frames_close_connections(Info info) {
  if (const auto stage = FramesRegistry::instance().find(u32(info[0]))) stage->close_connections();
  return info.Env().Undefined();
}

Napi::Value frames_stats(Info info) {
  const auto stage = FramesRegistry::instance().find(u32(info[0]));
  if (!stage) return info.Env().Undefined();
  const stage::FramesStats stats = stage->stats();
  Napi::Object out = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, std::uint64_t value) {
    out.Set(name, static_cast<double>(value));
  };
  set("connections", stats.connections);
  set("documents", stats.documents);
  set("bytes", stats.bytes);
  set("spooled", stats.spooled);
  set("replies", stats.replies);
  set("timedOut", stats.timed_out);
  set("tooLarge", stats.too_large);
  set("failed", stats.failed);
  set("packets", stats.packets);
  set("queued", stats.queued);
  set("waiting", stats.waiting);
  set("inFiles", stats.in_files);
  return out;
}

}  // namespace

std::shared_ptr<stage::RecordTable> find_records(std::uint32_t id) {
  Registry& registry = Registry::instance();
  std::lock_guard lock(registry.mutex);
  const auto found = registry.tables.find(id);
  return found == registry.tables.end() ? nullptr : found->second;
}

void export_stages(Napi::Env env, Napi::Object exports) {
  const auto add = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  add("pinThread", pin_thread);
  add("allowedCpus", allowed_cpus);
  add("createRecords", create_records);
  add("closeRecords", close_records);
  add("recordMemory", record_memory);
  add("traceMemory", trace_memory);
  add("createRecord", create_record);
  add("createFrames", create_frames);
  add("closeFrames", close_frames);
  add("framesListen", frames_listen);
  add("framesStopListening", frames_stop_listening);
  add("framesEndConnections", frames_end_connections);
  add("framesCloseConnections", frames_close_connections);
  add("framesStats", frames_stats);
}

}  // namespace cp::addon
