// SPDX-License-Identifier: Apache-2.0
// Likelihood replay of verified modes (Re:Max): for every prompt the correct completions found so far, one for each
// mode, trained on again whenever the prompt is, so that a mode which the policy hardly samples any more is not
// forgotten:
//   loss += lambda / P sum over the step's prompts x of  1 / |B_x| sum over modes c of B_x of  -ln pi(e_c | x) / |e_c|
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "plural/answers.h"
#include "plural/checkpoint.h"
#include "plural/data_options.h"
#include "plural/rollout.h"

namespace plural {

/// A correct completion.
struct Exemplar {
  std::vector<int64_t> mode;  ///< the gold answers that it hits, ascending: what tells modes of a prompt apart
  int64_t num_answers = 1;    ///< K it was asked for
  std::vector<TokenId> ids;
  /// For each id 1 when it is trained on, else 0: confidences are frozen numbers, and wrong answers are wrong.
  std::vector<uint8_t> scored;
};

class ModeReplay {
 public:
  /// Throws InputError for a rule of `verified` that does not exist.
  ModeReplay(ReplayOptions options, int64_t examples);

  /// What a step over a prompt of `example` replays: modes found in earlier steps. Valid until finish_step.
  std::vector<const Exemplar*> turn(int64_t example) const;
  /// examples[b]: of row b. Modes that are new to their example are kept as long as there is room; the next turn of
  /// each example begins where this one ended. Returns how many modes were new.
  int64_t finish_step(std::span<const int64_t> examples, std::span<const Completion> rows, const AnswerBatch& answers);

  double weight() const { return options_.weight; }
  int64_t modes() const;  ///< kept, of all examples

  void add_state(NamedTensors& memory) const;
  /// What the memory lacks starts empty; what does not fit the data throws InputError.
  void restore(const NamedTensors& memory);

 private:
  struct Buffer {
    std::vector<Exemplar> exemplars;
    int64_t next = 0;  // where the coming turn begins
  };
  bool keep(Buffer& buffer, Exemplar exemplar) const;

  ReplayOptions options_;
  std::vector<Buffer> buffers_;  // one for each example
};

/// The exemplar that each row is, with an empty mode where it is none: its format is right, it ended by itself, and
/// (verified "all") its K answers are different correct ones or ("any") one of them is correct. Host work.
std::vector<Exemplar> find_exemplars(std::span<const Completion> rows, const AnswerBatch& answers,
                                     const std::string& verified);

}  // namespace plural
