// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "lib/core/format.h"
#include "plural/error.h"

namespace plural {

/// Typed access to the fields of one JSON object; null counts as absent, as in `transformers`.
class ConfigFields {
 public:
  ConfigFields(const nlohmann::json& object, std::string file, std::string prefix = "")
      : object_(object), file_(std::move(file)), prefix_(std::move(prefix)) {}

  [[noreturn]] void fail(const std::string& field, const std::string& message) const {
    throw InputError(fmt::format("{}: field '{}{}': {}", file_, prefix_, field, message));
  }
  const nlohmann::json* find(const std::string& field) const {
    const auto it = object_.find(field);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  bool has(const std::string& field) const { return find(field) != nullptr; }

  int64_t positive(const std::string& field, int64_t fallback = 0) const {
    const nlohmann::json* value = find(field);
    if (!value && fallback > 0) return fallback;
    if (!value) fail(field, "is missing; expected a positive integer");
    if (!value->is_number_integer() || value->get<double>() < 1 ||
        value->get<double>() > std::numeric_limits<int32_t>::max())
      fail(field, fmt::format("expected a positive integer, found {}", value->dump()));
    return value->get<int64_t>();
  }
  double number(const std::string& field, double fallback, double minimum) const {
    const nlohmann::json* value = find(field);
    if (!value) return fallback;
    if (!value->is_number() || !std::isfinite(value->get<double>()) || value->get<double>() < minimum)
      fail(field, fmt::format("expected a number of at least {}, found {}", minimum, value->dump()));
    return value->get<double>();
  }
  double required_number(const std::string& field, double minimum) const {
    if (!has(field)) fail(field, "is missing; expected a number");
    return number(field, 0.0, minimum);
  }
  bool boolean(const std::string& field, bool fallback) const {
    const nlohmann::json* value = find(field);
    if (!value) return fallback;
    if (!value->is_boolean()) fail(field, fmt::format("expected true or false, found {}", value->dump()));
    return value->get<bool>();
  }
  std::string text(const std::string& field, const std::string& fallback) const {
    const nlohmann::json* value = find(field);
    if (!value) return fallback;
    if (!value->is_string()) fail(field, fmt::format("expected a string, found {}", value->dump()));
    return value->get<std::string>();
  }

 private:
  const nlohmann::json& object_;
  std::string file_, prefix_;
};

}  // namespace plural
