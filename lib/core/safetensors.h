// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "plural/checkpoint.h"

namespace plural::detail {

/// What a written file must still be when it is read again.
struct WrittenFile {
  uint64_t size_bytes = 0;
  uint32_t crc = 0;  ///< CRC-32C
};

/// write_safetensors, returning the size and checksum of the file.
WrittenFile write_safetensors_file(const std::filesystem::path& file, const NamedTensors& tensors,
                                   const TensorMetadata& metadata = {});

}  // namespace plural::detail
