// SPDX-License-Identifier: Apache-2.0
#include "lib/train/micro_batches.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace plural {

namespace {

bool same_prompt(const PackRow& a, const PackRow& b) { return std::ranges::equal(a.prompt, b.prompt); }

int64_t length(std::span<const TokenId> ids) { return static_cast<int64_t>(ids.size()); }

// Neighbours with one prompt, as the packer shares it.
std::vector<Span> find_groups(std::span<const PackRow> rows) {
  std::vector<Span> groups;
  for (int64_t r = 0; r < static_cast<int64_t>(rows.size()); ++r) {
    if (r > 0 && same_prompt(rows[r - 1], rows[r]))
      groups.back().end = r + 1;
    else
      groups.push_back({r, r + 1});
  }
  return groups;
}

int64_t packed_tokens(std::span<const PackRow> rows, Span group) {
  int64_t tokens = length(rows[group.begin].prompt);
  for (int64_t r = group.begin; r < group.end; ++r) tokens += length(rows[r].completion);
  return tokens;
}

}  // namespace

std::vector<Span> cut_rows(std::span<const PackRow> rows, int64_t max_tokens) {
  std::vector<Span> runs;
  int64_t used = max_tokens;  // a full run: the first piece opens a new one
  const auto place = [&](Span piece, int64_t tokens) {
    if (used + tokens > max_tokens) {
      runs.push_back(piece);
      used = tokens;
    } else {
      runs.back().end = piece.end;
      used += tokens;
    }
  };
  for (const Span& group : find_groups(rows)) {
    if (const int64_t tokens = packed_tokens(rows, group); tokens <= max_tokens) {
      place(group, tokens);
      continue;
    }
    // Too large for any run: row by row, the prompt counted once in each run.
    int64_t in_run = 0;  // rows of this group in the open run
    for (int64_t r = group.begin; r < group.end; ++r) {
      const int64_t alone = packed_tokens(rows, {r, r + 1});
      const int64_t added = in_run > 0 ? length(rows[r].completion) : alone;
      const bool opens = in_run == 0 || used + added > max_tokens;
      if (opens) used = max_tokens, in_run = 0;
      place({r, r + 1}, opens ? alone : added);
      ++in_run;
    }
  }
  return runs;
}

MicroBatch pack_micro_batch(std::span<const PackRow> rows, Span run, at::Device device) {
  MicroBatch micro;
  micro.rows = run;
  const auto part = rows.subspan(run.begin, run.end - run.begin);
  micro.batch = pack_rows(part).to(device);
  std::vector<int64_t> lengths;
  for (const PackRow& row : part) lengths.push_back(length(row.completion));
  const Tensor counts = at::tensor(lengths, at::kLong);
  micro.row = at::repeat_interleave(counts).to(device);
  micro.row_tokens = counts.to(at::kFloat).to(device);
  return micro;
}

}  // namespace plural
