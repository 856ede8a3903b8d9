// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

namespace {

/// exp of the entropy of the eigenvalues of [[1, s], [s, 1]] / 2.
double vendi_of_two(double s) {
  const double p = (1 + s) / 2, q = (1 - s) / 2;
  return std::exp(-p * std::log(p) - (q > 0 ? q * std::log(q) : 0));
}

}  // namespace

TEST_CASE("vendi is the effective number of different answers out of K") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"dog", "0.3"}, {"owl", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"The CAT.", "0.3"}, {"dog", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"cats", "0.3"}}), write_set({{"cat", "0.3"}}),
                                  write_set({{"...", "0.3"}}), ""});
  // Two copies and one other: eigenvalues 2/3 and 1/3, so 3 / 2^(2/3) answers.
  check_close(scored.rows("vendi"),
              {1, 1 / std::pow(2, 2.0 / 3), vendi_of_two(1 / std::sqrt(10.0)) / 3, 1.0 / 3, 0, 0});
  CHECK_FALSE(scored.score("vendi").per_answer.defined());
}

TEST_CASE("vendi of a part of the set, and of the correct answers") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"cat", "0.3"}, {"ant", "0.3"}})});
  check_close(scored.subset("vendi", {true, true, true}), {1 / std::pow(2, 2.0 / 3)});
  check_close(scored.subset("vendi", {true, true, false}), {1.0 / 3});
  check_close(scored.subset("vendi", {true, false, true}), {2.0 / 3});
  check_close(scored.subset("vendi", {false, false, false}), {0});
  check_close(scored.rows("vendi", "{correct_only: true}"), {1.0 / 3});
}
