// SPDX-License-Identifier: Apache-2.0
// ConfigDescriber: the documentation and the YAML of a struct of options.
#include <cmath>

#include "lib/core/format.h"
#include "plural/config.h"

namespace plural {
namespace {

using Kind = ConfigNode::Kind;

ConfigNode scalar(std::string text, bool quoted = false) {
  ConfigNode node;
  node.kind = Kind::kScalar;
  node.scalar = std::move(text);
  node.quoted = quoted;
  return node;
}
void add_entry(ConfigNode& map, std::string_view key, ConfigNode value) {
  ConfigNode::Entry& entry = map.entries.emplace_back();
  entry.key = key;
  entry.value = std::move(value);
}
ConfigNode to_node(bool value) { return scalar(value ? "true" : "false"); }
ConfigNode to_node(int64_t value) { return scalar(std::to_string(value)); }
// fmt writes the shortest text that reads back as the same double.
ConfigNode to_node(double value) { return scalar(fmt::format("{}", value)); }
ConfigNode to_node(const std::string& value) { return scalar(value, true); }
ConfigNode to_node(const PartSpec& value) {
  ConfigNode node;
  node.kind = Kind::kMap;
  add_entry(node, "name", to_node(value.name));
  for (const auto& entry : value.options.entries) node.entries.push_back(entry);
  return node;
}
template <class T>
ConfigNode to_node(const std::vector<T>& values) {
  ConfigNode node;
  node.kind = Kind::kList;
  for (const T& value : values) node.items.push_back(to_node(value));
  return node;
}

// One line for the table of defaults.
std::string brief(const ConfigNode& node) {
  std::string text;
  switch (node.kind) {
    case Kind::kNull:
      return "";
    case Kind::kScalar:
      return node.scalar.empty() ? "\"\"" : node.scalar;
    case Kind::kList:
      for (const auto& item : node.items) text += (text.empty() ? "" : ", ") + brief(item);
      return "[" + text + "]";
    case Kind::kMap:
      for (const auto& entry : node.entries) text += (text.empty() ? "" : ", ") + entry.key + ": " + brief(entry.value);
      return "{" + text + "}";
  }
  return text;
}

std::string range(const Constraint& c) {
  std::string text;
  if (!c.choices.empty()) {
    text = fmt::format("{}", fmt::join(c.choices, " | "));
  } else if (std::isfinite(c.min) && std::isfinite(c.max)) {
    text = fmt::format("{}{} to {}", c.open_min ? "above " : "", c.min, c.max);
  } else if (std::isfinite(c.min)) {
    text = fmt::format("{} {}", c.open_min ? ">" : ">=", c.min);
  } else if (std::isfinite(c.max)) {
    text = fmt::format("<= {}", c.max);
  }
  return text;
}

}  // namespace

std::string ConfigDescriber::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

void ConfigDescriber::add(const char* name, const char* type, ConfigNode value, const Constraint& constraint,
                          const char* help) {
  docs_.push_back({path_of(name), type, constraint.required && brief(value).size() <= 2 ? "(required)" : brief(value),
                   range(constraint), help});
  add_entry(node_, name, std::move(value));
}

void ConfigDescriber::add_section(const char* name, const char* help, const ConfigDescriber& inner) {
  docs_.push_back({path_of(name), "section", "", "", help});
  docs_.insert(docs_.end(), inner.docs_.begin(), inner.docs_.end());
  add_entry(node_, name, inner.node_);
}

void ConfigDescriber::field(const char* name, const bool& value, const Constraint& constraint, const char* help) {
  add(name, "true/false", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const int64_t& value, const Constraint& constraint, const char* help) {
  add(name, "whole number", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const double& value, const Constraint& constraint, const char* help) {
  add(name, "number", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const std::string& value, const Constraint& constraint,
                            const char* help) {
  add(name, "text", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const std::vector<int64_t>& value, const Constraint& constraint,
                            const char* help) {
  add(name, "list of whole numbers", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const std::vector<double>& value, const Constraint& constraint,
                            const char* help) {
  add(name, "list of numbers", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const std::vector<std::string>& value, const Constraint& constraint,
                            const char* help) {
  add(name, "list of texts", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const PartSpec& value, const Constraint& constraint, const char* help) {
  add(name, "part", to_node(value), constraint, help);
}
void ConfigDescriber::field(const char* name, const std::vector<PartSpec>& value, const Constraint& constraint,
                            const char* help) {
  add(name, "list of parts", to_node(value), constraint, help);
}

}  // namespace plural
