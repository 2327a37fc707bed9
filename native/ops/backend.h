// The op table: everything a forward pass needs from a device. The pass itself (native/model/forward.cpp) is
// written once over this interface; a backend brings memory, weights in its own layout, and the ops.
//
// All activations are float32, row-major, contiguous, in memory from `allocate`, which is the device's own:
// `read` brings it to the caller. Rows are the batch's tokens. Ops may run asynchronously; `synchronize`
// waits for all of them. Ops are called from one thread at a time (the engine's) and validate nothing: shapes
// were checked when the model was bound.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "native/io/gguf.h"

namespace inhouse {

// Tokens of one paged KV cache block, on every backend.
inline constexpr int32_t kKvBlockTokens = 32;

enum class KvType : uint8_t { f32, f16, q8_0, q4_0 };

// What the model will do with a weight, so that the backend keeps it in one fitting layout.
enum class WeightUse : uint8_t {
  vector,            // norm gains, biases: float32 [cols]
  matrix,            // linear layers
  lookup,            // token embedding rows
  matrix_and_lookup  // a token embedding that is the output head too
};

// A weight in a backend's own layout. matrix: [rows, cols], or a stack of them; vector: rows = 1.
class Weight {
 public:
  virtual ~Weight() = default;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stack = 1;                 // matrices, one after the other
  uint64_t bytes = 0;                // memory it holds itself; 0 where it only points into a mapped file
  std::shared_ptr<Mapping> mapping;  // that file's mapping; null where nothing is mapped
};

// How a load reports and is stopped. Both are called from loading threads.
struct LoadControl {
  const std::atomic<bool>* cancelled = nullptr;  // may be null
  std::function<void(uint64_t bytes)> progress;  // file bytes done since the last call; may be empty
  void check() const;                            // throws Code::aborted once cancelled
  void report(uint64_t bytes) const {
    if (progress) progress(bytes);
  }
};

// The place of a linear layer in the model; the backend chooses its activations' precision by it.
enum class Place : uint8_t { attention_in, attention_out, router, ffn_in, ffn_out, head };

// One of the products that share an input: out [rows, weight.rows] = x * weight^T (+ bias).
struct Projection {
  const Weight* weight;
  const Weight* bias;  // vector [weight.rows] or null
  float* out;
};

enum class RopeStyle : uint8_t {
  interleaved,  // rotates pairs (2i, 2i + 1)
  split,        // rotates pairs (i, i + dims / 2), "NEOX"
};

enum class Activation : uint8_t { silu, gelu_tanh };

class Adapter;  // native/model/adapter.h; for backends a name

// Consecutive tokens of one sequence within a batch.
struct SequenceSlice {
  int32_t row;       // its first row in the batch
  int32_t count;     // rows
  int32_t position;  // absolute position of the first row
  // [groups] block tables: entry b of a table names the pool block that holds positions 32b … 32b + 31, or is
  // -1 where a sliding window has given the block back.
  const int32_t* const* tables;
  const Adapter* adapter = nullptr;  // what the forward pass adds to the model's weights; null: nothing
  float adapter_scale = 1;
};

// One step's work: chunks of prompts and single tokens of several sequences together.
struct Batch {
  std::span<const int32_t> tokens;     // [rows]
  std::span<const int32_t> positions;  // [rows]
  std::span<const SequenceSlice> slices;
  std::span<const int32_t> outputs;  // rows whose logits are wanted, ascending
  int64_t rows() const { return int64_t(tokens.size()); }
};

// Layers with one kind of KV cache and one block table per sequence.
struct KvGroupSpec {
  int32_t layers;  // cached layers in the group
  int32_t kv_heads;
  int32_t head_dim_k;
  int32_t head_dim_v;
  KvType type_k;
  KvType type_v;
  int32_t window;  // 0: full attention; else a token sees itself and window - 1 tokens before it
};

// The memory of a group's blocks, in the backend's layout.
class KvPool {
 public:
  virtual ~KvPool() = default;
  KvGroupSpec spec{};
  int32_t blocks = 0;
  uint64_t bytes = 0;  // reserved; pages are touched as blocks are used

  // A block as files of saved state hold it, whatever the backend's own layout: for each layer the K of all
  // its tokens, [token][kv_head] rows of the type's bytes, and then V. Quantized rows are blocks of Q8_0 or
  // Q4_0, the last one of a head filled up with zeros. Exact in both directions; between steps alone.
  // [kv_block_file_bytes(spec)]
  virtual void export_block(int32_t block, uint8_t* out) const = 0;
  virtual void import_block(int32_t block, const uint8_t* in) = 0;
};

uint64_t kv_block_file_bytes(const KvGroupSpec& spec);

struct AttentionParams {
  int32_t heads;
  float scale;    // of q·k
  float softcap;  // 0: none; else scores become softcap * tanh(score / softcap)
};

// How a token gets its experts, and what they count.
struct ExpertParams {
  int32_t count = 0;      // 0: no experts, one feed-forward layer for all tokens
  int32_t used = 0;       // by each token
  bool normalize = true;  // the probabilities of those used are made to sum to 1
  float scale = 1;        // of the result
};

// A mixture of experts' weights, stacks of ExpertParams::count matrices, and room for what lies between them.
struct Experts {
  const Weight* gate;  // [ffn, width]
  const Weight* up;    // [ffn, width]
  const Weight* down;  // [width, ffn]
  float* gate_rows;    // [rows * used, ffn]
  float* up_rows;      // [rows * used, ffn]
  float* down_rows;    // [rows * used, width]
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual const char* name() const = 0;         // "cpu", "reference"
  virtual std::string description() const = 0;  // for people: "cpu (AVX-512 VNNI), 2 threads"

  // Names the layout of its weights: backends of equal layout (whatever their threads or instruction set) can
  // share them within a process.
  virtual std::string layout() const = 0;
  // Names what results depend on besides the model: backends with the same name give the same bits. bf16:
  // whether the model has BF16 matrices.
  virtual std::string arithmetic(bool bf16) const = 0;

  // Bytes that weights and caches may still take where this backend keeps them; 0: unknown.
  virtual uint64_t available_memory() const = 0;

  // Zeroed memory for activations, aligned to 64 bytes; throws out_of_memory.
  virtual float* allocate(uint64_t floats) = 0;
  virtual void release(float* memory) = 0;

  // Reads a tensor into this backend's layout. Keeps nothing of the file mapped unless the backend was made
  // to compute from mapped files. May be called from any thread, also while another one runs ops. Errors:
  // file_changed, file_read, out_of_memory, aborted, model_invalid.
  virtual std::unique_ptr<Weight> load(const GgufFile& file, const TensorInfo& tensor, WeightUse use,
                                       const LoadControl& control) = 0;
  virtual std::unique_ptr<KvPool> make_kv_pool(const KvGroupSpec& spec, int32_t blocks) = 0;

  // out[r, :] = table[tokens[r], :] * scale
  virtual void embed(const Weight& table, std::span<const int32_t> tokens, float scale, float* out) = 0;
  // out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * gain; out may be x.
  virtual void rms_norm(const float* x, const Weight& gain, float eps, int64_t rows, float* out) = 0;
  // All projections share x [rows, cols].
  virtual void linear(const float* x, int64_t rows, std::span<const Projection> outs, Place place) = 0;
  // table [rows, dims]: cos then sin of positions[r] * inverse_frequencies[i], i < dims / 2.
  virtual void rope_table(std::span<const int32_t> positions, std::span<const float> inverse_frequencies,
                          float* table) = 0;
  // Rotates the first `dims` of every head of x [rows, heads, head_dim] in place.
  virtual void rope(float* x, const float* table, int64_t rows, int32_t heads, int32_t head_dim, int32_t dims,
                    RopeStyle style) = 0;
  // Rounds k [rows, kv_heads, head_dim_k] and v [rows, kv_heads, head_dim_v] to the cache's types and stores
  // them.
  virtual void kv_store(KvPool& pool, int32_t layer, int32_t group, const float* k, const float* v,
                        const Batch& batch) = 0;
  // Causal attention of q [rows, heads, head_dim_k] over the cache; out [rows, heads, head_dim_v].
  virtual void attention(const KvPool& pool, int32_t layer, int32_t group, const float* q, const Batch& batch,
                         const AttentionParams& params, float* out) = 0;
  // out = act(gate) * up, elementwise over `count`; out may be gate.
  virtual void gated(Activation act, const float* gate, const float* up, int64_t count, float* out) = 0;
  // Each row of x [rows, width] through the experts of its highest logits [rows, experts]: out [rows, width]
  // = the sum of p * down(act(gate(x)) * up(x)) over them, in the order of their logits (of equal ones the
  // lower index first), where p is the expert's softmax probability. out may be x.
  virtual void experts(const float* x, const float* logits, int64_t rows, const Experts& experts,
                       const ExpertParams& params, Activation act, float* out) = 0;
  // x += y, elementwise over `count`.
  virtual void add(float* x, const float* y, int64_t count) = 0;
  // x += scale * y, elementwise over `count`.
  virtual void add_scaled(float* x, const float* y, float scale, int64_t count) = 0;
  // out [rows.size(), width] = x[rows, :]
  virtual void gather(const float* x, std::span<const int32_t> rows, int64_t width, float* out) = 0;
  // x = cap * tanh(x / cap)
  virtual void softcap(float* x, int64_t count, float cap) = 0;

  // A step brackets the ops of one forward pass, so that compute threads wait for the next op without
  // sleeping.
  virtual void begin_step() = 0;
  virtual void end_step() = 0;
  // Waits for all ops. Throws what one of them failed with.
  virtual void synchronize() = 0;
  // Waits for all ops and gives `count` numbers of `allocate`d memory where the caller can read them, until
  // the next op.
  virtual std::span<const float> read(const float* memory, size_t count) = 0;
};

struct CudaOptions {
  int32_t device = 0;  // by the driver's numbers
  std::string image;   // path of the kernels' image
  std::string driver;  // path of the driver's library; empty: the system's
};

struct CpuOptions {
  int32_t threads = 0;          // 0: as many as the process may use
  std::string instruction_set;  // empty: the best this machine has; else "avx2", "avx512vnni", …
  bool repack = true;           // false: compute from the mapped file
  bool lock_memory = false;     // keep weights from being swapped out; memory_lock where refused
};

// Plain C++ in float32 throughout; what everything else is measured against.
std::unique_ptr<Backend> make_reference_backend(const CpuOptions& options);
// An NVIDIA GPU. Errors: device_unavailable where it or the driver is missing; from its ops also device_lost.
std::unique_ptr<Backend> make_cuda_backend(const CudaOptions& options);
// The SIMD backend. Errors: device_unavailable where the instruction set is unknown or missing here.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace inhouse
