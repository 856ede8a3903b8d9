// SPDX-License-Identifier: Apache-2.0
#include "lib/train/run_folder.h"

#include <algorithm>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "git_commit.h"
#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "plural/checkpoint.h"
#include "plural/error.h"
#include "plural/run.h"
#include "plural/version.h"

namespace plural {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.yaml";
constexpr const char* kManifestFile = "manifest.json";
constexpr const char* kLockFile = "run.lock";  // there while a process works in the folder

bool holds_run(const fs::path& folder) { return fs::exists(folder / kConfigFile); }

/// Left by write_file_atomic and save_model when the process was killed.
bool is_leftover(const fs::path& path) { return path.filename().string().find(".tmp") != std::string::npos; }

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path)) {
    throw WriteError(
        fmt::format("output: the folder {} cannot be created: {}; set output to a folder that can be written",
                    path.string(), error ? error.message() : "a file of that name is in the way"));
  }
}

/// A folder to start a run in holds nothing, or what a process leaves that was killed while it created the folder.
void check_empty(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (is_leftover(entry.path()) || name == kManifestFile || name == kLockFile) continue;
    throw InputError(fmt::format(
        "output: {} is not empty (it holds '{}') and is no run folder to --resume; set another output folder",
        folder.string(), name));
  }
}

/// "a.b.0" -> value, for every scalar.
void flatten(const ConfigNode& node, const std::string& path, std::map<std::string, std::string>* out) {
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& entry : node.entries) flatten(entry.value, prefix + entry.key, out);
  for (size_t i = 0; i < node.items.size(); ++i) flatten(node.items[i], prefix + std::to_string(i), out);
  if (node.kind == ConfigNode::Kind::kScalar) (*out)[path] = node.scalar;
}

/// Settings that change what is kept, not what is computed, and those that bound memory, which move results by rounding
/// only: a run that was too large for its machine can go on. Files are compared by their hashes.
bool may_differ(const std::string& key) {
  static const std::set<std::string> free = {"output",
                                             "model",
                                             "reference",
                                             "data.train",
                                             "samples.every",
                                             "max_batch_tokens",
                                             "sampling.max_rows",
                                             "evaluation.sampling.max_rows"};
  return free.contains(key) || key.starts_with("checkpoint.") || key.starts_with("evaluation.data") ||
         key.starts_with("plugins.");
}

std::map<std::string, std::string> settings(const std::string& yaml, const std::string& file) {
  std::map<std::string, std::string> flat;
  flatten(parse_yaml(yaml, file), "", &flat);
  std::erase_if(flat, [](const auto& entry) { return may_differ(entry.first); });
  return flat;
}

void check_same_settings(const RunConfig& config, const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  const auto before = settings(text.str(), file.string());
  const auto now = settings(dump(config), "now");
  std::set<std::string> keys;
  for (const auto& [key, value] : before) keys.insert(key);
  for (const auto& [key, value] : now) keys.insert(key);
  std::string differences;
  for (const std::string& key : keys) {
    const auto show = [&](const auto& map) { return map.contains(key) ? map.at(key) : "(not set)"; };
    if (show(before) != show(now)) differences += fmt::format("\n  {}: {} then, {} now", key, show(before), show(now));
  }
  if (!differences.empty()) {
    throw InputError(
        fmt::format("{}: the run was started with other settings:{}\nresume with the same "
                    "settings, or start anew "
                    "in another output folder",
                    file.string(), differences));
  }
}

nlohmann::ordered_json manifest(const RunConfig& config, const FileHashes& hashes) {
  nlohmann::ordered_json json = {{"plural_version", PLURAL_VERSION}};
  json["git_commit"] = std::string(kGitCommit).empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(kGitCommit);
  json["task"] = config.task;
  json["seed"] = config.seed;
  json["device"] = config.device;
  json["dtype"] = config.dtype;
  json["model"] = config.model;
  json["sha256"] = hashes;
  return json;
}

/// One hash for the weights of a model folder: of its files' names, sizes and CRC-32C, which are quick to compute for
/// tens of gigabytes too.
std::string hash_weights(const fs::path& model) {
  std::error_code absent;  // loading the model will say so
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(model, absent))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::string list;
  for (const fs::path& path : files) {
    const detail::InputFile file(path);
    list += fmt::format("{} {} {:08x}\n", path.filename().string(), file.size_bytes(), file.crc());
  }
  return sha256(list);
}

}  // namespace

FileHashes hash_inputs(const RunConfig& config) {
  FileHashes hashes = {{"data.train", sha256_file(config.data.train)}};
  const std::vector<std::string>& held_out = config.evaluation.data;
  for (size_t i = 0; i < held_out.size(); ++i)
    hashes[i == 0 ? "evaluation.data" : fmt::format("evaluation.data[{}]", i)] = sha256_file(held_out[i]);
  for (size_t i = 0; i < config.plugins.size(); ++i)
    hashes[fmt::format("plugins.{}", i)] = sha256_file(config.plugins[i]);
  // A resumed run takes the policy's weights from its checkpoint, but those of the KL term's reference from their
  // folder.
  if (config.task == "rl" && config.objective.uses_reference())
    hashes["reference/weights"] = hash_weights(config.reference.empty() ? config.model : config.reference);
  if (config.task == "rl" && config.critic.trunk == "own")
    hashes["critic/weights"] = hash_weights(config.critic.model.empty() ? config.model : config.critic.model);
  for (const char* name : {"config.json", "tokenizer.json"}) {
    const fs::path file = fs::path(config.model) / name;
    if (fs::exists(file)) hashes[fmt::format("model/{}", name)] = sha256_file(file);
  }
  return hashes;
}

RunFolder::RunFolder(const RunConfig& config, bool resume) : path_(config.output) {
  std::error_code ignored;
  if (!fs::is_directory(path_, ignored)) return;
  if (!holds_run(path_)) {
    check_empty(path_);
    return;
  }
  if (!resume) {
    throw InputError(fmt::format("output: {} holds a run already; go on with --resume, or set another output folder",
                                 path_.string()));
  }
  lock();
  check_same_settings(config, path_ / kConfigFile);
  resuming_ = true;
}

void RunFolder::lock() { lock_ = std::make_unique<detail::FileLock>(path_ / kLockFile, "output"); }

void RunFolder::check_inputs(const FileHashes& hashes) const {
  const fs::path file = path_ / kManifestFile;
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object() || !json.contains("sha256") || !json["sha256"].is_object()) {
    throw InputError(
        fmt::format("{}: not readable; the run cannot be resumed safely, start anew in another folder", file.string()));
  }
  for (const auto& [role, hash] : hashes) {
    const std::string before = json["sha256"].value(role, "");
    if (before == hash) continue;
    throw InputError(
        fmt::format("{}: {} has changed since the run was started (SHA-256 {} then, {} now); put the old file "
                    "back, "
                    "or start anew in another output folder",
                    file.string(), role, before.empty() ? "none" : before.substr(0, 12), hash.substr(0, 12)));
  }
}

void RunFolder::create(const RunConfig& config, const FileHashes& hashes) {
  make_folder(path_);
  lock();
  // Another process may have come first while this one loaded its model.
  if (holds_run(path_))
    throw InputError(
        fmt::format("output: {} holds a run since a moment ago; set another output folder", path_.string()));
  write_file_atomic(path_ / kManifestFile, manifest(config, hashes).dump(2) + "\n");
  write_file_atomic(path_ / kConfigFile, dump(config));
}

void RunFolder::write_samples(int64_t step, const std::string& lines) const {
  make_folder(path_ / "samples");
  write_file_atomic(path_ / "samples" / fmt::format("step_{}.jsonl", step), lines);
}

void RunFolder::drop_after(int64_t step) const {
  for (const fs::path& folder : {path_, path_ / "samples"}) {
    if (!fs::is_directory(folder)) continue;
    std::vector<fs::path> unwanted;
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      const bool later = folder != path_ && name.starts_with("step_") && std::atoll(name.c_str() + 5) > step;
      if (later || is_leftover(entry.path())) unwanted.push_back(entry.path());
    }
    for (const fs::path& path : unwanted) fs::remove_all(path);
  }
}

namespace {

/// Has `write` fill a folder, which is then there completely or not at all.
void write_folder(const fs::path& folder, const std::function<void(const fs::path&)>& write) {
  const fs::path temporary = folder.string() + ".tmp";
  std::error_code error;
  fs::remove_all(temporary, error);
  write(temporary);
  detail::move_into_place(temporary, folder);
}

}  // namespace

void RunFolder::save_model(const Policy& policy) const {
  write_folder(model(), [&](const fs::path& dir) { policy.save(dir); });
}

void RunFolder::save_critic(const Critic& critic) const {
  write_folder(path_ / "critic", [&](const fs::path& dir) { critic.save(dir); });
}

void RunFolder::save_best(const Policy& policy, const BestModel& about) const {
  const nlohmann::ordered_json json = {{"step", about.step}, {"metric", about.metric}, {"value", about.value}};
  write_folder(best(), [&](const fs::path& dir) {
    policy.save(dir);
    write_file_atomic(dir / "best.json", json.dump(2) + "\n");
  });
}

std::optional<BestModel> RunFolder::load_best() const {
  const fs::path file = best() / "best.json";
  if (!fs::exists(file)) return std::nullopt;
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in, nullptr, false);
  if (!json.is_object() || !json.contains("step") || !json.contains("value") || !json["value"].is_number())
    throw InputError(
        fmt::format("{}: not readable; remove the folder {} and resume again", file.string(), best().string()));
  return BestModel{json["step"].get<int64_t>(), json.value("metric", ""), json["value"].get<double>()};
}

}  // namespace plural
