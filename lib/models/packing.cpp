// SPDX-License-Identifier: Apache-2.0
// Rows -> packed batch: no padding, and a prompt that neighbours share stands there once.
#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "plural/error.h"
#include "plural/policy.h"

namespace plural {

int64_t PackedBatch::tokens() const { return ids.defined() ? ids.numel() : 0; }

int64_t PackedBatch::predictions() const { return target.defined() ? target.numel() : 0; }

PackedBatch PackedBatch::to(at::Device device) const {
  PackedBatch result = *this;
  for (Tensor* tensor : {&result.ids, &result.positions, &result.source, &result.target})
    if (tensor->defined()) *tensor = tensor->to(device);
  return result;
}

namespace {

struct Packer {
  std::vector<int64_t> ids, positions, source, target;
  std::vector<Segment> segments;

  /// Appends a segment at position `first` of its sequence and returns its index (-1 when it would be empty).
  int64_t add_segment(std::span<const TokenId> head, std::span<const TokenId> tail, int64_t first, int64_t parent) {
    const int64_t begin = static_cast<int64_t>(ids.size());
    ids.insert(ids.end(), head.begin(), head.end());
    ids.insert(ids.end(), tail.begin(), tail.end());
    const int64_t length = static_cast<int64_t>(ids.size()) - begin;
    if (length == 0) return -1;
    positions.resize(ids.size());
    std::iota(positions.begin() + begin, positions.end(), first);
    segments.push_back({begin, length, parent});
    return static_cast<int64_t>(segments.size()) - 1;
  }

  /// The first token of a completion is predicted from the prompt's last, the others from the one before.
  void add_predictions(std::span<const TokenId> completion, int64_t prompt_end, int64_t completion_begin) {
    for (size_t t = 0; t < completion.size(); ++t) {
      source.push_back(t == 0 ? prompt_end - 1 : completion_begin + static_cast<int64_t>(t) - 1);
      target.push_back(completion[t]);
    }
  }
};

Tensor to_tensor(const std::vector<int64_t>& values) {
  return at::tensor(values, at::TensorOptions().dtype(at::kLong));
}

/// All but the last token: it is predicted, but predicts nothing, so it need not be run.
std::span<const TokenId> inputs_of(std::span<const TokenId> completion) {
  return completion.empty() ? completion : completion.first(completion.size() - 1);
}

}  // namespace

PackedBatch pack_rows(std::span<const PackRow> rows, bool share_prompts) {
  Packer packer;
  for (size_t first = 0; first < rows.size();) {
    const std::span<const TokenId> prompt = rows[first].prompt;
    PLURAL_CHECK(!prompt.empty(), "a row's prompt has at least one token");
    size_t last = first + 1;
    while (share_prompts && last < rows.size() && std::ranges::equal(prompt, rows[last].prompt)) ++last;
    const int64_t size = static_cast<int64_t>(prompt.size());
    const int64_t begin = static_cast<int64_t>(packer.ids.size());
    if (last - first == 1) {
      // A prompt of one row needs no segment of its own: one causal sequence is the cheaper form.
      packer.add_segment(prompt, inputs_of(rows[first].completion), 0, -1);
      packer.add_predictions(rows[first].completion, begin + size, begin + size);
    } else {
      const int64_t parent = packer.add_segment(prompt, {}, 0, -1);
      for (size_t r = first; r < last; ++r) {
        const int64_t own = static_cast<int64_t>(packer.ids.size());
        packer.add_segment({}, inputs_of(rows[r].completion), size, parent);
        packer.add_predictions(rows[r].completion, begin + size, own);
      }
    }
    first = last;
  }
  return {to_tensor(packer.ids), to_tensor(packer.positions), packer.segments, to_tensor(packer.source),
          to_tensor(packer.target)};
}

}  // namespace plural
