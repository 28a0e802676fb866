#include "addon/descriptor.h"

#ifdef _WIN32
#include <windows.h>
#endif

namespace cp::addon {

#ifdef _WIN32

/// Numbers belong to a C library, and Node.js has its own copy of it, which only its libuv can ask.
driver::Descriptor native_descriptor(int descriptor) {
  using GetHandle = void* (*)(int);
  const FARPROC found = GetProcAddress(GetModuleHandleW(nullptr), "uv_get_osfhandle");
  const auto get_handle = reinterpret_cast<GetHandle>(reinterpret_cast<void*>(found));
  if (get_handle == nullptr) return driver::kNoDescriptor;
  constexpr driver::Descriptor kNoConsole = -2;
  const auto handle = reinterpret_cast<driver::Descriptor>(get_handle(descriptor));
  return handle == kNoConsole ? driver::kNoDescriptor : handle;
}

#else

driver::Descriptor native_descriptor(int descriptor) { return descriptor; }

#endif

}  // namespace cp::addon
