// SPDX-License-Identifier: Apache-2.0
#include "lib/external/reply_cache.h"

#include <nlohmann/json.hpp>

#include "lib/core/file_io.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

namespace plural::external {

std::filesystem::path ReplyCache::file_of(std::string_view request) const {
  const std::string name = sha256(request);
  return folder_ / name.substr(0, 2) / (name + ".json");
}

std::optional<std::string> ReplyCache::find(std::string_view request) const {
  if (folder_.empty()) return std::nullopt;
  const auto file = file_of(request);
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return std::nullopt;
  try {
    const auto json = nlohmann::json::parse(detail::read_whole_file(file), nullptr, false);
    // The request is kept as well: people can read what was asked, and a damaged file is noticed.
    if (!json.is_object() || json.value("request", "") != request || !json.contains("reply")) return std::nullopt;
    return json["reply"].get<std::string>();
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

void ReplyCache::store(std::string_view request, std::string_view reply) const {
  if (folder_.empty()) return;
  const auto file = file_of(request);
  detail::make_folders(file.parent_path());
  const nlohmann::json json = {{"request", request}, {"reply", reply}};
  write_file_atomic(file, json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace plural::external
