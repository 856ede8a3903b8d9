// SPDX-License-Identifier: Apache-2.0
// Examples as token ids: what the model reads.
#pragma once

#include <span>
#include <vector>

#include "plural/answers.h"
#include "plural/dataset.h"
#include "plural/policy.h"
#include "plural/tokenizer.h"

namespace plural {

/// The chat prompt that asks for k answers in this format; k = 0: the prompt as it is, no instruction added.
std::vector<TokenId> prompt_ids(const Example& example, const AnswerFormat& format, int64_t k,
                                const Tokenizer& tokenizer);

/// Throws InputError naming the example when prompt and completion (or, with 0 completion tokens, a single
/// new token) do not fit in the policy's context.
void check_fits_context(const Example& example, int64_t prompt_tokens, int64_t completion_tokens, const Policy& policy);

/// Throws InputError when a format that holds one answer is asked for more.
void check_num_answers(const AnswerFormat& format, std::span<const int64_t> num_answers);

}  // namespace plural
