{
  "variables": {
    "napi_build_version%": "8"
  },
  "targets": [
    {
      "target_name": "completion_port",
      # CMakeLists.txt has the same lists; test/sources.test.ts holds them equal.
      "sources": [
        "native/addon/addon.cc",
        "native/addon/address.cc",
        "native/addon/channel_binding.cc",
        "native/addon/descriptor.cc",
        "native/addon/glibc_baseline.cc",
        "native/addon/native_handles.cc",
        "native/addon/native_records.cc",
        "native/addon/native_thread.cc",
        "native/addon/shared_listener.cc",
        "native/addon/stage_binding.cc",
        "native/addon/submission.cc",
        "native/addon/threadsafe_notifier.cc",
        "native/addon/turn_binding.cc",
        "native/addon/uv_notifier.cc",
        "native/driver/acceptor.cc",
        "native/driver/blocking/blocking_pool.cc",
        "native/driver/capabilities.cc",
        "native/driver/choose.cc",
        "native/driver/passed_descriptors.cc",
        "native/port/batch.cc",
        "native/port/buffer_pool.cc",
        "native/port/consumer.cc",
        "native/port/dispatcher.cc",
        "native/port/dispatcher_idle.cc",
        "native/port/dispatcher_queue.cc",
        "native/port/dispatcher_steal.cc",
        "native/port/handle.cc",
        "native/port/idle_clock.cc",
        "native/port/keys.cc",
        "native/port/keys_revoke.cc",
        "native/port/members.cc",
        "native/port/memory.cc",
        "native/port/port.cc",
        "native/port/posts.cc",
        "native/port/request.cc",
        "native/port/room.cc",
        "native/port/shared_queue.cc",
        "native/port/thread.cc",
        "native/port/thread_cancel.cc",
        "native/port/thread_settle.cc",
        "native/port/thread_submit.cc",
        "native/port/turns.cc",
        "native/port/unique_keys.cc",
        "native/port/waiters.cc",
        "native/port/watchman.cc",
        "native/stage/admission.cc",
        "native/stage/cargo.cc",
        "native/stage/cpus.cc",
        "native/stage/frames.cc",
        "native/stage/frames_gather.cc",
        "native/stage/frames_receive.cc",
        "native/stage/frames_reply.cc",
        "native/stage/frames_thread.cc",
        "native/stage/framing.cc",
        "native/stage/hand_off.cc",
        "native/stage/memory_queue.cc",
        "native/stage/record_table.cc",
        "native/stage/reply.cc",
        "native/stage/stash.cc",
        "native/stage/trace.cc"
      ],
      "include_dirs": [
        "native",
        "<!(node -p \"process.env.COMPLETION_PORT_NAPI_INCLUDE || require('node-addon-api').include_dir\")"
      ],
      "defines": [
        "NAPI_VERSION=<(napi_build_version)",
        "NAPI_CPP_EXCEPTIONS",
        "NODE_ADDON_API_DISABLE_DEPRECATED",
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS"
      ],
      "cflags!": ["-fno-exceptions"],
      "cflags_cc!": ["-fno-exceptions", "-fno-rtti", "-std=gnu++17", "-std=gnu++20"],
      "cflags": [
        "-Wall",
        "-Wextra",
        "-Werror=switch",
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
        "-fvisibility=hidden"
      ],
      "cflags_cc": ["-std=c++20", "-fvisibility-inlines-hidden"],
      "conditions": [
        ["OS=='linux'", {
          "sources": [
            "native/addon/linux_watch.cc",
            "native/driver/epoll/epoll_driver.cc",
            "native/driver/epoll/epoll_lane.cc",
            "native/driver/epoll/epoll_operations.cc",
            "native/driver/epoll/readiness.cc",
            "native/driver/linux/accepting.cc",
            "native/driver/linux/blocking_calls.cc",
            "native/driver/linux/blocking_thread.cc",
            "native/driver/linux/connection.cc",
            "native/driver/linux/doorbell.cc",
            "native/driver/linux/file.cc",
            "native/driver/linux/linux_driver.cc",
            "native/driver/linux/passing.cc",
            "native/driver/linux/send_file.cc",
            "native/driver/linux/socket.cc",
            "native/driver/linux/status.cc",
            "native/driver/uring/nudge.cc",
            "native/driver/uring/probe.cc",
            "native/driver/uring/provided_buffers.cc",
            "native/driver/uring/registered_chunks.cc",
            "native/driver/uring/ring.cc",
            "native/driver/uring/uring_driver.cc",
            "native/driver/uring/uring_lane.cc",
            "native/driver/uring/uring_operations.cc",
            "native/system/linux/clock.cc"
          ],
          "ldflags": ["-Wl,--exclude-libs,ALL", "-Wl,-Bsymbolic", "-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,nodelete"],
          "libraries": ["-lpthread", "-ldl"],
          "variables": {
            # A message is posted and taken in four fifths of the time where functions are inlined
            # from file to file. GCC alone: its assembler has to see the versions of symbols that
            # glibc_baseline.h asks for in the same output as their uses, hence one partition.
            "lto%": "<!(sh -c 'c=${CXX_target:-${CXX:-g++}}; echo | $c -x c++ -flto -flto-partition=none -shared -fPIC $LDFLAGS -o /dev/null - 2>/dev/null && $c -v 2>&1 | grep -q ^gcc.version && echo 1 || echo 0')"
          },
          "conditions": [
            ["lto==1", {
              "configurations": {
                "Release": {
                  "cflags_cc": ["-flto"],
                  "ldflags": ["-flto", "-flto-partition=none", "-O3"]
                }
              }
            }],
            ["target_arch=='x64' or target_arch=='arm64'", {
              "cflags_cc": ["-include", "<(module_root_dir)/native/addon/glibc_baseline.h"]
            }]
          ]
        }],
        ["OS=='win'", {
          "sources": [
            "native/addon/windows_watch.cc",
            "native/driver/iocp/accepting.cc",
            "native/driver/iocp/iocp_driver.cc",
            "native/driver/iocp/iocp_lane.cc",
            "native/driver/iocp/iocp_operations.cc",
            "native/driver/iocp/iocp_pipes.cc",
            "native/driver/iocp/kernel_port.cc",
            "native/driver/iocp/pipe.cc",
            "native/driver/iocp/socket.cc",
            "native/driver/windows/blocking_calls.cc",
            "native/driver/windows/blocking_thread.cc",
            "native/driver/windows/doorbell.cc",
            "native/driver/windows/error.cc",
            "native/driver/windows/file.cc",
            "native/driver/windows/pipe_name.cc",
            "native/system/windows/clock.cc"
          ],
          "defines": ["WIN32_LEAN_AND_MEAN", "NOMINMAX", "_WIN32_WINNT=0x0A00"],
          "libraries": ["ws2_32.lib", "mswsock.lib", "advapi32.lib"],
          "msvs_settings": {
            "VCCLCompilerTool": {
              "ExceptionHandling": 1,
              "AdditionalOptions": ["/std:c++20", "/utf-8", "/we4062"]
            }
          }
        }]
      ]
    }
  ]
}
