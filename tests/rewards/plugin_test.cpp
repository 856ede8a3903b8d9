// SPDX-License-Identifier: Apache-2.0
#include "plural/plugin.h"

#include <cstdlib>

#include "tests/rewards/reward_fixture.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using namespace plural::testing;

namespace {

std::filesystem::path plugin(const std::string& name) {
  const char* bin = std::getenv("PLURAL_BIN");
  if (bin == nullptr) FAIL("run through ctest: PLURAL_BIN is not set");
  return std::filesystem::path(bin).parent_path() / "test_plugins" / ("libplugin_" + name + ".so");
}

std::string refusal(const std::filesystem::path& file) {
  Registry<Reward> registry = builtin_rewards();
  const size_t before = registry.names().size();
  const std::string text = thrown<InputError>([&] { load_plugin(file, registry); });
  CHECK(registry.names().size() == before);
  return text;
}

}  // namespace

TEST_CASE("a plugin's reward stands beside the bundled ones", "[host]") {
  Registry<Reward> registry = builtin_rewards();
  load_plugin(plugin("brevity"), registry);
  const Scored scored(animals(), {write_set({{"cat", "1"}, {"a big dog", "0"}}), ""}, 2);
  const auto reward = registry.make("brevity");
  const RewardOutput out = reward->score(scored.input());
  check_close(Scored::values(out.row), {0.75, 0});  // (1 + 1/2) / 2
  check_close(Scored::values(registry.make("brevity", parse_yaml("free_words: 2", "o"))->score(scored.input()).row),
              {1, 0});
  // Errors cross the border as what they are.
  CHECK_THROWS_AS(registry.make("brevity", parse_yaml("free_words: 0", "o")), InputError);
  CHECK_THROWS_AS(registry.make("brevity", parse_yaml("fre_words: 1", "o")), InputError);
  CHECK(registry.entries().at("brevity").options.at(0).path == "free_words");
}

TEST_CASE("a plugin that cannot be used says why", "[host]") {
  using Catch::Contains;
  const TempDir folder;
  CHECK_THAT(refusal(folder / "none.so"), Contains("none.so") && Contains("no such file"));
  CHECK_THAT(refusal(folder.write("text.so", "not a library")), Contains("cannot be loaded"));
  CHECK_THAT(refusal(plugin("no_entry")), Contains("no entry point plural_plugin_v1") && Contains("PLURAL_PLUGIN"));
  CHECK_THAT(refusal(plugin("old_abi")),
             Contains("built for 'plural 0.0.1, torch 1.0'") && Contains(PLURAL_PLUGIN_ABI));
  CHECK_THAT(refusal(plugin("taken_name")), Contains("'coverage'"));
  CHECK_THAT(refusal(plugin("throws")), Contains("no licence"));
  CHECK_THAT(refusal(plugin("empty")), Contains("adds no rewards"));
}
