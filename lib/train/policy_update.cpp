// SPDX-License-Identifier: Apache-2.0
#include "lib/train/policy_update.h"

#include <ATen/ATen.h>

#include <limits>

#include "lib/train/micro_batches.h"
#include "plural/error.h"

namespace plural {

namespace {

// A micro-batch with what stays the same from pass to pass.
struct Work {
  MicroBatch micro;
  Tensor advantage;     // [M]
  Tensor sampler;       // [M]
  Tensor old_log_prob;  // [M], from the first pass on
  Tensor ref_log_prob;  // [M] or undefined
};

BatchCounts count(std::span<const UpdateRow> rows, const UpdateOptions& options) {
  BatchCounts counts;
  counts.rows = static_cast<double>(rows.size());
  for (const UpdateRow& row : rows) counts.tokens += static_cast<double>(row.ids.completion.size());
  counts.rank_tokens = counts.tokens;
  counts.max_tokens = static_cast<double>(options.max_new_tokens);
  return counts;
}

Work prepare(std::span<const PackRow> ids, std::span<const UpdateRow* const> rows, Span run, at::Device device) {
  Work work;
  work.micro = pack_micro_batch(ids, run, device);
  std::vector<double> advantage;
  std::vector<float> sampler;
  for (int64_t r = run.begin; r < run.end; ++r) {
    advantage.push_back(rows[r]->advantage);
    sampler.insert(sampler.end(), rows[r]->sampler_log_probs.begin(), rows[r]->sampler_log_probs.end());
  }
  work.advantage = at::tensor(advantage, at::kDouble).to(device).index_select(0, work.micro.row);
  work.sampler = at::tensor(sampler, at::kFloat).to(device);
  return work;
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
  Update(const UpdateParts& parts, std::span<const UpdateRow> rows, const UpdateOptions& options)
      : parts_(parts), options_(options), counts_(count(rows, options)) {
    for (const UpdateRow& row : rows) {
      const bool learns = row.advantage != 0.0 || parts.objective.needs_reference();
      if (!learns || row.ids.completion.empty()) continue;
      rows_.push_back(&row);
      ids_.push_back(row.ids);
      tokens_ += static_cast<double>(row.ids.completion.size());
    }
    for (const Span& run : cut_rows(ids_, options.max_batch_tokens))
      work_.push_back(prepare(ids_, rows_, run, parts.policy.device()));
  }

  MetricMap run() {
    MetricMap metrics;
    metrics["policy/trained_tokens"] = tokens_;
    if (work_.empty()) {
      metrics["optim/updates"] = 0;
      return metrics;
    }
    double norm = 0, skipped = 0;
    for (int64_t pass = 0; pass < options_.passes; ++pass) {
      for (Work& work : work_) accumulate(work, pass == 0);
      const StepResult result = parts_.optimizer.step(options_.learning_rate);
      norm += result.grad_norm;
      skipped += result.skipped ? 1 : 0;
    }
    const double passes = static_cast<double>(options_.passes);
    metrics.merge(first_.means("policy/", tokens_));
    metrics.merge(each_.means("policy/", tokens_ * passes));
    metrics["loss"] = loss_.item<double>() / passes;
    metrics["optim/grad_norm"] = norm / passes;
    metrics["optim/skipped"] = skipped;
    metrics["optim/updates"] = passes - skipped;
    return metrics;
  }

 private:
  void accumulate(Work& work, bool first) {
    const PolicyOutput out = parts_.policy.evaluate(work.micro.batch, {options_.temperature, first});
    ObjectiveInput input;
    input.log_prob = out.log_prob;
    input.old_log_prob = work.old_log_prob;
    input.ref_log_prob = reference(work);
    input.advantage = work.advantage.to(out.log_prob.dtype());
    input.row = work.micro.row;
    input.row_tokens = work.micro.row_tokens.to(out.log_prob.dtype());
    input.counts = counts_;
    const LossTerms terms = parts_.objective.loss(input);
    terms.loss.backward();

    const Tensor loss = terms.loss.detach().to(at::kDouble);
    loss_ = loss_.defined() ? loss_ + loss : loss;
    for (const auto& [name, sum] : terms.sums) each_.add(name, sum);
    if (!first) return;
    work.old_log_prob = out.log_prob.detach();
    first_.add("entropy", out.entropy.sum());
    first_.add("sampler_trainer_diff", (work.old_log_prob - work.sampler).abs().sum());
  }

  Tensor reference(Work& work) {
    if (!parts_.objective.needs_reference()) return {};
    if (!work.ref_log_prob.defined()) {
      PLURAL_CHECK(parts_.reference != nullptr, "the objective has a KL term, so a reference policy is needed");
      at::NoGradGuard no_grad;
      work.ref_log_prob = parts_.reference->evaluate(work.micro.batch, {options_.temperature, false}).log_prob;
    }
    return work.ref_log_prob;
  }

  UpdateParts parts_;
  UpdateOptions options_;
  BatchCounts counts_;
  std::vector<const UpdateRow*> rows_;  // those that learn, in order
  std::vector<PackRow> ids_;
  double tokens_ = 0;  // of those
  std::vector<Work> work_;
  TokenSums first_, each_;  // of the first pass; of every pass
  Tensor loss_;
};

}  // namespace

MetricMap update_policy(const UpdateParts& parts, std::span<const UpdateRow> rows, const UpdateOptions& options) {
  PLURAL_CHECK(options.passes >= 1 && options.max_batch_tokens >= 1, "passes and max_batch_tokens are at least 1");
  return Update(parts, rows, options).run();
}

}  // namespace plural
