// SPDX-License-Identifier: Apache-2.0
// The parameters of a transformer under their checkpoint names. One list, `for_each_parameter`, says what exists and
// in which shape; loading, saving, initialisation and the optimiser's view all follow it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "plural/policy.h"
#include "plural/tensor.h"
#include "plural/transformer.h"

namespace plural {

/// Parameters of one decoder layer; undefined where the architecture has none.
struct LayerWeights {
  Tensor input_norm, q, q_bias, k, k_bias, v, v_bias, q_norm, k_norm, o, o_bias;
  Tensor post_norm, gate, gate_bias, up, up_bias, down, down_bias;
  // The same storage as q, k, v and as gate, up, one below the other: decoding multiplies by them at once.
  Tensor qkv, qkv_bias, gate_up, gate_up_bias;
};

struct TransformerWeights {
  Tensor embedding;  ///< [V, E]
  std::vector<LayerWeights> layers;
  Tensor final_norm;  ///< [E]
  Tensor head;        ///< [V, E]; the embedding itself when tied
};

/// How a parameter starts.
enum class ParameterKind { kMatrix, kNorm, kBias };

struct ParameterSlot {
  std::string name;  ///< as in the checkpoint
  std::vector<int64_t> shape;
  ParameterKind kind = ParameterKind::kMatrix;
  Tensor* tensor = nullptr;  ///< the member that holds it
};

/// Every parameter in checkpoint order. `weights` must have config.layers layers.
std::vector<ParameterSlot> parameter_slots(const TransformerConfig& config, TransformerWeights& weights);

/// Allocates uninitialised leaves with requires_grad; q, k, v (gate, up) of a layer share one storage.
TransformerWeights allocate_weights(const TransformerConfig& config, at::Device device, at::ScalarType dtype);

/// Reads model.safetensors or the shards of model.safetensors.index.json of a folder.
NamedTensors read_checkpoint(const std::filesystem::path& dir);

/// Copies the slots' values, converting the dtype, and takes them out of `values`. Returns what is missing, misshapen
/// or no floating-point tensor, as sentences.
std::vector<std::string> take_weights(const std::vector<ParameterSlot>& slots, std::map<std::string, Tensor>& values);
/// Throws one InputError that starts with `where` and lists the problems; returns when there are none.
void throw_weight_problems(const std::string& where, std::vector<std::string> problems);

/// Copies the values into place, converting the dtype. Missing, surplus and misshapen tensors are all named in one
/// InputError that starts with `where`.
void assign_weights(const TransformerConfig& config, TransformerWeights& weights, const NamedTensors& values,
                    const std::string& where);

/// Normal with std 0.02; norms 1, biases 0. Each parameter draws from its own stream, keyed by (seed, name).
void init_weights(const TransformerConfig& config, TransformerWeights& weights, uint64_t seed);

}  // namespace plural
