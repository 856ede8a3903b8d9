// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <string>

#include "plural/error.h"
#include "plural/rollout.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

using namespace plural;

namespace {

struct Folder {
  TempDir dir;
  Tokenizer tokenizer = [this] {
    write_tiny_model_files(dir / "model");
    return Tokenizer::load(dir / "model");
  }();
  std::unique_ptr<RolloutEngine> engine(const std::string& lines) const {
    return make_replay_engine(dir.write("replay.jsonl", lines), tokenizer);
  }
};

const std::vector<std::vector<TokenId>> kPrompts = {{1, 2}, {3}};

}  // namespace

TEST_CASE("replay gives the file's rows in order", "[replay]") {
  const Folder folder;
  const auto engine = folder.engine(
      "{\"ids\": [72, 105, 258], \"logprobs\": [-0.5, -1.25, -2]}\n"
      "\n"
      "{\"ids\": [72], \"logprobs\": [-3]}\n"
      "{\"ids\": [], \"logprobs\": [], \"finish_reason\": \"stop\"}\n"
      "{\"ids\": [72], \"logprobs\": [-3], \"text\": \"given\", \"finish_reason\": \"stop\"}\n"
      "{\"ids\": [33], \"logprobs\": [-4]}\n");
  SamplingOptions options;
  options.samples_per_prompt = 2;
  const RolloutBatch batch = engine->generate(kPrompts, options, {});
  CHECK(batch.prompts == kPrompts);
  CHECK(batch.generated_tokens() == 5);
  REQUIRE(batch.rows.size() == 4);
  CHECK(batch.rows[0].ids == std::vector<TokenId>{72, 105, 258});
  CHECK(batch.rows[0].log_probs == std::vector<float>{-0.5F, -1.25F, -2.0F});
  CHECK(batch.rows[0].text == "Hi");
  CHECK(batch.rows[0].finish == FinishReason::kStop);
  CHECK(batch.rows[1].finish == FinishReason::kLength);
  CHECK(batch.rows[2].finish == FinishReason::kStop);
  CHECK(batch.rows[3].text == "given");
  // The next call goes on where this one ended.
  options.samples_per_prompt = 1;
  CHECK(engine->generate(std::span(kPrompts).first(1), options, {}).rows[0].text == "!");
  CHECK_THROWS_WITH(engine->generate(std::span(kPrompts).first(1), options, {}), Catch::Contains("ends after line 6"));
}

TEST_CASE("bad replay lines name file and line", "[replay]") {
  const Folder folder;
  const std::string line = GENERATE("not json", "[]", "{\"ids\": [1]}", "{\"ids\": [1], \"logprobs\": []}",
                                    "{\"ids\": [\"a\"], \"logprobs\": [0]}", "{\"ids\": [1000], \"logprobs\": [0]}",
                                    "{\"ids\": [-1], \"logprobs\": [0]}",
                                    "{\"ids\": [1], \"logprobs\": [0], \"finish_reason\": \"bored\"}",
                                    "{\"ids\": [1], \"logprobs\": [0], \"text\": 5}");
  INFO(line);
  const auto engine = folder.engine("{\"ids\": [1], \"logprobs\": [-1]}\n" + line + "\n");
  CHECK_THROWS_WITH(engine->generate(kPrompts, {}, {}), Catch::Contains("replay.jsonl:2: "));
}

TEST_CASE("a replay file that is not there", "[replay]") {
  const Folder folder;
  CHECK_THROWS_AS(make_replay_engine(folder.dir / "none.jsonl", folder.tokenizer), InputError);
}
