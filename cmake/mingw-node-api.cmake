# For an addon that is cross-built: an import library of Node-API, made from the lists of functions
# that node-api-headers brings, to be bound when the addon is loaded (delay_load_hook.cc).
execute_process(
  COMMAND node -p "Object.values(require('node-api-headers').def_paths).join(';')"
  WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
  OUTPUT_VARIABLE cp_def_files
  OUTPUT_STRIP_TRAILING_WHITESPACE)
set(cp_def "NAME node.exe\nEXPORTS\n")
foreach(file IN LISTS cp_def_files)
  file(STRINGS ${file} functions)
  list(FILTER functions EXCLUDE REGEX "^(NAME|LIBRARY|EXPORTS)")
  list(JOIN functions "\n" functions)
  string(APPEND cp_def "${functions}\n")
endforeach()
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/node.def "${cp_def}")
set(CMAKE_JS_LIB ${CMAKE_CURRENT_BINARY_DIR}/libnode.a)
execute_process(
  COMMAND ${CMAKE_DLLTOOL} -m i386:x86-64 -D node.exe -d node.def -y ${CMAKE_JS_LIB}
  WORKING_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}
  COMMAND_ERROR_IS_FATAL ANY)
set(CMAKE_JS_SRC ${CMAKE_CURRENT_SOURCE_DIR}/cmake/delay_load_hook.cc)
