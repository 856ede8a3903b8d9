// SPDX-License-Identifier: Apache-2.0
#include "lib/train/mode_replay.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "lib/core/format.h"
#include "lib/train/memory_tensors.h"
#include "plural/error.h"

namespace plural {

std::vector<Exemplar> find_exemplars(std::span<const Completion> rows, const AnswerBatch& answers,
                                     const std::string& verified) {
  PLURAL_CHECK(static_cast<int64_t>(rows.size()) == answers.rows,
               "there must be one completion for each set of answers");
  const Tensor match = answers.match.to(at::kCPU), present = answers.present.to(at::kCPU);
  const Tensor format_ok = answers.format_ok.to(at::kCPU), k = answers.k.to(at::kCPU);
  const Tensor gold_count = answers.gold_count.to(at::kCPU);
  const Tensor answer_span = answers.answer_span.to(at::kCPU), confidence_span = answers.confidence_span.to(at::kCPU);
  const auto gold = match.accessor<int64_t, 2>();
  const auto written = present.accessor<bool, 2>();
  const auto answer = answer_span.accessor<int64_t, 3>(), confidence = confidence_span.accessor<int64_t, 3>();
  std::vector<Exemplar> exemplars(rows.size());
  for (int64_t b = 0; b < answers.rows; ++b) {
    const Completion& row = rows[static_cast<size_t>(b)];
    Exemplar& exemplar = exemplars[static_cast<size_t>(b)];
    if (!format_ok[b].item<bool>() || row.finish != FinishReason::kStop) continue;
    std::set<int64_t> hits;
    std::vector<uint8_t> scored(row.ids.size(), 1);
    for (int64_t slot = 0; slot < answers.slots; ++slot) {
      const auto leave_out = [&](const auto& span) {
        for (int64_t t = span[b][slot][0]; t < span[b][slot][1]; ++t) scored[static_cast<size_t>(t)] = 0;
      };
      // A repetition is wrong, too.
      const bool hit = written[b][slot] && gold[b][slot] >= 0 && hits.insert(gold[b][slot]).second;
      if (!hit) leave_out(answer);
      leave_out(confidence);
    }
    exemplar.num_answers = k[b].item<int64_t>();
    // No completion hits more than there are gold answers, though it may be asked for more.
    const int64_t most = std::min(exemplar.num_answers, gold_count[b].item<int64_t>());
    const bool right = !hits.empty() && (verified != "all" || static_cast<int64_t>(hits.size()) >= most);
    if (!right || std::ranges::count(scored, 1) == 0) continue;
    exemplar.mode.assign(hits.begin(), hits.end());
    exemplar.ids = row.ids;
    exemplar.scored = std::move(scored);
  }
  return exemplars;
}

ModeReplay::ModeReplay(ReplayOptions options, int64_t examples)
    : options_(std::move(options)), buffers_(static_cast<size_t>(examples)) {
  if (options_.verified != "all" && options_.verified != "any")
    throw InputError(fmt::format("replay.verified: expected one of all, any; got '{}'", options_.verified));
}

std::vector<const Exemplar*> ModeReplay::turn(int64_t example) const {
  const Buffer& buffer = buffers_[static_cast<size_t>(example)];
  const auto size = static_cast<int64_t>(buffer.exemplars.size());
  const int64_t count = options_.modes_per_step > 0 ? std::min(options_.modes_per_step, size) : size;
  std::vector<const Exemplar*> turn;
  for (int64_t i = 0; i < count; ++i) turn.push_back(&buffer.exemplars[static_cast<size_t>((buffer.next + i) % size)]);
  return turn;
}

bool ModeReplay::keep(Buffer& buffer, Exemplar exemplar) const {
  const bool known = std::ranges::find(buffer.exemplars, exemplar.mode, &Exemplar::mode) != buffer.exemplars.end();
  if (known || static_cast<int64_t>(buffer.exemplars.size()) >= options_.max_modes) return false;
  buffer.exemplars.push_back(std::move(exemplar));
  return true;
}

int64_t ModeReplay::finish_step(std::span<const int64_t> examples, std::span<const Completion> rows,
                                const AnswerBatch& answers) {
  std::vector<Exemplar> found = find_exemplars(rows, answers, options_.verified);
  PLURAL_CHECK(examples.size() == found.size(), "there must be one example for each row");
  for (const int64_t example : std::set<int64_t>(examples.begin(), examples.end())) {
    Buffer& buffer = buffers_[static_cast<size_t>(example)];
    const auto size = static_cast<int64_t>(buffer.exemplars.size());
    if (size > 0) buffer.next = (buffer.next + options_.modes_per_step) % size;
  }
  int64_t fresh = 0;
  for (size_t b = 0; b < found.size(); ++b)
    if (!found[b].mode.empty()) fresh += keep(buffers_[static_cast<size_t>(examples[b])], std::move(found[b])) ? 1 : 0;
  return fresh;
}

int64_t ModeReplay::modes() const {
  int64_t sum = 0;
  for (const Buffer& buffer : buffers_) sum += static_cast<int64_t>(buffer.exemplars.size());
  return sum;
}

void ModeReplay::add_state(NamedTensors& memory) const {
  std::vector<int64_t> next, example, num_answers;
  std::vector<std::vector<int64_t>> mode;
  std::vector<std::vector<TokenId>> ids;
  std::vector<std::vector<uint8_t>> scored;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    next.push_back(buffers_[i].next);
    for (const Exemplar& exemplar : buffers_[i].exemplars) {
      example.push_back(static_cast<int64_t>(i));
      num_answers.push_back(exemplar.num_answers);
      mode.push_back(exemplar.mode);
      ids.push_back(exemplar.ids);
      scored.push_back(exemplar.scored);
    }
  }
  MemoryWriter out(memory, "replay.");
  out.add("next", next);
  out.add("example", example);
  out.add("num_answers", num_answers);
  out.add("mode", mode);
  out.add("ids", ids);
  out.add("scored", scored);
}

void ModeReplay::restore(const NamedTensors& memory) {
  std::vector<Buffer> buffers(buffers_.size());
  if (const MemoryReader in(memory, "replay."); in.has("next")) {
    const auto next = in.values<int64_t>("next"), example = in.values<int64_t>("example"),
               num_answers = in.values<int64_t>("num_answers");
    auto mode = in.lists<int64_t>("mode");
    auto ids = in.lists<TokenId>("ids");
    auto scored = in.lists<uint8_t>("scored");
    in.check(next.size() == buffers.size(), "next",
             fmt::format("is of {} examples, the data has {}", next.size(), buffers.size()));
    in.check(num_answers.size() == example.size() && mode.size() == example.size() && ids.size() == example.size() &&
                 scored.size() == example.size(),
             "example", "does not have as many entries as the other tensors");
    for (size_t i = 0; i < buffers.size(); ++i) buffers[i].next = next[i];
    for (size_t e = 0; e < example.size(); ++e) {
      in.check(example[e] >= 0 && example[e] < static_cast<int64_t>(buffers.size()), "example",
               "names an example that the data lacks");
      in.check(ids[e].size() == scored[e].size(), "scored", "does not have one number for each id");
      buffers[static_cast<size_t>(example[e])].exemplars.push_back(
          {std::move(mode[e]), num_answers[e], std::move(ids[e]), std::move(scored[e])});
    }
  }
  buffers_ = std::move(buffers);
}

}  // namespace plural
