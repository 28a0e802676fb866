# Builds for Windows on Linux, and runs the programs through Wine.
#   cmake -S . -B build-windows --toolchain cmake/mingw-w64.cmake
# Debian: g++-mingw-w64-x86-64-posix wine64
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR AMD64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_RC_COMPILER x86_64-w64-mingw32-windres)
set(CMAKE_DLLTOOL x86_64-w64-mingw32-dlltool)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
# The compiler's own libraries go into each binary: Windows has none of them.
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_MODULE_LINKER_FLAGS_INIT -static)
# The wrapper `wine` talks of 32-bit programs on standard error when it has none of their parts.
find_program(CP_WINE NAMES wine64 wine PATHS /usr/lib/wine)
if(CP_WINE)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${CP_WINE}")
endif()
