// SPDX-License-Identifier: Apache-2.0
// Configuration: YAML into typed structs. Each struct lists its fields once, in `fields(visitor)`; reading,
// defaults, ranges, unknown keys, dumping, --set overrides and the documentation all come from that list.
//
//   struct Options {
//     double weight = 1.0;
//     using config_struct = void;
//     template <class V> void fields(V& v) { v.field("weight", weight, at_least(0), "what it is for"); }
//     void validate(ConfigReader& reader) { if (...) reader.problem("weight", "..."); }   // optional
//   };
//   Options options = read_options<Options>(read_yaml("options.yaml"));
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace plural {

/// The value of a variable of the caller's environment, or nullopt. The library reads none itself.
using VariableLookup = std::function<std::optional<std::string>(std::string_view)>;

/// A place in a file, 1-based; line 0 = no place (a default or a --set override).
struct Mark {
  std::string file;
  int line = 0;
  int column = 0;
};
/// "file:line:column", "file", or the label of an override.
std::string to_string(const Mark& mark);

/// A parsed YAML value, free of yaml-cpp. Maps keep their order and the marks of their keys.
struct ConfigNode {
  enum class Kind { kNull, kScalar, kList, kMap };
  struct Entry;
  Kind kind = Kind::kNull;
  std::string scalar;
  bool quoted = false;  ///< the scalar was quoted: always a string
  std::vector<ConfigNode> items;
  std::vector<Entry> entries;
  Mark mark;

  const ConfigNode* find(std::string_view key) const;
};
struct ConfigNode::Entry {
  std::string key;
  Mark mark;  ///< of the key
  ConfigNode value;
};
/// The same kind and contents; marks do not count.
bool operator==(const ConfigNode& a, const ConfigNode& b);

/// A map without some keys, e.g. the options of a part without those that its owner reads.
ConfigNode without_keys(ConfigNode map, const std::vector<std::string>& keys);

/// A key that its map has already.
struct DuplicateKey {
  Mark mark;
  std::string message;  ///< without the place
};

/// Reads YAML text or a file: one document of maps, lists and scalars. Syntax errors, aliases and tags throw InputError
/// with their places. So do duplicate keys, all of them together; with `duplicates` they go there instead, to be
/// reported with other problems, and the first value stays. Empty text is an empty map.
ConfigNode parse_yaml(std::string_view text, const std::string& file_name,
                      std::vector<DuplicateKey>* duplicates = nullptr);
ConfigNode read_yaml(const std::filesystem::path& file, std::vector<DuplicateKey>* duplicates = nullptr);
/// Block YAML that parse_yaml reads back equal.
std::string to_yaml(const ConfigNode& node);
/// Applies "a.b=value" (value is YAML; list elements by number: "rewards.0.weight=2", one past the end adds).
/// Missing maps are made; an empty value takes the key back to its default. Bad paths throw InputError.
void apply_override(ConfigNode& root, std::string_view assignment);

/// What a field may hold. Bounds apply to numbers, and to each element of a list of numbers.
struct Constraint {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool open_min = false;             ///< min itself is not allowed
  std::vector<std::string> choices;  ///< allowed strings; empty = any
  bool required = false;             ///< must be given, and not be empty
};
inline Constraint any_value() { return {}; }
inline Constraint required_value() {
  Constraint c;
  c.required = true;
  return c;
}
inline Constraint at_least(double min) {
  Constraint c;
  c.min = min;
  return c;
}
inline Constraint above(double min) {
  Constraint c;
  c.min = min;
  c.open_min = true;
  return c;
}
inline Constraint between(double min, double max) {
  Constraint c;
  c.min = min;
  c.max = max;
  return c;
}
inline Constraint one_of(std::vector<std::string> choices) {
  Constraint c;
  c.choices = std::move(choices);
  return c;
}

/// A named part with options of its own: an entry of `rewards:`. The options are read by the part itself.
/// In YAML a map with the key `name`, or just the name.
struct PartSpec {
  std::string name;
  ConfigNode options;  ///< a map without the key `name`; marks kept for errors

  bool operator==(const PartSpec& other) const { return name == other.name && options == other.options; }
};

/// The candidate nearest in spelling, or "" when none is near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& candidates);

/// Reads a map into structs and collects every problem; `finish()` throws them all in one InputError.
/// Supported field types: bool, int64_t, double, std::string, std::vector of the last three, PartSpec,
/// std::vector<PartSpec>, and nested config structs (types with `using config_struct = void;`).
class ConfigReader {
 public:
  /// `map` must outlive the reader; an empty (null) node counts as an empty map.
  explicit ConfigReader(const ConfigNode& map, std::string path = "");
  void field(const char* name, bool& value, const Constraint& constraint, const char* help);
  void field(const char* name, int64_t& value, const Constraint& constraint, const char* help);
  void field(const char* name, double& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::string& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<int64_t>& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<double>& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<std::string>& value, const Constraint& constraint, const char* help);
  void field(const char* name, PartSpec& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<PartSpec>& value, const Constraint& constraint, const char* help);
  template <class T>
  requires requires { typename T::config_struct; }
  void field(const char* name, T& value, const Constraint&, const char*) {
    ConfigReader inner(begin_section(name), path_of(name));
    value.fields(inner);
    if constexpr (requires { value.validate(inner); }) value.validate(inner);
    end_section(name, inner);
  }
  /// True when the key was written, even as the default value. "a.b" looks into sections.
  bool given(std::string_view key) const;
  /// Adds a cross-field problem, with the mark of `key` ("a.b" for sections) where it was given. A message that
  /// begins with a place of its own (an InputError of a part's options) is kept as it is.
  void problem(std::string_view key, const std::string& message);
  /// Adds a problem with a place of its own.
  void problem_at(const Mark& mark, const std::string& message);
  /// Reports unknown keys (with the nearest known one) and throws InputError when anything was wrong.
  void finish();

 private:
  struct Problem {
    Mark mark;
    std::string text;
    bool has_place = false;  // the text begins with its place
  };
  const ConfigNode* take(const char* name, const Constraint& constraint, const char* help);
  const ConfigNode& begin_section(const char* name);
  void end_section(const char* name, ConfigReader& inner);
  std::string path_of(std::string_view name) const;
  void report_unknown();
  void wrong(const char* name, const ConfigNode& node, const std::string& expected);
  template <class T>
  void read_list(const char* name, std::vector<T>& value, const Constraint& constraint, const char* help);

  const ConfigNode* map_;
  std::string path_;
  std::vector<std::string> known_;
  std::vector<std::string> known_inside_;  // "section.key" of nested structs, for suggestions
  std::vector<Problem> problems_;
};

/// Reads a struct of options; throws InputError listing every problem at once.
template <class T>
T read_options(const ConfigNode& node, const std::string& path = "") {
  T value;
  ConfigReader reader(node, path);
  value.fields(reader);
  if constexpr (requires { value.validate(reader); }) value.validate(reader);
  reader.finish();
  return value;
}

/// One documented key, as `plural config --defaults` and the docs table print it.
struct FieldDoc {
  std::string path, type, default_value, range, help;
};

/// Lists the fields of a struct with the values it holds.
class ConfigDescriber {
 public:
  explicit ConfigDescriber(std::string path = "") : path_(std::move(path)) { node_.kind = ConfigNode::Kind::kMap; }
  void field(const char* name, const bool& value, const Constraint& constraint, const char* help);
  void field(const char* name, const int64_t& value, const Constraint& constraint, const char* help);
  void field(const char* name, const double& value, const Constraint& constraint, const char* help);
  void field(const char* name, const std::string& value, const Constraint& constraint, const char* help);
  void field(const char* name, const std::vector<int64_t>& value, const Constraint& constraint, const char* help);
  void field(const char* name, const std::vector<double>& value, const Constraint& constraint, const char* help);
  void field(const char* name, const std::vector<std::string>& value, const Constraint& constraint, const char* help);
  void field(const char* name, const PartSpec& value, const Constraint& constraint, const char* help);
  void field(const char* name, const std::vector<PartSpec>& value, const Constraint& constraint, const char* help);
  template <class T>
  requires requires { typename T::config_struct; }
  void field(const char* name, T& value, const Constraint&, const char* help) {
    ConfigDescriber inner(path_of(name));
    value.fields(inner);
    add_section(name, help, inner);
  }
  /// One entry for each key, in order; a section comes before its keys, with type "section".
  const std::vector<FieldDoc>& docs() const { return docs_; }
  /// The same fields as YAML that reads back equal.
  std::string yaml() const { return to_yaml(node_); }

 private:
  std::string path_of(std::string_view name) const;
  void add(const char* name, const char* type, ConfigNode value, const Constraint& constraint, const char* help);
  void add_section(const char* name, const char* help, const ConfigDescriber& inner);

  std::string path_;
  std::vector<FieldDoc> docs_;
  ConfigNode node_;  // a map of the fields so far
};

/// The fields of a default-constructed struct of options, for registries and the docs.
template <class T>
std::vector<FieldDoc> describe_options(const std::string& path = "") {
  T value;
  ConfigDescriber describer(path);
  value.fields(describer);
  return describer.docs();
}

/// The struct as YAML; reading it back gives an equal struct.
template <class T>
std::string dump_yaml(T value) {
  ConfigDescriber describer;
  value.fields(describer);
  return describer.yaml();
}

}  // namespace plural
