// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <nlohmann/json.hpp>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/rollout.h"

namespace plural {
namespace {

class ReplayEngine final : public RolloutEngine {
 public:
  ReplayEngine(const std::filesystem::path& file, const Tokenizer& tokenizer)
      : file_(file.string()), stream_(file), tokenizer_(tokenizer) {
    if (!stream_) throw InputError(fmt::format("{}: cannot be read; expected JSON Lines of completions", file_));
  }

  RolloutBatch generate(std::span<const std::vector<TokenId>> prompts, const SamplingOptions& options,
                        const RolloutKey&) override {
    RolloutBatch batch;
    batch.prompts.assign(prompts.begin(), prompts.end());
    batch.samples_per_prompt = options.samples_per_prompt;
    const auto rows = static_cast<int64_t>(prompts.size()) * options.samples_per_prompt;
    int64_t tokens = 0;
    for (int64_t r = 0; r < rows; ++r) {
      batch.rows.push_back(next());
      tokens += static_cast<int64_t>(batch.rows.back().ids.size());
      if (progress_ && !progress_(r + 1, rows, tokens)) {
        throw Interrupted(fmt::format("replay was stopped with {} of {} completions done", r + 1, rows));
      }
    }
    return batch;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw InputError(fmt::format("{}:{}: {}", file_, line_, what));
  }

  Completion next() {
    std::string text;
    do {
      if (!std::getline(stream_, text)) {
        throw InputError(
            fmt::format("{}: ends after line {}, but more completions are asked for; a replay needs one line "
                        "a row, in order",
                        file_, line_));
      }
      ++line_;
    } while (text.find_first_not_of(" \t\r") == std::string::npos);
    try {
      return read(nlohmann::json::parse(text));
    } catch (const nlohmann::json::exception& error) {
      refuse(fmt::format("expected {{\"ids\": [...], \"logprobs\": [...]}}: {}", error.what()));
    }
  }

  Completion read(const nlohmann::json& line) const {
    Completion row;
    row.ids = line.at("ids").get<std::vector<TokenId>>();
    row.log_probs = line.at("logprobs").get<std::vector<float>>();
    if (row.ids.size() != row.log_probs.size()) {
      refuse(fmt::format("{} ids, but {} logprobs; one for each id is needed", row.ids.size(), row.log_probs.size()));
    }
    for (const TokenId id : row.ids) {
      if (id < 0 || id >= tokenizer_.vocab_size()) {
        refuse(fmt::format("id {} is not among the tokenizer's {} ids", id, tokenizer_.vocab_size()));
      }
    }
    const bool ended = !row.ids.empty() && tokenizer_.eos_id() == row.ids.back();
    const std::string finish = line.value("finish_reason", ended ? "stop" : "length");
    if (finish != "stop" && finish != "length")
      refuse(fmt::format("finish_reason is '{}'; expected stop or length", finish));
    row.finish = finish == "stop" ? FinishReason::kStop : FinishReason::kLength;
    row.text = line.contains("text") ? line.at("text").get<std::string>() : tokenizer_.decode(row.ids, true);
    return row;
  }

  std::string file_;
  std::ifstream stream_;
  const Tokenizer& tokenizer_;
  int64_t line_ = 0;
};

}  // namespace

std::unique_ptr<RolloutEngine> make_replay_engine(const std::filesystem::path& file, const Tokenizer& tokenizer) {
  return std::make_unique<ReplayEngine>(file, tokenizer);
}

}  // namespace plural
