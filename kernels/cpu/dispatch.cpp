// Which implementations this build has and this machine can run.
#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#endif

#include "kernels/kernels.h"

namespace inhouse::kernels {

extern const Kernels kernels_baseline;
#if defined(__x86_64__)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avxvnni;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512vnni;
extern const Kernels kernels_avx512bf16;
#elif defined(__aarch64__)
extern const Kernels kernels_neon;
extern const Kernels kernels_neondot;
extern const Kernels kernels_neoni8mm;
#endif

namespace {

bool always() {
  return true;
}

#if defined(__x86_64__)
// Asked of the processor itself: __builtin_cpu_supports knows only what the compiler's run-time library has
// names for, and with some libraries nothing at all. Leaves and bits: Intel SDM, volume 2A, CPUID.
struct Cpuid {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  Cpuid(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &eax, &ebx, &ecx, &edx); }
};
bool bits(unsigned word, unsigned mask) {
  return (word & mask) == mask;
}
// Whether the operating system saves these registers (XCR0).
bool saves(unsigned mask) {
  if (!bits(Cpuid(1, 0).ecx, 1u << 27)) return false;  // OSXSAVE
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return bits(low, mask);
}
bool has_avx2() {
  const bool avx_fma_f16c = bits(Cpuid(1, 0).ecx, 1u << 28 | 1u << 12 | 1u << 29);
  return avx_fma_f16c && bits(Cpuid(7, 0).ebx, 1u << 5) && saves(0x6);
}
bool has_avxvnni() {
  return has_avx2() && bits(Cpuid(7, 1).eax, 1u << 4);
}
bool has_avx512() {
#if defined(__APPLE__)
  const bool saved = true;  // from their first use on; until then XCR0 says no
#else
  const bool saved = saves(0xe6);
#endif
  const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  return has_avx2() && bits(Cpuid(7, 0).ebx, f_dq_bw_vl) && saved;
}
bool has_avx512vnni() {
  return has_avx512() && bits(Cpuid(7, 0).ecx, 1u << 11);
}
bool has_avx512bf16() {
  return has_avx512vnni() && bits(Cpuid(7, 1).eax, 1u << 5);
}
#endif

#if defined(__aarch64__)
#if defined(__linux__)
// Bits of the kernel's hardware capabilities (arch/arm64/include/uapi/asm/hwcap.h).
bool has_neondot() {
  return (getauxval(AT_HWCAP) >> 20 & 1u) != 0;
}
bool has_neoni8mm() {
  return has_neondot() && (getauxval(AT_HWCAP2) >> 13 & 1u) != 0;
}
#elif defined(__APPLE__)
bool has_feature(const char* name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_neondot() {
  return has_feature("hw.optional.arm.FEAT_DotProd");
}
bool has_neoni8mm() {
  return has_neondot() && has_feature("hw.optional.arm.FEAT_I8MM");
}
#elif defined(_WIN32)
// winnt.h's PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE, which older
// copies of it lack; a system that does not know one says no.
bool has_neondot() {
  return IsProcessorFeaturePresent(43) != 0;
}
bool has_neoni8mm() {
  return has_neondot() && IsProcessorFeaturePresent(66) != 0;
}
#else
bool has_neondot() {
  return false;
}
bool has_neoni8mm() {
  return false;
}
#endif
#endif

struct Row {
  const Kernels* kernels;
  bool (*supported)();
};
// Best first. A new instruction set is one stub (kernels_<isa>.cpp) and one row here.
const Row rows[] = {
#if defined(__x86_64__)
    {&kernels_avx512bf16, has_avx512bf16},
    {&kernels_avx512vnni, has_avx512vnni},
    {&kernels_avxvnni, has_avxvnni},
    {&kernels_avx512, has_avx512},
    {&kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&kernels_neoni8mm, has_neoni8mm},
    {&kernels_neondot, has_neondot},
    {&kernels_neon, always},
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
