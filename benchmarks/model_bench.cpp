// SPDX-License-Identifier: Apache-2.0
// Speed of the transformer alone: a decode step and a packed training step.
//   model_bench MODEL_DIR [bfloat16|float32] [cpu|cuda] [repeats]
// One JSON line per measurement: median and spread of the wall time, tokens a second, and the median CPU time of all
// threads (on a busy machine that, with OMP_NUM_THREADS=1, is the number to compare).
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "lib/models/kv_cache.h"
#include "plural/device.h"
#include "plural/policy.h"
#include "plural/transformer.h"

namespace {

using namespace plural;

void measure(const char* name, int64_t tokens, int repeats, const at::Device& device,
             const std::function<void()>& work) {
  const auto wait = [&] {
    if (device.is_cuda()) at::zeros({1}, device).item();
  };  // the stream is in order
  for (int i = 0; i < 2; ++i) work();
  wait();
  std::vector<double> seconds, cpu_seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    work();
    wait();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    cpu_seconds.push_back(static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC);
  }
  std::sort(seconds.begin(), seconds.end());
  std::sort(cpu_seconds.begin(), cpu_seconds.end());
  const double median = seconds[seconds.size() / 2];
  std::printf(
      "{\"bench\": \"%s\", \"median_s\": %.5f, \"min_s\": %.5f, \"max_s\": %.5f, \"cpu_s\": %.5f, "
      "\"tokens\": %ld, \"tokens_per_s\": %.1f}\n",
      name, median, seconds.front(), seconds.back(), cpu_seconds[cpu_seconds.size() / 2], static_cast<long>(tokens),
      tokens / median);
  std::fflush(stdout);
}

std::vector<TokenId> ids_of(int64_t count) {
  const Tensor draw = at::randint(1000, {count}, at::kLong);
  return {draw.data_ptr<int64_t>(), draw.data_ptr<int64_t>() + count};
}

}  // namespace

int main(int argc, char** argv) {
  plural::keep_freed_memory();
  if (argc < 2) {
    std::fprintf(stderr, "usage: model_bench MODEL_DIR [bfloat16|float32] [cpu|cuda] [repeats]\n");
    return 2;
  }
  const at::ScalarType dtype = argc > 2 && std::string(argv[2]) == "float32" ? at::kFloat : at::kBFloat16;
  const at::Device device = parse_device(argc > 3 ? argv[3] : "cpu");
  const int repeats = argc > 4 ? std::stoi(argv[4]) : 5;
  const auto policy = TransformerPolicy::load(argv[1], device, dtype);
  constexpr int64_t kPrompts = 4, kSamples = 8, kPromptTokens = 100, kNewTokens = 48;

  std::vector<std::vector<TokenId>> prompts, completions;
  std::vector<PackRow> rows, prompt_rows, sft_rows;
  for (int64_t p = 0; p < kPrompts; ++p) prompts.push_back(ids_of(kPromptTokens));
  for (int64_t r = 0; r < kPrompts * kSamples; ++r) completions.push_back(ids_of(kNewTokens));
  for (int64_t r = 0; r < kPrompts * kSamples; ++r) rows.push_back({prompts[r / kSamples], completions[r]});
  for (const auto& prompt : prompts) prompt_rows.push_back({prompt, {}});
  std::vector<std::vector<TokenId>> sft;
  for (int64_t r = 0; r < 16; ++r) sft.push_back(ids_of(140 + r));
  for (const auto& row : sft) sft_rows.push_back({std::span(row).first(100), std::span(row).subspan(100)});

  {
    const at::NoGradGuard no_grad;
    KvCache cache(policy->config(), rows.size(), 1024, device, dtype);
    const PackedBatch batch = pack_rows(prompt_rows).to(device);
    measure("prefill", batch.tokens(), repeats, device, [&] { policy->prefill(batch, cache, 0); });
    std::vector<int64_t> slots;
    for (int64_t r = 0; r < kPrompts * kSamples; ++r) {
      slots.push_back(r);
      cache.assign(r, r / kSamples);
    }
    int64_t step = 0;
    const Tensor ids = at::randint(1000, {static_cast<int64_t>(slots.size())}, at::kLong).to(device);
    measure("decode_step", slots.size(), 8 * repeats, device, [&] {
      const Tensor positions = at::full({ids.numel()}, kPromptTokens + step++, at::kLong).to(device);
      policy->logits(policy->decode(ids, positions, slots, cache));
    });
    const PackedBatch packed = pack_rows(rows).to(device);
    measure("packed_evaluate", packed.tokens(), repeats, device, [&] { policy->evaluate(packed, {}); });
  }
  const auto train = [&](const char* name, const std::vector<PackRow>& work) {
    const PackedBatch batch = pack_rows(work).to(device);
    measure(name, batch.tokens(), repeats, device, [&] {
      for (auto& [key, parameter] : policy->named_parameters()) parameter.mutable_grad() = Tensor();
      policy->evaluate(batch, {.entropy = true}).log_prob.mean().backward();
    });
  };
  train("train_grouped", rows);
  train("train_sft", sft_rows);
  return 0;
}
