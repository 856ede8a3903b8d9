// SPDX-License-Identifier: Apache-2.0
// examples/minimal_grpo.cpp runs as its head says, and refuses what is not there.
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_model.h"

namespace {

struct Ran {
  int code = 0;
  std::string out;
};

Ran run_example(const std::string& arguments) {
  const char* bin = std::getenv("PLURAL_BIN");
  REQUIRE(bin != nullptr);
  FILE* pipe = ::popen(("'" + std::string(bin) + "/minimal_grpo' " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Ran ran;
  char buffer[4096];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) ran.out.append(buffer, n);
  ran.code = WEXITSTATUS(::pclose(pipe));
  return ran;
}

}  // namespace

TEST_CASE("minimal_grpo takes two steps on a tiny model") {
  TempDir dir;
  write_tiny_model_files(dir.path(), 32, 4096);
  tiny_policy(dir.path(), 1)->save(dir.path() / "model");
  write_tiny_model_files(dir.path() / "model", 32, 4096);  // its tokenizer
  dir.write("data.jsonl",
            "{\"id\": \"1\", \"prompt\": \"Name fruits.\", \"gold\": [\"apple\", \"pear\"]}\n"
            "{\"id\": \"2\", \"prompt\": \"Name cats.\", \"gold\": [{\"answer\": \"lion\", \"aliases\": [], "
            "\"weight\": 2}]}\n");
  const Ran ran = run_example((dir / "model").string() + " " + (dir / "data.jsonl").string() + " 2");
  INFO(ran.out);
  CHECK(ran.code == 0);
  CHECK(ran.out.find("step 1  reward 0.000  coverage 0.000  format 0.00") != std::string::npos);
  CHECK(ran.out.find("step 2 ") != std::string::npos);
}

TEST_CASE("minimal_grpo names what is missing") {
  TempDir dir;
  CHECK(run_example("").code == 2);
  const Ran ran = run_example((dir / "nowhere").string() + " data.jsonl");
  CHECK(ran.code == 2);
  CHECK(ran.out.find("nowhere") != std::string::npos);
}
