#include "native/ops/cpu_linear.h"

#include <algorithm>
#include <cstring>

namespace inhouse {

using kernels::kFewRows;
using kernels::kPanelRows;
using kernels::kStripPanels;

int activation_planes(Place place, const kernels::PackedType& type) {
  // Mean KL divergence to float32, SmolLM2 Q4_1: 2.8e-3 with one plane everywhere, 2.1e-3 with two in the
  // head or in attention_in, 1.5e-3 in both, 0.5e-3 with ffn_in as well, 4e-7 everywhere. The head is nearly
  // free: it runs for the last token of a prompt alone, and decoding waits for memory.
  switch (place) {
    case Place::head:
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

// One projection's share of the work, cut into items.
struct CpuLinear::Job {
  const CpuWeight* weight;
  kernels::ProductOut out;
  kernels::QuantizedRows x;  // packed weights
  const float* dense_x;      // dense weights
  int64_t rows;              // of activations, planes counted
  int64_t item_panels, panel_items;
  int64_t item_rows, row_items;
  int64_t items() const { return panel_items * row_items; }
};

namespace {

// Weights that an item covers when few rows share them: long enough to stream, short enough to balance.
constexpr int64_t kFewItemBytesMost = 128 << 10, kFewItemBytesLeast = 16 << 10;
// Rows and panels per item when many rows share the weights: activations and sums stay in the second-level
// cache.
constexpr int64_t kItemRows = 192, kItemPanels = 16;
// Numbers below which a parallel region costs more than it saves.
constexpr int64_t kInlineNumbers = 1 << 15;

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

void CpuLinear::quantize(const float* x, int64_t rows, int64_t cols, int planes, std::span<Extras> extras) {
  const int64_t stride = (cols + 255) / 256 * 256, all = rows * planes;
  codes_.resize(size_t(all * stride));
  scales_.resize(size_t(all * stride / 32));
  sums_.resize(size_t(all * stride / 16));
  extras_.resize(size_t(all * stride / 16) * extras.size());
  for (size_t e = 0; e < extras.size(); ++e) extras[e].data = extras_.data() + size_t(all * stride / 16) * e;
  const auto some = [&](int64_t begin, int64_t end) {
    const int64_t first = begin * planes, count = (end - begin) * planes;
    kernels_.quantize(x + begin * cols, end - begin, cols, stride, planes, codes_.data() + first * stride,
                      scales_.data() + first * stride / 32, sums_.data() + first * stride / 16);
    for (const Extras& e : extras) {
      const int64_t per_row = stride / e.group;
      fill_extras(e.group, e.minimum, e.zero_point, sums_.data() + first * stride / 16, count * per_row,
                  e.data + first * per_row);
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

void CpuLinear::run(const float* x, int64_t rows, std::span<const Projection> outs, Place place) {
  if (rows == 0 || outs.empty()) return;
  const int64_t cols = outs[0].weight->cols;
  // Activations are quantized once, with as many planes as the most precise projection wants; the others see
  // every second row of them.
  int planes = 0;
  Extras extras[8];
  size_t extra_count = 0;
  std::vector<Job> jobs(outs.size());
  std::vector<size_t> extra_of(outs.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    const auto& weight = static_cast<const CpuWeight&>(*outs[i].weight);
    jobs[i].weight = &weight;
    jobs[i].out = {outs[i].out, weight.rows,
                   outs[i].bias ? static_cast<const CpuWeight*>(outs[i].bias)->vector() : nullptr,
                   weight.rows, 1};
    if (!weight.packed) continue;
    const kernels::PackedFormat format = weight.packed->layout();
    jobs[i].out.planes = activation_planes(place, *weight.packed);
    planes = std::max(planes, jobs[i].out.planes);
    const Extras wanted{format.group, format.minimum,
                        weight.packed->zero_point - (format.full ? kernels_.full_zero_point : 0), nullptr};
    size_t e = 0;
    while (e < extra_count && !(extras[e] == wanted)) ++e;
    if (e == extra_count) extras[extra_count++] = wanted;
    extra_of[i] = e;
  }
  if (planes > 0) quantize(x, rows, cols, planes, {extras, extra_count});

  int64_t items = 0, all_bytes = 0;
  for (const Job& job : jobs) all_bytes += job.weight->panels() * job.weight->panel_bytes;
  const int64_t few_item_bytes =
      std::clamp(all_bytes / (8 * threads_), kFewItemBytesLeast, kFewItemBytesMost);
  uint64_t scratch = 0;
  for (size_t i = 0; i < outs.size(); ++i) {
    Job& job = jobs[i];
    const CpuWeight& weight = *job.weight;
    if (weight.packed) {
      const int64_t stride = (cols + 255) / 256 * 256;
      job.x = {codes_.data(), scales_.data(), extras[extra_of[i]].data, stride};
      if (job.out.planes < planes) job.x.stride = stride * planes;
      job.rows = rows * job.out.planes;
    } else {
      job.dense_x = x;
      job.rows = rows;
    }
    const bool few = job.rows <= kFewRows;
    // Packing on the fly is paid per item, so those take all rows.
    job.item_rows = few || weight.file_rows ? job.rows : std::min(job.rows, kItemRows);
    job.row_items = (job.rows + job.item_rows - 1) / job.item_rows;
    // Panels that kernels take at once.
    const int64_t unit = !weight.packed ? kernels::kDensePanels : few ? 1 : kStripPanels;
    const int64_t wanted = few             ? few_item_bytes / weight.panel_bytes
                           : weight.packed ? std::clamp(weight.panels() * job.row_items / (8 * threads_),
                                                        int64_t(kStripPanels), kItemPanels)
                                           : unit;
    job.item_panels = std::max<int64_t>(1, (wanted + unit - 1) / unit) * unit;
    job.panel_items = (weight.panels() + job.item_panels - 1) / job.item_panels;
    items += job.items();
    uint64_t need = uint64_t(kernels::many_scratch_bytes(job.item_rows, job.item_panels));
    if (weight.file_rows) need += uint64_t(job.item_panels * weight.panel_bytes) + 64;
    scratch = std::max(scratch, need);
  }
  scratch_.resize(size_t(threads_));
  for (auto& memory : scratch_) aligned(memory, scratch);
  ThreadPool::shared().run(threads_, items, [&](int64_t item, int32_t worker) {
    for (const Job& job : jobs) {
      if (item < job.items()) {
        work(job, item, aligned(scratch_[size_t(worker)], scratch));
        return;
      }
      item -= job.items();
    }
  });
}

void CpuLinear::work(const Job& job, int64_t item, uint8_t* scratch) const {
  const CpuWeight& weight = *job.weight;
  // Panels run fastest, so that neighbouring items share activations.
  int64_t begin = item % job.panel_items * job.item_panels;
  int64_t end = std::min(weight.panels(), begin + job.item_panels);
  const int64_t row = item / job.panel_items * job.item_rows, rows = std::min(job.rows - row, job.item_rows);
  kernels::ProductOut out = job.out;
  out.out += row / out.planes * out.stride;
  const uint8_t* panels = weight.memory.data();
  if (weight.file_rows) {
    // The same panels, packed here and now: the same numbers.
    for (int64_t p = begin; p < end; ++p)
      weight.pack(weight.file_rows + uint64_t(p * kPanelRows) * weight.row_bytes, p,
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
  kernels::QuantizedRows x = job.x;
  x.codes += row * x.stride;
  x.scales += row * x.stride / 32;
  x.extras = static_cast<const int32_t*>(x.extras) + row * x.stride / format.group;
  if (rows <= kFewRows) {
    kernels_.few[int(weight.packed->format)](matrix, x, int(rows), begin, end, out);
    return;
  }
  kernels_.many[int(weight.packed->format)](matrix, x, rows, begin, end, out, scratch);
}

}  // namespace inhouse
