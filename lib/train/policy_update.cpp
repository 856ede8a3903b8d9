// SPDX-License-Identifier: Apache-2.0
#include "lib/train/policy_update.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "lib/train/critic_update.h"
#include "lib/train/micro_batches.h"
#include "plural/error.h"

namespace plural {

namespace {

// A micro-batch with what stays the same from pass to pass. All M of its tokens, whether they count or not.
struct Work {
  MicroBatch micro;
  Tensor advantage;     // [M]
  Tensor sampler;       // [M]
  Tensor behind;        // [M] bool: tokens of rows that an older policy sampled; undefined = there are none
  Tensor old_log_prob;  // [M], from the first pass on
  Tensor ref_log_prob;  // [M] or undefined
  Tensor counted;       // [M] bool; undefined = all of them
};

// Likelihood rows in a micro-batch.
struct LikelihoodWork {
  MicroBatch micro;
  Tensor weight;  // [M]
};

std::vector<LikelihoodWork> prepare(std::span<const LikelihoodRow> rows, int64_t max_batch_tokens, at::Device device) {
  std::vector<PackRow> ids;
  for (const LikelihoodRow& row : rows) ids.push_back(row.ids);
  std::vector<LikelihoodWork> all;
  for (const Span& run : cut_rows(ids, max_batch_tokens)) {
    std::vector<double> weight;
    for (int64_t r = run.begin; r < run.end; ++r)
      weight.insert(weight.end(), rows[r].weight.begin(), rows[r].weight.end());
    all.push_back({pack_micro_batch(ids, run, device), at::tensor(weight, at::kDouble).to(device)});
    PLURAL_CHECK(all.back().weight.size(0) == all.back().micro.row.size(0), "a likelihood row has one weight a token");
  }
  return all;
}

bool has_advantage(const UpdateRow& row) {
  if (row.token_advantage.empty()) return row.advantage != 0.0;
  return std::ranges::any_of(row.token_advantage, [](double a) { return a != 0.0; });
}

// Rows in micro-batches.
std::vector<Work> prepare(const std::vector<const UpdateRow*>& rows, int64_t max_batch_tokens, at::Device device) {
  std::vector<PackRow> ids;
  for (const UpdateRow* row : rows) ids.push_back(row->ids);
  std::vector<Work> all;
  for (const Span& run : cut_rows(ids, max_batch_tokens)) {
    Work work;
    work.micro = pack_micro_batch(ids, run, device);
    std::vector<double> advantage;
    std::vector<float> sampler;
    std::vector<uint8_t> behind;
    for (int64_t r = run.begin; r < run.end; ++r) {
      const UpdateRow& row = *rows[r];
      if (row.token_advantage.empty())
        advantage.insert(advantage.end(), row.ids.completion.size(), row.advantage);
      else
        advantage.insert(advantage.end(), row.token_advantage.begin(), row.token_advantage.end());
      sampler.insert(sampler.end(), row.sampler_log_probs.begin(), row.sampler_log_probs.end());
      behind.insert(behind.end(), row.ids.completion.size(), row.older_policy ? 1 : 0);
    }
    work.advantage = at::tensor(advantage, at::kDouble).to(device);
    work.sampler = at::tensor(sampler, at::kFloat).to(device);
    if (std::ranges::count(behind, 1) > 0) work.behind = at::tensor(behind, at::kByte).to(at::kBool).to(device);
    all.push_back(std::move(work));
  }
  return all;
}

// Sums over tokens, kept on the device until they are read once at the end.
class TokenSums {
 public:
  void add(const std::string& name, const Tensor& sum) {
    Tensor& total = sums_[name];
    const Tensor value = sum.detach().to(at::kDouble);
    total = total.defined() ? total + value : value;
  }
  MetricMap means(const std::string& prefix, double tokens) const {
    MetricMap result;
    for (const auto& [name, total] : sums_) result[prefix + name] = total.item<double>() / tokens;
    return result;
  }

 private:
  std::map<std::string, Tensor> sums_;
};

class Update {
 public:
  Update(const UpdateParts& parts, std::span<const UpdateRow> rows, const UpdateOptions& options,
         std::span<const LikelihoodRow> likelihood)
      : parts_(parts),
        options_(options),
        needs_(parts.objective.needs()),
        likelihood_(prepare(options.critic_only ? std::span<const LikelihoodRow>() : likelihood,
                            options.max_batch_tokens, parts.policy.device())) {
    std::vector<const UpdateRow*> learning, idle;
    for (const UpdateRow& row : rows) {
      if (!row.counts) continue;
      PLURAL_CHECK(row.token_advantage.empty() || row.token_advantage.size() == row.ids.completion.size(),
                   "a row has one advantage, or one for each of its tokens");
      counts_.rows += 1;
      counts_.tokens += static_cast<double>(row.ids.completion.size());
      if (row.ids.completion.empty()) continue;
      const bool learns = !options.critic_only && (has_advantage(row) || needs_.reference || needs_.entropy);
      (learns ? learning : idle).push_back(&row);
      if (learns) tokens_ += static_cast<double>(row.ids.completion.size());
    }
    counts_.rank_tokens = counts_.tokens;
    counts_.max_tokens = static_cast<double>(options.max_new_tokens);
    work_ = prepare(learning, options.max_batch_tokens, parts.policy.device());
    if (parts.critic)
      critic_.emplace(*parts.critic, parts.optimizer, rows, options.max_batch_tokens, options.critic_only);
    if (needs_.token_mask) idle_ = prepare(idle, options.max_batch_tokens, parts.policy.device());
  }

  MetricMap run() {
    MetricMap metrics;
    metrics["policy/trained_tokens"] = tokens_;
    metrics["optim/updates"] = 0;
    if (work_.empty() && likelihood_.empty() && !critic_) return metrics;
    const bool masks = needs_.token_mask && !work_.empty();
    double norm = 0, skipped = 0, counted = 0;
    const double all_tokens = counts_.tokens;
    for (int64_t pass = 0; pass < options_.passes; ++pass) {
      if (masks) {
        mask_tokens();
        counted += counts_.tokens / all_tokens;
      }
      bool any = !likelihood_.empty();
      for (Work& work : work_) any |= accumulate(work, pass == 0);
      for (const LikelihoodWork& work : likelihood_) replay(work, pass == 0);
      if (critic_) any |= critic_->accumulate();
      if (any) {
        const StepResult result = parts_.optimizer.step(options_.learning_rate);
        norm += result.grad_norm;
        skipped += result.skipped ? 1 : 0;
        ++updates_;
      }
      if (critic_) critic_->step(options_.critic_learning_rate);
    }
    if (critic_) metrics.merge(critic_->metrics());
    const double passes = static_cast<double>(options_.passes);
    if (masks) metrics["policy/counted_tokens"] = counted / passes;
    if (updates_ == 0) return metrics;
    if (seen_first_ > 0) metrics.merge(first_.means("policy/", seen_first_));
    if (seen_current_ > 0) metrics.merge(current_.means("policy/", seen_current_));
    if (seen_ > 0) metrics.merge(each_.means("policy/", seen_));
    if (seen_replayed_ > 0) metrics.merge(replayed_.means("replay/", seen_replayed_));
    if (loss_.defined()) metrics["loss"] = loss_.item<double>() / updates_;
    metrics["optim/grad_norm"] = norm / updates_;
    metrics["optim/skipped"] = skipped;
    metrics["optim/updates"] = updates_ - skipped;
    return metrics;
  }

 private:
  // Which tokens count in the coming pass, from all rows at once; then the normalisers anew.
  void mask_tokens() {
    at::NoGradGuard no_grad;
    std::vector<Tensor> log_prob, old, sampler, entropy, advantage, row;
    int64_t rows = 0;
    const auto look = [&](Work& work) {
      const PolicyOutput out = parts_.policy.evaluate(work.micro.batch, {options_.temperature, true});
      if (!work.old_log_prob.defined()) work.old_log_prob = old_log_prob(work, out.log_prob);
      log_prob.push_back(out.log_prob), old.push_back(work.old_log_prob), entropy.push_back(out.entropy);
      sampler.push_back(work.sampler.to(out.log_prob.dtype()));
      advantage.push_back(work.advantage.to(out.log_prob.dtype()));
      row.push_back(work.micro.row + rows);
      rows += work.micro.row_tokens.size(0);
    };
    for (Work& work : work_) look(work);
    for (Work& work : idle_) look(work);
    const Tensor row_of_token = at::cat(row);
    const Tensor counted = parts_.objective.token_mask({.log_prob = at::cat(log_prob),
                                                        .old_log_prob = at::cat(old),
                                                        .sampler_log_prob = at::cat(sampler),
                                                        .entropy = at::cat(entropy),
                                                        .advantage = at::cat(advantage),
                                                        .row = row_of_token,
                                                        .rows = rows});
    check_shapes({{"row", row_of_token, "M"}, {"token_mask", counted, "M"}});
    int64_t begin = 0;
    for (Work& work : work_) {
      work.counted = counted.narrow(0, begin, work.micro.row.size(0));
      begin += work.micro.row.size(0);
    }
    const Tensor by_row = at::zeros({rows}, at::TensorOptions(counted.device()).dtype(at::kLong))
                              .index_add(0, row_of_token, counted.to(at::kLong));
    counts_.rows = by_row.gt(0).sum().item<double>();
    counts_.tokens = counts_.rank_tokens = counted.sum().item<double>();
  }

  // Adds a micro-batch's gradient; false when none of its tokens counts.
  bool accumulate(Work& work, bool first) {
    const PolicyOutput out = parts_.policy.evaluate(work.micro.batch, {options_.temperature, first || needs_.entropy});
    const at::ScalarType dtype = out.log_prob.scalar_type();
    const Tensor reference = this->reference(work);
    ObjectiveInput input;
    input.log_prob = out.log_prob;
    if (first) work.old_log_prob = old_log_prob(work, out.log_prob.detach());
    if (!first || work.behind.defined()) input.old_log_prob = work.old_log_prob;
    input.ref_log_prob = reference;
    if (needs_.sampler) input.sampler_log_prob = work.sampler.to(dtype);
    if (needs_.entropy) input.entropy = out.entropy;
    input.advantage = work.advantage.to(dtype);
    input.row = work.micro.row;
    input.row_tokens = work.micro.row_tokens.to(dtype);
    input.counts = counts_;
    input.weights = options_.weights;
    if (first) note_first_pass(work, out);
    input.counted = work.counted;
    const double tokens = work.counted.defined() ? work.counted.sum().item<double>()
                                                 : static_cast<double>(input.row.size(0));
    if (tokens == 0) return false;
    const LossTerms terms = parts_.objective.loss(input);
    descend(terms.loss);
    for (const auto& [name, sum] : terms.sums) each_.add(name, sum);
    seen_ += tokens;
    return true;
  }

  // ln pi_old [M], where the policy at the start of the step gives `current`: that, or what an older policy that
  // sampled the row said.
  static Tensor old_log_prob(const Work& work, const Tensor& current) {
    return work.behind.defined() ? at::where(work.behind, work.sampler.to(current.dtype()), current) : current;
  }

  void note_first_pass(const Work& work, const PolicyOutput& out) {
    const auto tokens = static_cast<double>(work.micro.row.size(0));
    first_.add("entropy", out.entropy.sum());
    seen_first_ += tokens;
    Tensor diff = (out.log_prob.detach() - work.sampler).abs();
    if (work.behind.defined()) diff = diff.masked_fill(work.behind, 0.0);
    current_.add("sampler_trainer_diff", diff.sum());
    seen_current_ += work.behind.defined() ? tokens - work.behind.sum().item<double>() : tokens;
  }

  // Adds a micro-batch's part of the likelihood term.
  void replay(const LikelihoodWork& work, bool first) {
    const Tensor log_prob = parts_.policy.evaluate(work.micro.batch, {options_.temperature, false}).log_prob;
    descend(-(work.weight.to(log_prob.dtype()) * log_prob).sum());
    if (!first) return;
    const Tensor scored = work.weight.ne(0);
    replayed_.add("nll", -(log_prob.detach() * scored).sum());
    seen_replayed_ += scored.sum().item<double>();
  }

  void descend(const Tensor& loss) {
    parts_.optimizer.set_gradients_aside();
    loss.backward();
    const Tensor value = loss.detach().to(at::kDouble);
    loss_ = loss_.defined() ? loss_ + value : value;
  }

  Tensor reference(Work& work) {
    if (!needs_.reference) return {};
    if (!work.ref_log_prob.defined()) {
      PLURAL_CHECK(parts_.reference != nullptr, "the objective has a KL term, so a reference policy is needed");
      at::NoGradGuard no_grad;
      work.ref_log_prob = parts_.reference->evaluate(work.micro.batch, {options_.temperature, false}).log_prob;
    }
    return work.ref_log_prob;
  }

  UpdateParts parts_;
  UpdateOptions options_;
  ObjectiveNeeds needs_;
  BatchCounts counts_;
  std::vector<Work> work_;  // rows that learn
  std::vector<Work> idle_;  // the others, looked at when tokens are masked
  std::optional<CriticUpdate> critic_;
  double tokens_ = 0;                 // of the rows that learn
  TokenSums first_, current_, each_;  // of the first pass; of the rows in it that this policy sampled; of every pass
  double seen_first_ = 0, seen_current_ = 0, seen_ = 0, updates_ = 0;
  std::vector<LikelihoodWork> likelihood_;
  TokenSums replayed_;  // of the first pass, over tokens that weigh something
  double seen_replayed_ = 0;
  Tensor loss_;
};

}  // namespace

MetricMap update_policy(const UpdateParts& parts, std::span<const UpdateRow> rows, const UpdateOptions& options,
                        std::span<const LikelihoodRow> likelihood) {
  PLURAL_CHECK(options.passes >= 1 && options.max_batch_tokens >= 1, "passes and max_batch_tokens are at least 1");
  return Update(parts, rows, options, likelihood).run();
}

Tensor row_log_probs(Policy& policy, std::span<const PackRow> rows, int64_t max_batch_tokens, double temperature) {
  at::NoGradGuard no_grad;
  std::vector<Tensor> parts = {at::zeros({0})};
  for (const Span& run : cut_rows(rows, max_batch_tokens)) {
    const MicroBatch micro = pack_micro_batch(rows, run, policy.device());
    parts.push_back(policy.evaluate(micro.batch, {temperature, false}).log_prob.to(at::kCPU));
  }
  return at::cat(parts);
}

}  // namespace plural
