// SPDX-License-Identifier: Apache-2.0
// Which pieces of an objective go together.
#include "lib/core/format.h"
#include "plural/objective.h"

namespace plural {

std::vector<std::pair<std::string, std::string>> ObjectiveOptions::problems() const {
  std::vector<std::pair<std::string, std::string>> found;
  const auto refuse = [&](bool bad, const char* key, const std::string& why) {
    if (bad) found.emplace_back(key, why);
  };
  for (const char* own : {"gmpo", "vespo"})
    refuse(surrogate == own && ratio != "token", "ratio",
           fmt::format("surrogate '{}' makes one ratio of a row's token ratios itself: expected token, got {}", own,
                       ratio));
  refuse(surrogate == "reinforce" && ratio != "token", "ratio",
         fmt::format("surrogate 'reinforce' uses no ratio: expected token, got {}", ratio));
  refuse(surrogate == "dppo_tv" && ratio != "token", "ratio",
         fmt::format("surrogate 'dppo_tv' bounds the probabilities of single tokens: expected token, got {}", ratio));
  refuse(aggregation == "luspo" && ratio != "sequence", "aggregation",
         "luspo weighs one loss a row by the row's length: it needs ratio: sequence");
  refuse(clip_low > 1 && surrogate != "gmpo", "clip_low",
         fmt::format("a ratio is never below 0: expected 0 to 1, got {}", clip_low));
  refuse(dual_clip > 0 && surrogate != "ppo_clip", "dual_clip",
         fmt::format("only ppo_clip has a clip to bound, surrogate is '{}'", surrogate));
  refuse(dual_clip > 0 && dual_clip <= 1, "dual_clip",
         fmt::format("it bounds the loss of ratios above c: expected 0 (off) or above 1, got {}", dual_clip));
  refuse(ratio_cap > 0 && surrogate != "ppo_clip", "ratio_cap",
         fmt::format("only ppo_clip has an unclipped term to cap, surrogate is '{}'", surrogate));
  refuse(ratio_cap > 0 && ratio_cap <= 1 + clip_high, "ratio_cap",
         fmt::format("a cap inside the clip range hides it: expected above 1 + clip_high = {}, got {}", 1 + clip_high,
                     ratio_cap));
  refuse(kl_in == "reward" && kl != "k1", "kl",
         fmt::format("a KL in the reward is the log-ratio itself: expected k1 with kl_in: reward, got {}", kl));
  refuse(kl_in == "reward" && kl_times_ratio, "kl_times_ratio", "a KL in the reward has no ratio: use kl_in: loss");
  refuse(kl_target > 0 && kl_weight == 0 && kl_controller == "proportional", "kl_target",
         "the proportional controller multiplies kl_weight, and 0 stays 0: start above 0, or use the additive one");
  refuse(kl_times_ratio && (ratio != "token" || surrogate == "reinforce"), "kl_times_ratio",
         "the KL of a token is corrected by the token's own ratio: it needs ratio: token and a surrogate with a ratio");
  refuse(reference_update.every > 0 && !uses_reference(), "reference_update",
         "only the KL term has a reference that could follow the policy: set kl_weight > 0, or every: 0");
  refuse(reference_update.every > 0 && reference_update.rate == 0, "reference_update.rate",
         "a reference that follows at rate 0 stays: expected above 0, or every: 0");
  refuse(reference_update.every == 0 && reference_update.rate != 1, "reference_update.every",
         "a rate moves nothing without steps at which it is applied: expected at least 1");
  refuse(importance != "none" && surrogate == "vespo", "importance",
         "vespo weighs whole rows itself; a second weight would count the same mismatch twice");
  refuse(importance_floor > importance_cap, "importance_floor",
         fmt::format("expected at most importance_cap = {}, got {}", importance_cap, importance_floor));
  refuse(top_entropy <= 0, "top_entropy", "0 keeps no token: expected above 0");
  return found;
}

void ObjectiveOptions::validate(ConfigReader& reader) {
  for (const auto& [key, why] : problems()) reader.problem(key, why);
}

}  // namespace plural
