// SPDX-License-Identifier: Apache-2.0
// checkpoints/step_N: parameters.safetensors, optimizer.safetensors, memory.safetensors (where there is something to
// remember), state.json. The folder is filled under another name and renamed when all of it is on disk, so a killed run
// leaves complete checkpoints only.
#include <fcntl.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstring>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/safetensors.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kVersion = 1;
constexpr const char* kParameters = "parameters.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kMemory = "memory.safetensors";
constexpr const char* kTemporary = ".tmp-";  // prefix of unfinished and of retired folders

// The N of "step_N", or -1.
int64_t step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  if (name.rfind("step_", 0) != 0) return -1;
  int64_t step = -1;
  const auto [end, code] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  return code == std::errc() && end == name.data() + name.size() ? step : -1;
}

/// A checkpoint of a plural that writes other files than this one.
class OtherVersionError : public InputError {
 public:
  using InputError::InputError;
};

struct Found {
  int64_t step;
  fs::path folder;
};
/// The newest first. A folder that is there and cannot be listed is not an empty one: UnreadableError.
std::vector<Found> list_checkpoints(const fs::path& checkpoints) {
  std::vector<Found> found;
  std::error_code error;
  for (fs::directory_iterator it(checkpoints, error), end; !error && it != end; it.increment(error))
    if (const int64_t step = step_of(it->path()); step >= 0) found.push_back({step, it->path()});
  if (error && error != std::errc::no_such_file_or_directory)
    throw detail::UnreadableError(fmt::format("{}: cannot read the folder: {}; make it readable, then run again",
                                              checkpoints.string(), error.message()));
  std::sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.step > b.step; });
  return found;
}

[[noreturn]] void fail(const fs::path& path, const char* what, int code) {
  throw WriteError(fmt::format("{}: cannot {}: {}; free space or choose another folder, then run again", path.string(),
                               what, std::strerror(code)));
}

// Out of sight first: a removal that is cut short must not look like a damaged checkpoint.
void retire(const fs::path& folder) {
  const fs::path hidden = folder.parent_path() / fmt::format("{}old-{}", kTemporary, folder.filename().string());
  std::error_code ignored;
  fs::remove_all(hidden, ignored);
  fs::rename(folder, hidden, ignored);
  fs::remove_all(ignored ? folder : hidden, ignored);
}

void remove_leftovers(const fs::path& checkpoints) {
  std::error_code error, ignored;
  std::vector<fs::path> dead;
  for (fs::directory_iterator it(checkpoints, error), end; !error && it != end; it.increment(error))
    if (it->path().filename().string().rfind(kTemporary, 0) == 0) dead.push_back(it->path());
  for (const fs::path& folder : dead) fs::remove_all(folder, ignored);
}

// JSON has no infinities, and a resumed run must have the very same numbers: hexadecimal text.
std::string exact(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, 8);
  return fmt::format("{:016x}", bits);
}
double from_exact(const std::string& text) {
  uint64_t bits = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), bits, 16);
  if (code != std::errc() || end != text.data() + text.size() || text.size() != 16)
    throw InputError("a number of state.json is not 16 hexadecimal digits");
  double x;
  std::memcpy(&x, &bits, 8);
  return x;
}

void check_file(const fs::path& folder, const char* name, const json& expected) {
  const detail::InputFile file(folder / name);
  const uint64_t size = expected.at("size_bytes").get<uint64_t>();
  if (file.size_bytes() != size)
    throw InputError(fmt::format("{}: {} bytes, expected {}", (folder / name).string(), file.size_bytes(), size));
  if (file.crc() != expected.at("crc32c").get<uint32_t>())
    throw InputError(fmt::format("{}: the contents are damaged (checksum differs)", (folder / name).string()));
}

TrainState read_checkpoint(const fs::path& folder) {
  const std::string text = detail::read_whole_file(folder / "state.json");
  try {
    const json state = json::parse(text);
    if (state.at("version").get<int>() != kVersion)
      throw OtherVersionError(fmt::format("{}: version {}, expected {}", (folder / "state.json").string(),
                                          state.at("version").dump(), kVersion));
    TrainState result;
    result.step = state.at("step").get<int64_t>();
    result.data_position = state.at("data_position").get<int64_t>();
    for (const auto& [name, value] : state.at("numbers").items())
      result.numbers[name] = from_exact(value.at("bits").get<std::string>());
    check_file(folder, kParameters, state.at("files").at(kParameters));
    check_file(folder, kOptimizer, state.at("files").at(kOptimizer));
    result.parameters = read_safetensors(folder / kParameters);
    result.optimizer = read_safetensors(folder / kOptimizer);
    if (state.at("files").contains(kMemory)) {
      check_file(folder, kMemory, state.at("files").at(kMemory));
      result.memory = read_safetensors(folder / kMemory);
    }
    return result;
  } catch (const json::exception& error) {
    throw InputError(fmt::format("{}: {}", (folder / "state.json").string(), error.what()));
  }
}

}  // namespace

// The old folder then lies under the temporary name.
void detail::move_into_place(const fs::path& temporary, const fs::path& folder) {
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), RENAME_EXCHANGE) == 0) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    return;
  }
  if (errno != ENOENT) retire(folder);  // a file system that cannot swap
  if (::rename(temporary.c_str(), folder.c_str()) != 0) fail(folder, "rename it into place", errno);
}

void save_checkpoint(const fs::path& run_dir, const TrainState& state, int64_t keep) {
  PLURAL_CHECK(keep >= 1, "at least one checkpoint must be kept");
  PLURAL_CHECK(state.step >= 0, "steps are counted from 0");
  const fs::path checkpoints = run_dir / "checkpoints";
  detail::make_folders(checkpoints);
  remove_leftovers(checkpoints);

  const std::string name = fmt::format("step_{}", state.step);
  const fs::path temporary = checkpoints / fmt::format("{}{}", kTemporary, name);
  detail::make_folders(temporary);
  try {
    json description = {{"version", kVersion}, {"step", state.step}, {"data_position", state.data_position}};
    description["numbers"] = json::object();
    for (const auto& [key, value] : state.numbers)
      description["numbers"][key] = {{"value", std::isfinite(value) ? json(value) : json()}, {"bits", exact(value)}};
    const auto write = [&](const char* file, const NamedTensors& tensors) {
      const detail::WrittenFile written = detail::write_safetensors_file(temporary / file, tensors);
      description["files"][file] = {{"size_bytes", written.size_bytes}, {"crc32c", written.crc}};
    };
    write(kParameters, state.parameters);
    write(kOptimizer, state.optimizer);
    if (!state.memory.empty()) write(kMemory, state.memory);
    write_file_atomic(temporary / "state.json", description.dump(2) + "\n");
    detail::move_into_place(temporary, checkpoints / name);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
  detail::sync_folder(checkpoints);

  // A run that was resumed from an older step may leave newer folders behind; they are not of this run any more.
  std::vector<Found> found = list_checkpoints(checkpoints);
  int64_t kept = 0;
  for (const Found& checkpoint : found)
    if (checkpoint.step > state.step || ++kept > keep) retire(checkpoint.folder);
}

std::optional<TrainState> load_newest_checkpoint(const fs::path& run_dir, std::vector<std::string>* skipped) {
  std::vector<std::string> damaged;
  std::string reasons;
  bool may_be_sound = false;
  const auto pass_over = [&](const Found& checkpoint, const char* what, const InputError& error) {
    reasons += fmt::format("\n  step_{} {}: {}", checkpoint.step, what, error.what());
  };
  for (const Found& checkpoint : list_checkpoints(run_dir / "checkpoints")) {
    try {
      TrainState state = read_checkpoint(checkpoint.folder);
      if (may_be_sound) {
        reasons += fmt::format("\n  step_{} is whole", checkpoint.step);
        break;
      }
      if (skipped) *skipped = std::move(damaged);
      return state;
    } catch (const OtherVersionError& error) {
      may_be_sound = true;
      pass_over(checkpoint, "is of another version of plural", error);
    } catch (const detail::UnreadableError& error) {
      may_be_sound = true;
      pass_over(checkpoint, "cannot be read", error);
    } catch (const InputError& error) {
      pass_over(checkpoint, "is damaged", error);
      damaged.push_back(fmt::format("{}: {}", checkpoint.folder.string(), error.what()));
    }
  }
  if (reasons.empty()) return std::nullopt;
  // The run would go on without them and remove them, with all that its later steps had written.
  throw InputError(fmt::format(
      "{}: the newest checkpoint cannot be used, and nothing was changed:{}\n{}", (run_dir / "checkpoints").string(),
      reasons,
      may_be_sound
          ? "make it readable, or take the plural that wrote it; without the folders that cannot be used, a run "
            "goes on from an older one"
          : "put a good copy back, or start anew in another output folder"));
}

}  // namespace plural
