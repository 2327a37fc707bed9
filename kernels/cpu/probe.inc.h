// The limits of this machine for one instruction set: what the benchmarks measure shares of.

namespace inhouse::kernels {
namespace {

// Reads `bytes` (a multiple of 256 * streams) as `streams` sequential streams, fetching `ahead` bytes early.
template <int streams>
uint64_t probe_read(const uint8_t* data, int64_t bytes, int64_t ahead) {
  constexpr int sums = streams >= 4 ? 1 : 4 / streams;  // four chains at least, which no load waits for
  const int64_t part = bytes / streams;
  I sum[streams][sums];
  INHOUSE_UNROLL
  for (int s = 0; s < streams; ++s) {
    INHOUSE_UNROLL
    for (int i = 0; i < sums; ++i) sum[s][i] = set1_i(0);
  }
  for (int64_t at = 0; at + 256 <= part; at += 256) {
    INHOUSE_UNROLL
    for (int s = 0; s < streams; ++s) {
      const uint8_t* p = data + s * part + at;
      if (ahead > 0) {
        INHOUSE_UNROLL
        for (int line = 0; line < 4; ++line) prefetch(p + ahead + 64 * line);
      }
      INHOUSE_UNROLL
      for (int v = 0; v < 256 / kVectorBytes; ++v)
        sum[s][v % sums] = bit_or(sum[s][v % sums], load_bytes(p + v * kVectorBytes));
    }
  }
  I all = set1_i(0);
  for (int s = 0; s < streams; ++s)
    for (int i = 0; i < sums; ++i) all = bit_or(all, sum[s][i]);
  uint8_t out[kVectorBytes];
  store_bytes(out, all);
  return out[0];
}

// Multiply-adds of 8-bit integers from registers alone, with 4-bit weights; returns how many. How many sums
// hide the latency and still fit the registers differs by processor.
template <int sums>
int64_t probe_dot(int64_t rounds) {
  Dot<4> dot[sums];
  INHOUSE_UNROLL
  for (int i = 0; i < sums; ++i) dot[i].start(set1_i(i));
  I w = set1_u8(7), x = set1_u8(3);
  for (int64_t r = 0; r < rounds; ++r) {
    for (int q = 0; q < 8; ++q) {
      INHOUSE_UNROLL
      for (int i = 0; i < sums; ++i) {
        keep(w);  // else equal products would be computed once
        dot[i].add(w, x);
      }
    }
    INHOUSE_UNROLL
    for (int i = 0; i < sums; ++i) dot[i].settle(7, true);
  }
  INHOUSE_UNROLL
  for (int i = 0; i < sums; ++i) {
    F value = dot[i].value();
    keep(value);
  }
  return rounds * 8 * sums * 4 * kLanes;
}

// Multiply-adds as matrices of floats take them, from registers alone; returns how many.
template <DenseType type, int sums>
int64_t probe_dense(int64_t rounds) {
  using Step = DenseStep<type>;
  alignas(64) static constexpr uint8_t zeros[kPanelRows * 4] = {};
  F sum[sums];
  INHOUSE_UNROLL
  for (int i = 0; i < sums; ++i) sum[i] = set1(float(i));
  auto w = Step::load(zeros);
  for (int64_t r = 0; r < rounds; ++r) {
    keep(w);
    for (int q = 0; q < 8; ++q) {
      INHOUSE_UNROLL
      for (int i = 0; i < sums; ++i) sum[i] = Step::add(sum[i], w, typename Step::X(3));
    }
  }
  INHOUSE_UNROLL
  for (int i = 0; i < sums; ++i) keep(sum[i]);
  return rounds * 8 * sums * kLanes * Step::values;
}
// BF16 matrices are multiplied in float32 where pairs have no instruction of their own.
constexpr DenseType kBf16Probe = DenseStep<DenseType::bf16>::values > 1 ? DenseType::bf16 : DenseType::f32;

}  // namespace
}  // namespace inhouse::kernels
