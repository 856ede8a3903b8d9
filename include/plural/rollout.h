// SPDX-License-Identifier: Apache-2.0
// Prompts -> completions with behaviour log-probs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "plural/config.h"
#include "plural/policy.h"
#include "plural/tokenizer.h"
#include "plural/transformer.h"

namespace plural {

struct SamplingOptions {
  int64_t samples_per_prompt = 1;  ///< G
  int64_t max_new_tokens = 128;
  double temperature = 1.0;        ///< 0 = greedy
  int64_t top_k = 0;               ///< 0 = off
  double top_p = 1.0;              ///< 1 = off
  double min_p = 0.0;              ///< 0 = off
  std::vector<std::string> stop;   ///< stop strings; the text ends before the first one, the ids keep it
  std::vector<int64_t> stop_ids;   ///< besides the model's end-of-turn ids
  bool ignore_eos = false;         ///< benchmarks: always max_new_tokens
  int64_t max_rows = 256;          ///< rows decoded at once; further ones wait for a free place

  using config_struct = void;
  template <class V>
  void fields(V& v) {
    v.field("max_new_tokens", max_new_tokens, at_least(1), "longest completion, in tokens");
    v.field("temperature", temperature, at_least(0), "sampling temperature; 0 = greedy");
    v.field("top_k", top_k, at_least(0), "keep the k most likely tokens; 0 = off");
    v.field("top_p", top_p, between(0, 1), "keep the smallest set of tokens with this mass; 1 = off");
    v.field("min_p", min_p, between(0, 1), "drop tokens below this share of the likeliest one; 0 = off");
    v.field("stop", stop, any_value(), "strings that end a completion");
    v.field("max_rows", max_rows, at_least(1), "rows decoded at once");
  }
};

enum class FinishReason { kStop, kLength };  ///< an end token or stop string; or max_new_tokens/context reached
std::string_view to_string(FinishReason reason);

struct Completion {
  std::vector<TokenId> ids;      ///< T sampled ids, the end token included
  std::vector<float> log_probs;  ///< T, ln p under the temperature-scaled distribution before top-k/p/min-p
  FinishReason finish = FinishReason::kLength;
  std::string text;              ///< decoded, without special tokens and without a stop string
};

/// B = P*G completions, group-major: row p*G + g.
struct RolloutBatch {
  std::vector<std::vector<TokenId>> prompts;  ///< P
  int64_t samples_per_prompt = 1;             ///< G
  std::vector<Completion> rows;               ///< B
  int64_t generated_tokens() const;
};

/// Which random streams to use: row r draws from (seed, step, first_row + r).
struct RolloutKey {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t first_row = 0;
};

class RolloutEngine {
 public:
  virtual ~RolloutEngine() = default;
  /// Prompts longer than the context throw InputError naming the prompt. Progress, if set, is called with
  /// (finished rows, all rows) now and then; returning false stops early by throwing Interrupted.
  virtual RolloutBatch generate(std::span<const std::vector<TokenId>> prompts, const SamplingOptions& options,
                                const RolloutKey& key) = 0;
};

/// Samples from `policy` itself: same tensors, no copy. Both must outlive the engine.
std::unique_ptr<RolloutEngine> make_local_engine(TransformerPolicy& policy, const Tokenizer& tokenizer);

}  // namespace plural
