// SPDX-License-Identifier: Apache-2.0
// Configuration: YAML into typed structs. Each struct lists its fields once, in `fields(visitor)`; reading,
// defaults, ranges, unknown keys, dumping, --set overrides and the documentation all come from that list.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace plural {

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

/// Reads YAML text or a file; syntax errors and duplicate keys throw InputError with their marks.
ConfigNode parse_yaml(std::string_view text, const std::string& file_name);
ConfigNode read_yaml(const std::filesystem::path& file);
/// Applies "a.b=value" (value is YAML; list elements by number: "rewards.0.weight=2").
void apply_override(ConfigNode& root, std::string_view assignment);

/// What a field may hold. Bounds apply to numbers, and to each element of a list of numbers.
struct Constraint {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool open_min = false;             ///< min itself is not allowed
  std::vector<std::string> choices;  ///< allowed strings; empty = any
  bool required = false;             ///< must be given
};
inline Constraint any_value() { return {}; }
inline Constraint required_value() { Constraint c; c.required = true; return c; }
inline Constraint at_least(double min) { Constraint c; c.min = min; return c; }
inline Constraint above(double min) { Constraint c; c.min = min; c.open_min = true; return c; }
inline Constraint between(double min, double max) { Constraint c; c.min = min; c.max = max; return c; }
inline Constraint one_of(std::vector<std::string> choices) { Constraint c; c.choices = std::move(choices); return c; }

/// A named part with options of its own: an entry of `rewards:`. The options are read by the part itself.
struct PartSpec {
  std::string name;
  ConfigNode options;  ///< a map without the key `name`; marks kept for errors
};

/// A struct with `template <class V> void fields(V& v)`.
template <class T>
concept ConfigStruct = requires(T t, int& v) { t.fields(v); } || requires { typename T::config_struct; };

/// Reads a map into structs and collects every problem; `finish()` throws them all in one InputError.
/// Supported field types: bool, int64_t, double, std::string, std::vector of those, PartSpec,
/// std::vector<PartSpec>, and nested config structs (types with `using config_struct = void;`).
class ConfigReader {
 public:
  explicit ConfigReader(const ConfigNode& map, std::string path = "");
  void field(const char* name, bool& value, const Constraint& constraint, const char* help);
  void field(const char* name, int64_t& value, const Constraint& constraint, const char* help);
  void field(const char* name, double& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::string& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<bool>& value, const Constraint& constraint, const char* help) = delete;
  void field(const char* name, std::vector<int64_t>& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<double>& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<std::string>& value, const Constraint& constraint, const char* help);
  void field(const char* name, PartSpec& value, const Constraint& constraint, const char* help);
  void field(const char* name, std::vector<PartSpec>& value, const Constraint& constraint, const char* help);
  template <class T>
    requires requires { typename T::config_struct; }
  void field(const char* name, T& value, const Constraint& constraint, const char* help) {
    (void)constraint, (void)help;
    if (const ConfigNode* node = begin_section(name)) {
      ConfigReader inner(*node, path_of(name));
      value.fields(inner);
      absorb(inner);
    }
  }
  /// Adds a cross-field problem, with the mark of `key` where it was given.
  void problem(std::string_view key, const std::string& message);
  /// Reports unknown keys (with the nearest known one) and throws InputError when anything was wrong.
  void finish();

 private:
  const ConfigNode* take(const char* name, const Constraint& constraint);
  const ConfigNode* begin_section(const char* name);
  std::string path_of(const char* name) const;
  void absorb(ConfigReader& inner);
  void report_unknown();

  const ConfigNode* map_;
  std::string path_;
  std::vector<std::string> known_;
  std::vector<std::string> problems_;
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
  explicit ConfigDescriber(std::string path = "") : path_(std::move(path)) {}
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
  void field(const char* name, T& value, const Constraint& constraint, const char* help) {
    (void)constraint;
    open_section(name, help);
    ConfigDescriber inner(path_of(name));
    value.fields(inner);
    close_section(inner);
  }
  const std::vector<FieldDoc>& docs() const { return docs_; }
  /// The same fields as YAML that reads back equal.
  std::string yaml() const;
  std::string yaml_;

 private:
  void open_section(const char* name, const char* help);
  void close_section(const ConfigDescriber& inner);
  std::string path_of(const char* name) const;
  void add(const char* name, const char* type, const std::string& value, const Constraint& constraint, const char* help);

  std::string path_;
  std::vector<FieldDoc> docs_;
};

/// The struct as YAML; reading it back gives an equal struct.
template <class T>
std::string dump_yaml(T value) {
  ConfigDescriber describer;
  value.fields(describer);
  return describer.yaml();
}

}  // namespace plural
