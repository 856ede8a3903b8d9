// SPDX-License-Identifier: Apache-2.0
#include "tests/rewards/reward_fixture.h"

using namespace plural::testing;

TEST_CASE("format_parts is the share of the blocks asked for") {
  const Scored scored(animals(), {write_set({{"cat", "0.5"}, {"dog", "0.5"}, {"owl", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"dog", "0.5"}}),
                                  write_set({{"cat", "0.5"}, {"dog", "high"}, {"owl", "1.5"}}),
                                  write_set({{"cat", "0.5"}, {"", "0.5"}, {"owl", ""}}), "", "cat, dog, owl"});
  check_close(scored.rows("format_parts"), {1, 4.0 / 6, 4.0 / 6, 3.0 / 6, 0, 0});
}

TEST_CASE("format_parts: a block that stands twice is not there once") {
  const std::string set = write_set({{"cat", "0.5"}, {"dog", "0.5"}});
  const Scored scored(animals(), {set + "<answer2>owl</answer2>", set + "<confidence1>0.1</confidence1>"}, 2);
  check_close(scored.rows("format_parts"), {3.0 / 4, 3.0 / 4});
}

TEST_CASE("format_parts counts think and analysis where the format asks for them") {
  const std::string set = write_set({{"cat", "0.5"}, {"dog", "0.5"}});
  const std::vector<std::string> rows = {"<think>t</think>" + set + "<analysis>a</analysis>", set,
                                         "<think>t</think>" + set, "<think></think>"};
  const Scored all(animals(), rows, 2, "multi_answer");
  check_close(all.rows("format_parts"), {1, 4.0 / 6, 5.0 / 6, 0});  // an empty think block is none
  const Scored plain(animals(), {"<think>t</think><answer>cat</answer>", "<answer>cat</answer>"}, 1,
                     "rlvr_single_answer");
  check_close(plain.rows("format_parts"), {1, 0.5});
}
