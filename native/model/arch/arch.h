// The architecture families: each file beside this one reads one family's metadata into HyperParameters.
//
// To add one, see docs/adding-a-model.md: write <name>.cpp, declare its reader here and add its row to the
// table in native/model/hyperparameters.cpp.
#pragma once

#include "native/io/gguf.h"
#include "native/model/hyperparameters.h"

namespace inhouse::arch {

// Fills what differs from the common keys, which have been read and checked before (see read_common).
void read_llama(const GgufFile& file, HyperParameters& hyper);
void read_qwen2(const GgufFile& file, HyperParameters& hyper);
void read_qwen3(const GgufFile& file, HyperParameters& hyper);
void read_qwen3moe(const GgufFile& file, HyperParameters& hyper);
void read_gemma3(const GgufFile& file, HyperParameters& hyper);

// For families whose feed-forward layers are mixtures of experts: how many there are, how many a token uses,
// what they count and their width. Errors: gguf_invalid, model_invalid.
void read_experts(const GgufFile& file, HyperParameters& hyper);

// The value of a key that must be finite and more than 0, or a default where the file lacks it. Error:
// model_invalid.
float positive_float(const GgufFile& file, const std::string& key, double absent);

}  // namespace inhouse::arch
