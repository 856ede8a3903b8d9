// SPDX-License-Identifier: Apache-2.0
// Prompts -> completions with behaviour log-probs.
#pragma once

#include <cstdint>
#include <filesystem>
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
  double temperature = 1.0;       ///< 0 = greedy
  int64_t top_k = 0;              ///< 0 = off
  double top_p = 1.0;             ///< 1 = off
  double min_p = 0.0;             ///< 0 = off
  std::vector<std::string> stop;  ///< stop strings; the text ends before the first one, the ids keep it
  std::vector<int64_t> stop_ids;  ///< besides the model's end-of-turn ids
  bool ignore_eos = false;        ///< benchmarks: always max_new_tokens
  int64_t max_rows = 256;         ///< rows decoded at once; further ones wait for a free place

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
  std::string text;  ///< decoded, without special tokens and without a stop string
};

/// B = P*G completions, group-major: row p*G + g.
struct RolloutBatch {
  std::vector<std::vector<TokenId>> prompts;  ///< P
  int64_t samples_per_prompt = 1;             ///< G
  std::vector<Completion> rows;               ///< B
  int64_t generated_tokens() const;
};

/// Called between decoding steps with (finished rows, all rows, tokens generated so far); false stops early.
using RolloutProgress = std::function<bool(int64_t done_rows, int64_t all_rows, int64_t tokens)>;

/// Called when the last of a prompt's G rows is finished, with that prompt's number and rows. Work on them may begin
/// while the other prompts are still being answered.
using GroupDone = std::function<void(int64_t prompt, std::span<const Completion> rows)>;

/// Which random streams to use: row r draws from (seed, step, first_row + r).
struct RolloutKey {
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t first_row = 0;
};

class RolloutEngine {
 public:
  virtual ~RolloutEngine() = default;
  /// A prompt that is empty, holds ids outside the vocabulary or fills the context throws InputError naming it.
  /// A progress callback that returns false stops early: Interrupted is thrown.
  virtual RolloutBatch generate(std::span<const std::vector<TokenId>> prompts, const SamplingOptions& options,
                                const RolloutKey& key) = 0;
  /// May be empty. Kept for all later calls of generate.
  void set_progress(RolloutProgress progress) { progress_ = std::move(progress); }
  /// May be empty. Kept for all later calls of generate. An engine is free not to call it.
  void set_group_done(GroupDone group_done) { group_done_ = std::move(group_done); }

 protected:
  RolloutProgress progress_;
  GroupDone group_done_;
};

/// Samples from `policy` itself: same tensors, no copy. Both must outlive the engine.
///
/// Continuous batching: each prompt is computed once for its whole group; at most `max_rows` rows decode together,
/// and a finished row's place goes to the next waiting one at once. In exact arithmetic a row depends on nothing but
/// its prompt and its random stream; matrix products of another batch size may round differently, so with other
/// `max_rows` a row can, rarely, turn at a near-tie.
std::unique_ptr<RolloutEngine> make_local_engine(TransformerPolicy& policy, const Tokenizer& tokenizer);

/// Completions from a JSON Lines file, {"ids": [...], "logprobs": [...]} a line, in the order of rows: each call takes
/// the next P * G lines. "finish_reason" ("stop" or "length") and "text" may be given; else the finish is "stop" when
/// the last id is the tokenizer's end token, and the text is decoded. Sampling options other than G are not looked at.
/// A bad line and a file that ends too early throw InputError naming file and line.
std::unique_ptr<RolloutEngine> make_replay_engine(const std::filesystem::path& file, const Tokenizer& tokenizer);

}  // namespace plural
