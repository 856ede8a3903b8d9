// SPDX-License-Identifier: Apache-2.0
#include "plural/answers.h"

#include <filesystem>

#include "lib/core/format.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_model.h"

using namespace plural;

namespace {

AnswerSet parse(const std::string& format, const std::string& text, int64_t k) {
  return make_answer_format(format)->parse(text, k);
}

std::string slice(const std::string& text, Span span) {
  return text.substr(static_cast<size_t>(span.begin), static_cast<size_t>(span.end - span.begin));
}

}  // namespace

TEST_CASE("a compact set: texts, confidences, byte spans") {
  const std::string text =
      "\n <answer1> The Cat </answer1><confidence1>0.25</confidence1>\n<answer2>dog</answer2> <confidence2> 1 "
      "</confidence2>";
  const AnswerSet set = parse("compact", text, 2);
  REQUIRE(set.format_ok);
  REQUIRE(set.answers.size() == 2);
  CHECK(set.problem.empty());
  CHECK(set.extracted);
  CHECK(set.paired);
  CHECK(set.answers[0].text == "The Cat");
  CHECK(set.answers[0].normal == "cat");
  CHECK(set.answers[0].confidence == 0.25);
  CHECK(slice(text, set.answers[0].answer_bytes) == "<answer1> The Cat </answer1>");
  CHECK(slice(text, set.answers[0].confidence_bytes) == "<confidence1>0.25</confidence1>");
  CHECK(slice(text, set.answers[1].answer_bytes) == "<answer2>dog</answer2>");
  CHECK(slice(text, set.answers[1].confidence_bytes) == "<confidence2> 1 </confidence2>");
}

TEST_CASE("what breaks a compact set, and how it is told") {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no <answer1>"},
      {"<answer1>a1</answer1><confidence1>1</confidence1>", "no <answer2>"},
      {"<answer1>a1</answer1><answer2>b</answer2><confidence1>1</confidence1><confidence2>0</confidence2>",
       "out of order"},
      {"<answer2>b</answer2><confidence2>0</confidence2><answer1>a1</answer1><confidence1>1</confidence1>",
       "out of order"},
      {"<answer1>a1</answer1><confidence1>1</confidence1><answer2> </answer2><confidence2>0</confidence2>",
       "answer 2 is empty"},
      {"<answer1>a1</answer1><confidence1>1</confidence1><answer2>b</answer2>", "no <confidence2>"},
      {"<answer1>a1</answer1><confidence1>1.01</confidence1><answer2>b</answer2><confidence2>0</confidence2>",
       "confidence 1 is no number"},
      {"<answer1>a1</answer1><confidence1>1</confidence1><answer2>b</answer2><confidence2>0</confidence2><answer3>c</"
       "answer3>",
       "beyond"},
      {"<answer1>a1</answer1><answer1>x</answer1><confidence1>1</confidence1><answer2>b</answer2><confidence2>0</"
       "confidence2>",
       "repeated"},
      {"<Answer1>a1</Answer1><confidence1>1</confidence1>", "no <answer1>"},
      // Nothing but white space besides the blocks.
      {"Sure: <answer1>a1</answer1><confidence1>1</confidence1><answer2>b</answer2><confidence2>0</confidence2>",
       "something else stands before answer 1"},
      {"<answer1>a1</answer1>, <confidence1>1</confidence1><answer2>b</answer2><confidence2>0</confidence2>",
       "something else stands before confidence 1"},
      {"<answer1>a1</answer1><confidence1>1</confidence1>,<answer2>b</answer2><confidence2>0</confidence2>",
       "something else stands before answer 2"},
      {"<answer1>a1</answer1><confidence1>1</confidence1><answer2>b</answer2><confidence2>0</confidence2></confidence>",
       "something else stands after the last answer"},
  };
  for (const auto& [text, problem] : cases) {
    INFO(text);
    const AnswerSet set = parse("compact", text, 2);
    CHECK_FALSE(set.format_ok);
    CHECK_THAT(set.problem, Catch::Contains(problem));
  }
}

TEST_CASE("think formats read after the last closing think tag") {
  const std::string think = "<think>maybe <answer1>draft</answer1></think>";
  const std::string
      body = "<answer1>x</answer1><confidence1>0.5</confidence1><answer2>y</answer2><confidence2>0.5</confidence2>";
  CHECK(parse("multi_answer_no_analysis", think + body, 2).format_ok);
  CHECK(parse("multi_answer_no_analysis", think + body, 2).answers[0].text == "x");
  CHECK_FALSE(parse("multi_answer", think + body, 2).format_ok);
  CHECK(parse("multi_answer", think + body + "<analysis></analysis>", 2).format_ok);
  // Split layout: order does not matter there.
  CHECK(parse("multi_answer_no_analysis",
              "<think>t</think><confidence2>0</confidence2><answer2>y</answer2><answer1>x</answer1><confidence1>1</"
              "confidence1>",
              2)
            .format_ok);
  CHECK_FALSE(parse("multi_answer_no_analysis", body, 2).format_ok);
  CHECK_FALSE(parse("multi_answer_no_analysis", "<think> </think>" + body, 2).format_ok);
  CHECK_FALSE(parse("multi_answer_no_analysis", body + "<think>late</think>", 2).format_ok);
  CHECK_FALSE(parse("multi_answer_no_analysis", "<think>a<think>b</think>" + body, 2).format_ok);
}

TEST_CASE("a compact set without confidences holds nothing else, a confidence neither") {
  CHECK(parse("compact_rlvr", "<answer1>x</answer1>\n<answer2>y</answer2>\n", 2).format_ok);
  CHECK(parse("compact_rlvr", "<answer1>x</answer1><confidence1>1</confidence1><answer2>y</answer2>", 2).problem ==
        "something else stands before answer 2");
  CHECK(parse("compact_rlvr", "<answer1>x</answer1><answer2>y</answer2> and so on", 2).problem ==
        "something else stands after the last answer");
}

TEST_CASE("RLVR sets are in order; formats of one answer take the last plain blocks") {
  CHECK(parse("multi_answer_rlvr", "<think>t</think><answer1>x</answer1><answer2>y</answer2>", 2).format_ok);
  CHECK_FALSE(parse("multi_answer_rlvr", "<think>t</think><answer2>y</answer2><answer1>x</answer1>", 2).format_ok);
  const AnswerSet one = parse("rlcr_single_answer",
                              "<think>t</think><answer>x</answer><answer>y</answer><analysis>z</"
                              "analysis><confidence>2</confidence><confidence>0.5</confidence>",
                              7);
  REQUIRE(one.format_ok);
  REQUIRE(one.answers.size() == 1);
  CHECK(one.answers[0].text == "y");
  CHECK(one.answers[0].confidence == 0.5);
  CHECK(parse("ta", "<think></think><answer>x</answer>", 1).format_ok);
  CHECK_FALSE(parse("tac", "<think></think><answer>x</answer>", 1).format_ok);
  CHECK_FALSE(parse("tabc", "<think></think><answer>x</answer><confidence>1</confidence>", 1).format_ok);
}

TEST_CASE("a set of one may use numbered or plain tags in think formats") {
  CHECK(parse("multi_answer_no_analysis", "<think>t</think><answer1>x</answer1><confidence1>1</confidence1>", 1)
            .format_ok);
  CHECK(parse("multi_answer_no_analysis", "<think>t</think><answer>x</answer><confidence>1</confidence>", 1).format_ok);
  CHECK_FALSE(parse("compact", "<answer>x</answer><confidence>1</confidence>", 1).format_ok);
}

TEST_CASE("names: any case, unknown ones list what there is; k is at least 1") {
  CHECK(make_answer_format("Multi_Answer")->name() == "multi_answer");
  CHECK_THROWS_AS(make_answer_format("multi-answer"), InputError);
  CHECK_THROWS_WITH(make_answer_format("nope"), Catch::Contains("compact") && Catch::Contains("tbac"));
  CHECK_THROWS_AS(make_answer_format("compact")->parse("", 0), CheckError);
}

TEST_CASE("what render writes, parse reads back") {
  const std::vector<StatedAnswer> answers = {
      {"ice cream", 0.35}, {"caf\u00e9 \u2603", 1.0}, {"<b>&", 1e-7}, {"4", 0}, {"five", 0.1}};
  for (const std::string& name : answer_format_names()) {
    const auto format = make_answer_format(name);
    for (size_t k = 1; k <= (format->single() ? 1 : answers.size()); ++k) {
      INFO(name << " k " << k);
      const std::string text = format->render({answers.data(), k});
      const AnswerSet set = format->parse(text, static_cast<int64_t>(k));
      INFO(text);
      CHECK(set.problem == "");
      REQUIRE(set.answers.size() == k);
      for (size_t i = 0; i < k; ++i) {
        CHECK(set.answers[i].text == answers[i].text);
        if (format->has_confidences()) CHECK(set.answers[i].confidence == answers[i].confidence);
      }
    }
    CHECK_THROWS_AS(format->render({}), InputError);
    const StatedAnswer bad[] = {{" ", 0.5}, {name == "verbalised" ? "x</text>" : "x</answer1>", 0.5}, {"x", 1.5}};
    CHECK_THROWS_AS(format->render({bad, 1}), InputError);
    CHECK_THROWS_AS(format->render({bad + 1, 1}), InputError);
    if (format->has_confidences()) CHECK_THROWS_AS(format->render({bad + 2, 1}), InputError);
  }
}

TEST_CASE("instructions name the tags and the number of answers") {
  for (const std::string& name : answer_format_names()) {
    if (name == "verbalised") continue;  // has tags of its own
    const auto format = make_answer_format(name);
    const std::string text = format->instruction(3);
    INFO(text);
    CHECK_THAT(text, Catch::Contains(format->single() ? "<answer>" : "<answer1>"));
    CHECK((text.find("<confidence") != std::string::npos) == format->has_confidences());
    if (!format->single()) CHECK_THAT(text, Catch::Contains("3"));
    CHECK(text.size() < 250);
  }
  CHECK(make_answer_format("compact")->instruction(3) ==
        "Give 3 different answers. Write each as <answer1>answer</answer1><confidence1>probability that it is correct, "
        "0 to "
        "1</confidence1>, numbered 1 to 3, and nothing else.");
  const auto prompt = render_prompt({{"system", "s"}, {"user", "Name 2 birds."}}, *make_answer_format("compact_rlvr"),
                                    2);
  REQUIRE(prompt.size() == 2);
  CHECK_THAT(prompt[1].content, Catch::StartsWith("Name 2 birds. Give 2 different answers."));
}

TEST_CASE("the instruction stands after the last user turn, with a space between") {
  const auto format = make_answer_format("compact");
  const std::string instruction = format->instruction(2);
  const std::pair<std::string, std::string> cases[] = {
      {"Name pets.", "Name pets. "}, {"Name pets.\n", "Name pets.\n"}, {"", ""},
      {"Dis voilà", "Dis voilà "},                            // its last byte, alone, would be a space in Latin-1
      {"名前は…", "名前は… "},       {"a\u3000", "a\u3000"},  // an ideographic space is one
  };
  for (const auto& [task, expected] : cases) {
    INFO(task);
    const auto messages = render_prompt({{"system", "s"}, {"user", task}, {"assistant", "a"}}, *format, 2);
    REQUIRE(messages.size() == 3);
    CHECK(messages[1].content == expected + instruction);
    CHECK(messages[2].content == "a");
  }
  CHECK(render_prompt({{"system", "s"}}, *format, 2).back().content == instruction);
}

TEST_CASE("verbalised sampling: responses with probabilities, numbered by their order") {
  const std::string text =
      "<think><response><text>draft</text></response></think>Here: <response> <text> The Cat </text>"
      "<probability> 0.25 "
      "</probability></response>\n<response><probability>0.5</probability><text>dog</text></response>";
  const AnswerSet set = parse("verbalised", text, 2);
  REQUIRE(set.format_ok);
  CHECK(set.paired);
  REQUIRE(set.answers.size() == 2);
  CHECK(set.answers[0].text == "The Cat");
  CHECK(set.answers[0].normal == "cat");
  CHECK(set.answers[0].confidence == 0.25);
  CHECK(slice(text, set.answers[0].answer_bytes) == "<text> The Cat </text>");
  CHECK(slice(text, set.answers[0].confidence_bytes) == "<probability> 0.25 </probability>");
  CHECK(slice(text, set.answers[1].answer_bytes) == "<text>dog</text>");

  const std::pair<const char*, const char*> broken[] = {
      {"", "0 responses, 2 were asked for"},
      {"<response><text>a</text><probability>1</probability></response><response><text>b</text></response>",
       "response 2 has no <probability>"},
      {"<response><text>a</text><probability>1.5</probability></response>", "no number from 0 to 1"},
      {"<response><text> </text><probability>1</probability></response>", "answer 1 is empty"},
      {"<response><probability>1</probability></response><response><text>b</text><probability>0</probability></"
       "response>",
       "response 1 has no <text>"},
      {"<response><text>a</text><probability>1</probability></response><response><text>b</text><probability>0</"
       "probability>"
       "</response><response></response>",
       "more than the 2"},
      {"<response><text>a</text><probability>1</probability>", "0 responses"},
  };
  for (const auto& [completion, problem] : broken) {
    INFO(completion);
    const AnswerSet bad = parse("verbalised", completion, 2);
    CHECK_FALSE(bad.format_ok);
    CHECK_THAT(bad.problem, Catch::Contains(problem));
  }
  // A response without a text leaves its slot empty.
  CHECK(parse("verbalised", broken[4].first, 2).answers[1].text == "b");
  CHECK_THAT(make_answer_format("verbalised")->instruction(5), Catch::StartsWith("Generate 5 different responses"));
  const StatedAnswer tagged[] = {{"x</text>", 0.5}};
  CHECK_THROWS_AS(make_answer_format("verbalised")->render(tagged), InputError);
}

TEST_CASE("matchers") {
  Example example;
  example.gold = {{"t-shirt", {"tee"}, 1}, {"the", {}, 1}, {"evening gowns", {"t shirt"}, 1}};
  const auto match = [&](const char* matcher, const char* text) {
    Answer answer;
    answer.text = text;
    answer.normal = normal_form(text);
    return make_matcher(matcher)->match(answer, example);
  };
  CHECK(match("normalised", "T-Shirt.") == 0);
  CHECK(match("normalised", "tee") == -1);
  CHECK(match("alias", "Tee!") == 0);
  CHECK(match("alias", "an") == -1);  // an empty normal form matches nothing
  CHECK(match("alias", "evening gown") == -1);
  CHECK(match("word_set", "gown, evening") == 2);
  CHECK(match("word_set", "t shirts") == 0);  // the first gold answer owns a spelling
  CHECK_THROWS_WITH(make_matcher("fuzzy"), Catch::Contains("word_set"));
}

TEST_CASE("the matcher numeric: numbers by value, all else as in alias") {
  Example example;
  example.gold = {{"1.5", {"three halves"}, 1}, {"15", {}, 1}, {"12%", {}, 1}, {"1,000", {}, 1}, {"0", {}, 1}};
  const auto answer = [](const std::string& text) {
    Answer a;
    a.text = text;
    a.normal = normal_form(text);
    return a;
  };
  const auto match = [&](const std::string& text, const std::string& options = "{}") {
    return make_matcher("numeric", parse_yaml(options, "matcher"))->match(answer(text), example);
  };
  CHECK(match("1.50") == 0);
  CHECK(match(" +15e-1 ") == 0);
  CHECK(match("Three halves!") == 0);
  CHECK(match("15.0") == 1);  // by normal forms it would be 150, and 1.5 would be 15
  CHECK(match("-15") == -1);
  CHECK(match("0.12") == 2);
  CHECK(match("12.0 %") == 2);
  CHECK(match("12") == -1);
  CHECK(match("1000") == 3);  // "1,000" is no number, but a text with this normal form
  CHECK(match("-0") == 4);
  CHECK(match("1e-9") == -1);
  CHECK(match("1.5000001") == 0);
  CHECK(match("1.50001") == -1);
  CHECK(match("1.50001", "{tolerance: 1e-4}") == 0);
  CHECK(match("nan") == -1);
  CHECK(match("") == -1);
  const auto matcher = make_matcher("numeric");
  CHECK(matcher->key(answer("1.50")) == matcher->key(answer("1.5")));
  CHECK(matcher->key(answer("1.5")) != matcher->key(answer("15")));
  CHECK(matcher->key(answer("0")) == matcher->key(answer("-0.0")));
  CHECK(matcher->key(answer("The Cat")) == "cat");
  CHECK(matcher->gold_owners(example) == std::vector<int64_t>{0, 1, 2, 3, 4});
  example.gold.push_back({"1.500", {}, 1});
  CHECK(matcher->gold_owners(example).back() == 0);
  CHECK_THROWS_AS(make_matcher("numeric", parse_yaml("{tolerance: -1}", "matcher")), InputError);
}

TEST_CASE("a batch of sets as tensors") {
  Example example;
  example.gold = {{"cat", {"kitty"}, 3}, {"dog", {}, 1}};
  Example other;
  const std::string text =
      "<answer1>Kitty</answer1><confidence1>0.5</confidence1><answer2>cat</answer2><confidence2>7</"
      "confidence2><answer4>...</answer4>";
  const CompletionView views[] = {{&example, text, {}, 4}, {&other, "<answer1>dog</answer1>", {}, 2}};
  const AnswerBatch batch = build_answer_batch(views, *make_answer_format("compact"), *make_matcher("alias"), nullptr);
  REQUIRE(batch.rows == 2);
  REQUIRE(batch.slots == 4);
  CHECK(at::equal(batch.present, at::tensor({1, 1, 0, 1, 1, 0, 0, 0}).view({2, 4}).to(at::kBool)));
  CHECK(at::equal(batch.match, at::tensor({0, 0, -1, -1, -1, -1, -1, -1}).view({2, 4}).to(at::kLong)));
  CHECK(at::equal(batch.key, at::tensor({0, 1, -1, -1, 0, -1, -1, -1}).view({2, 4}).to(at::kLong)));
  CHECK(at::equal(batch.confidence, at::tensor({0.5, 1., 0., 0., 0., 0., 0., 0.}).view({2, 4}).to(at::kFloat)));
  CHECK(at::equal(batch.confidence_ok, at::tensor({1, 0, 0, 0, 0, 0, 0, 0}).view({2, 4}).to(at::kBool)));
  CHECK(at::equal(batch.correct(), at::tensor({1., 1., 0., 0., 0., 0., 0., 0.}).view({2, 4}).to(at::kFloat)));
  CHECK(at::equal(batch.first_hit(), at::tensor({1., 0., 0., 0., 0., 0., 0., 0.}).view({2, 4}).to(at::kFloat)));
  CHECK(at::equal(batch.k, at::tensor({4, 2}).to(at::kLong)));
  CHECK(at::equal(batch.gold_count, at::tensor({2, 0}).to(at::kLong)));
  CHECK(at::equal(batch.gold_weight, at::tensor({0.75, 0.25, 0., 0.}).view({2, 2}).to(at::kFloat)));
  CHECK(batch.sets.size() == 2);
}

TEST_CASE("confidences whose answers are missing stand apart from those of answers") {
  const auto compact = make_answer_format("compact");
  const std::string confidences =
      "<confidence1>.1</confidence1><confidence2>2</confidence2><confidence4>.4</confidence4>"
      "<confidence5>.5</confidence5>";
  const auto lone = [&](const std::string& text, int64_t k) { return compact->parse(text, k).lone_confidences; };
  CHECK(lone("<answer4>d</answer4>" + confidences, 4).empty());
  CHECK(lone("<answer2>b</answer2>" + confidences, 2).empty());
  const std::vector<double> after = lone("<answer2>b</answer2>" + confidences, 4);
  REQUIRE(after.size() == 2);  // of numbers 3 and 4
  CHECK(std::isnan(after[0]));
  CHECK(after[1] == 0.4);
  const Example example;
  const std::string text = "<answer2>b</answer2>" + confidences;
  const CompletionView view{&example, text, {}, 4};
  const AnswerBatch batch = build_answer_batch({&view, 1}, *compact, *make_matcher("alias"), nullptr, at::kCPU,
                                               at::kDouble);
  CHECK(at::equal(batch.present, at::tensor({0, 1, 0, 0}).view({1, 4}).to(at::kBool)));
  CHECK(at::equal(batch.confidence, at::tensor({0., 1., 0., 0.}, at::kDouble).view({1, 4})));
  const Tensor numbered = batch.numbered_confidence[0];
  CHECK(numbered[0].item<double>() == 0.1);
  CHECK(numbered[1].item<double>() == 1);  // clipped
  CHECK(std::isnan(numbered[2].item<double>()));
  CHECK(numbered[3].item<double>() == 0.4);
  const Tensor kept = batch.keep(at::tensor({0, 1, 1, 1}).view({1, 4}).to(at::kBool)).numbered_confidence[0];
  CHECK(std::isnan(kept[0].item<double>()));
  CHECK(kept[3].item<double>() == 0.4);
  const auto
      verbalised = make_answer_format("verbalised")
                       ->parse("<response><text>a</text></response><response><probability>0.3</probability></response>",
                               3);
  CHECK(verbalised.answers.size() == 1);
  CHECK(verbalised.lone_confidences == std::vector<double>{0.3});
}

TEST_CASE("gold answers: which one stands for which") {
  Example example;
  example.gold = {{"cat", {"kitty"}, 3},   {"Cat!", {}, 1},           // the same normal form
                  {"kitty", {}, 1},        {"kitty", {"kitten"}, 1},  // a spelling of the first; with one of its own
                  {"the", {"article"}, 1}, {"...", {}, 1}};           // found by its alias; by nothing
  using Owners = std::vector<int64_t>;
  CHECK(make_matcher("alias")->gold_owners(example) == Owners{0, 0, 0, 3, 4, -1});
  CHECK(make_matcher("word_set")->gold_owners(example) == Owners{0, 0, 0, 3, 4, -1});
  CHECK(make_matcher("normalised")->gold_owners(example) == Owners{0, 0, 2, 2, -1, -1});

  const CompletionView view{&example, "<answer1>kitten</answer1><answer2>Kitty</answer2>", {}, 2};
  const AnswerBatch batch = build_answer_batch({&view, 1}, *make_answer_format("compact"), *make_matcher("alias"),
                                               nullptr, at::kCPU, at::kDouble);
  CHECK(at::equal(batch.match, at::tensor({3, 0}).view({1, 2}).to(at::kLong)));
  CHECK(batch.gold_count.item<int64_t>() == 3);
  CHECK(at::allclose(batch.gold_weight, at::tensor({5.0, 0.0, 0.0, 1.0, 1.0, 0.0}, at::kDouble).view({1, 6}) / 7));

  // Weights of 0 are equal weights.
  for (GoldAnswer& gold : example.gold) gold.weight = 0;
  const AnswerBatch equal = build_answer_batch({&view, 1}, *make_answer_format("compact"), *make_matcher("alias"),
                                               nullptr, at::kCPU, at::kDouble);
  CHECK(at::allclose(equal.gold_weight, at::tensor({1.0, 0.0, 0.0, 1.0, 1.0, 0.0}, at::kDouble).view({1, 6}) / 3));
}

namespace {

/// A matcher of the caller's own that compares texts as they are: "A" is not "a".
class ExactMatcher final : public Matcher {
 public:
  std::string name() const override { return "exact"; }
  int64_t match(const Answer& candidate, const Example& example) const override {
    for (size_t i = 0; i < example.gold.size(); ++i)
      if (candidate.text == example.gold[i].answer) return static_cast<int64_t>(i);
    return -1;
  }
};

}  // namespace

TEST_CASE("a matcher that knows bare articles: options of multiple choice") {
  Example example;
  example.gold = {{"A", {}, 1}, {"B", {}, 1}, {"A", {}, 1}};
  const CompletionView view{
      &example, "<answer1>A</answer1><answer2>a</answer2><answer3>B</answer3><answer4>A</answer4>", {}, 4};
  const AnswerBatch batch = build_answer_batch({&view, 1}, *make_answer_format("compact"), ExactMatcher(), nullptr);
  CHECK(at::equal(batch.match, at::tensor({0, -1, 1, 0}).view({1, 4}).to(at::kLong)));
  CHECK(at::equal(batch.key, at::tensor({0, -1, 1, 0}).view({1, 4}).to(at::kLong)));
  CHECK(batch.gold_count.item<int64_t>() == 2);
  // The text rule: an empty normal form matches nothing.
  const AnswerBatch by_text = build_answer_batch({&view, 1}, *make_answer_format("compact"), *make_matcher("alias"),
                                                 nullptr);
  CHECK(at::equal(by_text.match, at::tensor({-1, -1, 1, -1}).view({1, 4}).to(at::kLong)));
  CHECK(at::equal(by_text.key, at::tensor({-1, -1, 0, -1}).view({1, 4}).to(at::kLong)));
  CHECK(by_text.gold_count.item<int64_t>() == 1);
}

TEST_CASE("answers that lie within one another are read, as long as they are not the completion many times over") {
  const std::string nested = "<answer1>a<answer2>b</answer2>c</answer1>";
  const AnswerSet set = parse("compact_rlvr", nested, 2);
  REQUIRE(set.answers.size() == 2);
  CHECK(set.answers[0].text == "a<answer2>b</answer2>c");
  CHECK(set.answers[1].text == "b");

  // Twenty answers around the same 100,000 bytes: four of them and 64 KiB are read, which leaves no room for a fifth.
  std::string text;
  for (int i = 1; i <= 20; ++i) text += fmt::format("<answer{}>", i);
  text += std::string(100000, 'x');
  for (int i = 20; i >= 1; --i) text += fmt::format("</answer{}>", i);
  text += "<answer21>short</answer21>";
  const AnswerSet large = parse("compact_rlvr", text, 21);
  REQUIRE(large.answers.size() == 21);
  for (size_t i = 0; i < 20; ++i) {
    INFO(i);
    CHECK(large.answers[i].text.empty() == (i >= 4));
    CHECK_FALSE(large.answers[i].answer_bytes.empty());
  }
  CHECK(large.answers[20].text == "short");
  CHECK(large.problem == "answer 5 is empty");
}

TEST_CASE("a confidence that holds a tag is no number") {
  const AnswerSet set = parse("multi_answer_no_analysis",
                              "<think>t</think><answer1>x</answer1><confidence1>0.5<confidence2>0.25</confidence2>"
                              "</confidence1><answer2>y</answer2>",
                              2);
  REQUIRE(set.answers.size() == 2);
  CHECK(set.answers[0].has_confidence);
  CHECK(std::isnan(set.answers[0].confidence));
  CHECK(set.answers[1].confidence == 0.25);
}

TEST_CASE("a large number alone is read where that many are asked for") {
  const AnswerSet set = parse("compact_rlvr", "<answer9999>x</answer9999>", 10000);
  REQUIRE(set.answers.size() == 9999);
  CHECK(set.answers.back().text == "x");
  CHECK(set.answers.front().answer_bytes.empty());
  CHECK(parse("compact_rlvr", "<answer9999>x</answer9999>", 9998).answers.empty());
}

TEST_CASE("think tags pair up in their order") {
  const std::pair<const char*, bool> cases[] = {{"<think>a</think><think>b</think>", true},
                                                {"<think>a<think>b</think>c</think>", true},
                                                {"<think><think>b</think></think>", true},  // a tag is no space
                                                {"<think>a</think></think><think>b", false},
                                                {"</think><think>a", false},
                                                {"<think>a</think><think> </think>", false},
                                                {"<think> \u3000</think>", false},
                                                {"<think> < </think>", true},
                                                {"<think>a</think></think>", false},
                                                {"<think>a", false}};
  for (const auto& [think, ok] : cases) {
    INFO(think);
    const AnswerSet set = parse("multi_answer_rlvr", std::string(think) + "<answer1>x</answer1>", 1);
    CHECK(set.format_ok == ok);
  }
}

TEST_CASE("answer spans over token ids are byte-exact, whatever the tokens") {
  const auto dir = std::filesystem::temp_directory_path() / "plural_answers_test";
  write_tiny_model_files(dir);
  const Tokenizer tokenizer = Tokenizer::load(dir);
  std::filesystem::remove_all(dir);
  const std::string text =
      "Oh: <answer1>caf\u00e9</answer1><confidence1>0.5</confidence1> "
      "<answer2>dog</answer2><confidence2>1</confidence2>";
  const std::vector<TokenId> bytes = tokenizer.encode(text);
  // Special tokens are not part of the text, wherever the model writes them.
  const auto end = tokenizer.id_of("<|im_end|>"), stray = tokenizer.id_of("<|endoftext|>");
  REQUIRE((end.has_value() && stray.has_value()));
  std::vector<TokenId> ids = bytes;
  ids.insert(ids.begin() + static_cast<std::ptrdiff_t>(text.find("<answer2>")), 2, *stray);
  ids.insert(ids.begin(), *stray);
  ids.push_back(*end);
  Example example;
  const CompletionView view{&example, text, ids, 2};
  const AnswerBatch batch = build_answer_batch({&view, 1}, *make_answer_format("compact"), *make_matcher("alias"),
                                               &tokenizer);
  const auto covered = [&](const Tensor& spans, int64_t slot) {
    const auto begin = static_cast<size_t>(spans[0][slot][0].item<int64_t>());
    const auto stop = static_cast<size_t>(spans[0][slot][1].item<int64_t>());
    return tokenizer.decode(std::span(ids).subspan(begin, stop - begin));
  };
  CHECK(covered(batch.answer_span, 0) == "<answer1>caf\u00e9</answer1>");
  CHECK(covered(batch.confidence_span, 0) == "<confidence1>0.5</confidence1>");
  CHECK(covered(batch.answer_span, 1) == "<answer2>dog</answer2>");
  CHECK(covered(batch.confidence_span, 1) == "<confidence2>1</confidence2>");
  CHECK(batch.length[0].item<int64_t>() == static_cast<int64_t>(ids.size()));

  // Byte tokens: the range of any bytes is the range itself, and nothing past the end.
  CHECK(token_span(tokenizer, bytes, {3, 8}) == Span{3, 8});
  CHECK(token_span(tokenizer, bytes, {5, 5}).empty());
  CHECK(token_span(tokenizer, bytes, {100000, 100001}).empty());
}

TEST_CASE("confidences that are no numbers, too large, in percent or in other digits") {
  const auto format = make_answer_format("compact");
  const auto read = [&](const std::string& confidence) {
    return format->parse("<answer1>cat</answer1><confidence1>" + confidence + "</confidence1>", 1);
  };
  for (const std::string text :
       {"nan", "NaN", "-nan", "inf", "-Infinity", "1e999", "-1e999", "85%", "0,5", "1/2", "0x1p-1", "\u0660.\u0665",
        "\u06f0.\u06f5", "0.1_5", "0.5 0.6", "\u22120.5", "0.5\u200b", "", "high"}) {
    INFO(text);
    const AnswerSet set = read(text);
    REQUIRE(set.answers.size() == 1);
    CHECK(set.answers[0].text == "cat");
    CHECK(set.answers[0].has_confidence);
    CHECK(std::isnan(set.answers[0].confidence));
    CHECK_FALSE(set.format_ok);
    CHECK_FALSE(set.problem.empty());
  }
  for (const auto& [text, value] : std::vector<std::pair<std::string, double>>{{"0.85", 0.85},
                                                                               {" .5\n", 0.5},
                                                                               {"5.", 5},
                                                                               {"+0.5", 0.5},
                                                                               {"-0", 0},
                                                                               {"1e-999", 0},
                                                                               {"1.00000000000000000001", 1}}) {
    INFO(text);
    const AnswerSet set = read(text);
    CHECK(set.answers.at(0).confidence == value);
    CHECK(set.format_ok == (value <= 1));
  }
}
