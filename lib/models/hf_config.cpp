// SPDX-License-Identifier: Apache-2.0
// config.json of a Hugging Face folder -> TransformerConfig. Whatever would change the model's output and is not
// understood is an error that names the field: a model that silently computes something else is worse than none.
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "lib/core/format.h"
#include "lib/models/config_fields.h"
#include "lib/models/families.h"
#include "plural/error.h"
#include "plural/transformer.h"

namespace plural {
namespace {

using nlohmann::json;

bool bias(BiasRule rule, const ConfigFields& fields, const std::string& field) {
  const bool configured = fields.boolean(field, false);
  return rule == BiasRule::kAlways || (rule == BiasRule::kConfig && configured);
}

/// Rotary settings: `rope_parameters` (transformers 5, with rope_theta inside) or `rope_scaling` plus `rope_theta`.
void read_rope(const ConfigFields& fields, const std::string& file, TransformerConfig& config) {
  // transformers lets rope_scaling win when both are there.
  const std::string name = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  static const json none = json::object();
  const json* object = fields.find(name);
  if (object && !object->is_object()) fields.fail(name, fmt::format("expected an object, found {}", object->dump()));
  const ConfigFields rope(object ? *object : none, file, name + ".");

  config.rope_theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0, 1.0), 1.0);
  for (const ConfigFields* place : {&rope, &fields})
    if (place->number("partial_rotary_factor", 1.0, 0.0) != 1.0)
      place->fail("partial_rotary_factor", "only 1.0 (rotary positions on the whole head) is supported");

  const std::string type = rope.text("rope_type", rope.text("type", "default"));
  if (type == "default") return;
  if (type == "linear") {
    config.rope_scaling = RopeScaling::kLinear;
  } else if (type == "llama3") {
    config.rope_scaling = RopeScaling::kLlama3;
  } else if (type == "yarn") {
    config.rope_scaling = RopeScaling::kYarn;
  } else {
    rope.fail("rope_type", fmt::format("'{}' is not supported (supported: default, linear, llama3, yarn)", type));
  }
  if (type != "linear") {
    // transformers gives the field outside the object priority.
    const ConfigFields& place = fields.has("original_max_position_embeddings") ? fields : rope;
    config.rope_original_context = place.positive("original_max_position_embeddings", config.context_length);
  }
  if (type == "yarn" && !rope.has("factor"))
    config.rope_factor = static_cast<double>(config.context_length) / config.rope_original_context;
  else
    config.rope_factor = rope.required_number("factor", 1.0);
  if (type == "llama3") {
    config.rope_low_freq_factor = rope.required_number("low_freq_factor", 0.0);
    config.rope_high_freq_factor = rope.required_number("high_freq_factor", 0.0);
    if (config.rope_low_freq_factor <= 0.0) rope.fail("low_freq_factor", "must be greater than 0");
    if (config.rope_high_freq_factor <= config.rope_low_freq_factor)
      rope.fail("high_freq_factor", fmt::format("must be greater than low_freq_factor ({}), found {}",
                                                config.rope_low_freq_factor, config.rope_high_freq_factor));
  }
  if (type == "yarn") {
    const auto or_default = [](double value, double fallback) { return value != 0.0 ? value : fallback; };
    config.rope_beta_fast = or_default(rope.number("beta_fast", 32.0, 0.0), 32.0);
    config.rope_beta_slow = or_default(rope.number("beta_slow", 1.0, 0.0), 1.0);
    if (config.rope_beta_fast < config.rope_beta_slow)
      rope.fail("beta_fast",
                fmt::format("must be at least beta_slow ({}), found {}", config.rope_beta_slow, config.rope_beta_fast));
    config.rope_attention_factor = rope.number("attention_factor", 0.0, 0.0);
    config.rope_mscale = rope.number("mscale", 0.0, 0.0);
    config.rope_mscale_all_dim = rope.number("mscale_all_dim", 0.0, 0.0);
    config.rope_truncate = rope.boolean("truncate", true);
  }
}

void read_window(const json& root, const ConfigFields& fields, WindowRule rule, TransformerConfig& config) {
  constexpr int64_t kDefaultWindow = 4096;  // of transformers, when the field is absent (not null)
  if (rule == WindowRule::kNone) return;
  if (rule == WindowRule::kAll) {
    // Only an explicit null switches the window off (ConfigFields treats null as absent).
    if (root.contains("sliding_window") && root["sliding_window"].is_null()) return;
    config.sliding_window = fields.positive("sliding_window", kDefaultWindow);
    config.layer_slides.assign(config.layers, true);
    return;
  }
  const bool uses_window = fields.boolean("use_sliding_window", false);
  std::vector<bool> slides(config.layers, false);
  if (const json* types = fields.find("layer_types")) {
    if (!types->is_array() || static_cast<int64_t>(types->size()) != config.layers)
      fields.fail("layer_types", fmt::format("expected a list of {} names, one a layer", config.layers));
    for (int64_t i = 0; i < config.layers; ++i) {
      const json& type = (*types)[i];
      if (type != "full_attention" && type != "sliding_attention")
        fields.fail("layer_types", fmt::format("layer {}: expected \"full_attention\" or \"sliding_attention\", "
                                               "found {}",
                                               i, type.dump()));
      slides[i] = type == "sliding_attention";
      if (slides[i] && !uses_window)
        fields.fail("layer_types", fmt::format("layer {} is sliding_attention, but use_sliding_window is not true", i));
    }
  } else if (uses_window) {
    const int64_t first = static_cast<int64_t>(fields.number("max_window_layers", 28.0, 0.0));
    for (int64_t i = first; i < config.layers; ++i) slides[i] = true;
  }
  if (std::find(slides.begin(), slides.end(), true) == slides.end()) return;
  config.sliding_window = fields.positive("sliding_window", kDefaultWindow);
  config.layer_slides = slides;
}

/// The field `eos_token_id`: absent, a number or a list of numbers.
std::vector<int64_t> read_eos_ids(const ConfigFields& fields) {
  const json* value = fields.find("eos_token_id");
  if (!value) return {};
  std::vector<int64_t> ids;
  for (const json& id : value->is_array() ? *value : json::array({*value})) {
    if (!id.is_number_integer())
      fields.fail("eos_token_id", fmt::format("expected token ids, found {}", value->dump()));
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

/// Where generation ends, as `transformers` sees it: generation_config.json, if it is there and says so, else
/// config.json.
std::vector<int64_t> find_eos_ids(const ConfigFields& config, const std::filesystem::path& dir) {
  const std::filesystem::path file = dir / "generation_config.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream) return read_eos_ids(config);
  const json root = json::parse(stream, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) throw InputError(fmt::format("{}: expected a JSON object", file.string()));
  const ConfigFields generation(root, file.string());
  return read_eos_ids(generation.has("eos_token_id") ? generation : config);
}

}  // namespace

TransformerConfig load_transformer_config(const std::filesystem::path& config_json) {
  const std::string file = config_json.string();
  std::ifstream stream(config_json, std::ios::binary);
  if (!stream)
    throw InputError(fmt::format("{}: cannot be read; expected the config.json of a Hugging Face model folder", file));
  TransformerConfig config;
  config.source_json.assign(std::istreambuf_iterator<char>(stream), {});
  json root;
  try {
    root = json::parse(config.source_json);
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: is not valid JSON: {}", file, error.what()));
  }
  if (!root.is_object()) throw InputError(fmt::format("{}: expected a JSON object", file));
  const ConfigFields fields(root, file);

  config.model_type = fields.text("model_type", "");
  const ModelFamily* family = find_family(config.model_type);
  if (!family) {
    std::vector<std::string> names;
    for (const ModelFamily& known : model_families()) names.push_back(known.model_type);
    fields.fail("model_type",
                fmt::format("'{}' is not supported (supported: {})", config.model_type, fmt::join(names, ", ")));
  }
  if (fields.has("quantization_config"))
    fields.fail("quantization_config", "quantised checkpoints are not supported; use the float32 or bfloat16 one");
  const std::string activation = fields.text("hidden_act", "silu");
  if (activation != "silu" && activation != "swish")
    fields.fail("hidden_act", fmt::format("'{}' is not supported (supported: silu)", activation));

  config.eos_ids = find_eos_ids(fields, config_json.parent_path());
  config.vocab_size = fields.positive("vocab_size");
  config.width = fields.positive("hidden_size");
  config.mlp_width = fields.positive("intermediate_size");
  config.layers = fields.positive("num_hidden_layers");
  config.heads = fields.positive("num_attention_heads");
  config.kv_heads = fields.positive("num_key_value_heads", family->kv_heads ? family->kv_heads : config.heads);
  if (config.heads % config.kv_heads != 0)
    fields.fail("num_key_value_heads",
                fmt::format("{} must divide num_attention_heads ({})", config.kv_heads, config.heads));
  int64_t head_size = family->head_size;
  if (head_size == 0 && !fields.has("head_dim")) {
    if (config.width % config.heads != 0)
      fields.fail("hidden_size", fmt::format("{} is not a multiple of num_attention_heads ({}) and head_dim is missing",
                                             config.width, config.heads));
    head_size = config.width / config.heads;
  }
  config.head_size = fields.positive("head_dim", head_size);
  if (config.head_size % 2 != 0)
    fields.fail("head_dim", fmt::format("{} must be even for rotary positions", config.head_size));
  config.context_length = fields.positive("max_position_embeddings", family->context_length);
  config.rms_eps = fields.number("rms_norm_eps", 1e-6, 0.0);
  config.tied_embeddings = fields.boolean("tie_word_embeddings", false);
  config.attention_bias = bias(family->qkv_bias, fields, "attention_bias");
  config.attention_output_bias = bias(family->output_bias, fields, "attention_bias");
  config.mlp_bias = bias(family->mlp_bias, fields, "mlp_bias");
  config.qk_norm = family->qk_norm;
  read_rope(fields, file, config);
  read_window(root, fields, family->window, config);
  return config;
}

}  // namespace plural
