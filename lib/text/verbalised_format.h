// SPDX-License-Identifier: Apache-2.0
// Verbalised sampling (Zhang et al. 2025, arXiv 2510.01171): the model is asked for several responses with their
// probabilities, in the paper's own tags.
#pragma once

#include <memory>

#include "plural/answers.h"

namespace plural {

inline constexpr char kVerbalisedName[] = "verbalised";

/// `<response><text>answer</text><probability>0.3</probability></response>`, once for each answer; answers are numbered
/// by their order. Text around the responses, and all up to the last closing think tag, is not looked at.
std::unique_ptr<AnswerFormat> make_verbalised_format();

}  // namespace plural
