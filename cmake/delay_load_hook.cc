// Binds Node-API to the program that loads the addon, whatever its name: Electron's is not
// node.exe. node-gyp and cmake-js bring a hook of their own.
#include <windows.h>
// delayimp.h needs windows.h before it.
#include <delayimp.h>

#include <cstring>

namespace {

FARPROC WINAPI bind_to_host(unsigned event, DelayLoadInfo* info) {
  if (event != dliNotePreLoadLibrary || _stricmp(info->szDll, "node.exe") != 0) return nullptr;
  HMODULE host = GetModuleHandleW(L"libnode.dll");  // hosts that have Node.js in a library
  if (host == nullptr) host = GetModuleHandleW(nullptr);
  return reinterpret_cast<FARPROC>(host);
}

}  // namespace

extern "C" {
PfnDliHook __pfnDliNotifyHook2 = bind_to_host;
}
