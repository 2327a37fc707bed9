#include "native/ops/cpu_linear.h"

#include <algorithm>
#include <cstring>

namespace inhouse {

using kernels::kPanelRows;
using kernels::kStripPanels;

int activation_planes(Place place, const kernels::PackedType& type) {
  // Mean KL divergence to float32, SmolLM2 Q4_1: 2.8e-3 with one plane everywhere, 2.1e-3 with two in the
  // head or in attention_in, 1.5e-3 in both, 0.5e-3 with ffn_in as well, 4e-7 everywhere. The head is nearly
  // free: it runs for the last token of a prompt alone, and decoding waits for memory. (BF16 matrices on
  // avx512bf16, which rounds activations to BF16 in every place: 1.0e-4.)
  switch (place) {
    case Place::head:
    case Place::router:  // Files keep routers in floats; where not, rounding should not make the choice.
      return 2;
    case Place::attention_in:
      return type.layout().two_level ? 1 : 2;
    default:
      return 1;
  }
}

// What a format needs of the activations beside codes and scales; equal ones are shared.
struct CpuLinear::Extras {
  int group;
  bool minimum;    // sums as float; else -zero_point * sums as int32
  int zero_point;  // 0: the kernels need none, but read zeros
  int32_t* data;
  bool operator==(const Extras& o) const {
    return group == o.group && minimum == o.minimum && zero_point == o.zero_point;
  }
};

// One matrix's share of the work, cut into items.
struct CpuLinear::Job {
  const CpuWeight* weight;
  const uint8_t* matrix;
  size_t extras;  // which it needs
  kernels::ProductOut out;
  kernels::QuantizedRows x;  // packed weights
  const float* dense_x;      // dense weights
  int64_t rows;              // of activations, planes counted
  int64_t item_panels, panel_items;
  int64_t item_rows, row_items;
  int64_t first_item;  // after those of the jobs before it
};

namespace {

// Weights that an item covers when some rows share them: long enough to stream, short enough to balance.
constexpr int64_t kItemBytesMost = 128 << 10, kItemBytesLeast = 16 << 10;
// Rows and panels per item when many rows share the weights: activations and sums stay in the second-level
// cache.
constexpr int64_t kItemRows = 192, kItemPanels = 16;
// Rows up to which `few` is faster than unpacking for `many`: measured with AVX2 for 4 at a time, and with
// AVX-512 for 8, where 128 are about as fast either way.
int64_t some_rows(const kernels::Kernels& kernels) {
  return kernels.few_rows > 4 ? 64 : 16;
}
// Numbers below which a parallel region costs more than it saves.
constexpr int64_t kInlineNumbers = 1 << 15;

// Projections that share an input, at most.
constexpr size_t kMostProjections = 8;

// Codes of a row and plane.
int64_t row_stride(int64_t cols) {
  return (cols + 255) / 256 * 256;
}

uint8_t* aligned(std::vector<uint8_t>& memory, uint64_t bytes) {
  if (memory.size() < bytes + 64) memory.resize(bytes + 64);
  return reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
}

// Adds up codes per group for the formats that need it. sums [count * 16-value groups]
void fill_extras(int group, bool minimum, int zero_point, const int16_t* sums, int64_t groups, int32_t* out) {
  const int per = group / 16;
  for (int64_t g = 0; g < groups; ++g) {
    const int32_t sum = per == 1 ? sums[g] : sums[2 * g] + sums[2 * g + 1];
    if (minimum) {
      const float value = float(sum);
      std::memcpy(out + g, &value, 4);
    } else {
      out[g] = -zero_point * sum;
    }
  }
}

}  // namespace

CpuLinear::CpuLinear(const kernels::Kernels& kernels, int32_t threads)
    : kernels_(kernels), threads_(threads) {}

CpuLinear::~CpuLinear() = default;

void CpuLinear::quantize(const float* x, int64_t rows, std::span<const int32_t> places, int64_t cols,
                         int planes, std::span<Extras> extras) {
  const int64_t copies = places.empty() ? 1 : int64_t(places.size()) / rows;
  const int64_t stride = row_stride(cols), row_codes = stride * planes, all = rows * copies * row_codes;
  codes_.resize(size_t(all));
  scales_.resize(size_t(all / 32));
  sums_.resize(size_t(all / 16));
  extras_.resize(size_t(all / 16) * extras.size());
  for (size_t e = 0; e < extras.size(); ++e) extras[e].data = extras_.data() + size_t(all / 16) * e;
  const auto copy = [&](auto* data, int64_t per_row, int64_t from, int64_t to) {
    std::copy_n(data + from * per_row, per_row, data + to * per_row);
  };
  const auto some = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t row = places.empty() ? r : places[size_t(r * copies)];
      const int16_t* sums = sums_.data() + row * row_codes / 16;
      kernels_.quantize(x + r * cols, 1, cols, stride, planes, codes_.data() + row * row_codes,
                        scales_.data() + row * row_codes / 32, sums_.data() + row * row_codes / 16);
      for (const Extras& e : extras) {
        const int64_t per_row = row_codes / e.group;
        fill_extras(e.group, e.minimum, e.zero_point, sums, per_row, e.data + row * per_row);
      }
      for (int64_t c = 1; c < copies; ++c) {
        const int64_t to = places[size_t(r * copies + c)];
        copy(codes_.data(), row_codes, row, to);
        copy(scales_.data(), row_codes / 32, row, to);
        for (const Extras& e : extras) copy(e.data, row_codes / e.group, row, to);
      }
    }
  };
  if (rows * cols < kInlineNumbers) {
    some(0, rows);
    return;
  }
  const int64_t chunk_rows = std::max<int64_t>(1, kInlineNumbers / 2 / cols);
  ThreadPool::shared().run(threads_, (rows + chunk_rows - 1) / chunk_rows, [&](int64_t chunk, int32_t) {
    some(chunk * chunk_rows, std::min(rows, (chunk + 1) * chunk_rows));
  });
}

void CpuLinear::run(const float* x, int64_t rows, std::span<const int32_t> places,
                    std::span<const RowGroup> groups, std::span<const Projection> outs, Place place) {
  if (rows == 0 || outs.empty()) return;
  const int64_t cols = outs[0].weight->cols, stride = row_stride(cols);
  // Activations are quantized once, with as many planes as the most precise projection wants; the others see
  // every second row of them.
  int planes = 0;
  Extras extras[kMostProjections];
  size_t extra_count = 0;
  Job whole[kMostProjections] = {};
  int64_t all_bytes = 0;
  for (size_t i = 0; i < outs.size(); ++i) {
    const auto& weight = static_cast<const CpuWeight&>(*outs[i].weight);
    all_bytes += int64_t(groups.size()) * weight.panels() * weight.panel_bytes;
    whole[i].weight = &weight;
    whole[i].out = {outs[i].out, weight.rows,
                    outs[i].bias ? static_cast<const CpuWeight*>(outs[i].bias)->vector() : nullptr,
                    weight.rows, 1};
    if (!weight.packed) continue;
    const kernels::PackedFormat format = weight.packed->layout();
    whole[i].out.planes = activation_planes(place, *weight.packed);
    planes = std::max(planes, whole[i].out.planes);
    const Extras wanted{format.group, format.minimum,
                        weight.packed->zero_point - (format.full ? kernels_.full_zero_point : 0), nullptr};
    size_t e = 0;
    while (e < extra_count && !(extras[e] == wanted)) ++e;
    if (e == extra_count) extras[extra_count++] = wanted;
    whole[i].extras = e;
  }
  if (planes > 0) quantize(x, rows, places, cols, planes, {extras, extra_count});

  const int64_t item_bytes = std::clamp(all_bytes / (8 * threads_), kItemBytesLeast, kItemBytesMost);
  int64_t items = 0;
  uint64_t scratch = 0;
  jobs_.clear();
  for (const RowGroup& group : groups) {
    for (size_t i = 0; i < outs.size(); ++i) {
      Job& job = jobs_.emplace_back(whole[i]);
      job.matrix = job.weight->matrix(group.matrix);
      job.out.out += group.begin * job.weight->rows;
      job.rows = (group.end - group.begin) * job.out.planes;
      if (job.weight->packed) {
        const int64_t first = group.begin * planes * stride;
        const Extras& e = extras[job.extras];
        job.x = {codes_.data() + first, scales_.data() + first / 32, e.data + first / e.group,
                 job.out.planes < planes ? stride * planes : stride};
      } else {
        job.dense_x = x + group.begin * cols;
      }
      scratch = std::max(scratch, cut(job, item_bytes));
      job.first_item = items;
      items += job.panel_items * job.row_items;
    }
  }
  scratch_.resize(size_t(threads_));
  for (auto& memory : scratch_) aligned(memory, scratch);
  ThreadPool::shared().run(threads_, items, [&](int64_t item, int32_t worker) {
    const auto after = std::upper_bound(jobs_.begin(), jobs_.end(), item,
                                        [](int64_t i, const Job& job) { return i < job.first_item; });
    work(after[-1], item - after[-1].first_item, aligned(scratch_[size_t(worker)], scratch));
  });
}

// Decides how a job's work is cut into items. Returns the scratch that one needs.
uint64_t CpuLinear::cut(Job& job, int64_t item_bytes) const {
  const CpuWeight& weight = *job.weight;
  const bool some = job.rows <= some_rows(kernels_);
  // Packing on the fly is paid per item, so those take all rows.
  job.item_rows = some || weight.file_rows ? job.rows : std::min(job.rows, kItemRows);
  job.row_items = (job.rows + job.item_rows - 1) / job.item_rows;
  // Panels that kernels take at once.
  const int64_t unit = !weight.packed ? kernels::kDensePanels : some ? 1 : kStripPanels;
  const int64_t wanted = some            ? item_bytes / weight.panel_bytes
                         : weight.packed ? std::clamp(weight.panels() * job.row_items / (8 * threads_),
                                                      int64_t(kStripPanels), kItemPanels)
                                         : unit;
  job.item_panels = std::max<int64_t>(1, (wanted + unit - 1) / unit) * unit;
  job.panel_items = (weight.panels() + job.item_panels - 1) / job.item_panels;
  uint64_t need = uint64_t(kernels::many_scratch_bytes(job.item_rows, job.item_panels));
  if (weight.file_rows) need += uint64_t(job.item_panels * weight.panel_bytes) + 64;
  return need;
}

void CpuLinear::work(const Job& job, int64_t item, uint8_t* scratch) const {
  const CpuWeight& weight = *job.weight;
  // Panels run fastest, so that neighbouring items share activations.
  int64_t begin = item % job.panel_items * job.item_panels;
  int64_t end = std::min(weight.panels(), begin + job.item_panels);
  const int64_t row = item / job.panel_items * job.item_rows, rows = std::min(job.rows - row, job.item_rows);
  kernels::ProductOut out = job.out;
  out.out += row / out.planes * out.stride;
  const uint8_t* panels = job.matrix;
  if (weight.file_rows) {
    // The same panels, packed here and now: the same numbers.
    for (int64_t p = begin; p < end; ++p)
      weight.pack(job.matrix + uint64_t(p * kPanelRows) * weight.row_bytes, p,
                  scratch + (p - begin) * weight.panel_bytes);
    panels = scratch;
    scratch += ((end - begin) * weight.panel_bytes + 63) / 64 * 64;
    out.out += begin * kPanelRows;
    out.columns -= begin * kPanelRows;
    if (out.bias) out.bias += begin * kPanelRows;
    end -= begin;
    begin = 0;
  }
  if (!weight.packed) {
    const kernels::DenseMatrix matrix{panels, weight.panel_bytes, weight.cols};
    kernels_.dense[int(weight.dense)](matrix, job.dense_x + row * weight.cols, weight.cols, rows, begin, end,
                                      out);
    return;
  }
  const kernels::PackedFormat format = weight.packed->layout();
  kernels::PackedMatrix matrix{
      panels, weight.panel_bytes, weight.panel_bytes / format.block_bytes(), weight.packed->multiplier, {}};
  if (weight.packed->values)
    for (int i = 0; i < 16; ++i)
      matrix.lookup[i] = uint8_t(weight.packed->values[i] + weight.packed->zero_point);
  const auto rows_from = [&](int64_t first) -> kernels::QuantizedRows {
    const int64_t at = first * job.x.stride;
    return {job.x.codes + at, job.x.scales + at / 32,
            static_cast<const int32_t*>(job.x.extras) + at / format.group, job.x.stride};
  };
  if (job.rows <= some_rows(kernels_)) {
    // Panel by panel, so that only its first rows wait for memory.
    const int64_t most = kernels_.few_rows, step = rows <= most ? end - begin : 1;
    for (int64_t p = begin; p < end; p += step) {
      kernels::ProductOut part = out;
      for (int64_t r = 0; r < rows; r += most) {
        const auto count = int(std::min(most, rows - r));
        kernels_.few[int(weight.packed->format)](matrix, rows_from(row + r), count, p, p + step, part);
        part.out += most / out.planes * out.stride;
      }
    }
    return;
  }
  kernels_.many[int(weight.packed->format)](matrix, rows_from(row), rows, begin, end, out, scratch);
}

}  // namespace inhouse
