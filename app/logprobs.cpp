// SPDX-License-Identifier: Apache-2.0
// plural logprobs: ln p(token t+1 | tokens up to t) of given ids.
#include <ATen/ATen.h>

#include <memory>
#include <span>

#include "app/commands.h"
#include "app/line_io.h"
#include "app/model_args.h"
#include "lib/core/format.h"
#include "plural/error.h"

namespace plural::app {
namespace {

struct LogprobsArgs {
  ModelArgs model;
  IoPaths io;
};

std::vector<TokenId> checked_ids(const Json& object, const TransformerPolicy& policy) {
  std::vector<TokenId> ids = required_ids(object, "ids");
  const auto size = static_cast<int64_t>(ids.size());
  if (size == 0) throw InputError("field 'ids': expected at least one id, found none");
  if (size > policy.context_length()) {
    throw InputError(fmt::format("field 'ids': {} ids, but the model's context is {}", size, policy.context_length()));
  }
  for (const TokenId id : ids) {
    if (id >= policy.vocab_size()) {
      throw InputError(
          fmt::format("field 'ids': id {} is outside the model's vocabulary of {}", id, policy.vocab_size()));
    }
  }
  return ids;
}

int logprobs(const LogprobsArgs& args) {
  auto policy = load_policy(args.model);
  const at::NoGradGuard no_grad;
  return map_lines(args.io, [&](const InputLine& line) -> std::vector<Json> {
    const std::vector<TokenId> ids = checked_ids(line.object, *policy);
    const std::span<const TokenId> all(ids);
    const PackRow row{all.first(1), all.subspan(1)};
    const PolicyOutput output = policy->evaluate(pack_rows({&row, 1}).to(policy->device()), {});
    const Tensor values = output.log_prob.to(at::kCPU, at::kDouble).contiguous();
    return {
        Json{{"logprobs", std::vector<double>(values.data_ptr<double>(), values.data_ptr<double>() + values.numel())}}};
  });
}

}  // namespace

void add_logprobs(CLI::App& app, int* exit_code) {
  auto args = std::make_shared<LogprobsArgs>();
  CLI::App* command = app.add_subcommand(
      "logprobs", "Log-probabilities of token ids: {\"ids\"} -> {\"logprobs\": [n-1 numbers]} (natural log)");
  add_model_options(*command, &args->model);
  add_io_options(*command, &args->io);
  command->callback([=] { *exit_code = logprobs(*args); });
}

}  // namespace plural::app
