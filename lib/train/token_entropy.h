// SPDX-License-Identifier: Apache-2.0
// Entropies of the distributions that completion tokens were drawn from, for rewards that ask for them.
#pragma once

#include <span>

#include "plural/policy.h"

namespace plural {

/// [B, T] float32, nats: at each completion token the entropy over the whole vocabulary at `temperature`; T is the
/// longest completion, entries past a row's end are 0. On the policy's device, without gradient. Cost: one forward pass
/// over all rows, in micro-batches of at most `max_batch_tokens` packed tokens.
Tensor token_entropy(Policy& policy, std::span<const PackRow> rows, double temperature, int64_t max_batch_tokens);

}  // namespace plural
