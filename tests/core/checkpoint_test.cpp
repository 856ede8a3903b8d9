// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>
#include <limits>

#include "lib/core/file_io.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

TrainState state_of(int64_t step, int64_t size = 100) {
  TrainState state;
  state.step = step;
  state.data_position = step * 4;
  state.parameters = {{"w", at::full({size}, static_cast<double>(step), at::kFloat)},
                      {"b", at::full({3}, step, at::kBFloat16)}};
  state.optimizer = {{"step", at::full({}, step, at::kLong)}, {"w.exp_avg", at::full({size}, step * 0.5, at::kFloat)}};
  state.numbers = {{"best", 0.1 * static_cast<double>(step)}, {"loss_scale", std::numeric_limits<double>::infinity()}};
  return state;
}

void check_state(const TrainState& state, int64_t step) {
  CHECK(state.step == step);
  CHECK(state.data_position == step * 4);
  const TrainState want = state_of(step, 100);
  CHECK(state.numbers == want.numbers);
  REQUIRE(state.parameters.size() == 2);
  REQUIRE(state.optimizer.size() == 2);
  for (const auto& [name, tensor] : state.parameters) CHECK(tensor.eq(step).all().item<bool>());
}

std::vector<std::string> names(const fs::path& folder) {
  std::vector<std::string> result;
  for (const auto& entry : fs::directory_iterator(folder)) result.push_back(entry.path().filename().string());
  std::sort(result.begin(), result.end());
  return result;
}

void flip_byte(const fs::path& file, int64_t from_end) {
  std::string bytes = read_bytes(file);
  bytes[bytes.size() - static_cast<size_t>(from_end)] ^= 1;
  std::ofstream(file, std::ios::binary) << bytes;
}

// Runs `body` in a child process, as nobody when we are root; true when it returned true.
template <class Body>
bool in_child_without_rights(Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(3);
    bool ok = false;
    try {
      ok = body();
    } catch (...) {
    }
    ::_exit(ok ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("crc32c equals published vectors") {
  // RFC 3720 B.4 and the check value of the CRC catalogue.
  CHECK(plural::detail::crc32c("123456789", 9) == 0xe3069283u);
  const std::string zeros(32, '\0'), ones(32, '\xff');
  CHECK(plural::detail::crc32c(zeros.data(), 32) == 0x8a9136aau);
  CHECK(plural::detail::crc32c(ones.data(), 32) == 0x62a8ab43u);
  CHECK(plural::detail::crc32c_portable("123456789", 9) == 0xe3069283u);
  CHECK(plural::detail::crc32c_portable(zeros.data(), 32) == 0x8a9136aau);
  CHECK(plural::detail::crc32c("6789", 4, plural::detail::crc32c("12345", 5)) == 0xe3069283u);
}

TEST_CASE("what a trainer remembers is a file of its own, where there is anything") {
  const TempDir dir;
  TrainState state = state_of(1);
  save_checkpoint(dir.path(), state);
  CHECK_FALSE(fs::exists(dir / "checkpoints" / "step_1" / "memory.safetensors"));
  CHECK(load_newest_checkpoint(dir.path())->memory.empty());

  state.step = 2;
  state.memory = {
      {"ids", at::arange(5, at::kLong)}, {"text", at::empty({0}, at::kByte)}, {"rate", at::rand({3}, at::kDouble)}};
  save_checkpoint(dir.path(), state);
  const NamedTensors memory = load_newest_checkpoint(dir.path())->memory;
  REQUIRE(memory.size() == 3);
  for (const auto& [name, tensor] : memory) {
    const auto it = std::find_if(state.memory.begin(), state.memory.end(),
                                 [&](const auto& m) { return m.first == name; });
    REQUIRE(it != state.memory.end());
    CHECK(tensor.scalar_type() == it->second.scalar_type());
    CHECK(at::equal(tensor, it->second));
  }
  // Damaged, it spoils its checkpoint.
  flip_byte(dir / "checkpoints" / "step_2" / "memory.safetensors", 3);
  std::vector<std::string> skipped;
  CHECK(load_newest_checkpoint(dir.path(), &skipped)->step == 1);
  CHECK(skipped.size() == 1);
}

TEST_CASE("a checkpoint comes back as it was and only the newest ones stay") {
  const TempDir dir;
  CHECK(!load_newest_checkpoint(dir.path()));
  for (int64_t step : {5, 10, 20, 100}) save_checkpoint(dir.path(), state_of(step), 2);
  CHECK(names(dir / "checkpoints") == std::vector<std::string>{"step_100", "step_20"});
  check_state(*load_newest_checkpoint(dir.path()), 100);
  // The same step again (Ctrl-C right after a save) replaces it.
  save_checkpoint(dir.path(), state_of(100), 2);
  CHECK(names(dir / "checkpoints") == std::vector<std::string>{"step_100", "step_20"});
  check_state(*load_newest_checkpoint(dir.path()), 100);
}

TEST_CASE("damaged checkpoints are skipped and named") {
  const TempDir dir;
  const auto checkpoints = dir / "checkpoints";
  for (int64_t step = 1; step <= 6; ++step) save_checkpoint(dir.path(), state_of(step), 10);
  flip_byte(checkpoints / "step_6" / "parameters.safetensors", 3);
  fs::resize_file(checkpoints / "step_5" / "optimizer.safetensors", 100);
  fs::remove(checkpoints / "step_4" / "state.json");
  std::ofstream(checkpoints / "step_3" / "state.json") << "{\"version\": 1";
  fs::remove(checkpoints / "step_2" / "parameters.safetensors");
  std::vector<std::string> skipped;
  const auto state = load_newest_checkpoint(dir.path(), &skipped);
  REQUIRE(state);
  check_state(*state, 1);
  REQUIRE(skipped.size() == 5);
  CHECK_THAT(skipped[0], Contains("step_6") && Contains("checksum"));
  CHECK_THAT(skipped[1], Contains("step_5") && Contains("100 bytes"));
  CHECK_THAT(skipped[2], Contains("step_4") && Contains("state.json"));
  // Going on from step 1 leaves no later checkpoint of the abandoned future.
  save_checkpoint(dir.path(), state_of(2), 10);
  CHECK(names(checkpoints) == std::vector<std::string>{"step_1", "step_2"});
}

TEST_CASE("when every checkpoint is damaged they are all listed, and it is not as if there were none") {
  const TempDir dir;
  const auto checkpoints = dir / "checkpoints";
  for (int64_t step : {2, 4}) save_checkpoint(dir.path(), state_of(step));
  flip_byte(checkpoints / "step_4" / "parameters.safetensors", 3);
  fs::remove(checkpoints / "step_2" / "state.json");
  std::vector<std::string> skipped;
  CHECK_THAT(thrown<InputError>([&] { load_newest_checkpoint(dir.path(), &skipped); }),
             Contains("step_4 is damaged: ") && Contains("checksum") && Contains("step_2 is damaged: ") &&
                 Contains("state.json") && Contains("start anew"));
  CHECK(skipped.empty());
  CHECK(names(checkpoints) == std::vector<std::string>{"step_2", "step_4"});
}

TEST_CASE("a checkpoint of another version is not a damaged one: it may be sound") {
  const TempDir dir;
  for (int64_t step : {2, 4}) save_checkpoint(dir.path(), state_of(step));
  const fs::path file = dir / "checkpoints" / "step_4" / "state.json";
  std::string text = read_bytes(file);
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 7");
  std::ofstream(file) << text;
  // Going on from step 2 would remove step 4 with the next save.
  const std::string message = thrown<InputError>([&] { load_newest_checkpoint(dir.path()); });
  CHECK_THAT(message, Contains("step_4 is of another version of plural: ") && Contains("version 7, expected 1") &&
                          Contains("step_2 is whole") && Contains("take the plural that wrote it"));
  CHECK_THAT(message, !Contains("damaged"));
  fs::remove_all(dir / "checkpoints" / "step_4");
  check_state(*load_newest_checkpoint(dir.path()), 2);
}

TEST_CASE("a checkpoint that may not be read is not a damaged one") {
  const TempDir dir;
  for (int64_t step : {2, 4}) save_checkpoint(dir.path(), state_of(step));
  const fs::path newest = dir / "checkpoints" / "step_4";
  const auto message = [&] { return thrown<InputError>([&] { load_newest_checkpoint(dir.path()); }); };
  const auto says = [&](const char* what, const char* path) {
    return in_child_without_rights([&] {
      const std::string text = message();
      return text.find(what) != std::string::npos && text.find(path) != std::string::npos &&
             text.find("Permission denied") != std::string::npos && text.find("damaged") == std::string::npos;
    });
  };
  ::chmod((newest / "optimizer.safetensors").c_str(), 0);
  CHECK(says("step_4 cannot be read: ", "step_2 is whole"));
  ::chmod((newest / "optimizer.safetensors").c_str(), 0644);
  ::chmod(newest.c_str(), 0);
  CHECK(says("step_4 cannot be read: ", "step_2 is whole"));
  ::chmod(newest.c_str(), 0755);
  // A folder that cannot be listed is not an empty one.
  ::chmod((dir / "checkpoints").c_str(), 0);
  CHECK(says("cannot read the folder", "make it readable"));
  ::chmod((dir / "checkpoints").c_str(), 0755);
  check_state(*load_newest_checkpoint(dir.path()), 4);
}

TEST_CASE("a run killed at any moment leaves complete checkpoints only") {
  const TempDir dir;
  int64_t last = 0;
  for (int round = 0; round < 15 || (last < 5 && round < 200); ++round) {  // a slow disk takes more rounds
    const pid_t child = ::fork();
    if (child == 0) {
      for (int64_t step = last + 1;; ++step) save_checkpoint(dir.path(), state_of(step), 2);
    }
    ::usleep(static_cast<useconds_t>(20000 + round * 7300));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    std::vector<std::string> skipped;
    const auto state = load_newest_checkpoint(dir.path(), &skipped);
    CHECK(skipped.empty());
    if (!state) continue;  // not one save was finished yet
    check_state(*state, state->step);
    CHECK(state->step >= last);
    last = state->step;
  }
  CHECK(last >= 5);
  save_checkpoint(dir.path(), state_of(last + 1), 2);
  for (const std::string& name : names(dir / "checkpoints")) CHECK_THAT(name, Catch::StartsWith("step_"));
}

TEST_CASE("a full disk is an error that leaves the older checkpoint and no litter") {
  const TempDir dir;
  save_checkpoint(dir.path(), state_of(1));
  struct rlimit old {};
  ::getrlimit(RLIMIT_FSIZE, &old);
  struct rlimit small = old;
  small.rlim_cur = 64 * 1024;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);  // then write() fails with EFBIG
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string checkpoint = thrown<WriteError>([&] { save_checkpoint(dir.path(), state_of(2, 100000)); });
  const std::string file = thrown<SystemError>([&] { write_safetensors(dir / "w", state_of(2, 100000).parameters); });
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(checkpoint, Contains("parameters.safetensors") && Contains("File too large") && Contains("free space"));
  CHECK_THAT(file, Contains("cannot write"));
  CHECK(names(dir / "checkpoints") == std::vector<std::string>{"step_1"});
  CHECK(dir.entries() == 1);
  check_state(*load_newest_checkpoint(dir.path()), 1);
}

TEST_CASE("devices are written straight, never replaced, and report their errors") {
  CHECK_THAT(thrown<SystemError>([] { write_file_atomic("/dev/full", "x"); }),
             Contains("/dev/full") && Contains("No space left"));
  CHECK_NOTHROW(write_file_atomic("/dev/null", "x"));
  CHECK(fs::is_character_file("/dev/full"));
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("a link stays a link when its file is replaced") {
  const TempDir dir;
  dir.write("real", "old");
  fs::create_symlink("real", dir / "link");
  write_file_atomic(dir / "link", "new");
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(read_bytes(dir / "real") == "new");
}

TEST_CASE("a read-only folder is a SystemError naming the path") {
  const TempDir dir;
  ::chmod(dir.path().c_str(), 0555);
  CHECK(in_child_without_rights([&] {
    const std::string text = thrown<WriteError>([&] { save_checkpoint(dir.path(), state_of(1)); });
    return text.find(dir.path().string()) != std::string::npos && text.find("Permission denied") != std::string::npos;
  }));
  CHECK(in_child_without_rights([&] {
    return thrown<SystemError>([&] { write_file_atomic(dir / "a", "x"); }).find("Permission denied") !=
           std::string::npos;
  }));
  ::chmod(dir.path().c_str(), 0755);
}
