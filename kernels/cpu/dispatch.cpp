// Which implementations this build has and this machine can run.
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/kernels.h"

namespace inhouse::kernels {

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512vnni;
#endif

namespace {

bool always() {
  return true;
}

#if defined(__x86_64__)
// These ask the processor and whether the operating system saves the registers.
bool has_avx2() {
  // clang 14 has no name for F16C: CPUID leaf 1, ECX bit 29 (Intel SDM, volume 2A).
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx >> 29 & 1u) != 0;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
}
bool has_avx512vnni() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

struct Row {
  const Kernels* kernels;
  bool (*supported)();
};
// Best first. A new instruction set is one stub (kernels_<isa>.cpp) and one row here.
const Row rows[] = {
#if defined(__x86_64__)
    {&kernels_avx512vnni, has_avx512vnni},
    {&kernels_avx2, has_avx2},
#endif
    {&kernels_baseline, always},
};
constexpr int kRows = int(sizeof rows / sizeof rows[0]);

struct Table {
  Implementation all[kRows];
  Table() {
    for (int i = 0; i < kRows; ++i) all[i] = {rows[i].kernels, rows[i].supported()};
  }
};

bool same(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}

}  // namespace

const Implementation* implementations(int* count) {
  static const Table table;
  *count = kRows;
  return table.all;
}

const Kernels* find_kernels(const char* name) {
  int count = 0;
  const Implementation* all = implementations(&count);
  for (int i = 0; i < count; ++i)
    if (all[i].supported && (!*name || same(name, all[i].kernels->name))) return all[i].kernels;
  return nullptr;
}

}  // namespace inhouse::kernels
