// SPDX-License-Identifier: Apache-2.0
// Numbers and lists of numbers as tensors of a checkpoint (TrainState::memory), and back.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "lib/core/format.h"
#include "plural/error.h"
#include "plural/policy.h"

namespace plural {

/// Collects tensors under names that start with `prefix`.
class MemoryWriter {
 public:
  MemoryWriter(NamedTensors& out, std::string prefix) : out_(out), prefix_(std::move(prefix)) {}

  template <class T>
  void add(const std::string& name, const std::vector<T>& values) {
    const Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, c10::CppTypeToScalarType<T>::value);
    std::ranges::copy(values, tensor.mutable_data_ptr<T>());
    out_.emplace_back(prefix_ + name, tensor);
  }
  /// Lists of any length: NAME.values, one after another, and NAME.lengths.
  template <class T>
  void add(const std::string& name, const std::vector<std::vector<T>>& lists) {
    std::vector<T> all;
    std::vector<int64_t> lengths;
    for (const std::vector<T>& list : lists) {
      all.insert(all.end(), list.begin(), list.end());
      lengths.push_back(static_cast<int64_t>(list.size()));
    }
    add(name + ".values", all);
    add(name + ".lengths", lengths);
  }

 private:
  NamedTensors& out_;
  std::string prefix_;
};

/// Gives them back. Whatever is missing or does not fit throws InputError naming the tensor.
class MemoryReader {
 public:
  MemoryReader(const NamedTensors& memory, std::string prefix)
      : tensors_(memory.begin(), memory.end()), prefix_(std::move(prefix)) {}

  /// Checkpoints from before the trainer remembered this have none of it.
  bool has(const std::string& name) const { return tensors_.contains(prefix_ + name); }

  template <class T>
  std::vector<T> values(const std::string& name) const {
    const auto it = tensors_.find(prefix_ + name);
    check(it != tensors_.end(), name, "is missing");
    check(it->second.scalar_type() == c10::CppTypeToScalarType<T>::value && it->second.dim() == 1, name,
          "has another shape or type than this version writes");
    const Tensor tensor = it->second.contiguous();
    return {tensor.const_data_ptr<T>(), tensor.const_data_ptr<T>() + tensor.numel()};
  }
  template <class T>
  std::vector<std::vector<T>> lists(const std::string& name) const {
    const std::vector<T> all = values<T>(name + ".values");
    const std::vector<int64_t> lengths = values<int64_t>(name + ".lengths");
    const bool fits = std::ranges::all_of(lengths, [](int64_t n) { return n >= 0; }) &&
                      std::accumulate(lengths.begin(), lengths.end(), int64_t{0}) == static_cast<int64_t>(all.size());
    check(fits, name, "has lengths that do not add up to its values");
    std::vector<std::vector<T>> lists;
    auto begin = all.begin();
    for (const int64_t n : lengths) {
      lists.emplace_back(begin, begin + n);
      begin += n;
    }
    return lists;
  }
  void check(bool fits, const std::string& name, const std::string& problem) const {
    if (!fits) throw InputError(fmt::format("checkpoint: '{}{}' {}", prefix_, name, problem));
  }

 private:
  std::map<std::string, Tensor> tensors_;
  std::string prefix_;
};

}  // namespace plural
