// The limits of this machine for one instruction set: what the benchmarks measure shares of.

namespace inhouse::kernels {
namespace {

// Reads `bytes` (a multiple of 64 * streams * 8) as `streams` sequential streams, fetching `ahead` bytes
// early.
template <int streams>
inline uint64_t read_streams(const uint8_t* data, int64_t bytes, int64_t ahead) {
  const int64_t part = bytes / streams;
  I sum[streams][2];
  INHOUSE_UNROLL
  for (int s = 0; s < streams; ++s) sum[s][0] = sum[s][1] = set1_i(0);
  for (int64_t at = 0; at + 256 <= part; at += 256) {
    INHOUSE_UNROLL
    for (int s = 0; s < streams; ++s) {
      const uint8_t* p = data + s * part + at;
      if (ahead > 0) {
        INHOUSE_UNROLL
        for (int line = 0; line < 4; ++line) prefetch(p + ahead + 64 * line);
      }
      INHOUSE_UNROLL
      for (int v = 0; v < 256; v += 2 * kVectorBytes) {
        sum[s][0] = bit_or(sum[s][0], load_bytes(p + v));
        sum[s][1] = bit_or(sum[s][1], load_bytes(p + v + kVectorBytes));
      }
    }
  }
  I all = set1_i(0);
  for (int s = 0; s < streams; ++s) all = bit_or(all, bit_or(sum[s][0], sum[s][1]));
  uint8_t out[kVectorBytes];
  store_bytes(out, all);
  return out[0];
}

uint64_t probe_read(const uint8_t* data, int64_t bytes, int streams, int64_t ahead) {
  switch (streams) {
    case 1:
      return read_streams<1>(data, bytes, ahead);
    case 2:
      return read_streams<2>(data, bytes, ahead);
    default:
      return read_streams<4>(data, bytes, ahead);
  }
}

constexpr int kProbeSums = kLanes == 16 ? 16 : 8;

// Multiply-adds of 8-bit integers from registers alone, with 4-bit weights; returns how many were done.
int64_t probe_dot(int64_t rounds) {
  Dot<4> dot[kProbeSums];
  INHOUSE_UNROLL
  for (int i = 0; i < kProbeSums; ++i) dot[i].start(set1_i(i));
  I w = set1_u8(7), x = set1_u8(3);
  for (int64_t r = 0; r < rounds; ++r) {
    for (int q = 0; q < 8; ++q) {
      INHOUSE_UNROLL
      for (int i = 0; i < kProbeSums; ++i) {
        keep(w);  // else equal products would be computed once
        dot[i].add(w, x);
      }
    }
    INHOUSE_UNROLL
    for (int i = 0; i < kProbeSums; ++i) dot[i].settle(7, true);
  }
  INHOUSE_UNROLL
  for (int i = 0; i < kProbeSums; ++i) {
    F value = dot[i].value();
    keep(value);
  }
  return rounds * 8 * kProbeSums * 4 * kLanes;
}

// Fused float multiply-adds from registers alone; returns how many were done.
int64_t probe_fma(int64_t rounds) {
  F sum[kProbeSums];
  INHOUSE_UNROLL
  for (int i = 0; i < kProbeSums; ++i) sum[i] = set1(float(i));
  F a = set1(0.5f), b = set1(0.25f);
  for (int64_t r = 0; r < rounds; ++r) {
    keep(a), keep(b);
    for (int q = 0; q < 8; ++q) {
      INHOUSE_UNROLL
      for (int i = 0; i < kProbeSums; ++i) sum[i] = fma(sum[i], a, b);
    }
  }
  INHOUSE_UNROLL
  for (int i = 0; i < kProbeSums; ++i) keep(sum[i]);
  return rounds * 8 * kProbeSums * kLanes;
}

}  // namespace
}  // namespace inhouse::kernels
