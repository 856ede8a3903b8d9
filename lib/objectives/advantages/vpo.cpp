// SPDX-License-Identifier: Apache-2.0
// VPO (arXiv 2605.22817): answers with several merits, judged by somebody whose preferences among them are not known. A
// set is worth the expected value of its best answer, R(S) = E_{w ~ Dirichlet(1)} max_{a in S} w . r(a).
#include "lib/objectives/advantages/vpo.h"

#include <ATen/ATen.h>

#include "lib/core/format.h"
#include "lib/objectives/advantages/estimators.h"
#include "lib/objectives/advantages/groups.h"
#include "plural/error.h"

namespace plural {

namespace {

// Integral over t in [0, 1] of max_k (t a_k + (1 - t) b_k). Between two neighbouring crossings of any two lines the
// maximum is one line, so its mean is its value in the middle. a, b [B, K], keep [B, K].
Tensor envelope(const Tensor& a, const Tensor& b, const Tensor& keep) {
  const int64_t rows = a.size(0), slots = a.size(1);
  const Tensor slope = a - b;
  const Tensor gap = slope.unsqueeze(2) - slope.unsqueeze(1);    // [B, K, K]
  const Tensor cross = (b.unsqueeze(1) - b.unsqueeze(2)) / gap;  // t where lines k and l meet
  const Tensor inside = cross.gt(0).logical_and(cross.lt(1));    // false for parallel lines (inf, nan)
  const Tensor knots = at::where(inside, cross, at::zeros_like(cross)).view({rows, slots * slots});
  const Tensor ends = at::tensor({0.0, 1.0}, a.options()).expand({rows, 2});
  const Tensor t = std::get<0>(at::cat({ends, knots}, 1).sort(1));  // [B, K*K + 2]
  const int64_t pieces = t.size(1) - 1;
  const Tensor low = t.narrow(1, 0, pieces), high = t.narrow(1, 1, pieces), middle = (low + high) / 2;
  const Tensor value = middle.unsqueeze(1) * a.unsqueeze(2) + (1 - middle).unsqueeze(1) * b.unsqueeze(2);
  const Tensor best = value.masked_fill(keep.logical_not().unsqueeze(2), -1e300).amax(1);  // [B, pieces]
  return (best * (high - low)).sum(1);
}

// [draws, C]: points of the simplex, uniform: exponentials of a Sobol sequence, divided by their sum.
Tensor dirichlet_points(int64_t draws, int64_t parts, const Tensor& like) {
  constexpr int64_t kBits = 30;  // of ATen's Sobol engine
  Tensor state = at::zeros({parts, kBits}, at::kLong);
  at::_sobol_engine_initialize_state_(state, parts);
  Tensor quasi = at::zeros({parts}, at::kLong);
  const Tensor points = std::get<0>(at::_sobol_engine_draw(quasi, draws, state, parts, 0, at::kDouble));
  const Tensor exponential = -(-points).log1p();  // points lie in [0, 1)
  return (exponential / exponential.sum(1, true)).to(like.device());
}

struct VpoOptions {
  int64_t draws = 128;
  double std_floor = 0.0;

  template <class V>
  void fields(V& v) {
    v.field("draws", draws, at_least(1), "preferences that the expectation is taken over with 3 rewards or more");
    v.field("std_floor", std_floor, at_least(0), "a smaller std counts as this one");
  }
};

class Vpo final : public AdvantageEstimator {
 public:
  explicit Vpo(VpoOptions options) : options_(options) {}
  std::string name() const override { return "vpo"; }
  bool credits_equal_rewards() const override { return true; }

  AdvantageOutput estimate(const AdvantageInput& input) const override {
    PLURAL_CHECK(input.answers != nullptr, "vpo needs the answers");
    if (!input.vector.defined())
      throw InputError(
          "advantage 'vpo' judges answers by several merits, but no reward judges single answers; add two or more of "
          "them (coverage, accuracy ...), or use advantage: rloo");
    const AnswerBatch& answers = *input.answers;
    check_shapes({{"total", input.total, "B"}, {"vector", input.vector, "B K C"}, {"present", answers.present, "B K"}});
    const Tensor vector = input.vector.to(at::kDouble);
    // The rewards that judge single answers make up the set's value; whatever else a row is paid stays as it is.
    const Tensor rest = input.total.to(at::kDouble) - vector.sum({1, 2});
    // A set of fewer different answers than were asked for is filled up with one of no merit.
    const Tensor different = answers.first_of_key();
    const Tensor is_short = different.sum(1).lt(answers.k).unsqueeze(1);  // [B, 1]
    const Tensor filled = at::cat({vector, at::zeros_like(vector.narrow(1, 0, 1))}, 1);
    const Tensor worth = rest + expected_best(filled, at::cat({different, is_short}, 1), options_.draws);
    const Groups groups = split_groups(input, worth);
    constexpr double kEps = 1e-6;
    const Tensor std = group_std(groups.reward, /*unbiased=*/false);
    const Tensor scaled = groups.centred / (std.clamp_min(options_.std_floor) + kEps);
    return join_groups(groups, scaled.masked_fill(std.lt(kEps), 0.0));
  }

 private:
  VpoOptions options_;
};

}  // namespace

Tensor expected_best(const Tensor& value, const Tensor& keep, int64_t draws) {
  check_shapes({{"value", value, "B K C"}, {"keep", keep, "B K"}});
  const Tensor merit = value.to(at::kDouble);
  const int64_t parts = merit.size(2);
  const Tensor empty = keep.any(1).logical_not();
  Tensor best;
  if (parts <= 2) {
    best = envelope(merit.select(2, 0), merit.select(2, parts - 1), keep);
  } else {
    const Tensor points = dirichlet_points(draws, parts, merit);  // [draws, C]
    const Tensor preferred = at::matmul(merit, points.t());       // [B, K, draws]
    best = preferred.masked_fill(keep.logical_not().unsqueeze(2), -1e300).amax(1).mean(1);
  }
  return best.masked_fill(empty, 0.0);
}

void add_vpo(Registry<AdvantageEstimator>& registry) {
  add_estimator<Vpo, VpoOptions>(registry, "vpo", "best answer under random preferences among rewards, z-scored");
}

}  // namespace plural
