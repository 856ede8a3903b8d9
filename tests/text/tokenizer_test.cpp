// SPDX-License-Identifier: Apache-2.0
// Hand-made cases of the tokenizer: a vocabulary small enough to merge on paper, and every refusal.
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "lib/text/bpe.h"
#include "lib/text/normalise_nfc.h"
#include "lib/text/pretokenize.h"
#include "lib/core/utf8.h"
#include "plural/error.h"
#include "plural/tokenizer.h"
#include "tests/support/catch.h"

namespace {

using plural::Message;
using plural::TokenId;
using plural::Tokenizer;
using Json = nlohmann::json;
using Ids = std::vector<TokenId>;
namespace fs = std::filesystem;
using Catch::Matchers::Contains;

/// A model folder in the temporary folder, gone at the end of the test.
class ModelDir {
 public:
  explicit ModelDir(const Json& tokenizer, const Json& config = nullptr)
      : path(fs::temp_directory_path() / ("plural_tokenizer_test_" + std::to_string(++counter_))) {
    fs::create_directories(path);
    if (!tokenizer.is_null()) std::ofstream(path / "tokenizer.json") << tokenizer.dump();
    if (!config.is_null()) std::ofstream(path / "tokenizer_config.json") << config.dump();
  }
  ModelDir(const ModelDir&) = delete;
  ModelDir& operator=(const ModelDir&) = delete;
  ~ModelDir() { fs::remove_all(path); }
  const fs::path path;

 private:
  static inline int counter_ = 0;
};

/// Byte b has the id b; three merges; special tokens from 260 on.
Json tiny() {
  Json vocab = Json::object();
  size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    std::string token;
    plural::append_utf8(token, static_cast<char32_t>(prints ? static_cast<size_t>(byte) : next++));
    vocab[token] = byte;
  }
  vocab["ab"] = 256;
  vocab["bc"] = 257;
  vocab["abc"] = 258;
  vocab["Ġab"] = 259;
  return {{"version", "1.0"},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array({"b c", "a b", "a bc", "Ġ ab"})}}},
          {"added_tokens",
           {{{"id", 260}, {"content", "<end>"}, {"special", true}},
            {{"id", 261}, {"content", "<note>"}, {"special", false}, {"lstrip", true}, {"normalized", false}}}}};
}

Tokenizer load(const Json& tokenizer, const Json& config = nullptr) {
  const ModelDir dir(tokenizer, config);
  return Tokenizer::load(dir.path);
}

std::string error_of(const Json& tokenizer, const Json& config = nullptr) {
  try {
    load(tokenizer, config);
  } catch (const plural::InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST_CASE("merges apply by rank, leftmost first") {
  const Tokenizer tokenizer = load(tiny());
  CHECK(tokenizer.encode("abc") == Ids{258});        // b+c first, then a+bc
  CHECK(tokenizer.encode("abab") == Ids{256, 256});  // no merge crosses
  CHECK(tokenizer.encode("abbc") == Ids{256, 257});
  CHECK(tokenizer.encode(" ab") == Ids{259});
  CHECK(tokenizer.encode(" abc") == Ids{32, 258});
  CHECK(tokenizer.encode("") == Ids{});
  CHECK(tokenizer.encode("aé") == Ids{'a', 0xC3, 0xA9});
  CHECK(tokenizer.vocab_size() == 262);
}

TEST_CASE("special and added tokens are found in text") {
  const Tokenizer tokenizer = load(tiny(), {{"eos_token", "<end>"}, {"bos_token", {{"content", "<end>"}}}});
  CHECK(tokenizer.encode("ab<end>c") == Ids{256, 260, 'c'});
  CHECK(tokenizer.encode("a  <note> b") == Ids{'a', 261, 32, 'b'});  // lstrip takes the spaces
  CHECK(tokenizer.encode("<en") == Ids{'<', 'e', 'n'});
  CHECK(tokenizer.eos_id() == 260);
  CHECK(tokenizer.bos_id() == 260);
  CHECK(tokenizer.is_special(260));
  CHECK_FALSE(tokenizer.is_special(261));
  CHECK_FALSE(tokenizer.is_special(-1));
  CHECK(tokenizer.id_of("<note>") == 261);
  CHECK(tokenizer.id_of("Ġab") == 259);  // as tokenizer.json spells it
  CHECK_FALSE(tokenizer.id_of("nothing"));
  CHECK(tokenizer.decode(Ids{256, 260, 'c'}) == "ab<end>c");
  CHECK(tokenizer.decode(Ids{256, 260, 'c'}, true) == "abc");
}

TEST_CASE("decoding keeps every byte") {
  const Tokenizer tokenizer = load(tiny());
  CHECK(tokenizer.token_bytes(0xC3) == "\xC3");
  CHECK(tokenizer.token_bytes(259) == " ab");
  CHECK(tokenizer.decode(Ids{0xF0, 0x9F, 0xFF, 0x00}) == std::string("\xF0\x9F\xFF\x00", 4));
  CHECK_THROWS_WITH(tokenizer.decode(Ids{262}), Contains("token id 262") && Contains("0..261"));
  CHECK_THROWS_AS(tokenizer.token_bytes(-1), plural::InputError);
}

TEST_CASE("streaming holds back open characters only") {
  const Tokenizer tokenizer = load(tiny());
  plural::StreamingDecoder decoder(tokenizer);
  CHECK(decoder.push(0xF0).empty());
  CHECK(decoder.push(0x9F).empty());
  CHECK(decoder.push(0x98).empty());
  CHECK(decoder.push(0x80) == "😀");
  CHECK(decoder.push(0xC3).empty());
  CHECK(decoder.push('a') ==
        "\xC3"
        "a");  // can no longer become a character
  CHECK(decoder.push(0xFF) == "\xFF");
  CHECK(decoder.push(0xE2).empty());
  CHECK(decoder.finish() == "\xE2");
  CHECK(decoder.finish().empty());
}

TEST_CASE("text that is not UTF-8 is repaired before it is tokenised") {
  CHECK(load(tiny()).encode("a\xFF") == Ids{'a', 0xEF, 0xBF, 0xBD});
}

std::vector<std::string> split(const plural::PreTokenizer& stage, std::string_view text) {
  plural::Pieces pieces;
  stage.split(text, pieces);
  return {pieces.views.begin(), pieces.views.end()};
}

using Words = std::vector<std::string>;

TEST_CASE("the scanners follow their patterns") {
  const auto gpt2 = plural::make_known_scanner(plural::kGpt2Pattern);
  CHECK(split(*gpt2, "I'll pay 12€  now\n\nOK ") ==
        Words{"I", "'ll", " pay", " 12", "€", " ", " now", "\n", "\n", "OK", " "});
  CHECK(split(*gpt2, "'LL") == Words{"'", "LL"});
  const auto llama3 = plural::make_known_scanner(plural::kLlama3Pattern);
  CHECK(split(*llama3, "I'LL 12345 (x)!\n\n y") == Words{"I", "'LL", " ", "123", "45", " (", "x", ")!\n\n", " y"});
  CHECK(split(*llama3, "a \n \n  b") == Words{"a", " \n \n", " ", " b"});
  const auto qwen2 = plural::make_known_scanner(plural::kQwen2Pattern);
  CHECK(split(*qwen2, "a 123") == Words{"a", " ", "1", "2", "3"});
}

TEST_CASE("the scanners equal Oniguruma on random text") {
  const std::vector<std::string> parts = {"a",  "Z", "é",  "ſ",   "1",    "²", " ",  "  ",     "\n",     "\r",
                                          "\t", "'", "'s", "'LL", "!",    "…", "中", "\u0301", "\u3000", "\u0085",
                                          "😀",  "Ⅻ", "x",  "'ſ",  "\r\n", "_", "½",  "ö"};
  for (const char* pattern : {plural::kGpt2Pattern, plural::kLlama3Pattern, plural::kQwen2Pattern}) {
    const auto scanner = plural::make_known_scanner(pattern);
    const auto reference = plural::make_split_oniguruma(pattern, plural::SplitBehavior::kIsolated, false);
    uint32_t state = 12345;
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      for (int i = 0; i < 12; ++i) {
        state = state * 1664525 + 1013904223;
        text += parts[(state >> 8) % parts.size()];
      }
      INFO(pattern << " on " << Json(text).dump());
      REQUIRE(split(*scanner, text) == split(*reference, text));
    }
  }
}

TEST_CASE("splits treat matches as asked") {
  using plural::SplitBehavior;
  const auto with = [](SplitBehavior behavior, bool invert = false) {
    return split(*plural::make_split_string("-", behavior, invert), "the-final--countdown");
  };
  CHECK(with(SplitBehavior::kRemoved) == Words{"the", "final", "countdown"});
  CHECK(with(SplitBehavior::kIsolated) == Words{"the", "-", "final", "-", "-", "countdown"});
  CHECK(with(SplitBehavior::kMergedWithPrevious) == Words{"the-", "final-", "-", "countdown"});
  CHECK(with(SplitBehavior::kMergedWithNext) == Words{"the", "-final", "-", "-countdown"});
  CHECK(with(SplitBehavior::kContiguous) == Words{"the", "-", "final", "--", "countdown"});
  CHECK(with(SplitBehavior::kRemoved, true) == Words{"-", "-", "-"});
  CHECK(split(*plural::make_digits(true), "a12b٣") == Words{"a", "1", "2", "b", "٣"});
  CHECK(split(*plural::make_digits(false), "a12b") == Words{"a", "12", "b"});
}

TEST_CASE("text is normalised before it is tokenised") {
  CHECK(plural::normalise("e\u0301", plural::NormalForm::kNfc) == "é");
  Json json = tiny();
  json["normalizer"] = {{"type", "NFC"}};
  CHECK(load(json).encode("e\u0301") == Ids{0xC3, 0xA9});
}

TEST_CASE("special tokens are added on request") {
  Json json = tiny();
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<end>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}},
      {"special_tokens", {{"<end>", {{"id", "<end>"}, {"ids", {260}}}}}}};
  const Tokenizer tokenizer = load(json);
  CHECK(tokenizer.encode("ab", true) == Ids{260, 256});
  CHECK(tokenizer.encode("ab") == Ids{256});
}

TEST_CASE("merging a long word equals merging a short one") {
  // The same word through the scan (short) and the heap (long): a run of "abc" merges alike
  // wherever it stands.
  const Tokenizer tokenizer = load(tiny());
  std::string word;
  for (int i = 0; i < 500; ++i) word += "abc";
  CHECK(tokenizer.encode(word) == Ids(500, 258));
}

TEST_CASE("cost is near linear in runs of one character") {
  Json json = tiny();
  // Merges that double: x, xx, xxxx ... as real vocabularies have for spaces.
  std::string run = "x";
  for (int id = 270; id < 276; ++id) {
    json["model"]["merges"].push_back(Json::array({run, run}));
    run += run;
    json["model"]["vocab"][run] = id;
  }
  const Tokenizer tokenizer = load(json);
  const std::string text(1 << 20, 'x');
  const auto start = std::chrono::steady_clock::now();
  CHECK(tokenizer.encode(text) == Ids((1 << 20) / 64, 275));
  tokenizer.encode(std::string(1 << 20, ' '));
  tokenizer.encode(std::string(1 << 20, '\n') + "y");
  // A quadratic merge would take hours; the bound is loose for busy machines.
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

TEST_CASE("one tokenizer serves many threads") {
  const Tokenizer tokenizer = load(tiny());
  const std::string text = "ab abc abab <end> bcab\n";
  const Ids expected = tokenizer.encode(text);
  std::vector<int> wrong(4);
  std::vector<std::thread> threads;
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i) count += tokenizer.encode(text) != expected;
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(4));
}

TEST_CASE("what is not supported is refused by name") {
  const auto with = [](const char* pointer, const Json& value) {
    Json json = tiny();
    json[Json::json_pointer(pointer)] = value;
    return error_of(json);
  };
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Metaspace"}}), Contains("tokenizer.json") &&
                                                                  Contains("`pre_tokenizer.type`") &&
                                                                  Contains("Metaspace") && Contains("Digits"));
  CHECK_THAT(with("/pre_tokenizer", nullptr), Contains("`pre_tokenizer`") && Contains("ByteLevel"));
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Digits"}}), Contains("ByteLevel"));
  CHECK_THAT(with("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "("}}}, {"behavior", "Isolated"}}),
             Contains("`pre_tokenizer.pattern`") && Contains("regular expression"));
  CHECK_THAT(with("/normalizer", {{"type", "Lowercase"}}), Contains("`normalizer.type`") && Contains("NFC"));
  CHECK_THAT(with("/model/type", "Unigram"), Contains("`model.type`") && Contains("BPE"));
  CHECK_THAT(with("/model/byte_fallback", true), Contains("`model.byte_fallback`"));
  CHECK_THAT(with("/model/vocab/ab", 257), Contains("`model.vocab`") && Contains("257"));
  CHECK_THAT(with("/model/vocab/ab", -3), Contains("`model.vocab`") && Contains("-3"));
  CHECK_THAT(with("/model/merges/0", "b"), Contains("`model.merges[0]`"));
  CHECK_THAT(with("/model/merges/0", Json::array({"q", "z"})), Contains("`model.merges[0]`") && Contains("qz"));
  CHECK_THAT(with("/decoder/type", "Metaspace"), Contains("`decoder.type`"));
  CHECK_THAT(with("/post_processor", {{"type", "BertProcessing"}}), Contains("`post_processor.type`"));
  CHECK_THAT(with("/added_tokens/0/id", "x"), Contains("`added_tokens[0].id`"));
  CHECK_THAT(error_of(nullptr), Contains("tokenizer.json") && Contains("no such file"));
  CHECK_THAT(error_of(tiny(), {{"eos_token", 3}}), Contains("tokenizer_config.json") && Contains("`eos_token`"));
  CHECK_THAT(error_of(tiny(), {{"chat_format", "x"}}), Contains("`chat_format`") && Contains("smollm2"));

  const ModelDir dir(tiny());
  std::ofstream(dir.path / "tokenizer.json") << "{\"model\": ";
  CHECK_THROWS_WITH(Tokenizer::load(dir.path), Contains("tokenizer.json") && Contains("not valid JSON"));
}

TEST_CASE("a chat template that is missing or unknown says what to set") {
  const std::vector<Message> chat = {{"user", "hi"}};
  CHECK_THROWS_WITH(load(tiny()).render_chat(chat),
                    Contains("no chat template") && Contains("\"chat_format\"") && Contains("qwen3"));
  CHECK_THROWS_WITH(load(tiny(), {{"chat_template", "{{ x }}"}}).render_chat(chat),
                    Contains("not one that plural knows") && Contains("\"chat_format\""));
  const Tokenizer set = load(tiny(), {{"chat_template", "{{ x }}"}, {"chat_format", "chatml"}});
  CHECK(set.render_chat(chat) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  CHECK_THROWS_WITH(set.render_chat(std::vector<Message>{}), Contains("at least one message"));
  CHECK_THROWS_WITH(set.render_chat(std::vector<Message>{{"robot", "x"}}), Contains("\"robot\""));
}

}  // namespace
