// SPDX-License-Identifier: Apache-2.0
// Ways of asking, against an engine that follows a script: what it is asked, and how its answers are read.
#include "lib/eval/set_sampling.h"

#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "lib/core/format.h"
#include "lib/eval/evaluator.h"
#include "lib/eval/forced_completion.h"
#include "lib/eval/reference_eval.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace plural;
using namespace plural::eval;

namespace {

/// Says what `script` says for a prompt (as text) and a sample. Token i of a completion has log-prob -(i + 1) / 100.
class ScriptedEngine final : public RolloutEngine {
 public:
  using Script = std::function<std::string(const std::string& prompt, int64_t sample)>;
  ScriptedEngine(const Tokenizer& tokenizer, Script script) : tokenizer_(tokenizer), script_(std::move(script)) {}

  RolloutBatch generate(std::span<const std::vector<TokenId>> prompts, const SamplingOptions& options,
                        const RolloutKey& key) override {
    calls.push_back({options, key, {}});
    RolloutBatch batch;
    batch.samples_per_prompt = options.samples_per_prompt;
    for (const auto& ids : prompts) {
      calls.back().prompts.push_back(tokenizer_.decode(ids));
      for (int64_t g = 0; g < options.samples_per_prompt; ++g) {
        Completion row;
        row.text = script_(calls.back().prompts.back(), g);
        row.ids = tokenizer_.encode(row.text);
        row.ids.push_back(258);  // <|im_end|>
        for (size_t i = 0; i < row.ids.size(); ++i) row.log_probs.push_back(-0.01F * static_cast<float>(i + 1));
        row.finish = FinishReason::kStop;
        batch.rows.push_back(std::move(row));
      }
    }
    return batch;
  }

  struct Call {
    SamplingOptions options;
    RolloutKey key;
    std::vector<std::string> prompts;
  };
  std::vector<Call> calls;

 private:
  const Tokenizer& tokenizer_;
  Script script_;
};

const Tokenizer& tiny_tokenizer() {
  static const Tokenizer tokenizer = [] {
    TempDir dir;
    write_tiny_model_files(dir.path());
    return Tokenizer::load(dir.path());
  }();
  return tokenizer;
}

std::vector<Example> birds() {
  std::vector<Example> examples(2);
  examples[0].id = "one";
  examples[0].prompt = {{"user", "Name a bird."}};
  examples[0].gold = {{"owl", {}, 1}, {"kite", {}, 1}};
  examples[1].id = "two";
  examples[1].prompt = {{"system", "Be brief."}, {"user", "Name a fish."}};
  examples[1].gold = {{"cod", {}, 1}};
  return examples;
}

std::string answer(const std::string& text, const std::string& confidence, int n = 1) {
  return fmt::format("<answer{0}>{1}</answer{0}><confidence{0}>{2}</confidence{0}>", n, text, confidence);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct World {
  explicit World(ScriptedEngine::Script script, const char* format_name = "compact")
      : examples(birds()), engine(tiny_tokenizer(), std::move(script)), format(make_answer_format(format_name)) {}
  AskParts parts() { return {engine, tiny_tokenizer(), examples, *format, 4096}; }
  std::vector<Example> examples;
  ScriptedEngine engine;
  std::unique_ptr<AnswerFormat> format;
};

}  // namespace

TEST_CASE("a set in one completion: what was spent when each answer was written") {
  const std::string text = answer("owl", "0.5") + answer("emu", "0.25", 2) + " end";
  World world([&](const std::string&, int64_t) { return text; });
  AskOptions options;
  options.num_answers = 2;
  options.samples_per_prompt = 3;
  options.seed = 9;
  const auto sets = sample_sets(world.parts(), options);
  REQUIRE(sets.size() == 6);
  REQUIRE(world.engine.calls.size() == 1);
  CHECK(world.engine.calls[0].options.samples_per_prompt == 3);
  CHECK(world.engine.calls[0].key.seed == 9);
  CHECK(contains(world.engine.calls[0].prompts[1], "Name a fish. Give 2 different answers."));
  CHECK(sets[4].prompt == 1);
  CHECK(sets[4].sample == 1);
  CHECK(sets[4].example == &world.examples[1]);
  REQUIRE(sets[0].answers.answers.size() == 2);
  // The tiny tokenizer has a token a byte; one more ends the turn.
  CHECK(sets[0].tokens == static_cast<int64_t>(text.size()) + 1);
  CHECK(sets[0].tokens_at[0] == static_cast<int64_t>(answer("owl", "0.5").size()));
  CHECK(sets[0].tokens_at[1] == static_cast<int64_t>(text.size()) - 4);
}

TEST_CASE("independent answers are drawn for one prompt; a missing one is an empty slot") {
  World world([](const std::string&, int64_t g) { return g == 1 ? "no idea" : answer("owl", "0.5"); });
  AskOptions options;
  options.num_answers = 3;
  options.mode = AskMode::kIndependent;
  const auto sets = sample_sets(world.parts(), options);
  REQUIRE(sets.size() == 2);
  CHECK(world.engine.calls[0].options.samples_per_prompt == 3);
  CHECK(contains(world.engine.calls[0].prompts[0], "Give 1 answer."));
  REQUIRE(sets[0].completions.size() == 3);
  CHECK(sets[0].answers.answers[0].text == "owl");
  CHECK(sets[0].answers.answers[1].answer_bytes.empty());
  CHECK_FALSE(sets[0].answers.format_ok);
  CHECK(sets[0].tokens_at[1] - sets[0].tokens_at[0] == 8);  // "no idea" and the end token
  CHECK(sets[0].tokens_at[2] == sets[0].tokens);

  const Evaluation measured = evaluate(sets, 3, *world.format, *make_matcher("alias"));
  CHECK(measured.metrics.at("coverage") == Approx(1.0 / 6));
  CHECK(measured.metrics.at("unique") == Approx(1.0 / 3));
  CHECK(measured.metrics.at("tokens") == static_cast<double>(sets[0].tokens));
  REQUIRE(measured.curve.size() == 3);
  CHECK(measured.curve[0].tokens == static_cast<double>(sets[0].tokens_at[0]));
}

TEST_CASE("sequential: each prompt rules out the answers so far") {
  World world([](const std::string& prompt, int64_t) {
    if (!contains(prompt, "Do not give")) return answer("owl", "0.5");
    return contains(prompt, "these answers: owl.") ? answer("kite", "0.4") : answer("emu", "0.1");
  });
  AskOptions options;
  options.num_answers = 3;
  options.mode = AskMode::kSequential;
  options.samples_per_prompt = 2;
  options.seed = 4;
  const auto sets = sample_sets(world.parts(), options);
  REQUIRE(sets.size() == 4);
  REQUIRE(world.engine.calls.size() == 3);  // one a turn
  for (size_t turn = 0; turn < 3; ++turn) {
    CHECK(world.engine.calls[turn].key.step == turn);
    CHECK(world.engine.calls[turn].prompts.size() == 4);
    CHECK(world.engine.calls[turn].options.samples_per_prompt == 1);
  }
  CHECK(contains(world.engine.calls[2].prompts[3],
                 "Name a fish. Do not give any of these answers: owl; kite. Give 1 answer."));
  CHECK(contains(world.engine.calls[2].prompts[3], "Be brief."));
  CHECK(sets[3].answers.answers[2].text == "emu");
  CHECK(evaluate(sets, 3, *world.format, *make_matcher("alias")).metrics.at("coverage") == Approx((2.0 / 3 + 0) / 2));
}

TEST_CASE("sequential: answers that no longer fit in the context are not ruled out, the earliest first") {
  const std::string shouted(60, 'x');
  World world([&](const std::string& prompt, int64_t) {
    return answer((contains(prompt, shouted) ? "b" : "a") + shouted, "0.5");
  });
  world.examples.resize(1);
  AskParts parts = world.parts();
  AskOptions options;
  options.num_answers = 3;
  options.mode = AskMode::kSequential;
  // Room for the prompt with one answer ruled out, not with two.
  const std::vector<std::string> one = {"a" + shouted};
  parts.context_length = static_cast<int64_t>(evaluation_prompt(parts, world.examples[0], 1, one).size()) + 10;
  sample_sets(parts, options);
  REQUIRE(world.engine.calls.size() == 3);
  CHECK(contains(world.engine.calls[1].prompts[0], "these answers: a" + shouted + "."));
  CHECK(contains(world.engine.calls[2].prompts[0], "these answers: b" + shouted + "."));
}

TEST_CASE("the probability of an answer's own tokens as its confidence") {
  // "<answer1> owl </answer1>": o w l are tokens 10, 11, 12, with log-probs -.11, -.12, -.13.
  World world([](const std::string&, int64_t) { return "<answer1> owl </answer1><confidence1>0.9</confidence1>"; });
  AskOptions options;
  options.num_answers = 1;
  auto sets = sample_sets(world.parts(), options);
  REQUIRE(sets[0].log_probs[0].size() == 3);
  set_confidences(sets, ConfidenceSource::kStated);
  CHECK(sets[0].answers.answers[0].confidence == 0.9);
  auto product = sets;
  set_confidences(product, ConfidenceSource::kProbability);
  CHECK(product[0].answers.answers[0].confidence == Approx(std::exp(-0.36)));
  set_confidences(sets, ConfidenceSource::kMeanProbability);
  CHECK(sets[0].answers.answers[0].confidence == Approx((std::exp(-0.11) + std::exp(-0.12) + std::exp(-0.13)) / 3));
}

namespace {

/// The tiny tokenizer with one more token, which reads `answer`.
Tokenizer tokenizer_with_answer() {
  TempDir dir;
  write_tiny_model_files(dir.path());
  const std::string file = (dir.path() / "tokenizer.json").string();
  nlohmann::json json = nlohmann::json::parse(std::ifstream(file));
  json["added_tokens"].push_back({{"id", kTinyVocab},
                                  {"content", "answer"},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false},
                                  {"special", false}});
  std::ofstream(file) << json.dump();
  return Tokenizer::load(dir.path());
}

}  // namespace

TEST_CASE("answer_tag_probability: the tokens between the last two that read answer") {
  const Tokenizer tokenizer = tokenizer_with_answer();
  const auto probability = [&](const std::string& text) {
    const std::vector<TokenId> ids = tokenizer.encode(text);
    std::vector<float> log_probs;
    for (size_t i = 0; i < ids.size(); ++i) log_probs.push_back(std::log((static_cast<float>(i) + 1) / 64));
    return answer_tag_probability(tokenizer, ids, log_probs);
  };
  // < answer > o w l < / answer >: tokens 2 to 7 lie between, with probabilities 3/64 ... 8/64.
  CHECK(probability("<answer>owl</answer>") == Approx((3 + 4 + 5 + 6 + 7 + 8) / 6.0 / 64));
  // The last two: the closing tag of the first answer does not count.
  CHECK(probability("<answer>a</answer><answer>b</answer>!") == Approx((11 + 12 + 13 + 14) / 4.0 / 64));
  for (const char* text : {"", "owl", "<answer>owl", "answeranswer"}) {
    INFO(text);
    CHECK(probability(text) == 0.5);
  }
  // 28 tokens between: 29 apart. With one more they are 30 apart.
  CHECK(probability("answer" + std::string(28, 'x') + "answer") == Approx((2 + 29) / 2.0 / 64));
  CHECK(probability("answer" + std::string(29, 'x') + "answer") == 0.5);
}

TEST_CASE("the reference's answer probability as the confidence of every answer of a completion") {
  // The tiny tokenizer has no token that reads `answer`.
  World world([](const std::string&, int64_t) { return answer("owl", "0.9") + answer("kite", "0.8", 2); });
  AskOptions options;
  options.num_answers = 3;
  auto sets = sample_sets(world.parts(), options);
  REQUIRE(sets[0].tag_probabilities == std::vector<double>{0.5});
  sets[0].tag_probabilities[0] = 0.25;
  set_confidences(sets, ConfidenceSource::kTagProbability);
  for (const Answer& stated : sets[0].answers.answers) {
    CHECK(stated.has_confidence == !stated.text.empty());
    if (stated.has_confidence) CHECK(stated.confidence == 0.25);
  }
}

TEST_CASE("forced completion of a missing answer, then of its confidence") {
  World world([](const std::string& prompt, int64_t) {
    if (contains(prompt, "Probability that \"owl\" is correct, from 0 to 100:")) return std::string(" 80%.");
    if (contains(prompt, "Final answer:")) return std::string(" owl ");
    return contains(prompt, "bird") ? std::string("Well, hm") : answer("cod", "0.7");
  });
  AskOptions options;
  options.num_answers = 2;
  options.force_answers = options.force_confidences = true;
  const auto sets = sample_sets(world.parts(), options);
  REQUIRE(world.engine.calls.size() == 3);
  const auto& ask = world.engine.calls[1];
  REQUIRE(ask.prompts.size() == 1);  // the fish has an answer
  CHECK(ask.options.temperature == 0);
  CHECK(ask.options.max_new_tokens == 50);
  CHECK(world.engine.calls[2].options.max_new_tokens == 20);
  CHECK(contains(ask.prompts[0], "Well, hm\nFinal answer:"));  // no end of turn in between

  const SampledSet& forced = sets[0];
  CHECK(forced.completions[0].text == "Well, hm\n<answer1>owl</answer1>\n<confidence1>0.8</confidence1>");
  REQUIRE(forced.answers.answers.size() == 1);
  CHECK(forced.answers.answers[0].normal == "owl");
  CHECK(forced.answers.answers[0].confidence == 0.8);
  CHECK(forced.completions[0].text.substr(static_cast<size_t>(forced.answers.answers[0].answer_bytes.begin), 9) ==
        "<answer1>");
  CHECK_FALSE(forced.answers.format_ok);  // what the model wrote by itself counts
  CHECK(forced.tokens == 9 + 6 + 6);
  CHECK(forced.tokens_at[0] == forced.tokens);
  CHECK(forced.forced_answers == 1);
  CHECK(forced.forced_confidences == 1);
  CHECK(sets[1].forced_answers == 0);
  // " owl " and the end of the turn: o w l have the log-probs -.02, -.03, -.04.
  auto probable = sets;
  set_confidences(probable, ConfidenceSource::kProbability);
  CHECK(probable[0].answers.answers[0].confidence == Approx(std::exp(-0.09)));

  const Evaluation measured = evaluate(sets, 2, *world.format, *make_matcher("alias"));
  CHECK(measured.metrics.at("forced_answers") == Approx(0.5));
  CHECK(measured.metrics.at("forced_confidences") == Approx(0.5));
  CHECK(measured.metrics.at("accuracy") == 1);
  CHECK(measured.metrics.at("brier") == Approx((0.04 + 0.09) / 2));
}

TEST_CASE("the share of forced confidences is over answers, not over missing ones") {
  World world([](const std::string& prompt, int64_t g) {
    if (contains(prompt, "Probability that")) return std::string("80");
    return std::string(g == 0 ? "<answer1>owl</answer1>" : "no idea");
  });
  AskOptions options;
  options.num_answers = 3;
  options.mode = AskMode::kIndependent;
  options.force_confidences = true;
  const auto sets = sample_sets(world.parts(), options);
  CHECK(sets[0].forced_confidences == 1);
  CHECK(evaluate(sets, 3, *world.format, *make_matcher("alias")).metrics.at("forced_confidences") == 1);
}

TEST_CASE("forced confidence: no number, no confidence; nothing is asked that does not fit") {
  const auto script = [](const std::string& prompt, int64_t) {
    return contains(prompt, "Probability") ? std::string(" quite sure") : std::string("<answer1>owl</answer1>");
  };
  AskOptions options;
  options.num_answers = 1;
  options.force_confidences = true;
  World world(script);
  const auto sets = sample_sets(world.parts(), options);
  CHECK_FALSE(sets[0].answers.answers[0].has_confidence);
  CHECK(sets[0].forced_confidences == 0);
  CHECK(sets[0].tokens == 23 + 12);  // it was asked all the same
  World small(script);
  AskParts parts = small.parts();
  parts.context_length = 100;
  CHECK(sample_sets(parts, options)[0].tokens == 23);
}

TEST_CASE("evaluation reads percentages as confidences; the format's verdict stays that of training") {
  const std::string text = answer("owl", "85%") + answer("kite", "0.5", 2) + answer("emu", "about 3%", 3);
  World world([&](const std::string&, int64_t) { return text; });
  AskOptions options;
  options.num_answers = 3;
  const auto drawn = sample_sets(world.parts(), options);
  std::vector<Example> stored(1);
  stored[0].extra["completion"] = nlohmann::json(text).dump();
  const auto read = read_sets(stored, *world.format, 3);
  for (const AnswerSet* set : {&drawn[0].answers, &read[0].answers}) {
    CHECK(set->answers[0].confidence == 0.85);
    CHECK(set->answers[1].confidence == 0.5);
    CHECK(std::isnan(set->answers[2].confidence));  // no number alone
    CHECK(set->answers[2].has_confidence);
    CHECK_FALSE(set->format_ok);
    CHECK(set->problem == "confidence 1 is no number from 0 to 1");
    CHECK(set->blocks_ok == 4);
  }
  const Evaluation measured = evaluate(drawn, 3, *world.format, *make_matcher("alias"));
  CHECK(measured.metrics.at("confidence_adherence") == Approx(2.0 / 3));
  CHECK(measured.metrics.at("mean_confidence") == Approx(0.675));
  CHECK(measured.metrics.at("format_rate") == 0);

  // One answer a completion.
  options.num_answers = 2;
  for (const AskMode mode : {AskMode::kIndependent, AskMode::kSequential}) {
    options.mode = mode;
    CHECK(sample_sets(world.parts(), options)[0].answers.answers[1].confidence == 0.85);
  }
}

TEST_CASE("percentages are confidences in the verbalised format and in formats of one answer, too") {
  const auto only = [](const char* format, const std::string& text) {
    return parse_for_evaluation(*make_answer_format(format), text, 1).answers.at(0).confidence;
  };
  const auto response = [](const std::string& probability) {
    return "<response><text>owl</text><probability>" + probability + "</probability></response>";
  };
  CHECK(only("verbalised", response("85%")) == 0.85);
  CHECK(only("verbalised", response(" 7 % ")) == 0.07);
  CHECK(only("verbalised", response("0.3")) == 0.3);
  CHECK(std::isnan(only("verbalised", response("<b>85%"))));
  CHECK(only("verbalised", response("85")) == 85);  // as written, and no probability
  CHECK(only("tac", "<think>x</think><answer>owl</answer><confidence>20%</confidence>") == 0.2);
  CHECK(std::isnan(only("tac", "<think>x</think><answer>owl</answer><confidence>120%</confidence>")));
  CHECK(only("multi_answer", "<think>x</think><answer>owl</answer><confidence>20%</confidence>") == 0.2);
}

TEST_CASE("in a format without confidences the order is the rank, whatever confidences a completion states") {
  const std::string text = answer("emu", "0.1") + answer("owl", "0.9", 2);
  std::vector<Example> stored(1);
  stored[0].gold = {{"owl", {}, 1}};
  stored[0].extra["completion"] = nlohmann::json(text).dump();
  const auto format = make_answer_format("compact_rlvr");
  const Evaluation measured = evaluate(read_sets(stored, *format, 2), 2, *format, *make_matcher("alias"));
  CHECK(measured.metrics.at("pass@1") == 0);
  CHECK(measured.metrics.at("pass@2") == 1);
  CHECK(measured.metrics.at("answers") == 0);
  CHECK(std::isnan(measured.metrics.at("ece")));
}

TEST_CASE("rows without an answer, characters of a row and tokens of an answer") {
  // 4 characters in 5 bytes, and a byte that is none in UTF-8; an answer block may be empty.
  World world([](const std::string& prompt, int64_t g) {
    if (contains(prompt, "bird")) return std::string("no\u00e9 \xff");
    return g == 0 ? answer("cod", "0.5") : std::string("<answer1></answer1>");
  });
  AskOptions options;
  options.num_answers = 2;
  options.samples_per_prompt = 2;
  const auto sets = sample_sets(world.parts(), options);
  const Evaluation measured = evaluate(sets, 2, *world.format, *make_matcher("alias"), {.replicates = 200});
  CHECK(measured.metrics.at("unanswered") == 0.5);
  CHECK(measured.intervals.at("unanswered").low == 0);
  CHECK(measured.intervals.at("unanswered").high == 1);
  CHECK(measured.metrics.at("completion_characters") == Approx((5 + 5 + 52 + 19) / 4.0));
  CHECK(measured.intervals.at("completion_characters").low == 5);
  CHECK(measured.intervals.at("completion_characters").high == 35.5);
  double tokens = 0;
  for (const SampledSet& set : sets) tokens += static_cast<double>(set.tokens);
  CHECK(measured.metrics.at("tokens_per_answer") == Approx(tokens / 2));
  // Left out of the set Brier score: the rest is (0.5 - 1)^2 and (0 - 0)^2.
  CHECK(measured.metrics.at("set_brier_sum") == Approx((0.25 + 0) / 2));
}

TEST_CASE("forced afterwards: the same completions as without") {
  World world([](const std::string& prompt, int64_t) {
    if (contains(prompt, "Probability that")) return std::string("80");
    if (contains(prompt, "Final answer:")) return std::string("owl");
    return contains(prompt, "bird") ? std::string("Well, hm") : std::string("<answer1>cod</answer1>");
  });
  AskOptions options;
  options.num_answers = 2;
  const auto drawn = sample_sets(world.parts(), options);
  auto sets = drawn;
  force_all(world.parts(), options, sets);
  CHECK(drawn[0].answers.answers.empty());
  CHECK(sets[0].completions[0].text == "Well, hm\n<answer1>owl</answer1>\n<confidence1>0.8</confidence1>");
  CHECK(sets[1].completions[0].text == "<answer1>cod</answer1>\n<confidence1>0.8</confidence1>");
  AskOptions at_once = options;
  at_once.force_answers = at_once.force_confidences = true;
  const auto forced = sample_sets(world.parts(), at_once);
  for (size_t i = 0; i < sets.size(); ++i) {
    CHECK(sets[i].completions[0].text == forced[i].completions[0].text);
    CHECK(sets[i].tokens == forced[i].tokens);
  }
}

TEST_CASE("a forced answer next to a confidence that had none") {
  World world([](const std::string& prompt, int64_t) {
    return std::string(
        contains(prompt, "Final answer:") ? "owl" : "<confidence1>0.1</confidence1><confidence2>1</confidence2>");
  });
  AskOptions options;
  options.num_answers = 2;
  options.force_answers = true;
  const auto sets = sample_sets(world.parts(), options);
  CHECK(sets[0].answers.lone_confidences.empty());  // the answer has taken the place of the first one
  CHECK(evaluate(sets, 2, *world.format, *make_matcher("alias")).metrics.at("forced_answers") == 1);
}

TEST_CASE("percentages after a phrase") {
  CHECK(read_percentage(" 85") == std::optional<double>(0.85));
  CHECK(read_percentage("85%.") == std::optional<double>(0.85));
  CHECK(read_percentage("7.5 out of 100") == std::optional<double>(0.075));
  CHECK(read_percentage("100") == std::optional<double>(1.0));
  for (const char* text : {"", "about 85", "101", "-1", "%", "nan", "9/10"}) {
    INFO(text);
    CHECK_FALSE(read_percentage(text).has_value());
  }
}

TEST_CASE("existing completions: lines with one id are sets of one prompt") {
  const auto line = [](const std::string& id, const std::string& fields) {
    return parse_example("{\"id\": \"" + id + "\", \"prompt\": \"p\", \"gold\": [\"owl\", \"kite\"], " + fields + "}",
                         "f:1");
  };
  const std::vector<Example> examples = {
      line("a", R"("completion": "<answer1>owl</answer1><confidence1>0.5</confidence1>", "tokens": 7)"),
      line("b", R"("completions": ["<answer1>kite</answer1>", "<answer1>emu</answer1>"], "tokens": 9)"),
      line("a", R"("completion": "none", "num_answers": 2, "tokens": 4)"),
      line("a", R"("completion": "none", "num_answers": 3)")};
  const auto format = make_answer_format("compact");
  const auto sets = read_sets(examples, *format, 2);
  REQUIRE(sets.size() == 3);  // the last was asked for three
  CHECK(sets[2].prompt == sets[0].prompt);
  CHECK(sets[2].sample == 1);
  CHECK(sets[1].prompt == 1);
  CHECK(sets[1].answers.answers[1].text == "emu");
  const Evaluation measured = evaluate(sets, 2, *format, *make_matcher("alias"));
  CHECK(measured.metrics.at("coverage") == Approx((0.5 + 0.5 + 0) / 3));
  CHECK(measured.metrics.at("tokens") == Approx(20.0 / 3));
  CHECK(measured.metrics.at("sample_pass@1") == Approx((0.5 + 1) / 2));
  CHECK(stored_num_answers(examples, 10) == std::vector<int64_t>{2, 3});
  CHECK_FALSE(contains(measured.samples, "finish_reason"));  // nobody knows how these ended

  // Without ids nothing says that two lines are of one prompt.
  const std::vector<Example> nameless = {
      line("", R"("completion": null, "completions": ["<answer1>owl</answer1>", ""])"),
      line("", R"("completion": "none")")};
  const auto apart = read_sets(nameless, *format, 2);
  CHECK(apart[0].prompt == 0);
  CHECK(apart[1].prompt == 1);
  CHECK(apart[1].sample == 0);
  CHECK(apart[0].answers.answers.size() == 2);  // of two completions, the null one is none

  const auto refused = [&](const std::string& fields, const char* what) {
    const std::vector<Example> bad = {line("x", fields)};
    CHECK_THROWS_WITH(read_sets(bad, *format, 2), Catch::Contains("example 'x'") && Catch::Contains(what));
  };
  refused(R"("note": 1)", "no field 'completion'");
  refused(R"("completion": 5)", "expected text");
  refused(R"("completions": ["a"])", "a list of 2 texts");
  refused(R"("completion": "a", "tokens": -1)", "whole number");
  refused(R"("completion": "a", "forced_answers": 1)", "did not write by itself");
  for (const char* k : {"0", "-1", "11", "1.5", "\"2\""}) {
    INFO(k);
    const std::vector<Example> bad = {line("x", std::string("\"completion\": \"a\", \"num_answers\": ") + k)};
    CHECK_THROWS_WITH(stored_num_answers(bad, 10), Catch::Contains("example 'x'") && Catch::Contains("from 1 to 10"));
  }
  const std::vector<Example> single = {line("x", R"("completion": "<answer>owl</answer>")")};
  CHECK_THROWS_WITH(read_sets(single, *make_answer_format("ta"), 2), Catch::Contains("'ta' holds one answer"));
  CHECK(read_sets(single, *make_answer_format("ta"), 1).size() == 1);
  auto copy = sets;
  CHECK_THROWS_WITH(set_confidences(copy, ConfidenceSource::kProbability), Catch::Contains("give a model"));
}

namespace {

/// Judges like "alias" but counts how often it is asked; questions about "kite" fail.
class CountingMatcher final : public Matcher {
 public:
  std::string name() const override { return "counting"; }
  int64_t match(const Answer& candidate, const Example& example) const override {
    const MatchQuestion question{&candidate, &example};
    return match_all({&question, 1}, {}).gold[0];
  }
  std::vector<int64_t> gold_owners(const Example& example) const override { return alias_->gold_owners(example); }
  MatchVerdicts match_all(std::span<const MatchQuestion> questions, const std::stop_token& stop) const override {
    MatchVerdicts verdicts = alias_->match_all(questions, stop);
    for (size_t i = 0; i < questions.size(); ++i) {
      ++asked;
      if (questions[i].candidate->text != "kite") continue;
      verdicts.gold[i] = -1;
      verdicts.problem = "the worker fell over";
      ++verdicts.metrics["failures"];
    }
    return verdicts;
  }
  mutable int64_t asked = 0;

 private:
  std::unique_ptr<Matcher> alias_ = make_matcher("alias");
};

}  // namespace

TEST_CASE("a matcher that asks outside is asked once about each answer, and its failures are told") {
  World world([](const std::string&, int64_t) { return answer("owl", "0.5") + answer("kite", "0.5", 2); });
  world.examples[0].source = "birds";
  AskOptions options;
  options.num_answers = 2;
  const auto sets = sample_sets(world.parts(), options);
  const CountingMatcher matcher;
  const Evaluation measured = evaluate(sets, 2, *world.format, matcher, {.replicates = 3});
  CHECK(matcher.asked == 4);
  CHECK(measured.metrics.at("match/failures") == 2);
  CHECK(measured.match_problem == "the worker fell over");
  // The lines say what was measured, and whom to ask when they are evaluated again.
  const auto first = nlohmann::json::parse(measured.samples.substr(0, measured.samples.find('\n')));
  CHECK(first["answers"][0]["match"] == 0);
  CHECK(first["answers"][1]["match"] == -1);
  CHECK(first["source"] == "birds");
  CHECK(first["finish_reason"] == "stop");
}

TEST_CASE("names of data sets") {
  const std::string files[] = {"a/dev.jsonl", "b/dev.jsonl", "test.jsonl", "c/dev.jsonl"};
  CHECK(data_set_names(files) == std::vector<std::string>{"dev", "dev_2", "test", "dev_3"});
}

TEST_CASE("calibration of the most frequent answers and of each source") {
  std::vector<Example> examples(12);
  std::vector<SampledSet> sets(12);
  const auto format = make_answer_format("compact");
  for (size_t i = 0; i < 12; ++i) {
    examples[i].gold = {{i < 6 ? "owl" : "emu", {}, 1}};
    examples[i].source = i < 3 ? "small" : "large";
    sets[i].example = &examples[i];
    sets[i].prompt = static_cast<int64_t>(i);
    sets[i].completions = {Completion{}};
    sets[i].completions[0].text = answer(i == 11 ? "kite" : "owl", "0.5");
    sets[i].answers = format->parse(sets[i].completions[0].text, 1);
  }
  const Evaluation measured = evaluate(sets, 1, *format, *make_matcher("alias"));
  REQUIRE(measured.by_answer.size() == 1);  // kite is stated once
  CHECK(measured.by_answer[0].group == "owl");
  CHECK(measured.by_answer[0].count == 11);
  CHECK(measured.by_answer[0].accuracy == Approx(6.0 / 11));
  CHECK(measured.metrics.at("ece_classwise") == Approx(6.0 / 11 - 0.5));
  REQUIRE(measured.by_source.size() == 2);
  CHECK(measured.by_source[0].group == "small");
  CHECK(measured.by_source[0].ece == Approx(0.5));
  CHECK(std::isnan(measured.metrics.at("tokens")));
}
