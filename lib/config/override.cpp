// SPDX-License-Identifier: Apache-2.0
// --set a.b=value
#include <charconv>

#include "lib/config/yaml.h"
#include "lib/core/format.h"
#include "plural/config.h"
#include "plural/error.h"

namespace plural {
namespace {

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts;
  for (;;) {
    const size_t dot = path.find('.');
    parts.emplace_back(path.substr(0, dot));
    if (dot == std::string_view::npos) return parts;
    path.remove_prefix(dot + 1);
  }
}

// All marks of an override are its own text.
void relabel(ConfigNode& node, const Mark& mark) {
  node.mark = mark;
  for (ConfigNode& item : node.items) relabel(item, mark);
  for (auto& entry : node.entries) {
    entry.mark = mark;
    relabel(entry.value, mark);
  }
}

}  // namespace

void apply_override(ConfigNode& root, std::string_view assignment) {
  const Mark mark{fmt::format("--set {}", assignment), 0, 0};
  const auto fail = [&](const std::string& what) { throw InputError(fmt::format("{}: {}", mark.file, what)); };
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) fail("expected key=value, e.g. optimizer.learning_rate=1e-5");

  ConfigNode value;
  try {
    value = detail::parse_yaml_value(assignment.substr(equals + 1), "value");
  } catch (const InputError& error) {
    fail(fmt::format("{}; quote the value if it is text", error.what()));
  }
  relabel(value, mark);

  const std::vector<std::string> path = split_path(assignment.substr(0, equals));
  for (const std::string& part : path)
    if (part.empty()) fail("the key has an empty part");

  // Nothing is changed before the last failure: below the first new node everything is new.
  ConfigNode* node = &root;
  std::string walked;
  for (const std::string& part : path) {
    if (node->kind == ConfigNode::Kind::kNull) {
      node->kind = ConfigNode::Kind::kMap;
      node->mark = mark;
    }
    if (node->kind == ConfigNode::Kind::kScalar)
      fail(fmt::format("'{}' is a single value, so it has no '{}'", walked, part));
    if (node->kind == ConfigNode::Kind::kList) {
      size_t index = 0;
      const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (code != std::errc() || end != part.data() + part.size())
        fail(fmt::format("'{}' is a list: expected an element's number (from 0), got '{}'", walked, part));
      if (index > node->items.size())
        fail(fmt::format("'{}' has {} elements, numbered from 0; there is no {}", walked, node->items.size(), part));
      if (index == node->items.size()) node->items.emplace_back();
      node = &node->items[index];
    } else {
      ConfigNode::Entry* found = nullptr;
      for (auto& entry : node->entries)
        if (entry.key == part) found = &entry;
      if (!found) found = &node->entries.emplace_back(ConfigNode::Entry{part, mark, {}});
      found->mark = mark;
      node = &found->value;
    }
    walked += (walked.empty() ? "" : ".") + part;
  }
  *node = std::move(value);
}

}  // namespace plural
