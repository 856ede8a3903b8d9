// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <fstream>

#include "lib/objectives/parts.h"
#include "plural/error.h"
#include "plural/objective.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"
#include "tests/support/parity.h"

using namespace plural;

namespace {

Tensor column(const std::vector<double>& values) { return at::tensor(values, at::kDouble).to(test_device()); }

// Rows of the given lengths with one advantage each.
ObjectiveInput rows(const std::vector<int64_t>& lengths, const std::vector<double>& advantage,
                    const std::vector<double>& log_prob, double max_tokens) {
  ObjectiveInput input;
  input.log_prob = column(log_prob).requires_grad_(true);
  const Tensor counts = at::tensor(lengths, at::kLong);
  input.row = at::repeat_interleave(counts).to(test_device());
  input.row_tokens = counts.to(at::kDouble).to(test_device());
  input.advantage = column(advantage).index_select(0, input.row);
  input.counts.rows = static_cast<double>(lengths.size());
  input.counts.tokens = input.counts.rank_tokens = static_cast<double>(log_prob.size());
  input.counts.max_tokens = max_tokens;
  return input;
}

std::vector<double> host(const Tensor& x) {
  const Tensor y = x.detach().to(at::kCPU, at::kDouble).contiguous();
  return {y.const_data_ptr<double>(), y.const_data_ptr<double>() + y.numel()};
}

double scalar(const Tensor& x) { return x.item<double>(); }

}  // namespace

TEST_CASE("losses and gradients equal PyTorch's for every aggregation, clip and KL") {
  const auto golden = run_parity_script("objectives_parity.py");
  REQUIRE(golden["objective"].size() == 4 * 3 * 4 * 2);
  for (const auto& c : golden["objective"]) {
    ObjectiveOptions options;
    options.aggregation = c["aggregation"], options.clip_low = c["clip_low"], options.clip_high = c["clip_high"];
    options.kl_weight = c["kl_weight"], options.kl = c["kl"];
    INFO(c["aggregation"] << " clip " << c["clip_high"] << " kl " << c["kl"] << " " << c["kl_weight"] << " on-policy "
                          << c["on_policy"]);
    ObjectiveInput input = rows(c["lengths"], c["advantage"], c["log_prob"], c["max_tokens"]);
    if (!c["on_policy"].get<bool>()) input.old_log_prob = column(c["old"]);
    if (options.kl_weight > 0) input.ref_log_prob = column(c["ref"]);
    const LossTerms terms = make_policy_gradient(options)->loss(input);
    terms.loss.backward();
    CHECK(scalar(terms.loss) == Approx(c["loss"].get<double>()).margin(1e-12));
    const std::vector<double> expected = c["grad"], got = host(input.log_prob.grad());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
  }
}

TEST_CASE("two rows by hand") {
  // Lengths 1 and 3, advantages 1 and -1, on-policy: token losses -1, 1, 1, 1.
  const std::vector<std::pair<std::string, double>> expected = {
      {"dapo", 2.0 / 4}, {"grpo", (-1.0 + 1.0) / 2}, {"dr_grpo", 2.0 / (2 * 5)}, {"bnpo", 2.0 / 4}};
  for (const auto& [aggregation, loss] : expected) {
    INFO(aggregation);
    ObjectiveOptions options;
    options.aggregation = aggregation;
    const ObjectiveInput input = rows({1, 3}, {1, -1}, {-.5, -1, -2, -3}, 5);
    CHECK(scalar(make_policy_gradient(options)->loss(input).loss) == Approx(loss).margin(1e-15));
  }
}

TEST_CASE("dapo divides by the tokens of all ranks, bnpo by those of the rank") {
  ObjectiveInput input = rows({2}, {1}, {-1, -1}, 4);
  input.counts.tokens = 8, input.counts.rank_tokens = 2, input.counts.ranks = 2;
  CHECK(scalar(make_policy_gradient({.aggregation = "dapo"})->loss(input).loss) == Approx(-2.0 / 8));
  CHECK(scalar(make_policy_gradient({.aggregation = "bnpo"})->loss(input).loss) == Approx(-2.0 / (2 * 2)));
}

TEST_CASE("the clip takes the gradient away on one side of each bound only") {
  // Ratios .5, .5, 1.5, 1.5 with advantages +, -, +, -; bounds .8 and 1.28.
  const std::vector<double> old = {-1, -1, -1, -1};
  const double low = -1 + std::log(.5), high = -1 + std::log(1.5);
  ObjectiveInput input = rows({1, 1, 1, 1}, {2, -2, 2, -2}, {low, low, high, high}, 1);
  input.old_log_prob = column(old);
  const LossTerms terms = make_policy_gradient({})->loss(input);
  terms.loss.backward();
  // Kept: d(-ratio A / 4) = -ratio A / 4 for token 0 (-.25) and token 3 (+.75).
  const std::vector<double> expected = {-.25, 0, 0, .75}, got = host(input.log_prob.grad());
  for (size_t i = 0; i < 4; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
  // Objective: .5*2, .8*-2, 1.28*2, 1.5*-2 -> mean -.26; the loss is its negative.
  CHECK(scalar(terms.loss) == Approx(.26));
  CHECK(scalar(terms.sums.at("clip_low")) == 1);
  CHECK(scalar(terms.sums.at("clip_high")) == 1);
  CHECK(scalar(terms.sums.at("ratio")) == Approx(4.0));
  // KL(old || now) by k3: (r - 1) - ln r
  CHECK(scalar(terms.sums.at("kl_old")) == Approx(2 * (-.5 - std::log(.5)) + 2 * (.5 - std::log(1.5))));
}

TEST_CASE("on-policy the ratio is exactly 1 and the whole gradient flows") {
  for (const at::ScalarType dtype : {at::kFloat, at::kDouble}) {
    ObjectiveInput input = rows({2, 1}, {.3, -.7}, {-1.234567, -.1, -9.87654321}, 3);
    input.log_prob = input.log_prob.detach().to(dtype).requires_grad_(true);
    input.advantage = input.advantage.to(dtype), input.row_tokens = input.row_tokens.to(dtype);
    const LossTerms terms = make_policy_gradient({.clip_low = 0, .clip_high = 0})->loss(input);
    terms.loss.backward();
    CHECK(scalar(terms.sums.at("ratio").to(at::kDouble)) == 3.0);
    CHECK(scalar(terms.sums.at("kl_old").to(at::kDouble)) == 0.0);
    const std::vector<double> expected = {-.1, -.1, .7 / 3}, got = host(input.log_prob.grad());
    for (size_t i = 0; i < 3; ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-7));
  }
}

TEST_CASE("zero advantage gives zero gradient; parts add up to the whole") {
  ObjectiveOptions options;
  options.aggregation = "grpo";
  const auto objective = make_policy_gradient(options);
  ObjectiveInput zero = rows({2, 1}, {0, 0}, {-1, -2, -3}, 3);
  objective->loss(zero).loss.backward();
  for (double g : host(zero.log_prob.grad())) CHECK(g == 0.0);

  const ObjectiveInput whole = rows({2, 1}, {.5, -1}, {-1, -2, -3}, 3);
  ObjectiveInput first = rows({2}, {.5}, {-1, -2}, 3), second = rows({1}, {-1}, {-3}, 3);
  first.counts = second.counts = whole.counts;
  CHECK(scalar(objective->loss(whole).loss) ==
        Approx(scalar(objective->loss(first).loss) + scalar(objective->loss(second).loss)).epsilon(1e-14));
}

TEST_CASE("a KL term asks for the reference and reports it") {
  const auto with = make_policy_gradient({.kl_weight = .5, .kl = "k3"});
  CHECK(with->needs().reference);
  CHECK_FALSE(make_policy_gradient({})->needs().reference);
  ObjectiveInput input = rows({1}, {0}, {-1}, 1);
  CHECK_THROWS_AS(with->loss(input), CheckError);
  input.ref_log_prob = column({-1 + std::log(2.0)});
  const LossTerms terms = with->loss(input);
  CHECK(scalar(terms.sums.at("kl_ref")) == Approx(2 - std::log(2.0) - 1));
  CHECK(scalar(terms.loss) == Approx(.5 * (2 - std::log(2.0) - 1)));
}

TEST_CASE("losses and gradients are TRL's own") {
  // Made by tests/parity/trl_parity.py with the versions that the file names.
  std::ifstream file(std::string(std::getenv("PLURAL_SOURCE_DIR")) + "/tests/golden/trl_losses.json");
  const auto golden = nlohmann::json::parse(file);
  REQUIRE(golden["cases"].size() == 37);
  for (const auto& c : golden["cases"]) {
    const std::string type = c["loss_type"];
    nlohmann::json shown = c;
    for (const char* key : {"log_prob", "old", "sampler", "ref", "entropy", "grad", "entropy_grad"}) shown.erase(key);
    INFO(shown.dump());
    ObjectiveOptions options;
    const bool own_surrogate = type == "cispo" || type == "sapo" || type == "vespo" || type == "gmpo";
    if (own_surrogate) options.surrogate = type;
    options.aggregation = type == "sapo" || type == "gmpo" ? "grpo" : own_surrogate ? "dapo" : type;
    options.ratio = c["level"];
    options.clip_low = c["low"], options.clip_high = c["high"];
    if (type == "cispo") options.clip_low = 1, options.clip_high = options.clip_high - 1;  // TRL's cap is absolute
    if (!c["delta"].is_null()) options.ratio_cap = c["delta"];
    options.kl_weight = c["beta"], options.kl_times_ratio = c["bias_correction"];
    options.entropy_weight = c["entropy_coef"], options.top_entropy = c["top_entropy"];
    if (!c["off_policy"].is_null()) options.off_policy_threshold = c["off_policy"];
    if (!c["importance"].is_null()) {
      const std::string mode = c["importance"];
      options.importance = mode.substr(0, mode.find('_'));
      options.importance_mode = mode.substr(mode.find('_') + 1);
      options.importance_floor = .5, options.importance_cap = 2;
    }
    const auto objective = make_policy_gradient(options);
    ObjectiveInput input = rows(c["lengths"], c["advantage"], c["log_prob"], c["max_tokens"]);
    const Tensor log_prob = input.log_prob, entropy = column(c["entropy"]).requires_grad_(true);
    input.old_log_prob = column(c["old"]);
    input.ref_log_prob = column(c["ref"]);
    input.sampler_log_prob = column(c["sampler"]);
    input.entropy = entropy;
    if (objective->needs().token_mask) {
      // TRL takes masked tokens out of the sum and leaves them in the normaliser, except for the entropy bonus.
      const Tensor mask = objective->token_mask({log_prob.detach(), input.old_log_prob, input.sampler_log_prob,
                                                 entropy.detach(), input.advantage, input.row, 4});
      const Tensor kept = mask.nonzero().squeeze(1);
      CHECK(kept.size(0) < log_prob.size(0));
      if (options.ratio == "token") {
        for (Tensor ObjectiveInput::*field :
             {&ObjectiveInput::log_prob, &ObjectiveInput::old_log_prob, &ObjectiveInput::ref_log_prob,
              &ObjectiveInput::sampler_log_prob, &ObjectiveInput::entropy, &ObjectiveInput::advantage,
              &ObjectiveInput::row})
          input.*field = (input.*field).index_select(0, kept);
      } else {
        input.counted = mask;  // the ratio of a sequence is over all its tokens
      }
      if (options.entropy_weight > 0) input.counts.tokens = static_cast<double>(kept.size(0));
    }
    const LossTerms terms = objective->loss(input);
    terms.loss.backward();
    CHECK(scalar(terms.loss) == Approx(c["loss"].get<double>()).epsilon(0).margin(1e-9));
    const std::vector<double> expected = c["grad"], got = host(log_prob.grad());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(0).margin(1e-9));
    const std::vector<double> pull = c["entropy_grad"];
    const std::vector<double> pulled = options.entropy_weight > 0 ? host(entropy.grad())
                                                                  : std::vector<double>(pull.size(), 0.0);
    for (size_t i = 0; i < pull.size(); ++i) CHECK(pulled[i] == Approx(pull[i]).epsilon(0).margin(1e-9));
  }
}

TEST_CASE("tokens that do not count stay in what is taken over a whole row, and are gone from everything else") {
  // One row of four tokens, log ratios .4, 0, 0, 0 and log weights .2, .2, 0, 0 of the sampler; a second row all
  // masked.
  const auto input_of = [](const std::vector<int64_t>& counted) {
    ObjectiveInput input = rows({4, 1}, {1, -1}, {-.6, -1, -1, -1, -2}, 8);
    input.old_log_prob = column({-1, -1, -1, -1, -1});
    input.sampler_log_prob = column({-1.2, -1.2, -1, -1, -9});
    input.entropy = column({.5, 1, 2, 4, 8}).requires_grad_(true);
    input.counted = at::tensor(counted, at::kLong).to(at::kBool).to(test_device());
    double tokens = 0;
    for (int64_t c : counted) tokens += static_cast<double>(c);
    input.counts.rows = 1, input.counts.tokens = input.counts.rank_tokens = tokens;
    return input;
  };
  const auto loss_of = [&](const ObjectiveOptions& options, const std::vector<int64_t>& counted) {
    return scalar(make_policy_gradient(options)->loss(input_of(counted)).loss);
  };
  const std::vector<int64_t> first = {1, 0, 0, 0, 0}, two = {0, 1, 1, 0, 0};
  // GSPO: s = e^.1 for each token that counts, however many do.
  CHECK(loss_of({.ratio = "sequence"}, first) == Approx(-std::exp(.1)));
  CHECK(loss_of({.ratio = "sequence"}, two) == Approx(-std::exp(.1)));
  CHECK(loss_of({.ratio = "sequence_token"}, two) == Approx(-std::exp(.1)));
  CHECK(loss_of({.surrogate = "gmpo", .clip_high = .4}, two) == Approx(-std::exp(.1)));
  CHECK(loss_of({.ratio = "token", .clip_high = 1}, first) == Approx(-std::exp(.4)));
  // VESPO: W = e^.4 whichever tokens count; phi ln pi with phi = exp(3 + 2 x .4 - 3 e^.4).
  CHECK(loss_of({.surrogate = "vespo"}, first) == Approx(.6 * std::exp(3.8 - 3 * std::exp(.4))));
  // A weight of the whole row: e^.4.
  CHECK(loss_of({.ratio = "sequence", .importance = "sequence"}, two) == Approx(-std::exp(.5)));
  CHECK(loss_of({.clip_high = 1, .importance = "token"}, first) == Approx(-std::exp(.6)));
  // Normalisers are of the tokens that count: a row mean over two, Dr.GRPO's constant, a mean over the step.
  CHECK(loss_of({.ratio = "sequence", .aggregation = "grpo"}, two) == Approx(-std::exp(.1)));
  CHECK(loss_of({.ratio = "sequence", .aggregation = "dr_grpo"}, two) == Approx(-std::exp(.1) / 4));
  CHECK(loss_of({.ratio = "sequence", .aggregation = "luspo"}, two) == Approx(-2 * std::exp(.1)));
  CHECK(loss_of({.surrogate = "reinforce", .entropy_weight = .1}, two) == Approx(1 - .1 * (1 + 2) / 2));
  // Gradients: with one ratio a row all of its tokens have some, with a ratio each only those that count.
  for (const std::string ratio : {"sequence", "token"}) {
    ObjectiveInput input = input_of(two);
    const LossTerms terms = make_policy_gradient({.ratio = ratio})->loss(input);
    terms.loss.backward();
    const std::vector<double> expected = ratio == "token"
                                             ? std::vector<double>{0, -.5, -.5, 0, 0}
                                             : std::vector<double>{-std::exp(.1) / 4, -std::exp(.1) / 4,
                                                                   -std::exp(.1) / 4, -std::exp(.1) / 4, 0};
    const std::vector<double> got = host(input.log_prob.grad());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
    CHECK(scalar(terms.sums.at("ratio")) == Approx(ratio == "token" ? 2 : 2 * std::exp(.1)));
  }
}

TEST_CASE("gradients equal finite differences for every ratio, surrogate and aggregation that go together") {
  const std::vector<double> log_prob = {-.4, -1.7, -.9, -2.2, -.3, -1.1}, old = {-.5, -1.5, -1.1, -2.2, -.35, -1.4},
                            ref = {-.7, -1.2, -1, -2, -.6, -1.3};
  const std::vector<int64_t> lengths = {2, 1, 3};
  int combinations = 0;
  for (const std::string ratio : {"token", "sequence", "sequence_token"})
    for (const std::string surrogate : {"ppo_clip", "cispo", "sapo", "gmpo", "dppo_tv", "vespo", "reinforce"})
      for (const std::string aggregation : {"dapo", "grpo", "dr_grpo", "bnpo", "luspo"}) {
        ObjectiveOptions options{.ratio = ratio, .surrogate = surrogate, .aggregation = aggregation, .kl_weight = .1};
        if (!options.problems().empty()) continue;
        // What is stopped from carrying gradient is held fixed when the log-probs move.
        if (surrogate == "cispo" || surrogate == "dppo_tv" || surrogate == "vespo" || ratio == "sequence_token")
          continue;
        INFO(ratio << " " << surrogate << " " << aggregation);
        ++combinations;
        const auto objective = make_policy_gradient(options);
        const auto value = [&](const std::vector<double>& at) {
          ObjectiveInput input = rows(lengths, {.8, -.5, -.3}, at, 5);
          input.old_log_prob = column(old), input.ref_log_prob = column(ref);
          return std::make_pair(input, objective->loss(input).loss);
        };
        const auto [input, loss] = value(log_prob);
        loss.backward();
        const std::vector<double> got = host(input.log_prob.grad());
        for (size_t i = 0; i < log_prob.size(); ++i) {
          std::vector<double> up = log_prob, down = log_prob;
          up[i] += 1e-5, down[i] -= 1e-5;
          const double slope = (scalar(value(up).second) - scalar(value(down).second)) / 2e-5;
          CHECK(got[i] == Approx(slope).margin(1e-8));
        }
      }
  CHECK(combinations == 4 + 4 + 4 + 4 + 5 + 5);
}

TEST_CASE("gradients of surrogates with a stopped weight: weight times A over the normaliser") {
  // One row of two tokens with ratios e^.1 and e^-.2, A = 2.
  const double up = std::exp(.1), down = std::exp(-.2);
  const auto gradient = [&](const ObjectiveOptions& options, double a) {
    ObjectiveInput input = rows({2}, {a}, {-.9, -1.2}, 2);
    input.old_log_prob = column({-1, -1});
    make_policy_gradient(options)->loss(input).loss.backward();
    return host(input.log_prob.grad());
  };
  const auto check = [](const std::vector<double>& got, const std::vector<double>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
  };
  check(gradient({.surrogate = "cispo"}, 2), {-up, -down});
  check(gradient({.surrogate = "cispo", .clip_low = .1, .clip_high = .05}, 2), {-1.05, -.9});  // clipped, still there
  check(gradient({.surrogate = "reinforce"}, 2), {-1, -1});
  const double w = up * down;
  check(gradient({.surrogate = "vespo"}, 2),
        {-std::exp(3 + 2 * std::log(w) - 3 * w), -std::exp(3 + 2 * std::log(w) - 3 * w)});
  check(gradient({.surrogate = "vespo"}, -2),
        {std::exp(2 + 3 * std::log(w) - 2 * w), std::exp(2 + 3 * std::log(w) - 2 * w)});
  const double s = std::sqrt(w);
  check(gradient({.ratio = "sequence_token"}, 2), {-s, -s});
  // Probabilities moved by e^-.9 - e^-1 = .0387 and e^-1.2 - e^-1 = -.0667.
  check(gradient({.surrogate = "dppo_tv", .clip_low = .05, .clip_high = .05}, 2), {-up, -down});
  check(gradient({.surrogate = "dppo_tv", .clip_low = .05, .clip_high = .03}, 2), {0, -down});
  check(gradient({.surrogate = "dppo_tv", .clip_low = .05, .clip_high = .03}, -2), {up, 0});
}

TEST_CASE("dual clip bounds what a token of negative advantage can cost") {
  ObjectiveInput input = rows({1, 1}, {-1, -1}, {std::log(5.0) - 1, std::log(2.0) - 1}, 1);
  input.old_log_prob = column({-1, -1});
  const LossTerms terms = make_policy_gradient({.dual_clip = 3})->loss(input);
  terms.loss.backward();
  CHECK(scalar(terms.loss) == Approx((3 + 2) / 2.0));
  CHECK(host(input.log_prob.grad())[0] == 0.0);
  CHECK(host(input.log_prob.grad())[1] == Approx(1.0));
}

TEST_CASE("tokens of a row may have different advantages with GSPO's token form") {
  ObjectiveInput input = rows({2}, {1}, {-.9, -1.2}, 2);
  input.old_log_prob = column({-1, -1});
  input.advantage = column({3, -1});
  make_policy_gradient({.ratio = "sequence_token"})->loss(input).loss.backward();
  const double s = std::exp(-.05);
  CHECK(host(input.log_prob.grad())[0] == Approx(-3 * s / 2));
  CHECK(host(input.log_prob.grad())[1] == Approx(s / 2));
  CHECK(make_policy_gradient({.ratio = "sequence_token"})->needs().no_token_advantages.empty());
  CHECK_THAT(make_policy_gradient({.ratio = "sequence"})->needs().no_token_advantages,
             Catch::Contains("sequence_token"));
  CHECK_THAT(make_policy_gradient({.surrogate = "gmpo"})->needs().no_token_advantages, Catch::Contains("ppo_clip"));
}

TEST_CASE("on-policy every ratio and surrogate gives the policy gradient") {
  for (const std::string ratio : {"token", "sequence", "sequence_token"})
    for (const std::string surrogate : {"ppo_clip", "cispo", "sapo", "gmpo", "dppo_tv", "vespo", "reinforce"}) {
      ObjectiveOptions options{.ratio = ratio, .surrogate = surrogate, .aggregation = "grpo"};
      if (!options.problems().empty()) continue;
      INFO(ratio << " " << surrogate);
      ObjectiveInput input = rows({2, 1}, {.8, -.5}, {-.4, -1.7, -.9}, 2);
      make_policy_gradient(options)->loss(input).loss.backward();
      const std::vector<double> got = host(input.log_prob.grad());
      CHECK(got[0] == Approx(-.8 / 4).margin(1e-12));
      CHECK(got[1] == Approx(-.8 / 4).margin(1e-12));
      CHECK(got[2] == Approx(.5 / 2).margin(1e-12));
    }
}

TEST_CASE("masks") {
  const Tensor row = at::tensor({0, 0, 1, 1}, at::kLong).to(test_device());
  const MaskInput input{column({-1, -1, -1, -1}),
                        column({-1, -1, -1, -1}),
                        column({-1.5, -1, -.2, -.4}),
                        column({.1, .2, .3, .4}),
                        column({1, 1, -1, -1}),
                        row,
                        2};
  const auto mask = [&](const ObjectiveOptions& options) {
    return host(make_policy_gradient(options)->token_mask(input));
  };
  // Weights e^.5 = 1.65, 1, e^-.8 = .449, e^-.6 = .549; of the rows 1.65 and e^-1.4 = .247.
  CHECK(mask({.importance = "token", .importance_mode = "mask", .importance_cap = 1.5}) ==
        std::vector<double>{0, 1, 1, 1});
  CHECK(mask({.importance = "token", .importance_mode = "mask", .importance_floor = .5}) ==
        std::vector<double>{1, 1, 0, 1});
  CHECK(mask({.importance = "sequence", .importance_mode = "mask", .importance_floor = .4}) ==
        std::vector<double>{1, 1, 0, 0});
  // Mean log(sampler / now) of row 1 is .7; row 0 has a positive advantage.
  CHECK(mask({.off_policy_threshold = .6}) == std::vector<double>{1, 1, 0, 0});
  CHECK(mask({.off_policy_threshold = .8}) == std::vector<double>{1, 1, 1, 1});
  CHECK(mask({.top_entropy = .5}) == std::vector<double>{0, 0, 1, 1});
  CHECK(mask({.off_policy_threshold = .6, .top_entropy = .75}) == std::vector<double>{0, 1, 0, 0});
  CHECK_FALSE(make_policy_gradient({.importance = "token"})->needs().token_mask);
}

TEST_CASE("controllers") {
  // Proportional: KL at twice the target is an error of 1, cut to .2; 32 rows of a horizon of 320.
  auto objective = make_policy_gradient({.kl_weight = .1, .kl_target = .05, .kl_horizon = 320});
  CHECK(objective->start_weights().kl == .1);
  CHECK(objective->next_weights({.kl = .1}, {.kl = .1, .rows = 32}).kl == Approx(.1 * 1.02));
  CHECK(objective->next_weights({.kl = .1}, {.kl = .0475, .rows = 32}).kl == Approx(.1 * (1 - .05 * .1)));
  // Additive, as the reference code: the golden run of rewards/schedules (spec 5.5).
  objective = make_policy_gradient({.kl_target = .04, .kl_controller = "additive", .kl_rate = .1});
  CHECK(objective->needs().reference);
  CHECK(objective->start_weights().kl == .01);
  CHECK(objective->next_weights({.kl = .01}, {.kl = .06}).kl == Approx(.012));
  CHECK(objective->next_weights({.kl = .001}, {.kl = .01}).kl == 1e-6);
  // Entropy: paid below the target only, and the weight keeps moving above it.
  objective = make_policy_gradient({.entropy_weight = .01, .entropy_target = .2, .entropy_rate = .005});
  ObjectiveWeights weights = objective->start_weights();
  CHECK(weights.entropy == 0.0);
  weights = objective->next_weights(weights, {.entropy = .1});
  CHECK(weights.entropy == Approx(.015));
  weights = objective->next_weights(weights, {.entropy = .3});
  CHECK(weights.entropy == 0.0);
  CHECK(weights.entropy_ready == Approx(.01));
  for (int i = 0; i < 5; ++i) weights = objective->next_weights(weights, {.entropy = .3});
  CHECK(weights.entropy_ready == 0.0);
  CHECK(make_policy_gradient({.entropy_weight = .3})->next_weights({.entropy = .3}, {.entropy = 9}).entropy == .3);
  // A step whose numbers broke moves nothing: NaN would never leave the weights again.
  const double nan = std::nan("");
  objective = make_policy_gradient({.kl_weight = .1, .kl_target = .05, .entropy_weight = .01, .entropy_target = .2});
  for (const StepMeasure& broken : {StepMeasure{nan, .1, 32}, StepMeasure{.1, nan, 32}}) {
    weights = objective->next_weights({.1, .02, .03}, broken);
    CHECK(weights.kl == .1);
    CHECK(weights.entropy == .02);
    CHECK(weights.entropy_ready == .03);
  }
}

TEST_CASE("weights of the step count, not those of the options") {
  ObjectiveInput input = rows({1}, {0}, {-1}, 1);
  input.ref_log_prob = column({-1 + std::log(2.0)});
  input.entropy = column({.7});
  input.weights = {.kl = 2, .entropy = 3};
  const LossTerms terms = make_policy_gradient({.kl_weight = .5, .entropy_weight = .1})->loss(input);
  CHECK(scalar(terms.loss) == Approx(2 * (2 - std::log(2.0) - 1) - 3 * .7));
}

TEST_CASE("combinations that make no sense are refused, with the reason") {
  const std::vector<std::pair<ObjectiveOptions, std::string>> refused = {
      {{.ratio = "sequence", .surrogate = "gmpo"}, "one ratio of a row's token ratios itself"},
      {{.ratio = "sequence", .surrogate = "reinforce"}, "uses no ratio"},
      {{.ratio = "sequence", .surrogate = "dppo_tv"}, "single tokens"},
      {{.aggregation = "luspo"}, "ratio: sequence"},
      {{.clip_low = 1.5}, "never below 0"},
      {{.surrogate = "sapo", .dual_clip = 3}, "only ppo_clip"},
      {{.dual_clip = .5}, "above 1"},
      {{.ratio_cap = 1.1}, "above 1 + clip_high"},
      {{.kl_weight = .1, .kl_in = "reward"}, "k1"},
      {{.kl_target = .1}, "0 stays 0"},
      {{.ratio = "sequence", .kl_weight = .1, .kl_times_ratio = true}, "the token's own ratio"},
      {{.ratio = "sequence_token", .kl_weight = .1, .kl_times_ratio = true}, "the token's own ratio"},
      {{.surrogate = "vespo", .importance = "token"}, "twice"},
      {{.importance_cap = 1, .importance_floor = 2}, "at most importance_cap"},
      {{.top_entropy = 0}, "keeps no token"}};
  for (const auto& [options, why] : refused) {
    INFO(why);
    CHECK_THROWS_WITH(make_policy_gradient(options), Catch::Contains(why));
    CHECK(options.problems().size() == 1);
  }
  CHECK(ObjectiveOptions{}.problems().empty());
}

TEST_CASE("unknown names and empty counts are refused") {
  CHECK_THROWS_WITH(make_policy_gradient({.aggregation = "dappo"}), Catch::Contains("dapo"));
  CHECK_THROWS_AS(make_policy_gradient({.kl = "k4"}), InputError);
  CHECK_THROWS_WITH(make_policy_gradient({.surrogate = "ppo"}), Catch::Contains("ppo_clip"));
  CHECK_THROWS_AS(make_policy_gradient({.ratio = "row"}), InputError);
  ObjectiveInput input = rows({1}, {1}, {-1}, 1);
  input.counts = {};
  CHECK_THROWS_AS(make_policy_gradient({})->loss(input), CheckError);
}
