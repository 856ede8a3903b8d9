// SPDX-License-Identifier: Apache-2.0
// Continuous batching over one KV cache. A row is *waiting*, then *live* in a slot of the cache, then done; rows go
// live in order, so the rows of a group are neighbours and share the reading of their prompt.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "lib/core/format.h"
#include "lib/kernels/sampler/sampler.h"
#include "lib/models/kv_cache.h"
#include "lib/rollout/stop_matcher.h"
#include "plural/error.h"
#include "plural/rollout.h"

namespace plural {
namespace {

// Prompts of one prefill call together: bounds its activations, and is long enough for full speed.
constexpr int64_t kPrefillTokens = 4096;

using Prompts = std::span<const std::vector<TokenId>>;

void check_options(const SamplingOptions& o) {
  const auto refuse = [](const std::string& what) { throw InputError("sampling options: " + what); };
  if (o.samples_per_prompt < 1)
    refuse(fmt::format("samples per prompt must be at least 1, not {}", o.samples_per_prompt));
  if (o.max_new_tokens < 1) refuse(fmt::format("max_new_tokens must be at least 1, not {}", o.max_new_tokens));
  if (o.max_rows < 1) refuse(fmt::format("max_rows must be at least 1, not {}", o.max_rows));
  if (!(o.temperature >= 0) || !std::isfinite(o.temperature))
    refuse(fmt::format("temperature must be 0 (greedy) or more, not {}", o.temperature));
  if (o.top_k < 0) refuse(fmt::format("top_k must be 0 (off) or more, not {}", o.top_k));
  if (!(o.top_p >= 0 && o.top_p <= 1)) refuse(fmt::format("top_p must be in [0, 1], not {}", o.top_p));
  if (!(o.min_p >= 0 && o.min_p <= 1)) refuse(fmt::format("min_p must be in [0, 1], not {}", o.min_p));
}

void check_prompts(Prompts prompts, const TransformerPolicy& policy) {
  for (size_t p = 0; p < prompts.size(); ++p) {
    const auto length = static_cast<int64_t>(prompts[p].size());
    if (length == 0) throw InputError(fmt::format("prompt {} has no tokens; give it at least one", p));
    if (length >= policy.context_length()) {
      throw InputError(fmt::format(
          "prompt {} has {} tokens, but the model's context holds {} with at least one for the answer; shorten the "
          "prompt or use a model with a longer context",
          p, length, policy.context_length()));
    }
    for (const TokenId id : prompts[p]) {
      if (id < 0 || id >= policy.vocab_size()) {
        throw InputError(
            fmt::format("prompt {} holds token id {}, but the model's vocabulary has {} ids; the tokenizer "
                        "does not fit the model. Use the tokenizer.json of the model's own folder",
                        p, id, policy.vocab_size()));
      }
    }
  }
}

/// One call of generate.
class Generation {
 public:
  Generation(TransformerPolicy& policy, const Tokenizer& tokenizer, Prompts prompts, const SamplingOptions& options,
             const RolloutKey& key, const RolloutProgress& progress, const GroupDone& group_done)
      : policy_(policy),
        tokenizer_(tokenizer),
        prompts_(prompts),
        options_(options),
        key_(key),
        progress_(progress),
        group_done_(group_done),
        stop_(options.stop),
        rows_(prompts.size() * options.samples_per_prompt),
        rows_left_(prompts.size(), options.samples_per_prompt),
        prefix_of_prompt_(number_prompts(prompts)),
        cache_(policy.config(), std::min<int64_t>(options.max_rows, std::max<int64_t>(rows_.size(), 1)), capacity(),
               policy.device(), policy.dtype()),
        prepacked_(policy.prepack()) {
    if (!options.ignore_eos) {
      end_ids_.insert(options.stop_ids.begin(), options.stop_ids.end());
      end_ids_.insert(policy.config().eos_ids.begin(), policy.config().eos_ids.end());
      if (const auto eos = tokenizer.eos_id()) end_ids_.insert(*eos);
    }
    for (int64_t slot = cache_.max_rows() - 1; slot >= 0; --slot) free_slots_.push_back(slot);
    for (const int64_t prefix : prefix_of_prompt_) waiting_[prefix] += options.samples_per_prompt;
  }

  std::vector<Completion> run() {
    while (done_ < all_rows()) {
      admit();
      decode();
      if (progress_ && !progress_(done_, all_rows(), tokens_)) {
        throw Interrupted(fmt::format("generation was stopped with {} of {} completions done", done_, all_rows()));
      }
    }
    return std::move(rows_);
  }

 private:
  struct Live {
    int64_t row;
    int64_t slot;
  };

  int64_t all_rows() const { return static_cast<int64_t>(rows_.size()); }
  int64_t prompt_of(int64_t row) const { return row / options_.samples_per_prompt; }
  int64_t prefix_of(int64_t row) const { return prefix_of_prompt_[prompt_of(row)]; }
  /// Longest completion of a row.
  int64_t limit(int64_t prompt) const {
    return std::min(options_.max_new_tokens, policy_.context_length() - static_cast<int64_t>(prompts_[prompt].size()));
  }
  int64_t capacity() const {
    int64_t longest = 1;
    for (size_t p = 0; p < prompts_.size(); ++p) longest = std::max(longest, limit(static_cast<int64_t>(p)));
    return longest;
  }

  /// Equal prompts get one number: they are computed once.
  static std::vector<int64_t> number_prompts(Prompts prompts) {
    std::map<std::vector<TokenId>, int64_t> seen;
    std::vector<int64_t> numbers;
    for (const auto& prompt : prompts) {
      numbers.push_back(seen.try_emplace(prompt, static_cast<int64_t>(seen.size())).first->second);
    }
    return numbers;
  }

  /// Gives free slots to waiting rows, computes their prompts, and draws their first tokens.
  void admit() {
    // A row may end with its first token; then its slot goes to the next one right here.
    while (next_row_ < all_rows() && !free_slots_.empty()) {
      std::vector<Live> started;
      while (next_row_ < all_rows() && !free_slots_.empty()) {
        started.push_back({next_row_++, free_slots_.back()});
        free_slots_.pop_back();
      }
      prefill(started);
      std::vector<Tensor> states;
      for (const Live& live : started) {
        cache_.assign(live.slot, prefix_of(live.row));
        states.push_back(last_state_.at(prefix_of(live.row)));
      }
      draw(started, policy_.logits(at::stack(states)));
      live_.insert(live_.end(), started.begin(), started.end());
      retire();
    }
  }

  /// Computes the prompts of `rows` that are not in the cache yet, a few at a time.
  void prefill(const std::vector<Live>& rows) {
    std::vector<int64_t> missing;  // prompts
    for (const Live& live : rows) {
      const int64_t prefix = prefix_of(live.row);
      if (!cache_.has_prefix(prefix) && (missing.empty() || prefix_of_prompt_[missing.back()] < prefix)) {
        missing.push_back(prompt_of(live.row));
      }
    }
    // Numbers were given in the order of first use, so the missing ones are consecutive.
    for (size_t begin = 0; begin < missing.size();) {
      std::vector<PackRow> pack;
      int64_t tokens = 0;
      for (size_t i = begin; i < missing.size(); ++i) {
        const auto& prompt = prompts_[missing[i]];
        tokens += static_cast<int64_t>(prompt.size());
        if (i > begin && tokens > kPrefillTokens) break;
        pack.push_back({prompt, {}});
      }
      const int64_t first = prefix_of_prompt_[missing[begin]];
      const Tensor states = policy_.prefill(pack_rows(pack).to(policy_.device()), cache_, first);
      for (size_t i = 0; i < pack.size(); ++i) last_state_[first + static_cast<int64_t>(i)] = states[i];
      begin += pack.size();
    }
  }

  /// One token for every live row.
  void decode() {
    if (live_.empty()) return;
    const auto count = static_cast<int64_t>(live_.size());
    Tensor inputs = at::empty({2, count}, at::TensorOptions().dtype(at::kLong));
    auto in = inputs.accessor<int64_t, 2>();
    std::vector<int64_t> slots;
    for (int64_t i = 0; i < count; ++i) {
      in[0][i] = rows_[live_[i].row].ids.back();
      in[1][i] = cache_.total_length(live_[i].slot);
      slots.push_back(live_[i].slot);
    }
    inputs = inputs.to(policy_.device());
    const Tensor states = policy_.decode(inputs[0], inputs[1], slots, cache_);
    draw(live_, policy_.logits(states));
    retire();
  }

  /// Draws and appends the next token of each row. logits: [rows, V].
  void draw(const std::vector<Live>& rows, const Tensor& logits) {
    std::vector<kernels::DrawPlace> places;
    places.reserve(rows.size());
    for (const Live& live : rows) {
      places.push_back({key_.first_row + static_cast<uint64_t>(live.row), rows_[live.row].ids.size()});
    }
    kernels::SampleInput in;
    in.logits = logits.to(at::kFloat).contiguous();
    in.rows = places;
    in.seed = key_.seed;
    in.step = key_.step;
    in.temperature = options_.temperature;
    in.top_k = options_.top_k;
    in.top_p = options_.top_p;
    in.min_p = options_.min_p;
    in.drawable = std::min(tokenizer_.vocab_size(), policy_.vocab_size());
    const kernels::SampleOutput out = kernels::sample(in);
    const Tensor ids = out.ids.cpu(), log_probs = out.log_prob.cpu();
    for (size_t i = 0; i < rows.size(); ++i) {
      const float log_prob = log_probs.const_data_ptr<float>()[i];
      if (std::isnan(log_prob)) {
        throw DivergedError(
            fmt::format("the model's logits are not finite numbers (prompt {}, token {}); its weights are "
                        "damaged or training has diverged; use an earlier model",
                        prompt_of(rows[i].row), rows_[rows[i].row].ids.size()));
      }
      append(rows[i].row, ids.const_data_ptr<int64_t>()[i], log_prob);
    }
  }

  void append(int64_t r, TokenId id, float log_prob) {
    Completion& row = rows_[r];
    row.ids.push_back(id);
    row.log_probs.push_back(log_prob);
    ++tokens_;
    const size_t seen = row.text.size();
    if (!tokenizer_.is_special(id)) row.text += tokenizer_.token_bytes(id);
    const auto cut = stop_.find(row.text, seen);
    if (cut) row.text.resize(*cut);
    if (cut || end_ids_.count(id) != 0) {
      row.finish = FinishReason::kStop;
      finished_.insert(r);
    } else if (static_cast<int64_t>(row.ids.size()) >= limit(prompt_of(r))) {
      row.finish = FinishReason::kLength;
      finished_.insert(r);
    }
  }

  /// Takes finished rows out of the batch, and out of the cache what no later row needs.
  void retire() {
    const auto leaves = [&](const Live& live) {
      if (finished_.erase(live.row) == 0) return false;
      cache_.release(live.slot);
      free_slots_.push_back(live.slot);
      const int64_t prefix = prefix_of(live.row);
      if (--waiting_[prefix] == 0) {
        cache_.drop_prefix(prefix);
        last_state_.erase(prefix);
      }
      ++done_;
      const int64_t prompt = prompt_of(live.row), group = options_.samples_per_prompt;
      if (--rows_left_[prompt] == 0 && group_done_)
        group_done_(prompt, std::span<const Completion>(rows_).subspan(prompt * group, group));
      return true;
    };
    live_.erase(std::remove_if(live_.begin(), live_.end(), leaves), live_.end());
  }

  TransformerPolicy& policy_;
  const Tokenizer& tokenizer_;
  Prompts prompts_;
  const SamplingOptions& options_;
  const RolloutKey& key_;
  const RolloutProgress& progress_;
  const GroupDone& group_done_;
  StopMatcher stop_;
  std::unordered_set<TokenId> end_ids_;
  std::vector<Completion> rows_;
  std::vector<int64_t> rows_left_;         // [P]: rows of the prompt that are not done
  std::vector<int64_t> prefix_of_prompt_;  // [P]: number of the prompt's prefix in the cache
  KvCache cache_;
  std::shared_ptr<const void> prepacked_;           // held while rows are decoded
  std::unordered_map<int64_t, int64_t> waiting_;    // prefix -> rows not done
  std::unordered_map<int64_t, Tensor> last_state_;  // prefix -> [E], the prompt's last hidden state
  std::vector<int64_t> free_slots_;
  std::vector<Live> live_;                // ascending rows
  std::unordered_set<int64_t> finished_;  // rows that ended with their newest token
  int64_t next_row_ = 0, done_ = 0, tokens_ = 0;
};

class LocalEngine final : public RolloutEngine {
 public:
  LocalEngine(TransformerPolicy& policy, const Tokenizer& tokenizer) : policy_(policy), tokenizer_(tokenizer) {}

  RolloutBatch generate(Prompts prompts, const SamplingOptions& options, const RolloutKey& key) override {
    const at::NoGradGuard no_grad;
    check_options(options);
    check_prompts(prompts, policy_);
    RolloutBatch batch;
    batch.prompts.assign(prompts.begin(), prompts.end());
    batch.samples_per_prompt = options.samples_per_prompt;
    batch.rows = Generation(policy_, tokenizer_, prompts, options, key, progress_, group_done_).run();
    return batch;
  }

 private:
  TransformerPolicy& policy_;
  const Tokenizer& tokenizer_;
};

}  // namespace

std::unique_ptr<RolloutEngine> make_local_engine(TransformerPolicy& policy, const Tokenizer& tokenizer) {
  return std::make_unique<LocalEngine>(policy, tokenizer);
}

}  // namespace plural
