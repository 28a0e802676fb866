#include "addon/stage_binding.h"

#ifdef __linux__
#include <sched.h>
#endif

#include <cerrno>
#include <map>
#include <mutex>

namespace cp::addon {
namespace {

using Info = const Napi::CallbackInfo&;

std::uint32_t u32(const Napi::Value& value) { return value.As<Napi::Number>().Uint32Value(); }

Napi::Value number(Napi::Env env, std::int64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

// ---- threads and their CPUs -------------------------------------------------------------------

Napi::Value pin_thread(Info info) {
#ifdef __linux__
  const std::uint32_t cpu = u32(info[0]);
  if (cpu >= CPU_SETSIZE) return number(info.Env(), -EINVAL);
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return number(info.Env(), sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : -errno);
#else
  return number(info.Env(), -ENOSYS);
#endif
}

Napi::Value allowed_cpus(Info info) {
  Napi::Array out = Napi::Array::New(info.Env());
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return out;
  for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) out.Set(out.Length(), static_cast<double>(cpu));
  }
#endif
  return out;
}

// ---- records ----------------------------------------------------------------------------------

/// The tables of the process: a pipeline's workers find its table by number.
struct Registry {
  std::mutex mutex;
  std::map<std::uint32_t, std::shared_ptr<stage::RecordTable>> tables;
  std::uint32_t last = 0;

  static Registry& instance() {
    static Registry registry;
    return registry;
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
  auto table = stage::RecordTable::make(u32(info[0]), u32(info[1]));
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
  using Keeper = std::shared_ptr<stage::RecordTable>;
  return Napi::ArrayBuffer::New(
      info.Env(), table->memory(), table->size(),
      [](Napi::Env, void*, Keeper* kept) { delete kept; }, new Keeper(table));
}

Napi::Value create_record(Info info) {
  const auto table = find_records(u32(info[0]));
  return number(info.Env(), table ? table->create(u32(info[1]), u32(info[2])) : 0);
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
  add("createRecord", create_record);
}

}  // namespace cp::addon
