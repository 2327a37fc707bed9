#include "kernels/cuda/twin.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "kernels/quant/half.h"

#if defined(__SANITIZE_ADDRESS__)
#define INHOUSE_FIBER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define INHOUSE_FIBER_SANITIZER 1
#endif
#endif
#ifdef INHOUSE_FIBER_SANITIZER
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// inhouse_switch_stack(from, to): keeps what a call must keep on this stack, its pointer in *from, and goes
// on where the stack `to` was left.
extern "C" void inhouse_switch_stack(void** from, void* to);

#if defined(__x86_64__)
asm(R"(
.text
.globl inhouse_switch_stack
.hidden inhouse_switch_stack
.type inhouse_switch_stack, @function
inhouse_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size inhouse_switch_stack, . - inhouse_switch_stack
.section .note.GNU-stack, "", @progbits
.text
)");
#elif defined(__aarch64__)
asm(R"(
.text
.globl inhouse_switch_stack
.hidden inhouse_switch_stack
.type inhouse_switch_stack, %function
inhouse_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size inhouse_switch_stack, . - inhouse_switch_stack
)");
#else
#error "the twin has no fibers for this processor"
#endif

namespace inhouse::kernels::cuda::twin {
namespace {

// What a switch leaves on a stack, and where in it stands the address to go on at.
#ifdef __x86_64__
constexpr int kFrameWords = 8, kFrameReturn = 6;  // one more, as a call leaves the stack 8 bytes off
#else
constexpr int kFrameWords = 20, kFrameReturn = 11;
#endif

constexpr int kWarpThreads = 32;
constexpr size_t kStackBytes = 256 << 10;

// A place where `size` threads meet; each meeting has a number of its own.
struct Meeting {
  int size = 0, arrived = 0;
  uint64_t done = 0;
};

struct Fiber {
  Self self{};
  void* stack_pointer = nullptr;  // while another runs
  std::unique_ptr<uint8_t[]> stack;
  bool ended = false;
};

// What the lanes of a warp hand each other.
struct Exchange {
  float values[kWarpThreads];
  uint32_t a[kWarpThreads][4], b[kWarpThreads][2];
};

struct Block {
  std::vector<Fiber> fibers;
  std::vector<Meeting> warps;
  std::vector<Exchange> exchanges;
  Meeting all;
  void* main_stack_pointer = nullptr;
  const void* main_stack = nullptr;  // for the address sanitizer
  size_t main_stack_bytes = 0;
  int current = 0;
  int left = 0;       // threads that have not ended
  int fruitless = 0;  // threads that ran since a meeting was complete or a thread ended, and did neither
  void (*body)(const void*) = nullptr;
  const void* args = nullptr;
};

thread_local Block* block = nullptr;

// for_good: nobody comes back to this stack.
void switch_to(void** from, void* to, [[maybe_unused]] const void* stack, [[maybe_unused]] size_t bytes,
               [[maybe_unused]] bool for_good = false) {
#ifdef INHOUSE_FIBER_SANITIZER
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, stack, bytes);
  inhouse_switch_stack(from, to);
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
  inhouse_switch_stack(from, to);
#endif
}

// Runs the next thread that has not ended; where there is none, or none gets any further, whoever called
// `run`.
void give_way() {
  Block& b = *block;
  Fiber& from = b.fibers[size_t(b.current)];
  if (b.left == 0 || ++b.fruitless > b.left) {
    switch_to(&from.stack_pointer, b.main_stack_pointer, b.main_stack, b.main_stack_bytes, from.ended);
    return;
  }
  do {
    b.current = b.current + 1 < int(b.fibers.size()) ? b.current + 1 : 0;
  } while (b.fibers[size_t(b.current)].ended);
  Fiber& to = b.fibers[size_t(b.current)];
  if (&to != &from) switch_to(&from.stack_pointer, to.stack_pointer, to.stack.get(), kStackBytes, from.ended);
}

void start() {
#ifdef INHOUSE_FIBER_SANITIZER
  // The first one comes from whoever called `run`.
  const void* stack = nullptr;
  size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
  if (!block->main_stack) block->main_stack = stack, block->main_stack_bytes = bytes;
#endif
  block->body(block->args);
  block->fibers[size_t(block->current)].ended = true;
  --block->left;
  block->fruitless = 0;
  for (;;) give_way();
}

// Makes a fiber begin with `start` when it is first switched to.
void prepare(Fiber& fiber) {
  fiber.ended = false;
#ifdef INHOUSE_FIBER_SANITIZER
  __asan_unpoison_memory_region(fiber.stack.get(),
                                kStackBytes);  // of the frames that an earlier thread never left
#endif
  const uintptr_t top = uintptr_t(fiber.stack.get() + kStackBytes) & ~uintptr_t(15);
  auto* frame = reinterpret_cast<uintptr_t*>(top) - kFrameWords;
  std::fill_n(frame, kFrameWords, 0);
  frame[kFrameReturn] = uintptr_t(&start);
  fiber.stack_pointer = frame;
}

void meet(Meeting& meeting) {
  const uint64_t number = meeting.done;
  if (++meeting.arrived == meeting.size) {
    meeting.arrived = 0;
    ++meeting.done;
    block->fruitless = 0;
    return;
  }
  while (meeting.done == number) give_way();
}

int warp_of_current() {
  return block->current / kWarpThreads;
}

}  // namespace

const Self& self() {
  return block->fibers[size_t(block->current)].self;
}

void sync_block() {
  meet(block->all);
}
void sync_warp() {
  meet(block->warps[size_t(warp_of_current())]);
}

float shuffle_xor(float value, int mask) {
  const int lane = block->current % kWarpThreads;
  float* values = block->exchanges[size_t(warp_of_current())].values;
  values[lane] = value;
  sync_warp();
  const float other = values[lane ^ mask];
  sync_warp();
  return other;
}

void multiply_add_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const int lane = block->current % kWarpThreads, r = lane / 4, q = lane % 4;
  Exchange& e = block->exchanges[size_t(warp_of_current())];
  std::memcpy(e.a[lane], a, sizeof a);
  std::memcpy(e.b[lane], b, sizeof b);
  sync_warp();
  const auto half = [](uint32_t pair, int which) { return half_value(which ? pair >> 16 : pair & 0xffffu); };
  for (int i = 0; i < 4; ++i) {
    const int row = r + i / 2 * 8, column = 2 * q + i % 2;
    float sum = d[i];
    for (int k = 0; k < 16; ++k) {
      const float x = half(e.a[row % 8 * 4 + k % 8 / 2][k / 8 * 2 + row / 8], k % 2);
      const float y = half(e.b[column * 4 + k % 8 / 2][k / 8], k % 2);
      sum += x * y;  // products of two binary16 numbers are exact
    }
    d[i] = sum;
  }
  sync_warp();
}

float exponential(float x) {
  return std::exp(x);
}
uint32_t half_bits(float x) {
  return float_to_half(x);
}
float half_value(uint32_t bits) {
  return half_to_float(uint16_t(bits));
}

void run(void (*body)(const void* args), const void* args, int grid_x, int grid_y, int threads,
         uint32_t shared_bytes) {
  Block b;
  b.body = body;
  b.args = args;
  b.fibers.resize(size_t(threads));
  b.warps.resize(size_t((threads + kWarpThreads - 1) / kWarpThreads));
  b.exchanges.resize(b.warps.size());
  for (Fiber& fiber : b.fibers) fiber.stack.reset(new uint8_t[kStackBytes]);
  std::vector<uint64_t> shared(2 + (shared_bytes + 15) / 16 * 2);
  Block* const outer = block;
  block = &b;
  for (int y = 0; y < grid_y; ++y) {
    for (int x = 0; x < grid_x; ++x) {
      std::memset(shared.data(), 0xff, shared.size() * 8);
      b.all = {threads, 0, 0};
      for (size_t w = 0; w < b.warps.size(); ++w)
        b.warps[w] = {std::min(kWarpThreads, threads - int(w) * kWarpThreads), 0, 0};
      for (int t = 0; t < threads; ++t) {
        Fiber& fiber = b.fibers[size_t(t)];
        fiber.self = {t, threads, x, y, grid_x, reinterpret_cast<uint8_t*>(shared.data())};
        prepare(fiber);
      }
      b.left = threads;
      b.current = b.fruitless = 0;
      Fiber& first = b.fibers[0];
      switch_to(&b.main_stack_pointer, first.stack_pointer, first.stack.get(), kStackBytes);
      if (b.left > 0) {
        block = outer;
        throw std::runtime_error("threads of a block wait for others that never come");
      }
    }
  }
  block = outer;
}

}  // namespace inhouse::kernels::cuda::twin
