// Quantized matrix products, written once over the vectors of a simd_*.h.
//
// Arithmetic of one output, the same in `few` and `many`, for one row or many, in this order along K: per
// step of 32 values  sum = fma(x.scale, part, sum),  where  part = Σ over the step's groups of float(integer
// dot product - zero point) * scale  [+ minimum * sum of codes], fused from the left.

namespace inhouse::kernels {
namespace {

constexpr int kHalves = kPanelRows / kLanes;  // row vectors of a panel
constexpr int kVectorBytes = 4 * kLanes;

inline float load_f32(const void* p) {
  float v;
  __builtin_memcpy(&v, p, 4);
  return v;
}

// What the codes of a format can reach, in bits, as the dot product sees them; one class where it does not
// matter.
constexpr int dot_bits(PackedFormat f) {
  return !kDotNeedsBits ? 8 : f.full ? 8 : f.lookup ? 5 : f.bits < 4 ? 4 : f.bits;
}

// The eight quads of a step as bytes; p: this vector's part of the step's first vector.
template <PackedFormat f>
inline void unpack_step(const uint8_t* p, I table, I (&w)[8]) {
  const I low4 = set1_u8(15), low2 = set1_u8(3), low1 = set1_u8(1);
  if constexpr (f.bits == 8) {
    INHOUSE_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = load_bytes(p + 64 * j);
  }
  if constexpr (f.bits >= 4 && f.bits <= 6) {
    INHOUSE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const I v = load_bytes(p + 64 * i);
      w[i] = bit_and(v, low4);
      w[i + 4] = bit_and(shift_right<4>(v), low4);
    }
  }
  if constexpr (f.bits == 2 || f.bits == 3) {
    INHOUSE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const I v = load_bytes(p + 64 * i);
      w[i] = bit_and(v, low2);
      w[i + 2] = bit_and(shift_right<2>(v), low2);
      w[i + 4] = bit_and(shift_right<4>(v), low2);
      w[i + 6] = bit_and(shift_right<6>(v), low2);
    }
  }
  if constexpr (f.bits == 6) {
    const I high = set1_u8(0x30);
    INHOUSE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const I v = load_bytes(p + 256 + 64 * i);
      w[i] = bit_or(w[i], bit_and(shift_left<4>(v), high));
      w[i + 2] = bit_or(w[i + 2], bit_and(shift_left<2>(v), high));
      w[i + 4] = bit_or(w[i + 4], bit_and(v, high));
      w[i + 6] = bit_or(w[i + 6], bit_and(shift_right<2>(v), high));
    }
  }
  if constexpr (f.bits == 5) {
    const I high = set1_u8(0x10);
    const I v = load_bytes(p + 256);
    w[0] = bit_or(w[0], bit_and(shift_left<4>(v), high));
    w[1] = bit_or(w[1], bit_and(shift_left<3>(v), high));
    w[2] = bit_or(w[2], bit_and(shift_left<2>(v), high));
    w[3] = bit_or(w[3], bit_and(shift_left<1>(v), high));
    w[4] = bit_or(w[4], bit_and(v, high));
    w[5] = bit_or(w[5], bit_and(shift_right<1>(v), high));
    w[6] = bit_or(w[6], bit_and(shift_right<2>(v), high));
    w[7] = bit_or(w[7], bit_and(shift_right<3>(v), high));
  }
  if constexpr (f.bits == 3) {
    const I high = set1_u8(4);
    const I v = load_bytes(p + 128);
    w[0] = bit_or(w[0], bit_and(shift_left<2>(v), high));
    w[1] = bit_or(w[1], bit_and(shift_left<1>(v), high));
    w[2] = bit_or(w[2], bit_and(v, high));
    w[3] = bit_or(w[3], bit_and(shift_right<1>(v), high));
    w[4] = bit_or(w[4], bit_and(shift_right<2>(v), high));
    w[5] = bit_or(w[5], bit_and(shift_right<3>(v), high));
    w[6] = bit_or(w[6], bit_and(shift_right<4>(v), high));
    w[7] = bit_or(w[7], bit_and(shift_right<5>(v), high));
  }
  if constexpr (f.lookup) {
    INHOUSE_UNROLL
    for (int j = 0; j < 8; ++j) w[j] = look_up(table, w[j]);
  }
  (void)low4, (void)low2, (void)low1, (void)table;
}

// Scales of a block that all its groups share: two-level formats alone.
struct BlockScales {
  F d, dmin;
};
template <PackedFormat f>
inline BlockScales block_scales(const uint8_t* block, int half, float multiplier) {
  BlockScales s{set1(0.0f), set1(0.0f)};
  if constexpr (f.two_level) {
    s.d = mul(load_f16(reinterpret_cast<const uint16_t*>(block + f.d_offset()) + half * kLanes),
              set1(multiplier));
    if constexpr (f.minimum)
      s.dmin = sub(set1(0.0f),
                   load_f16(reinterpret_cast<const uint16_t*>(block + f.dmin_offset()) + half * kLanes));
  }
  return s;
}

// Scale and minimum of group g of a block. Exact: at most 11 + 8 bits.
template <PackedFormat f>
inline void group_scales(const uint8_t* block, const BlockScales& s, int half, int g, F& scale, F& minimum) {
  const int at = g * kPanelRows + half * kLanes;
  if constexpr (f.nibbles) {
    const I both = bytes_u8(block + f.scale_offset() + at);
    scale = mul(s.d, to_float(bit_and(both, set1_i(15))));
    minimum = mul(s.dmin, to_float(shift_right_i32(both, 4)));
  } else if constexpr (f.two_level) {
    scale = mul(s.d, to_float(bytes_i8(block + f.scale_offset() + at)));
    if constexpr (f.minimum) minimum = mul(s.dmin, to_float(bytes_u8(block + f.minimum_offset() + at)));
  } else {
    const auto* scales = reinterpret_cast<const uint16_t*>(block + f.scale_offset()) + at;
    scale = f.bf16 ? load_bf16(scales) : load_f16(scales);
    if constexpr (f.minimum)
      minimum = load_f16(reinterpret_cast<const uint16_t*>(block + f.minimum_offset()) + at);
  }
}

// Writes one row vector of sums (rows t of the activations, columns c …) with its bias.
inline void write(const ProductOut& out, int64_t row, int64_t column, F value) {
  const int64_t left = out.columns - column;
  float* to = out.out + row * out.stride + column;
  if (left >= kLanes) {
    if (out.bias) value = add(value, load(out.bias + column));
    store(to, value);
  } else if (left > 0) {
    if (out.bias) value = add(value, load_part(out.bias + column, left));
    store_part(to, value, left);
  }
}

// What `write` wrote there without a bias; 0 beyond the last column.
inline F read(const ProductOut& out, int64_t row, int64_t column) {
  const int64_t left = out.columns - column;
  const float* from = out.out + row * out.stride + column;
  return left >= kLanes ? load(from) : left > 0 ? load_part(from, left) : set1(0.0f);
}

// How far ahead of the multiplies the packed stream is fetched.
constexpr int kPrefetchAhead = 4096;

template <PackedFormat f, int rows>
inline void few_rows(const PackedMatrix& m, const QuantizedRows& x, int64_t panel, const ProductOut& out) {
  constexpr int groups = f.step_groups(), quads = 8 / groups;
  // Cache lines of a block, scales included, that each of its steps fetches ahead.
  constexpr int lines = (f.block_bytes() / 64 + f.steps() - 1) / f.steps();
  const int64_t group_stride = x.stride / f.group, step_stride = x.stride / kStep;
  const I table = f.lookup ? load_table(m.lookup) : set1_i(0);
  F sum[kHalves][rows];
  INHOUSE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) sum[h][t] = set1(0.0f);
  }
  const uint8_t* block = m.panels + panel * m.panel_bytes;
  const int8_t* codes = x.codes;
  const float* scales = x.scales;
  const auto* extras = static_cast<const int32_t*>(x.extras);
  for (int64_t b = 0; b < m.blocks; ++b, block += f.block_bytes()) {
    BlockScales shared[kHalves];
    INHOUSE_UNROLL
    for (int h = 0; h < kHalves; ++h) shared[h] = block_scales<f>(block, h, m.multiplier);
    for (int s = 0; s < f.steps(); ++s, codes += kStep, ++scales, extras += groups) {
      const uint8_t* step = block + s * f.step_bytes();
      INHOUSE_UNROLL
      for (int line = 0; line < lines; ++line) prefetch(block + kPrefetchAhead + 64 * (s * lines + line));
      INHOUSE_UNROLL
      for (int h = 0; h < kHalves; ++h) {
        I w[8];
        unpack_step<f>(step + h * kVectorBytes, table, w);
        F part[rows] = {};
        INHOUSE_UNROLL
        for (int g = 0; g < groups; ++g) {
          F scale = set1(0.0f), minimum = set1(0.0f);
          group_scales<f>(block, shared[h], h, s * groups + g, scale, minimum);
          INHOUSE_UNROLL
          for (int t = 0; t < rows; ++t) {
            // Two chains, for latency; integer sums are exact in any order.
            Dot<dot_bits(f)> dot, other;
            dot.start(f.minimum ? set1_i(0) : set1_i(extras[t * group_stride + g]));
            other.start(set1_i(0));
            Quads held = {};
            INHOUSE_UNROLL
            for (int q = 0; q < quads; ++q) {
              const auto a = quad(held, codes + t * x.stride + 4 * (g * quads + q), q);
              (q % 2 ? other : dot).add(w[g * quads + q], a);
              (q % 2 ? other : dot).settle(q / 2, q >= quads - 2);
            }
            dot.merge(other);
            part[t] = g == 0 ? mul(dot.value(), scale) : fma(dot.value(), scale, part[t]);
            if constexpr (f.minimum)
              part[t] = fma(minimum, set1(load_f32(extras + t * group_stride + g)), part[t]);
          }
        }
        INHOUSE_UNROLL
        for (int t = 0; t < rows; ++t) sum[h][t] = fma(part[t], set1(scales[t * step_stride]), sum[h][t]);
      }
    }
  }
  INHOUSE_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    const int64_t column = panel * kPanelRows + h * kLanes;
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) {
      if (out.planes == 1) {
        write(out, t, column, sum[h][t]);
      } else if (t % 2 == 1) {
        write(out, t / 2, column, add(sum[h][t - 1], sum[h][t]));
      }
    }
  }
}

// Rows that `few` takes at once, at most: as many as leave a register for each sum.
constexpr int kFewRows = kHalves == 1 ? 8 : 4;

template <PackedFormat f, int most = kFewRows>
void few(const PackedMatrix& m, const QuantizedRows& x, int rows, int64_t begin, int64_t end,
         const ProductOut& out) {
  if constexpr (most > 1) {
    if (rows < most) return few<f, most - 1>(m, x, rows, begin, end, out);
  }
  for (int64_t panel = begin; panel < end; ++panel) few_rows<f, most>(m, x, panel, out);
}

// An unpacked strip: `panels` panels of up to 256 K values.
struct Strip {
  uint8_t* codes;  // [panels][steps][8][16][4]
  float* scales;   // [panels][groups][16]
  float* minimums;
};
constexpr int kStripK = 256;
constexpr int kStripSteps = kStripK / kStep;
constexpr int64_t kChunkSteps = 2048 / kStep;

template <PackedFormat f>
inline void unpack_panel(const uint8_t* block, int steps, float multiplier, I table, uint8_t* codes,
                         float* scales, float* minimums) {
  constexpr int groups = f.step_groups();
  // The next strip is fetched while this one is multiplied.
  constexpr int ahead = kStripSteps / f.steps() * f.block_bytes();
  constexpr int lines = (f.block_bytes() / 64 + f.steps() - 1) / f.steps();
  for (int done = 0; done < steps; done += f.steps(), block += f.block_bytes()) {
    for (int h = 0; h < kHalves; ++h) {
      const BlockScales shared = block_scales<f>(block, h, multiplier);
      for (int s = 0; s < f.steps(); ++s) {
        if (h == 0) {
          INHOUSE_UNROLL
          for (int line = 0; line < lines; ++line) prefetch(block + ahead + 64 * (s * lines + line));
        }
        I w[8];
        unpack_step<f>(block + s * f.step_bytes() + h * kVectorBytes, table, w);
        INHOUSE_UNROLL
        for (int j = 0; j < 8; ++j) store_bytes(codes + ((done + s) * 8 + j) * 64 + h * kVectorBytes, w[j]);
        INHOUSE_UNROLL
        for (int g = 0; g < groups; ++g) {
          F scale = set1(0.0f), minimum = set1(0.0f);
          group_scales<f>(block, shared, h, s * groups + g, scale, minimum);
          const int at = ((done + s) * groups + g) * kPanelRows + h * kLanes;
          store(scales + at, scale);
          if constexpr (f.minimum) store(minimums + at, minimum);
        }
      }
    }
  }
}

// `rows` activation rows against `vectors` row vectors of an unpacked strip, over `steps` steps.
// sums [rows][stride]: continued where not `fresh`.
template <int group, bool has_minimum, int bits, int vectors, int rows>
inline void tile(const uint8_t* codes_w, const float* scales_w, const float* minimums_w, int64_t panel_codes,
                 int64_t panel_scales, const int8_t* codes, const float* scales, const int32_t* extras,
                 int64_t stride, int steps, bool fresh, float* sums, int64_t sums_stride) {
  constexpr int groups = kStep / group, quads = 8 / groups;
  const int64_t group_stride = stride / group, step_stride = stride / kStep;
  F sum[vectors][rows];
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) sum[v][t] = fresh ? set1(0.0f) : load(sums + t * sums_stride + v * kLanes);
  }
  for (int s = 0; s < steps; ++s) {
    F part[vectors][rows] = {};
    INHOUSE_UNROLL
    for (int g = 0; g < groups; ++g) {
      const auto weights = [&](int v, int q) {
        return load_bytes(codes_w + v / kHalves * panel_codes + v % kHalves * kVectorBytes +
                          64 * (g * quads + q));
      };
      const auto start = [&](int t) {
        return has_minimum ? set1_i(0) : set1_i(extras[t * group_stride + g]);
      };
      const auto finish = [&](int v, int t, const Dot<bits>& dot) {
        const int64_t at = v / kHalves * panel_scales + v % kHalves * kLanes + g * kPanelRows;
        const F scale = load(scales_w + at);
        part[v][t] = g == 0 ? mul(dot.value(), scale) : fma(dot.value(), scale, part[v][t]);
        if constexpr (has_minimum)
          part[v][t] = fma(load(minimums_w + at), set1(load_f32(extras + t * group_stride + g)), part[v][t]);
      };
      if constexpr (kRowsInTurn<bits>) {
        I w[quads][vectors];
        INHOUSE_UNROLL
        for (int q = 0; q < quads; ++q) {
          INHOUSE_UNROLL
          for (int v = 0; v < vectors; ++v) w[q][v] = weights(v, q);
        }
        INHOUSE_UNROLL
        for (int t = 0; t < rows; ++t) {
          Dot<bits> dot[vectors];
          INHOUSE_UNROLL
          for (int v = 0; v < vectors; ++v) dot[v].start(start(t));
          Quads held = {};
          INHOUSE_UNROLL
          for (int q = 0; q < quads; ++q) {
            const auto a = quad(held, codes + t * stride + 4 * (g * quads + q), q);
            INHOUSE_UNROLL
            for (int v = 0; v < vectors; ++v) {
              dot[v].add(w[q][v], a);
              dot[v].settle(q, q == quads - 1);
            }
          }
          INHOUSE_UNROLL
          for (int v = 0; v < vectors; ++v) finish(v, t, dot[v]);
        }
      } else {
        Dot<bits> dot[vectors][rows];
        INHOUSE_UNROLL
        for (int t = 0; t < rows; ++t) {
          INHOUSE_UNROLL
          for (int v = 0; v < vectors; ++v) dot[v][t].start(start(t));
        }
        Quads held[rows] = {};
        INHOUSE_UNROLL
        for (int q = 0; q < quads; ++q) {
          I w[vectors];
          INHOUSE_UNROLL
          for (int v = 0; v < vectors; ++v) w[v] = weights(v, q);
          INHOUSE_UNROLL
          for (int t = 0; t < rows; ++t) {
            const auto a = quad(held[t], codes + t * stride + 4 * (g * quads + q), q);
            INHOUSE_UNROLL
            for (int v = 0; v < vectors; ++v) {
              dot[v][t].add(w[v], a);
              dot[v][t].settle(q, q == quads - 1);
            }
          }
        }
        INHOUSE_UNROLL
        for (int v = 0; v < vectors; ++v) {
          INHOUSE_UNROLL
          for (int t = 0; t < rows; ++t) finish(v, t, dot[v][t]);
        }
      }
    }
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) {
      const F scale = set1(scales[t * step_stride]);
      INHOUSE_UNROLL
      for (int v = 0; v < vectors; ++v) sum[v][t] = fma(part[v][t], scale, sum[v][t]);
    }
    codes_w += 512;
    scales_w += groups * kPanelRows;
    minimums_w += groups * kPanelRows;
    codes += kStep;
    scales += 1;
    extras += groups;
  }
  INHOUSE_UNROLL
  for (int v = 0; v < vectors; ++v) {
    INHOUSE_UNROLL
    for (int t = 0; t < rows; ++t) store(sums + t * sums_stride + v * kLanes, sum[v][t]);
  }
}

// All rows against one unpacked strip.
template <int group, bool has_minimum, int bits>
void tiles(const Strip& strip, int panels, int steps, const QuantizedRows& x, int64_t rows, int64_t k,
           bool fresh, float* sums) {
  constexpr int64_t panel_codes = kStripSteps * 512, panel_scales = kStripK / group * kPanelRows;
  constexpr int64_t sums_stride = kStripPanels * kPanelRows;
  const int row_vectors = panels * kHalves;
  const auto run = [&]<int vectors, int count>(int v, int64_t t) {
    const int64_t w = v / kHalves, h = v % kHalves;
    tile<group, has_minimum, bits, vectors, count>(
        strip.codes + w * panel_codes + h * kVectorBytes, strip.scales + w * panel_scales + h * kLanes,
        strip.minimums + w * panel_scales + h * kLanes, panel_codes, panel_scales, x.codes + t * x.stride + k,
        x.scales + (t * x.stride + k) / kStep,
        static_cast<const int32_t*>(x.extras) + (t * x.stride + k) / group, x.stride, steps, fresh,
        sums + t * sums_stride + v * kLanes, sums_stride);
  };
  const auto sweep = [&]<int vectors>(int v) {
    int64_t t = 0;
    for (; t + kTileRows <= rows; t += kTileRows) run.template operator()<vectors, kTileRows>(v, t);
    for (; t + 2 <= rows; t += 2) run.template operator()<vectors, 2>(v, t);
    for (; t < rows; ++t) run.template operator()<vectors, 1>(v, t);
  };
  int v = 0;
  constexpr int most = kRowsInTurn<bits> && bits == 8 ? 1 : kTileVectors;
  for (; v + most <= row_vectors; v += most) sweep.template operator()<most>(v);
  for (; v < row_vectors; ++v) sweep.template operator()<1>(v);
}

template <PackedFormat f>
void many(const PackedMatrix& m, const QuantizedRows& x, int64_t rows, int64_t begin, int64_t end,
          const ProductOut& out, void* scratch) {
  constexpr int64_t columns = kStripPanels * kPanelRows;
  uint8_t* at = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(scratch) + 63) / 64 * 64);
  Strip strip;
  strip.codes = at;
  strip.scales = reinterpret_cast<float*>(at + kStripPanels * kPanelRows * kStripK);
  strip.minimums = strip.scales + kStripPanels * kPanelRows * 16;
  float* sums = strip.minimums + kStripPanels * kPanelRows * 16;
  const I table = f.lookup ? load_table(m.lookup) : set1_i(0);
  constexpr int64_t block_steps = f.steps();
  const int64_t all_steps = m.blocks * block_steps;
  const auto each_strip = [&](auto&& work) {
    float* strip_sums = sums;
    for (int64_t panel = begin; panel < end; panel += kStripPanels, strip_sums += rows * columns)
      work(panel, int(end - panel < kStripPanels ? end - panel : kStripPanels), strip_sums);
  };
  for (int64_t chunk = 0; chunk < all_steps; chunk += kChunkSteps) {
    const int64_t chunk_end = all_steps - chunk < kChunkSteps ? all_steps : chunk + kChunkSteps;
    each_strip([&](int64_t panel, int panels, float* strip_sums) {
      for (int64_t s = chunk; s < chunk_end; s += kStripSteps) {
        const int steps = int(chunk_end - s < kStripSteps ? chunk_end - s : kStripSteps);
        for (int p = 0; p < panels; ++p)
          unpack_panel<f>(m.panels + (panel + p) * m.panel_bytes + s / block_steps * f.block_bytes(), steps,
                          m.multiplier, table, strip.codes + p * kStripSteps * 512,
                          strip.scales + p * (kStripK / f.group) * kPanelRows,
                          strip.minimums + p * (kStripK / f.group) * kPanelRows);
        tiles<f.group, f.minimum, dot_bits(f)>(strip, panels, steps, x, rows, s * kStep, s == 0, strip_sums);
      }
    });
  }
  each_strip([&](int64_t panel, int panels, const float* strip_sums) {
    for (int64_t t = 0; t < rows; t += out.planes) {
      const float* from = strip_sums + t * columns;
      for (int c = 0; c < panels * kPanelRows; c += kLanes) {
        F value = load(from + c);
        if (out.planes == 2) value = add(value, load(from + columns + c));
        write(out, t / out.planes, panel * kPanelRows + c, value);
      }
    }
  });
}

}  // namespace
}  // namespace inhouse::kernels
