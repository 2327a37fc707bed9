#include "native/model/forward.h"

#include <algorithm>
#include <cmath>

namespace inhouse {
namespace {

// 1 / base^(2i / dims), scaled, for each rotated pair; Su et al., "RoFormer" (2021).
std::vector<float> inverse_frequencies(const RopeConfig& rope, const HyperParameters& hyper) {
  std::vector<float> result(size_t(hyper.rope_dims / 2));
  for (size_t i = 0; i < result.size(); ++i) {
    const double exponent = 2.0 * double(i) / double(hyper.rope_dims);
    const double factor = hyper.rope_factors.empty() ? 1.0 : double(hyper.rope_factors[i]);
    result[i] = float(double(rope.scale) / factor / std::pow(double(rope.base), exponent));
  }
  return result;
}

// Numbers of an adapter's intermediate results that are held at once; rows are taken in as many turns as this
// needs, which changes no result.
constexpr uint64_t kAdapterScratch = 1 << 20;

}  // namespace

// The floats of each buffer.
struct ForwardPass::Sizes {
  uint64_t rope, stream, hidden, q, k, v, ffn, router, down, logits;

  Sizes(const HyperParameters& h, int32_t max_rows, int32_t max_outputs) {
    const auto rows = uint64_t(max_rows);
    rope = rows * uint64_t(h.rope_dims);
    // x, attended and kept trade places in keep_outputs, so they are of one size.
    stream = rows * std::max(uint64_t(h.width), uint64_t(h.heads) * uint64_t(h.head_dim_v));
    hidden = rows * uint64_t(h.width);
    q = rows * uint64_t(h.heads) * uint64_t(h.head_dim);
    k = rows * uint64_t(h.kv_heads) * uint64_t(h.head_dim);
    v = rows * uint64_t(h.kv_heads) * uint64_t(h.head_dim_v);
    ffn = rows * uint64_t(h.ffn_width) * uint64_t(std::max(1, h.experts.used));
    router = rows * uint64_t(h.experts.count);
    down = rows * uint64_t(h.width) * uint64_t(h.experts.used);
    logits = uint64_t(max_outputs) * uint64_t(h.vocabulary);
  }
};

uint64_t ForwardPass::bytes_for(const Model& model, int32_t max_rows, int32_t max_outputs) {
  const Sizes s(model.hyper(), max_rows, max_outputs);
  const uint64_t floats = model.hyper().ropes.size() * s.rope + 3 * s.stream + s.hidden + s.q + s.k + s.v +
                          2 * s.ffn + s.router + s.down + s.logits;
  return floats * sizeof(float);
}

ForwardPass::ForwardPass(const Model& model, int32_t max_rows, int32_t max_outputs)
    : model_(model), ops_(model.backend()), max_outputs_(max_outputs) {
  const HyperParameters& h = model.hyper();
  const Sizes s(h, max_rows, max_outputs);
  try {
    for (const RopeConfig& rope : h.ropes) {
      inverse_frequencies_.push_back(inverse_frequencies(rope, h));
      rope_tables_.push_back(allocate(s.rope));
    }
    x_ = allocate(s.stream);
    attended_ = allocate(s.stream);
    kept_ = allocate(s.stream);
    h_ = allocate(s.hidden);
    q_ = allocate(s.q);
    k_ = allocate(s.k);
    v_ = allocate(s.v);
    gate_ = allocate(s.ffn);
    up_ = allocate(s.ffn);
    router_ = allocate(s.router);
    down_ = allocate(s.down);
    logits_ = allocate(s.logits);
  } catch (...) {
    for (float* buffer : buffers_) ops_.release(buffer);
    throw;
  }
}

ForwardPass::~ForwardPass() {
  for (float* buffer : buffers_) ops_.release(buffer);
}

float* ForwardPass::allocate(uint64_t floats) {
  buffers_.reserve(buffers_.size() + 1);
  float* buffer = ops_.allocate(floats);
  buffers_.push_back(buffer);
  floats_ += floats;
  return buffer;
}

bool ForwardPass::run(const Batch& batch, std::span<const std::unique_ptr<KvPool>> pools,
                      const std::atomic<bool>& stop) {
  const HyperParameters& h = model_.hyper();
  for (size_t r = 0; r < rope_tables_.size(); ++r) {
    ops_.rope_table(batch.positions, inverse_frequencies_[r], rope_tables_[r]);
  }
  find_adapters(batch);
  ops_.embed(*model_.token_embedding, batch.tokens, h.embedding_scale, x_);
  for (int32_t l = 0; l < h.layers; ++l) {
    if (stop.load(std::memory_order_relaxed)) return false;
    const LayerWeights& w = model_.layers[size_t(l)];
    const bool last = l + 1 == h.layers;
    attention(l, *pools[size_t(h.layer[size_t(l)].kv_group)], batch);
    if (last && batch.outputs.empty()) break;
    if (last) keep_outputs(batch);
    const int64_t rows = last ? int64_t(batch.outputs.size()) : batch.rows();
    const Projection output[] = {{w.wo, nullptr, h_}};
    linear(attended_, rows, output, Place::attention_out, l);
    add_branch(w.attention_post_norm, h_, rows);
    feed_forward(l, rows);
  }
  ops_.rms_norm(x_, *model_.output_norm, h.norm_epsilon, int64_t(batch.outputs.size()), h_);
  ops_.synchronize();
  return true;
}

// attended = attention of norm(x)
void ForwardPass::attention(int32_t layer, KvPool& pool, const Batch& batch) {
  const HyperParameters& h = model_.hyper();
  const LayerWeights& w = model_.layers[size_t(layer)];
  const LayerConfig& config = h.layer[size_t(layer)];
  const int64_t rows = batch.rows();
  const float* rope = rope_tables_[size_t(config.rope)];
  ops_.rms_norm(x_, *w.attention_norm, h.norm_epsilon, rows, h_);
  const Projection qkv[] = {{w.wq, w.bq, q_}, {w.wk, w.bk, k_}, {w.wv, w.bv, v_}};
  linear(h_, rows, qkv, Place::attention_in, layer);
  if (w.q_norm) ops_.rms_norm(q_, *w.q_norm, h.norm_epsilon, rows * h.heads, q_);
  if (w.k_norm) ops_.rms_norm(k_, *w.k_norm, h.norm_epsilon, rows * h.kv_heads, k_);
  ops_.rope(q_, rope, rows, h.heads, h.head_dim, h.rope_dims, h.rope_style);
  ops_.rope(k_, rope, rows, h.kv_heads, h.head_dim, h.rope_dims, h.rope_style);
  ops_.kv_store(pool, config.kv_layer, config.kv_group, k_, v_, batch);
  ops_.attention(pool, config.kv_layer, config.kv_group, q_, batch,
                 {h.heads, h.attention_scale, h.attention_softcap}, attended_);
}

// x += down(act(gate(norm(x))) * up(norm(x))), or the sum of that over each token's experts
void ForwardPass::feed_forward(int32_t layer, int64_t rows) {
  const HyperParameters& h = model_.hyper();
  const LayerWeights& w = model_.layers[size_t(layer)];
  ops_.rms_norm(x_, *w.ffn_norm, h.norm_epsilon, rows, h_);
  if (w.router) {
    const Projection router[] = {{w.router, nullptr, router_}};
    linear(h_, rows, router, Place::router, layer);
    ops_.experts(h_, router_, rows, {w.gate, w.up, w.down, gate_, up_, down_}, h.experts, h.activation, h_);
  } else {
    const Projection gate_up[] = {{w.gate, nullptr, gate_}, {w.up, nullptr, up_}};
    linear(h_, rows, gate_up, Place::ffn_in, layer);
    ops_.gated(h.activation, gate_, up_, rows * h.ffn_width, gate_);
    const Projection down[] = {{w.down, nullptr, h_}};
    linear(gate_, rows, down, Place::ffn_out, layer);
  }
  add_branch(w.ffn_post_norm, h_, rows);
}

// x += branch, normed where the architecture does so
void ForwardPass::add_branch(const Weight* post_norm, float* branch, int64_t rows) {
  const HyperParameters& h = model_.hyper();
  if (post_norm) ops_.rms_norm(branch, *post_norm, h.norm_epsilon, rows, branch);
  ops_.add(x_, branch, rows * h.width);
}

// Past the last layer's attention only rows with wanted logits matter: moves them to the front of x and
// attended.
void ForwardPass::keep_outputs(const Batch& batch) {
  const HyperParameters& h = model_.hyper();
  ops_.gather(x_, batch.outputs, h.width, kept_);
  std::swap(x_, kept_);
  ops_.gather(attended_, batch.outputs, int64_t(h.heads) * h.head_dim_v, kept_);
  std::swap(attended_, kept_);
  adapted_.swap(adapted_outputs_);
}

// Which rows have an adapter. Neighbouring slices with the same one at the same scale count as one.
void ForwardPass::find_adapters(const Batch& batch) {
  adapted_.clear();
  adapted_outputs_.clear();
  const auto add = [](std::vector<AdapterRows>& list, const SequenceSlice& slice, int64_t row,
                      int64_t count) {
    if (count == 0) return;
    if (!list.empty()) {
      AdapterRows& last = list.back();
      if (last.adapter == slice.adapter && last.scale == slice.adapter_scale &&
          last.row + last.count == row) {
        last.count += count;
        return;
      }
    }
    list.push_back({slice.adapter, slice.adapter_scale, row, count});
  };
  for (const SequenceSlice& slice : batch.slices) {
    if (!slice.adapter) continue;
    add(adapted_, slice, slice.row, slice.count);
    const auto begin = std::lower_bound(batch.outputs.begin(), batch.outputs.end(), slice.row);
    const auto end = std::lower_bound(begin, batch.outputs.end(), slice.row + slice.count);
    add(adapted_outputs_, slice, begin - batch.outputs.begin(), end - begin);
  }
  if (adapted_.empty() || adapter_scratch_) return;
  const HyperParameters& h = model_.hyper();
  const int64_t widest = std::max({int64_t(h.vocabulary), int64_t(h.width), int64_t(h.ffn_width),
                                   int64_t(h.heads) * h.head_dim, int64_t(h.kv_heads) * h.head_dim_v});
  adapter_floats_ = std::max(kAdapterScratch, uint64_t(3 * kMaxLoraRank + widest));
  buffers_.reserve(buffers_.size() + 1);
  adapter_scratch_ = ops_.allocate(adapter_floats_);
  buffers_.push_back(adapter_scratch_);
}

// The products of one input, with what adapters add to them.
void ForwardPass::linear(const float* x, int64_t rows, std::span<const Projection> outs, Place place,
                         int32_t layer) {
  ops_.linear(x, rows, outs, place);
  for (const AdapterRows& some : adapted_) {
    const std::span<const LoraPair> pairs = some.adapter->pairs(layer, place);
    if (!pairs.empty()) adapt(x, some, pairs, outs, place);
  }
}

// outs += scale * B (A x) for the rows of one adapter; pairs stand beside the outs.
void ForwardPass::adapt(const float* x, const AdapterRows& rows, std::span<const LoraPair> pairs,
                        std::span<const Projection> outs, Place place) {
  constexpr size_t kMost = 3;  // products of one input
  int64_t ranks = 0, widest = 0;
  for (const LoraPair& pair : pairs) {
    if (!pair.a) continue;
    ranks += pair.a->rows;
    widest = std::max(widest, pair.b->rows);
  }
  const int64_t turn = std::clamp<int64_t>(int64_t(adapter_floats_) / (ranks + widest), 1, rows.count);
  for (int64_t done = 0; done < rows.count; done += turn) {
    const int64_t row = rows.row + done, count = std::min(turn, rows.count - done);
    Projection narrow[kMost] = {};
    size_t used = 0;
    float* free = adapter_scratch_;
    for (const LoraPair& pair : pairs) {
      if (!pair.a) continue;
      narrow[used++] = {pair.a.get(), nullptr, free};
      free += count * pair.a->rows;
    }
    ops_.linear(x + row * outs[0].weight->cols, count, {narrow, used}, place);
    used = 0;
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (!pairs[i].a) continue;
      const int64_t width = pairs[i].b->rows;
      const Projection wide[] = {{pairs[i].b.get(), nullptr, free}};
      ops_.linear(narrow[used++].out, count, wide, place);
      ops_.add_scaled(outs[i].out + row * width, free, rows.scale * pairs[i].scale, count * width);
    }
  }
}

std::span<const float> ForwardPass::logits(int32_t first, int32_t count) {
  const HyperParameters& h = model_.hyper();
  const Projection head[] = {{model_.output, nullptr, logits_}};
  const float* x = h_ + int64_t(first) * h.width;
  ops_.linear(x, count, head, Place::head);
  for (AdapterRows some : adapted_) {  // by now those of the outputs
    const int64_t begin = std::max<int64_t>(some.row, first);
    const int64_t end = std::min<int64_t>(some.row + some.count, first + count);
    if (begin >= end) continue;
    some.row = begin - first;
    some.count = end - begin;
    const std::span<const LoraPair> pairs = some.adapter->pairs(0, Place::head);
    if (!pairs.empty()) adapt(x, some, pairs, head, Place::head);
  }
  const int64_t floats = int64_t(count) * h.vocabulary;
  if (h.logit_softcap > 0) ops_.softcap(logits_, floats, h.logit_softcap);
  return ops_.read(logits_, size_t(floats));
}

std::span<const float> ForwardPass::hidden(int32_t first, int32_t count) const {
  const auto width = size_t(model_.hyper().width);
  return ops_.read(h_ + size_t(first) * width, size_t(count) * width);
}

}  // namespace inhouse
