// SPDX-License-Identifier: Apache-2.0
// What every registered reward must keep, whatever it computes.
#include <cmath>

#include "lib/external/sandbox.h"
#include "tests/rewards/reward_fixture.h"

using namespace plural;
using namespace plural::testing;

namespace {

const std::vector<std::string>& soup() {
  static const std::vector<std::string> rows = {write_set({{"cat", "0.3"}, {"dog", "0.3"}, {"owl", "0.3"}}),
                                                write_set({{"cat", "0.9"}, {"cat", "0.9"}, {"ant", "0.1"}}),
                                                write_set({{"cat", "x"}, {"", "-1"}}),
                                                "",
                                                "<answer1><answer1>",
                                                "<answer3>cat</answer3><confidence3>1</confidence3>",
                                                std::string("\xff\xfe<answer1>\x80</answer1>\0", 24)};
  return rows;
}

/// Range of the rewards that do not run from 0 to 1.
std::pair<double, double> range_of(const std::string& name) {
  if (name == "repetition" || name == "soft_overlong") return {-1, 0};
  if (name == "truthful_score") return {-1, 1};
  return {0, 1};
}

/// Options for the rewards that cannot do without: what they ask is broken, and rows have a value all the same.
std::string options_of(const std::string& name) {
  if (name == "external")
    return R"({command: [sh, -c, "read x; echo '{\"plural_worker\": 1}'; read y; echo nonsense"]})";
  if (name == "judge") return "{url: \"http://127.0.0.1:9/\", model: m, retries: 0, fail_value: 0.25}";
  return "{}";
}

std::unique_ptr<Reward> make(const Registry<Reward>& registry, const std::string& name) {
  return registry.make(name, parse_yaml(options_of(name), name));
}

/// All rewards that can be built here.
std::vector<std::string> reward_names() {
  std::vector<std::string> names = builtin_rewards().names();
  if (const std::string problem = external::Sandbox::problem(); !problem.empty()) {
    WARN("without the reward code: " << problem);
    std::erase(names, "code");
  }
  return names;
}

void check_equal(const Tensor& a, const Tensor& b) {
  REQUIRE(a.defined() == b.defined());
  if (a.defined()) CHECK(at::equal(a, b));
}

}  // namespace

TEST_CASE("every reward: shapes, device, range, determinism, and rows that do not see each other") {
  const Registry<Reward> registry = builtin_rewards();
  REQUIRE(registry.names().size() >= 20);
  for (const int64_t k : {1, 3, 7}) {
    const Scored all(animals(), soup(), k);
    for (const std::string& name : reward_names()) {
      INFO(name << " k " << k);
      const auto reward = make(registry, name);
      CHECK(reward->name() == name);
      CHECK_FALSE(reward->formula().empty());
      const RewardOutput out = reward->score(all.input());
      const auto rows = static_cast<int64_t>(soup().size());
      REQUIRE(out.row.sizes() == at::IntArrayRef({rows}));
      CHECK(out.row.device() == all.answers.confidence.device());
      CHECK(out.row.scalar_type() == at::kFloat);
      CHECK(at::isfinite(out.row).all().item<bool>());
      CHECK(out.row.min().item<double>() >= range_of(name).first - 1e-6);
      CHECK(out.row.max().item<double>() <= range_of(name).second + 1e-6);
      if (out.valid.defined()) CHECK(out.valid.scalar_type() == at::kBool);
      if (out.per_answer.defined()) REQUIRE(out.per_answer.sizes() == at::IntArrayRef({rows, k}));
      const RewardOutput again = reward->score(all.input());
      check_equal(out.row, again.row);
      check_equal(out.per_answer, again.per_answer);
      for (size_t b = 0; b < soup().size(); ++b) {
        const Scored alone(animals(), {soup()[b]}, k);
        const RewardOutput own = reward->score(alone.input());
        check_equal(own.row[0], out.row[static_cast<int64_t>(b)]);
        if (out.per_answer.defined()) check_equal(own.per_answer[0], out.per_answer[static_cast<int64_t>(b)]);
      }
    }
  }
}

TEST_CASE("every reward: rows that are asked for different numbers of answers are judged as they are alone") {
  const Registry<Reward> registry = builtin_rewards();
  std::vector<std::string> texts = soup();
  texts.push_back(write_set({{"cat", "0.6"}, {"ant", "0.3"}}));
  texts.push_back(write_set({{"dog", "0.6"}, {"cat", "0.1"}, {"owl", "0.1"}, {"ant", "0.1"}, {"cow", "0"}}));
  const std::vector<int64_t> asked = {3, 3, 1, 7, 1, 3, 7, 2, 5};
  Scored mixed(animals(), texts, 7);
  std::vector<CompletionView> views;
  for (size_t b = 0; b < texts.size(); ++b)
    views.push_back({mixed.input().examples[b], mixed.input().completions[b], {}, asked[b]});
  const Tensor length = mixed.answers.length;
  mixed.answers = build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr,
                                     test_device());
  mixed.answers.length = length;
  const Tensor every_other = at::arange(7).remainder(2).eq(0).to(test_device()).expand({mixed.answers.rows, 7});
  for (const std::string& name : reward_names()) {
    INFO(name);
    const auto reward = make(registry, name);
    const RewardOutput out = reward->score(mixed.input());
    const Tensor part = reward->score_subset(mixed.input(), every_other);
    for (size_t b = 0; b < texts.size(); ++b) {
      INFO("row " << b);
      const auto row = static_cast<int64_t>(b);
      const Scored alone(animals(), {texts[b]}, asked[b]);
      const RewardOutput own = reward->score(alone.input());
      CHECK(at::allclose(out.row[row], own.row[0], 0, 1e-6));
      CHECK((!out.valid.defined() || at::equal(out.valid[row], own.valid[0])));
      if (out.per_answer.defined()) {
        CHECK(at::allclose(out.per_answer[row].narrow(0, 0, asked[b]), own.per_answer[0], 0, 1e-6));
        CHECK(out.per_answer[row].narrow(0, asked[b], 7 - asked[b]).eq(0).all().item<bool>());
      }
      if (part.defined())
        CHECK(at::allclose(part[row],
                           reward->score_subset(alone.input(), every_other.narrow(0, row, 1).narrow(1, 0, asked[b]))[0],
                           0, 1e-6));
    }
  }
}

TEST_CASE(
    "every reward with parts: the whole set is worth the row, and a part is judged as if the rest were not there") {
  const Registry<Reward> registry = builtin_rewards();
  for (const int64_t k : {1, 3, 7}) {
    const Scored all(animals(), soup(), k);
    const Tensor every = at::ones_like(all.answers.present), none = at::zeros_like(every);
    for (const std::string& name : reward_names()) {
      INFO(name << " k " << k);
      const auto reward = make(registry, name);
      const Tensor whole = reward->score_subset(all.input(), every);
      const RewardOutput out = reward->score(all.input());
      CHECK(reward->score_subset(all.input(), none).defined() == whole.defined());
      if (!whole.defined()) {
        CHECK_FALSE(out.per_answer.defined());  // parts of a row can be taken out of it
        continue;
      }
      CHECK(at::allclose(whole, out.row, 0, 1e-6));
      // Any two subsets, one in a row: rows do not see each other's, and slots left out could as well hold anything.
      const Tensor first = every.cumsum(1).le(1), mixed = first.logical_xor(every.cumsum(0).remainder(2).eq(0));
      const Tensor value = reward->score_subset(all.input(), mixed);
      REQUIRE(value.sizes() == out.row.sizes());
      CHECK(at::isfinite(value).all().item<bool>());
      for (int64_t b = 0; b < all.answers.rows; ++b) {
        const Scored alone(animals(), {soup()[static_cast<size_t>(b)]}, k);
        check_equal(reward->score_subset(alone.input(), mixed.narrow(0, b, 1))[0], value[b]);
      }
      check_equal(reward->score_subset(all.input(), mixed), value);
    }
  }
}

TEST_CASE("every reward: a row is worth the same next to rows that were asked for more answers") {
  const std::vector<std::string> completions = {
      write_set({{"cat", "0.7"}}),
      write_set({{"cat", "0.5"}, {"ant", "0.25"}}),
      write_set({{"ant", "0"}, {"dog", "1"}, {"owl", "0"}}),
      write_set({{"cat", "0.5"}}),
      write_set({{"big cat", "0.25"}, {"owl", "0.5"}, {"owl", "0"}}),
      write_set({{"a", "0"}, {"b", "0"}, {"c", "0"}, {"d", "0"}, {"cat", "1"}})};
  const std::vector<int64_t> k = {1, 2, 3, 3, 3, 5};
  const Scored together(animals(), completions, k);
  const Tensor first_two = at::arange(5).lt(2).to(test_device());
  std::vector<std::pair<std::string, std::string>> cases = {
      {"accuracy", "{more_than_one_correctness_point: true, enforce_uniqueness: never}"},
      {"brier", "{require_format: false, require_unique: false, sum_at_most_one: false}"},
      {"coverage", "{denominator: min_k_gold, discount: log2}"},
      {"uniqueness", "{mode: share}"}};
  for (const std::string& name : reward_names()) cases.emplace_back(name, options_of(name));
  for (const auto& [name, options] : cases) {
    const auto reward = builtin_rewards().make(name, parse_yaml(options, name));
    const RewardOutput all = reward->score(together.input());
    const Tensor part = reward->score_subset(together.input(), first_two.expand({together.answers.rows, 5}));
    for (size_t b = 0; b < completions.size(); ++b) {
      INFO(name << " " << options << ", asked for " << k[b]);
      const auto row = static_cast<int64_t>(b);
      const Scored alone(animals(), {completions[b]}, k[b]);
      const RewardOutput own = reward->score(alone.input());
      CHECK(at::allclose(all.row[row], own.row[0], 0, 1e-6));
      if (all.valid.defined()) CHECK(at::equal(all.valid[row], own.valid[0]));
      if (all.per_answer.defined()) {
        CHECK(at::allclose(all.per_answer[row].narrow(0, 0, k[b]), own.per_answer[0], 0, 1e-6));
        CHECK(at::allclose(all.per_answer[row].sum(), own.per_answer[0].sum(), 0, 1e-6));
      }
      if (part.defined()) {
        const Tensor own_part = reward->score_subset(alone.input(), first_two.narrow(0, 0, k[b]).unsqueeze(0));
        CHECK(at::allclose(part[row], own_part[0], 0, 1e-6));
      }
    }
  }
}

TEST_CASE("every reward documents its options and refuses unknown ones") {
  const Registry<Reward> registry = builtin_rewards();
  for (const auto& [name, entry] : registry.entries()) {
    INFO(name);
    CHECK_FALSE(entry.help.empty());
    for (const FieldDoc& option : entry.options) CHECK_FALSE(option.help.empty());
    CHECK_THROWS_AS(registry.make(name, parse_yaml("{no_such_option: 1}", "options")), InputError);
  }
  CHECK_THROWS_WITH(registry.make("covrage"), Catch::Contains("coverage"));
}

TEST_CASE("every reward: questions without gold answers and completions without answers are judged, not refused") {
  for (const int64_t k : {1, 3}) {
    const Scored scored({}, {"", "no tags here", write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"owl", "0.5"}})}, k);
    for (const std::string& name : reward_names()) {
      INFO(name << " k " << k);
      const auto reward = make(builtin_rewards(), name);
      CHECK(at::isfinite(reward->score(scored.input()).row).all().item<bool>());
      const Tensor part = reward->score_subset(scored.input(), at::zeros_like(scored.answers.present));
      if (part.defined()) CHECK(at::isfinite(part).all().item<bool>());
      for (const bool exclusive : {false, true}) CHECK(std::isfinite(reward->zero_confidence_margin(k, exclusive)));
    }
  }
}

TEST_CASE("rewards of an empty batch are empty") {
  const Scored none(animals(), {});
  for (const std::string& name : reward_names()) {
    INFO(name);
    CHECK(none.score(name, options_of(name)).row.numel() == 0);
  }
}
