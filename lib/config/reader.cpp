// SPDX-License-Identifier: Apache-2.0
// ConfigReader: typed fields out of a ConfigNode, with every problem collected.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "lib/core/format.h"
#include "plural/config.h"
#include "plural/error.h"
#include "plural/registry.h"

namespace plural {
namespace {

using Kind = ConfigNode::Kind;

const ConfigNode kEmptyMap = [] {
  ConfigNode node;
  node.kind = Kind::kMap;
  return node;
}();

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours count 1 each.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

std::string found(const ConfigNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a map";
    case Kind::kScalar:
      break;
  }
  std::string text = node.scalar.size() > 60 ? node.scalar.substr(0, 57) + "..." : node.scalar;
  return node.quoted ? fmt::format("the text \"{}\"", text) : fmt::format("'{}'", text);
}

std::string range_text(const Constraint& c) {
  const bool low = std::isfinite(c.min), high = std::isfinite(c.max);
  if (low && high) return fmt::format("{} {} and <= {}", c.open_min ? ">" : ">=", c.min, c.max);
  if (low) return fmt::format("{} {}", c.open_min ? ">" : ">=", c.min);
  if (high) return fmt::format("<= {}", c.max);
  return "";
}

// Each returns "" and sets `value`, or says what was expected.
std::string with_range(const char* what, const Constraint& c) {
  const std::string range = range_text(c);
  return range.empty() ? what : fmt::format("{} {}", what, range);
}
bool in_range(double x, const Constraint& c) { return (c.open_min ? x > c.min : x >= c.min) && x <= c.max; }

template <class Number>
bool parse_number(const ConfigNode& node, Number& value) {
  if (node.kind != Kind::kScalar || node.quoted) return false;
  std::string_view text = node.scalar;
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  Number parsed{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), parsed);
  if (code != std::errc() || end != text.data() + text.size()) return false;
  value = parsed;
  return true;
}

std::string convert(const ConfigNode& node, const Constraint& c, int64_t& value) {
  int64_t parsed = 0;
  if (!parse_number(node, parsed) || !in_range(static_cast<double>(parsed), c)) return with_range("a whole number", c);
  value = parsed;
  return "";
}
std::string convert(const ConfigNode& node, const Constraint& c, double& value) {
  double parsed = 0;
  if (!parse_number(node, parsed) || !std::isfinite(parsed) || !in_range(parsed, c)) return with_range("a number", c);
  value = parsed;
  return "";
}
std::string convert(const ConfigNode& node, const Constraint& c, std::string& value) {
  const bool known = c.choices.empty() || std::find(c.choices.begin(), c.choices.end(), node.scalar) != c.choices.end();
  if (node.kind != Kind::kScalar || !known)
    return c.choices.empty() ? "text" : fmt::format("one of {}", fmt::join(c.choices, ", "));
  value = node.scalar;
  return "";
}

std::string convert(const ConfigNode& node, PartSpec& value) {
  const char* expected = "a name, or a map with 'name' and options";
  if (node.kind == Kind::kScalar && !node.scalar.empty()) {
    value.name = node.scalar;
    value.options = kEmptyMap;
    value.options.mark = node.mark;
    return "";
  }
  const ConfigNode* name = node.kind == Kind::kMap ? node.find("name") : nullptr;
  if (!name || name->kind != Kind::kScalar || name->scalar.empty()) return expected;
  value.name = name->scalar;
  value.options = without_keys(node, {"name"});
  return "";
}

std::string last_part(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

std::string suggestion(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest);
}

}  // namespace

std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates) {
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(1, name.size() / 3) + 1;
  if (name.size() > 100) return "";
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(name, candidate);
    // Sharing nothing is not near, however short the names are.
    if (distance < best_distance && distance < std::max(name.size(), candidate.size())) {
      best = &candidate;
      best_distance = distance;
    }
  }
  return best ? *best : "";
}

namespace detail {

void throw_unknown_name(const std::string& kind, const std::string& name, const std::vector<std::string>& names,
                        const Mark& mark) {
  const std::string place = to_string(mark);
  throw InputError(fmt::format("{}{}unknown {} '{}'{}; known: {}", place, place.empty() ? "" : ": ", kind, name,
                               suggestion(name, names), fmt::join(names, ", ")));
}

}  // namespace detail

ConfigReader::ConfigReader(const ConfigNode& map, std::string path) : map_(&map), path_(std::move(path)) {
  if (map.kind == Kind::kMap || map.kind == Kind::kNull) return;
  problem_at(map.mark, fmt::format("{}expected a map of keys, got {}",
                                   path_.empty() ? "" : fmt::format("'{}': ", path_), found(map)));
  map_ = &kEmptyMap;
}

void ConfigReader::problem_at(const Mark& mark, const std::string& message) {
  problems_.push_back({mark, message, false});
}

std::string ConfigReader::path_of(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const ConfigNode* ConfigReader::take(const char* name, const Constraint& constraint, const char* help) {
  known_.emplace_back(name);
  const ConfigNode* node = map_->find(name);
  const bool empty = !node || node->kind == Kind::kNull ||
                     (constraint.required && ((node->kind == Kind::kScalar && node->scalar.empty()) ||
                                              (node->kind == Kind::kList && node->items.empty())));
  if (!empty) return node;
  if (constraint.required)
    problem_at(node ? node->mark : map_->mark, fmt::format("missing key '{}' ({})", path_of(name), help));
  return nullptr;
}

void ConfigReader::wrong(const char* name, const ConfigNode& node, const std::string& expected) {
  std::string hint;
  if (node.kind == Kind::kScalar && node.quoted && expected.find("number") != std::string::npos)
    hint = " (remove the quotes)";
  problem_at(node.mark, fmt::format("'{}': expected {}, got {}{}", path_of(name), expected, found(node), hint));
}

void ConfigReader::field(const char* name, bool& value, const Constraint& constraint, const char* help) {
  const ConfigNode* node = take(name, constraint, help);
  if (!node) return;
  if (node->kind != Kind::kScalar || node->quoted || (node->scalar != "true" && node->scalar != "false"))
    return wrong(name, *node, "true or false");
  value = node->scalar == "true";
}
void ConfigReader::field(const char* name, int64_t& value, const Constraint& constraint, const char* help) {
  if (const ConfigNode* node = take(name, constraint, help))
    if (const std::string expected = convert(*node, constraint, value); !expected.empty()) wrong(name, *node, expected);
}
void ConfigReader::field(const char* name, double& value, const Constraint& constraint, const char* help) {
  if (const ConfigNode* node = take(name, constraint, help))
    if (const std::string expected = convert(*node, constraint, value); !expected.empty()) wrong(name, *node, expected);
}
void ConfigReader::field(const char* name, std::string& value, const Constraint& constraint, const char* help) {
  const ConfigNode* node = take(name, constraint, help);
  if (!node) return;
  const std::string expected = convert(*node, constraint, value);
  if (expected.empty()) return;
  wrong(name, *node, expected);
  if (node->kind == Kind::kScalar) problems_.back().text += suggestion(node->scalar, constraint.choices);
}

template <class T>
void ConfigReader::read_list(const char* name, std::vector<T>& value, const Constraint& constraint, const char* help) {
  const ConfigNode* node = take(name, constraint, help);
  if (!node) return;
  if constexpr (!std::is_same_v<T, PartSpec>) {
    // One value is a list of one.
    if (node->kind == Kind::kScalar && !node->scalar.empty()) {
      T item{};
      const std::string expected = convert(*node, constraint, item);
      if (!expected.empty()) return wrong(name, *node, fmt::format("{}, or a list of them", expected));
      value = {std::move(item)};
      return;
    }
  }
  if (node->kind != Kind::kList) return wrong(name, *node, "a list, e.g. [a, b]");
  std::vector<T> result;
  for (size_t i = 0; i < node->items.size(); ++i) {
    T item{};
    std::string expected;
    if constexpr (std::is_same_v<T, PartSpec>) {
      expected = convert(node->items[i], item);
    } else {
      expected = convert(node->items[i], constraint, item);
    }
    if (!expected.empty()) wrong(fmt::format("{}[{}]", name, i).c_str(), node->items[i], expected);
    result.push_back(std::move(item));
  }
  value = std::move(result);
}

void ConfigReader::field(const char* name, std::vector<int64_t>& value, const Constraint& constraint,
                         const char* help) {
  read_list(name, value, constraint, help);
}
void ConfigReader::field(const char* name, std::vector<double>& value, const Constraint& constraint, const char* help) {
  read_list(name, value, constraint, help);
}
void ConfigReader::field(const char* name, std::vector<std::string>& value, const Constraint& constraint,
                         const char* help) {
  read_list(name, value, constraint, help);
}
void ConfigReader::field(const char* name, std::vector<PartSpec>& value, const Constraint& constraint,
                         const char* help) {
  read_list(name, value, constraint, help);
}
void ConfigReader::field(const char* name, PartSpec& value, const Constraint& constraint, const char* help) {
  if (const ConfigNode* node = take(name, constraint, help))
    if (const std::string expected = convert(*node, value); !expected.empty()) wrong(name, *node, expected);
}

// A section that is not there is read as an empty one, so that its required keys are asked for.
const ConfigNode& ConfigReader::begin_section(const char* name) {
  known_.emplace_back(name);
  const ConfigNode* node = map_->find(name);
  return node ? *node : kEmptyMap;
}

void ConfigReader::end_section(const char* name, ConfigReader& inner) {
  inner.report_unknown();
  for (Problem& problem : inner.problems_) {
    if (problem.mark.file.empty()) problem.mark = map_->mark;
    problems_.push_back(std::move(problem));
  }
  for (const std::string& key : inner.known_) known_inside_.push_back(fmt::format("{}.{}", name, key));
  for (const std::string& key : inner.known_inside_) known_inside_.push_back(fmt::format("{}.{}", name, key));
}

namespace {
const ConfigNode::Entry* find_entry(const ConfigNode& map, std::string_view key) {
  const size_t dot = key.find('.');
  for (const auto& entry : map.entries) {
    if (entry.key != key.substr(0, dot)) continue;
    if (dot == std::string_view::npos) return &entry;
    const ConfigNode::Entry* inner = find_entry(entry.value, key.substr(dot + 1));
    return inner ? inner : &entry;
  }
  return nullptr;
}
}  // namespace

bool ConfigReader::given(std::string_view key) const {
  const size_t dot = key.rfind('.');
  const ConfigNode::Entry* entry = find_entry(*map_, key);
  return entry && entry->key == (dot == std::string_view::npos ? key : key.substr(dot + 1)) &&
         entry->value.kind != Kind::kNull;
}

void ConfigReader::problem(std::string_view key, const std::string& message) {
  const ConfigNode::Entry* entry = find_entry(*map_, key);
  const Mark& mark = entry ? entry->mark : map_->mark;
  const bool has_place = message.rfind("--set ", 0) == 0 ||
                         (!mark.file.empty() && message.rfind(mark.file + ":", 0) == 0);
  problems_.push_back({mark, has_place ? message : fmt::format("'{}': {}", path_of(key), message), has_place});
}

void ConfigReader::report_unknown() {
  for (const auto& entry : map_->entries) {
    if (std::find(known_.begin(), known_.end(), entry.key) != known_.end()) continue;
    std::string hint = suggestion(entry.key, known_);
    if (hint.empty())  // written outside of its section?
      for (const std::string& inside : known_inside_)
        if (last_part(inside) == entry.key) hint = fmt::format(" (did you mean '{}'?)", path_of(inside));
    problem_at(entry.mark, path_.empty() ? fmt::format("unknown key '{}'{}", entry.key, hint)
                                         : fmt::format("unknown key '{}' in '{}'{}", entry.key, path_, hint));
  }
}

void ConfigReader::finish() {
  report_unknown();
  if (problems_.empty()) return;
  std::stable_sort(problems_.begin(), problems_.end(), [](const Problem& a, const Problem& b) {
    return std::pair(a.mark.line, a.mark.column) < std::pair(b.mark.line, b.mark.column);
  });
  std::string message;
  for (const Problem& problem : problems_) {
    const std::string place = problem.has_place ? "" : to_string(problem.mark);
    message += fmt::format("{}{}{}{}", message.empty() ? "" : "\n", place, place.empty() ? "" : ": ", problem.text);
  }
  throw InputError(message);
}

}  // namespace plural
