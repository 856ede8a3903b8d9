// SPDX-License-Identifier: Apache-2.0
// An optimiser batch cut into pieces that fit in memory. The cut never changes the result: losses are sums
// whose normalisers come from the whole batch.
#pragma once

#include <span>
#include <vector>

#include "plural/answers.h"
#include "plural/policy.h"

namespace plural {

/// A run of neighbouring rows, packed.
struct MicroBatch {
  Span rows;          ///< into the rows that were cut
  PackedBatch batch;  ///< on the policy's device
  Tensor row;         ///< [M] int64: row of each prediction, counted from rows.begin
  Tensor row_tokens;  ///< [rows] float32: predictions of each row
};

/// Cuts rows, in order, into runs of at most `max_tokens` packed tokens (a shared prompt counts once).
/// Rows with one prompt stay together when they fit into one run; a row larger than the budget gets its own.
std::vector<Span> cut_rows(std::span<const PackRow> rows, int64_t max_tokens);

/// Packs the rows of one run.
MicroBatch pack_micro_batch(std::span<const PackRow> rows, Span run, at::Device device);

}  // namespace plural
