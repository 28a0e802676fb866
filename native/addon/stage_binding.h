// The native half of stages, for lib/native/binding.ts: records, frames, threads and their CPUs.
#pragma once

#include <napi.h>

#include <memory>

#include "stage/record_table.h"

namespace cp::addon {

void export_stages(Napi::Env env, Napi::Object exports);

/// Null when there is no table of that number, or no longer.
std::shared_ptr<stage::RecordTable> find_records(std::uint32_t id);

}  // namespace cp::addon
