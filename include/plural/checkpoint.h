// SPDX-License-Identifier: Apache-2.0
// Tensors in safetensors files, atomic writes, hashes, and the run folder's checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "plural/policy.h"

namespace plural {

/// Writes via a temporary file, fsync and rename: readers see the old or the new file, never a part.
/// A full disk or read-only folder throws WriteError naming the path, and leaves no temporary file.
void write_file_atomic(const std::filesystem::path& file, std::string_view bytes);

/// SHA-256 of a file or of bytes as 64 hexadecimal digits. An unreadable file throws InputError.
std::string sha256_file(const std::filesystem::path& file);
std::string sha256(std::string_view bytes);

using TensorMetadata = std::map<std::string, std::string>;

/// Reads a safetensors file (any of F64 F32 F16 BF16 I64 I32 U8 BOOL). Truncated files and headers that lie
/// (overlaps, out of range, wrong sizes, duplicate names) throw InputError naming file and tensor.
NamedTensors read_safetensors(const std::filesystem::path& file, TensorMetadata* metadata = nullptr);
/// Writes atomically; tensors are made contiguous and moved to the CPU one at a time.
void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors,
                       const TensorMetadata& metadata = {});

/// Everything a trainer needs to go on bit for bit.
struct TrainState {
  int64_t step = 0;                       ///< optimiser steps done
  int64_t data_position = 0;              ///< draws taken from DataOrder
  NamedTensors parameters;                ///< by name
  NamedTensors optimizer;                 ///< AdamW::state()
  std::map<std::string, double> numbers;  ///< the trainer's own counters
  NamedTensors memory;  ///< what the trainer remembers of earlier steps: pass rates, groups and completions kept
};

/// checkpoints/step_N under `run_dir`, complete or absent: written to a temporary folder, then renamed.
/// Keeps the newest `keep` ones.
void save_checkpoint(const std::filesystem::path& run_dir, const TrainState& state, int64_t keep = 2);
/// The newest complete checkpoint; nullopt when there is none. Damaged ones newer than it are passed over (`skipped`
/// gets their paths and what is wrong). One that the system does not let us read or that another version wrote may be
/// sound, and going on without it would remove it: then, and when every checkpoint is damaged, InputError lists them
/// with their reasons.
std::optional<TrainState> load_newest_checkpoint(const std::filesystem::path& run_dir,
                                                 std::vector<std::string>* skipped = nullptr);

}  // namespace plural
