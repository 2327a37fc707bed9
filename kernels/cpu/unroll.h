// Unrolls the next loop, whose bounds are constants, so that arrays of vectors live in registers. Not under
// sanitizers, whose checks would make hours of compiling of it.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define INHOUSE_NO_UNROLL
#endif
#endif

#if defined(INHOUSE_NO_UNROLL) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INHOUSE_UNROLL
#elif defined(__clang__)
#define INHOUSE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define INHOUSE_UNROLL _Pragma("GCC unroll 16")
#endif
