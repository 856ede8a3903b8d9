// SPDX-License-Identifier: Apache-2.0
#include "lib/train/prompts.h"

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

std::vector<TokenId> prompt_ids(const Example& example, const AnswerFormat& format, int64_t k,
                                const Tokenizer& tokenizer) {
  return tokenizer.encode_chat(k > 0 ? render_prompt(example.prompt, format, k) : example.prompt);
}

void check_fits_context(const Example& example, int64_t prompt_tokens, int64_t completion_tokens,
                        const Policy& policy) {
  const int64_t context = policy.context_length();
  if (prompt_tokens + std::max<int64_t>(1, completion_tokens) <= context) return;
  throw InputError(fmt::format(
      "example '{}': its prompt of {} tokens{} does not fit in the model's context of {}; shorten or remove it",
      example.id, prompt_tokens,
      completion_tokens > 0 ? fmt::format(" and its target of {} tokens", completion_tokens) : "", context));
}

void check_num_answers(const AnswerFormat& format, std::span<const int64_t> num_answers) {
  if (num_answers.empty()) throw InputError("num_answers: at least one number is needed");
  for (int64_t k : num_answers) {
    if (k < 1) throw InputError(fmt::format("num_answers: expected at least 1, got {}", k));
    if (format.single() && k != 1)
      throw InputError(
          fmt::format("num_answers: format '{}' holds one answer, {} were asked for; set num_answers to 1 "
                      "or choose a format for sets",
                      format.name(), k));
  }
}

}  // namespace plural
