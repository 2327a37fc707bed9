// Packing changes no number: every type's packed rows decode to the bits its own decoder gives.
#include "kernels/packed.h"
#include "test/native/check.h"
#include "test/native/kernels_testing.h"

using namespace inhouse;
using namespace inhouse::test;

TEST(packed_rows_decode_exactly) {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  Random random(1);
  for (uint32_t t = 0; t < count; ++t) {
    const kernels::QuantType& type = *types[t];
    for (const int64_t rows : {int64_t(16), int64_t(19)}) {
      const int64_t cols = type.block_elements == 256 ? 512 : type.block_elements == 1 ? 77 : 576;
      const auto file = random_tensor(type, rows, cols, random);
      const std::vector<float> expected = decode_all(*file);
      auto backend = cpu("");
      const auto weight = backend->load(*file, file->info, WeightUse::matrix_and_lookup, {});
      std::vector<int32_t> tokens;
      for (int32_t r = 0; r < int32_t(rows); ++r) tokens.push_back(r);
      std::vector<float> got(expected.size(), 0.0f);
      backend->embed(*weight, tokens, 1.0f, got.data());
      int64_t wrong = 0;
      for (size_t i = 0; i < got.size(); ++i) wrong += !(got[i] == expected[i]);
      if (wrong)
        fail(__FILE__, __LINE__, std::string(type.name) + ": " + std::to_string(wrong) + " numbers differ");
    }
  }
}

TEST(packed_size_stays_near_the_files) {
  using kernels::TypeId;
  for (const TypeId id : {TypeId::q4_0, TypeId::q4_1, TypeId::q5_0, TypeId::q5_1, TypeId::q8_0, TypeId::q4_k,
                          TypeId::q5_k, TypeId::q6_k, TypeId::q2_k, TypeId::iq4_nl, TypeId::iq4_xs}) {
    const kernels::QuantType& type = *kernels::quant_type(uint32_t(id));
    const int64_t cols = 1536;
    const double file_bytes = 16.0 * cols / type.block_elements * type.block_bytes;
    const double packed = double(kernels::packed_panel_bytes(kernels::packed_type(id)->layout(), cols));
    if (packed > file_bytes * 1.03)
      fail(__FILE__, __LINE__, std::string(type.name) + " grows by more than 3%");
  }
}

TEST(every_integer_type_has_a_layout) {
  uint32_t count = 0;
  const kernels::QuantType* const* types = kernels::quant_types(&count);
  for (uint32_t t = 0; t < count; ++t)
    CHECK(types[t]->block_elements == 1 || kernels::packed_type(types[t]->id) != nullptr);
}
