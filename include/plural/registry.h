// SPDX-License-Identifier: Apache-2.0
// Name -> factory tables. A registry is a value that its owner builds and may add to; there is no global
// one and no static initialiser.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "plural/config.h"
#include "plural/error.h"

namespace plural {

namespace detail {
/// Throws InputError: unknown `kind` 'name', the list of names and the nearest one.
[[noreturn]] void throw_unknown_name(const std::string& kind, const std::string& name,
                                     const std::vector<std::string>& names, const Mark& mark);
}  // namespace detail

template <class T>
class Registry {
 public:
  using Factory = std::function<std::unique_ptr<T>(const ConfigNode& options)>;
  struct Entry {
    std::string help;
    Factory make;
    std::vector<FieldDoc> options;
  };

  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  /// Adds or replaces an entry.
  void add(const std::string& name, const std::string& help, Factory make, std::vector<FieldDoc> options = {}) {
    entries_[name] = Entry{help, std::move(make), std::move(options)};
  }
  /// Builds a part; an unknown name throws InputError.
  std::unique_ptr<T> make(const std::string& name, const ConfigNode& options = {}) const {
    const auto it = entries_.find(name);
    if (it == entries_.end()) detail::throw_unknown_name(kind_, name, names(), options.mark);
    return it->second.make(options);
  }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, entry] : entries_) result.push_back(name);
    return result;
  }
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  std::string kind_;
  std::map<std::string, Entry> entries_;
};

}  // namespace plural
