// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace plural::external {

/// Replies on disk, one small file each, named by the SHA-256 of the request. Files appear whole or not at all, so any
/// number of processes may share a folder; one that cannot be read counts as absent. Thread-safe.
class ReplyCache {
 public:
  /// An empty path is a cache that holds nothing.
  explicit ReplyCache(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::optional<std::string> find(std::string_view request) const;
  /// Throws SystemError when the folder cannot be written.
  void store(std::string_view request, std::string_view reply) const;

 private:
  std::filesystem::path file_of(std::string_view request) const;
  std::filesystem::path folder_;
};

}  // namespace plural::external
