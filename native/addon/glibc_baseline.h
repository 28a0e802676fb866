// Keeps the addon loadable on older Linux distributions than the one it was built on: included by
// force in every file, it binds to the oldest version of each glibc symbol whose default version is
// newer than the baseline (glibc 2.28, libstdc++ of GCC 8). See glibc_baseline.cc for the rest.
#pragma once

#if defined(__linux__)
#include <features.h>

#ifdef __cplusplus
#include <cstddef>  // brings the C++ library's configuration
#endif

#if defined(__GLIBC__) && defined(__GLIBCXX__)
// pthread_cond_clockwait and its like came with glibc 2.30.
#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
#undef _GLIBCXX_USE_PTHREAD_RWLOCK_CLOCKLOCK
#endif

#if defined(__GLIBC__) && (defined(__x86_64__) || defined(__aarch64__))
// The first version on x64; arm64 began with glibc 2.17.
#if defined(__x86_64__)
#define CP_GLIBC_PIN(name, version) __asm__(".symver " #name "," #name "@GLIBC_" #version)
#else
#define CP_GLIBC_PIN(name, version) __asm__(".symver " #name "," #name "@GLIBC_2.17")
#endif

// glibc 2.34 merged libpthread and libdl into libc and gave their symbols new versions, 2.32 did so
// for pthread_sigmask.
CP_GLIBC_PIN(dladdr, 2.2.5);
CP_GLIBC_PIN(dlclose, 2.2.5);
CP_GLIBC_PIN(dlerror, 2.2.5);
CP_GLIBC_PIN(dlopen, 2.2.5);
CP_GLIBC_PIN(dlsym, 2.2.5);
CP_GLIBC_PIN(pthread_attr_setstacksize, 2.2.5);
CP_GLIBC_PIN(pthread_condattr_setclock, 2.3.3);
CP_GLIBC_PIN(pthread_create, 2.2.5);
CP_GLIBC_PIN(pthread_detach, 2.2.5);
CP_GLIBC_PIN(pthread_getaffinity_np, 2.3.4);
CP_GLIBC_PIN(pthread_getspecific, 2.2.5);
CP_GLIBC_PIN(pthread_join, 2.2.5);
CP_GLIBC_PIN(pthread_key_create, 2.2.5);
CP_GLIBC_PIN(pthread_key_delete, 2.2.5);
CP_GLIBC_PIN(pthread_mutex_timedlock, 2.2.5);
CP_GLIBC_PIN(pthread_mutex_trylock, 2.2.5);
CP_GLIBC_PIN(pthread_mutexattr_settype, 2.2.5);
CP_GLIBC_PIN(pthread_once, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_destroy, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_init, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_rdlock, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_tryrdlock, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_trywrlock, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_unlock, 2.2.5);
CP_GLIBC_PIN(pthread_rwlock_wrlock, 2.2.5);
CP_GLIBC_PIN(pthread_setaffinity_np, 2.3.4);
CP_GLIBC_PIN(pthread_setname_np, 2.12);
CP_GLIBC_PIN(pthread_setspecific, 2.2.5);
CP_GLIBC_PIN(pthread_sigmask, 2.2.5);
CP_GLIBC_PIN(sem_destroy, 2.2.5);
CP_GLIBC_PIN(sem_init, 2.2.5);
CP_GLIBC_PIN(sem_post, 2.2.5);
CP_GLIBC_PIN(sem_timedwait, 2.2.5);
CP_GLIBC_PIN(sem_trywait, 2.2.5);
CP_GLIBC_PIN(sem_wait, 2.2.5);
#undef CP_GLIBC_PIN
#endif
#endif
