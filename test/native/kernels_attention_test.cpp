// Attention over the paged cache on every instruction set here, against double precision; and its bits under
// chunking, company, threads and returned blocks.
#include <algorithm>

#include "kernels/cache_rows.h"
#include "kernels/quant/blocks.h"
#include "kernels/quant/decode.h"
#include "test/native/check.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

namespace {

struct Setup {
  KvGroupSpec spec;
  int32_t heads;
  float softcap;
};

// One sequence's inputs: q [tokens, heads, k], k and v [tokens, kv_heads, …].
struct Sequence {
  std::vector<float> q, k, v;
  std::vector<int32_t> table;
};

Sequence make_sequence(const Setup& s, int32_t tokens, int32_t first_block, Random& random) {
  Sequence seq;
  seq.q = random.normals(int64_t(tokens) * s.heads * s.spec.head_dim_k);
  seq.k = random.normals(int64_t(tokens) * s.spec.kv_heads * s.spec.head_dim_k);
  seq.v = random.normals(int64_t(tokens) * s.spec.kv_heads * s.spec.head_dim_v);
  // Blocks in descending order: nothing may depend on neighbours.
  const int32_t blocks = (tokens + 31) / 32;
  for (int32_t b = 0; b < blocks; ++b) seq.table.push_back(first_block + blocks - 1 - b);
  return seq;
}

struct Piece {
  const Sequence* seq;
  int32_t begin, count;
};

// Stores and attends one batch; appends each piece's output to its place in outs.
void step(Backend& backend, KvPool& pool, const Setup& s, const std::vector<Piece>& pieces,
          std::vector<std::vector<float>>& outs) {
  std::vector<float> q, k, v;
  std::vector<SequenceSlice> slices;
  std::vector<const int32_t*> tables;
  std::vector<int32_t> tokens, positions;
  for (const Piece& p : pieces) tables.push_back(p.seq->table.data());
  const int64_t qw = int64_t(s.heads) * s.spec.head_dim_k, kw = int64_t(s.spec.kv_heads) * s.spec.head_dim_k,
                vw = int64_t(s.spec.kv_heads) * s.spec.head_dim_v;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& p = pieces[i];
    slices.push_back({int32_t(tokens.size()), p.count, p.begin, &tables[i]});
    q.insert(q.end(), p.seq->q.begin() + p.begin * qw, p.seq->q.begin() + (p.begin + p.count) * qw);
    k.insert(k.end(), p.seq->k.begin() + p.begin * kw, p.seq->k.begin() + (p.begin + p.count) * kw);
    v.insert(v.end(), p.seq->v.begin() + p.begin * vw, p.seq->v.begin() + (p.begin + p.count) * vw);
    for (int32_t t = 0; t < p.count; ++t) tokens.push_back(0), positions.push_back(p.begin + t);
  }
  const Batch batch{tokens, positions, slices, {}};
  const int64_t ow = int64_t(s.heads) * s.spec.head_dim_v;
  std::vector<float> out(tokens.size() * size_t(ow), -5.0f);
  backend.kv_store(pool, 1, 0, k.data(), v.data(), batch);
  backend.attention(pool, 1, 0, q.data(), batch, {s.heads, 0.125f, s.softcap}, out.data());
  backend.synchronize();
  for (size_t i = 0; i < pieces.size(); ++i)
    outs[i].insert(outs[i].end(), out.begin() + slices[i].row * ow,
                   out.begin() + (slices[i].row + slices[i].count) * ow);
}

std::vector<double> rounded(KvType type, const float* x, int32_t n) {
  std::vector<double> out;
  if (type == KvType::q8_0 || type == KvType::q4_0) {
    std::vector<float> padded(size_t(n + 31) / 32 * 32, 0.0f);
    std::copy_n(x, n, padded.begin());
    std::vector<kernels::BlockQ8_0> blocks(padded.size() / 32);  // those of Q4_0 are smaller
    const bool four = type == KvType::q4_0;
    (four ? kernels::encode_q4_0 : kernels::encode_q8_0)(padded.data(), blocks.data(),
                                                         int64_t(padded.size()));
    (four ? kernels::decode_q4_0 : kernels::decode_q8_0)(blocks.data(), padded.data(),
                                                         int64_t(padded.size()));
    out.assign(padded.begin(), padded.begin() + n);
    return out;
  }
  for (int32_t i = 0; i < n; ++i)
    out.push_back(type == KvType::f16 ? kernels::half_to_float(kernels::float_to_half(x[i])) : x[i]);
  return out;
}

void check_against_double(const std::string& what, const Setup& s, const Sequence& seq, int32_t tokens,
                          const std::vector<float>& out) {
  const KvGroupSpec& spec = s.spec;
  std::vector<std::vector<double>> k, v;
  for (int32_t i = 0; i < tokens * spec.kv_heads; ++i) {
    k.push_back(rounded(spec.type_k, seq.k.data() + int64_t(i) * spec.head_dim_k, spec.head_dim_k));
    v.push_back(rounded(spec.type_v, seq.v.data() + int64_t(i) * spec.head_dim_v, spec.head_dim_v));
  }
  double worst = 0;
  for (int32_t t = 0; t < tokens; ++t) {
    for (int32_t h = 0; h < s.heads; ++h) {
      const int32_t kv = h / (s.heads / spec.kv_heads);
      const int32_t first = spec.window > 0 ? std::max(0, t - spec.window + 1) : 0;
      std::vector<double> weights;
      double most = -1e300, sum = 0;
      for (int32_t p = first; p <= t; ++p) {
        double score = 0;
        for (int32_t d = 0; d < spec.head_dim_k; ++d)
          score += double(seq.q[size_t((int64_t(t) * s.heads + h) * spec.head_dim_k + d)]) *
                   k[size_t(p * spec.kv_heads + kv)][size_t(d)];
        score *= 0.125;
        if (s.softcap > 0) score = s.softcap * std::tanh(score / s.softcap);
        weights.push_back(score);
        most = std::max(most, score);
      }
      for (double& w : weights) sum += w = std::exp(w - most);
      for (int32_t d = 0; d < spec.head_dim_v; ++d) {
        double expected = 0;
        for (int32_t p = first; p <= t; ++p)
          expected += weights[size_t(p - first)] / sum * v[size_t(p * spec.kv_heads + kv)][size_t(d)];
        const double got = out[size_t((int64_t(t) * s.heads + h) * spec.head_dim_v + d)];
        worst = std::max(worst, std::fabs(got - expected));
        if (got != got) worst = 1e9;
      }
    }
  }
  // Scores of some tens carry a float32 error of about 1e-6 each; weights sum to one.
  if (!(worst < 3e-5)) fail(__FILE__, __LINE__, what + ": off by " + std::to_string(worst));
}

std::string describe(const Setup& s, const std::string& isa) {
  return isa + " heads " + std::to_string(s.heads) + "/" + std::to_string(s.spec.kv_heads) + " dims " +
         std::to_string(s.spec.head_dim_k) + "/" + std::to_string(s.spec.head_dim_v) + " types " +
         std::to_string(int(s.spec.type_k)) + "/" + std::to_string(int(s.spec.type_v)) + " window " +
         std::to_string(s.spec.window);
}

const Setup setups[] = {
    {{2, 3, 64, 64, KvType::f16, KvType::f16, 0}, 9, 0},
    {{2, 2, 128, 128, KvType::f16, KvType::f16, 0}, 12, 0},
    {{2, 1, 256, 256, KvType::f16, KvType::f16, 70}, 4, 0},
    {{2, 2, 96, 64, KvType::q8_0, KvType::q8_0, 0}, 2, 30.0f},
    {{2, 1, 40, 80, KvType::f32, KvType::q8_0, 33}, 16, 0},
    {{2, 2, 72, 24, KvType::q8_0, KvType::f32, 0}, 10, 0},
    {{2, 1, 20, 12, KvType::f32, KvType::f32, 1}, 1, 5.0f},
    {{2, 2, 128, 128, KvType::q4_0, KvType::q4_0, 0}, 12, 0},
    {{2, 1, 80, 40, KvType::q4_0, KvType::q8_0, 50}, 7, 0},
    {{2, 2, 24, 104, KvType::f16, KvType::q4_0, 0}, 4, 20.0f},
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

}  // namespace

TEST(attention_matches_double_precision) {
  Random random(11);
  for (const Setup& s : setups) {
    for (const int32_t tokens : {1, 33, 150}) {
      const Sequence seq = make_sequence(s, tokens, 2, random);
      for (const std::string& isa : instruction_sets()) {
        auto backend = cpu(isa);
        auto pool = backend->make_kv_pool(s.spec, 16);
        std::vector<std::vector<float>> outs(1);
        step(*backend, *pool, s, {{&seq, 0, tokens}}, outs);
        check_against_double(describe(s, isa), s, seq, tokens, outs[0]);
      }
    }
  }
}

TEST(attention_keeps_its_bits) {
  Random random(12);
  for (const Setup& s : setups) {
    constexpr int32_t tokens = 1180;  // three parts
    Sequence seq = make_sequence(s, tokens, 0, random);
    Sequence other = make_sequence(s, 90, 40, random);
    std::vector<float> first;
    for (const std::string& isa : instruction_sets()) {
      std::vector<std::vector<float>> whole(1);
      auto backend = cpu(isa);
      auto pool = backend->make_kv_pool(s.spec, 50);
      step(*backend, *pool, s, {{&seq, 0, tokens}}, whole);
      if (isa != "baseline") {
        if (first.empty()) first = whole[0];
        if (!same_bits(first, whole[0]))
          fail(__FILE__, __LINE__, describe(s, isa) + ": instruction sets differ");
      }
      // Pieces, some of one token, beside another sequence, with one thread; blocks that leave the window are
      // taken away and their memory filled with NaN, as that of every block before its first use.
      auto single = cpu(isa, isa == "avx2" ? 3 : 1);
      auto pool2 = single->make_kv_pool(s.spec, 50);
      Sequence nan = make_sequence(s, 50 * 32, 0, random);
      for (auto* numbers : {&nan.k, &nan.v})
        for (float& x : *numbers) x = NAN;
      std::vector<std::vector<float>> sink(1), pieces(2);
      step(*single, *pool2, s, {{&nan, 0, 50 * 32}}, sink);
      Sequence shrinking = seq;
      int32_t at = 0, at_other = 0;
      for (const int32_t n : {1, 30, 2, 1, 200, 300, 77, 12, 400, 1, 100, 40, 1, 1, 14}) {
        std::vector<Piece> batch = {{&shrinking, at, n}};
        if (at_other < 90) batch.push_back({&other, at_other, 6});
        at_other += 6;
        step(*single, *pool2, s, batch, pieces);
        at += n;
        if (s.spec.window > 0)
          for (int32_t b = 0; (b + 1) * 32 <= at - s.spec.window + 1; ++b) shrinking.table[size_t(b)] = -1;
      }
      CHECK_EQ(at, tokens);
      if (!same_bits(whole[0], pieces[0])) fail(__FILE__, __LINE__, describe(s, isa) + ": pieces differ");
      check_against_double(describe(s, isa) + " beside", s, other, 90, pieces[1]);
    }
  }
}

// The rows of saved state are what the types' own encoders give, out of every instruction set's cache and
// back.
TEST(cache_rows_are_canonical) {
  using kernels::CacheType;
  Random random(13);
  const KvType types[] = {KvType::f32, KvType::f16, KvType::q8_0, KvType::q4_0};
  for (int t = 0; t < 4; ++t) {
    const auto type = CacheType(t);
    for (const int32_t dim : {12, 24, 40, 64, 80, 128}) {
      const auto x = random.normals(int64_t(dim) * 32);
      const auto row_bytes = size_t(kernels::cache_row_bytes(type, dim));
      const auto block_bytes = size_t(kernels::cache_block_bytes(type, dim));
      for (const std::string& isa : instruction_sets()) {
        const kernels::Kernels& k = *kernels::find_kernels(isa.c_str());
        for (const bool keys : {true, false}) {
          const auto read = keys ? kernels::read_k_row : kernels::read_v_row;
          const auto write = keys ? kernels::write_k_row : kernels::write_v_row;
          // Memory that others used before.
          std::vector<uint8_t> block(block_bytes, 0xa5), copy(block_bytes, 0x5a);
          bool same = true;
          for (int32_t token = 0; token < 32; ++token)
            (keys ? k.store_k : k.store_v)[t](x.data() + token * dim, dim, token, block.data());
          for (int32_t token = 0; token < 32; ++token) {
            std::vector<uint8_t> row(row_bytes), expected(row_bytes);
            read(type, block.data(), dim, token, row.data());
            write(type, row.data(), dim, token, copy.data());
            if (type == CacheType::f32) {
              std::memcpy(expected.data(), x.data() + token * dim, row_bytes);
            } else if (type == CacheType::f16) {
              for (int32_t d = 0; d < dim; ++d) {
                const uint16_t half = kernels::float_to_half(x[size_t(token * dim + d)]);
                std::memcpy(expected.data() + d * 2, &half, 2);
              }
            } else {
              std::vector<float> padded(size_t(dim + 31) / 32 * 32, 0.0f);
              std::copy_n(x.data() + token * dim, dim, padded.data());
              (type == CacheType::q4_0 ? kernels::encode_q4_0 : kernels::encode_q8_0)(
                  padded.data(), expected.data(), int64_t(padded.size()));
            }
            same &= row == expected;
          }
          for (int32_t token = 0; token < 32; ++token) {
            std::vector<uint8_t> row(row_bytes), back(row_bytes);
            read(type, block.data(), dim, token, row.data());
            read(type, copy.data(), dim, token, back.data());
            same &= row == back;
          }
          if (!same)
            fail(__FILE__, __LINE__,
                 isa + (keys ? " K type " : " V type ") + std::to_string(int(types[t])) + " dim " +
                     std::to_string(dim));
        }
      }
    }
  }
}
