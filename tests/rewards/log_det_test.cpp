// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("log_det is the share of the volume that K unlike answers would span") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"dog", "0.3"}, {"owl", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"The CAT.", "0.3"}, {"dog", "0.3"}}),
                                  write_set({{"cat", "0.3"}, {"cats", "0.3"}}), write_set({{"...", "0.3"}}), ""});
  // S = [[1,1,0],[1,1,0],[0,0,1]]: det(I + 10 S) = (11^2 - 10^2) 11 = 21 * 11.
  // cat and cats share 3 units (<ca, cat, <cat) of lengths 3 and sqrt(10): cosine s = 1/sqrt(10), det = 11^2 - 100 s^2.
  const double full = 3 * std::log(11.0);
  check_close(scored.rows("log_det"), {1, std::log(21.0 * 11.0) / full, std::log(111.0) / full, 0, 0});
  check_close(scored.rows("log_det", "{scale: 1}"),
              {1, std::log(3.0 * 2.0) / std::log(8.0), std::log(4 - 0.1) / std::log(8.0), 0, 0});
  // What each answer adds to those before it: the repetition adds ln(21 / 11).
  check_close(Scored::values(scored.score("log_det").per_answer[1]), {1.0 / 3, std::log(21.0 / 11.0) / full, 1.0 / 3});
}

TEST_CASE("log_det of a part of the set, and of the correct answers") {
  const Scored scored(animals(), {write_set({{"cat", "0.3"}, {"cat", "0.3"}, {"ant", "0.3"}})});
  const double full = 3 * std::log(11.0);
  check_close(scored.subset("log_det", {true, true, true}), scored.rows("log_det"));
  check_close(scored.subset("log_det", {true, true, false}), {std::log(21.0) / full});
  check_close(scored.subset("log_det", {false, true, true}), {2.0 / 3});
  check_close(scored.subset("log_det", {false, false, false}), {0});
  check_close(scored.rows("log_det", "{correct_only: true}"), {std::log(21.0) / full});
  check_close(scored.subset("log_det", {false, true, true}, "{correct_only: true}"), {1.0 / 3});
}

TEST_CASE("rewards on embeddings take embedders of the caller, or the policy") {
  // Every text at an angle of its length: cosines of different lengths are negative, 0 or positive.
  class Angles final : public plural::Embedder {
   public:
    std::string name() const override { return "angles"; }
    plural::Tensor embed(std::span<const std::string_view> texts, at::Device device) const override {
      plural::Tensor vectors = at::zeros({static_cast<int64_t>(texts.size()), 2}, at::kFloat);
      for (size_t i = 0; i < texts.size(); ++i) {
        const double angle = static_cast<double>(texts[i].size()) * M_PI / 3;  // 60 degrees a letter
        vectors[static_cast<int64_t>(i)][0] = std::cos(angle);
        vectors[static_cast<int64_t>(i)][1] = std::sin(angle);
      }
      return vectors.to(device);
    }
  };
  const Scored scored(animals(), {write_set({{"a1", "0.5"}, {"b", "0.5"}, {"abcd", "0.5"}})});
  const auto expected = [](double scale) {
    // 2, 1 and 4 letters: cosines 1/2, -1/2 (2 and 4 letters), -1 (1 and 4 letters).
    const plural::Tensor s = at::tensor({1.0, .5, -.5, .5, 1.0, -1.0, -.5, -1.0, 1.0}, at::kDouble).view({3, 3});
    return at::logdet(at::eye(3, at::kDouble) + scale * s).item<double>() / (3 * std::log(1 + scale));
  };
  auto embedders = plural::builtin_embedders();
  embedders.add("angles", "lengths as angles", [](const plural::ConfigNode&) { return std::make_unique<Angles>(); });
  const auto registry = plural::builtin_rewards({.embedders = embedders});
  const auto own = registry.make("log_det", plural::parse_yaml("{embedder: angles, scale: 2}", "options"));
  check_close(Scored::values(own->score(scored.input()).row), {expected(2)}, 1e-6);
  // A negative cosine counts as 0: distances 1/2, 1, 1.
  const auto distance = registry.make("embedding_distance", plural::parse_yaml("{embedder: angles}", "options"));
  check_close(Scored::values(distance->score(scored.input()).row), {2.5 / 3}, 1e-6);

  const auto by_policy = registry.make("log_det", plural::parse_yaml("{embedder: {name: policy}}", "options"));
  CHECK_THROWS_WITH(by_policy->score(scored.input()), Catch::Contains("there is no policy"));
  const Angles policy;
  plural::RewardInput input = scored.input();
  input.policy_embedder = &policy;
  check_close(Scored::values(by_policy->score(input).row), {expected(10)}, 1e-6);

  CHECK_THROWS_WITH(registry.make("vendi", plural::parse_yaml("{embedder: char_ngram}", "options")),
                    Catch::Contains("char_ngrams"));
  CHECK_THROWS_WITH(
      registry.make("vendi", plural::parse_yaml("{embedder: {name: char_ngrams, min_n: 4, max_n: 3}}", "options")),
      Catch::Contains("max_n"));
}
