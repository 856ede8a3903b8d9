// SPDX-License-Identifier: Apache-2.0
// Hashed character n-grams: spelling as a vector, without a model.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lib/embed/embedders.h"

namespace plural {
namespace {

constexpr uint32_t kFnvBasis = 2166136261u, kFnvPrime = 16777619u;
/// Texts a thread takes at a time, and sets: a few tens of microseconds of work.
constexpr int64_t kTextGrain = 256, kSetGrain = 64;

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

/// The sub-word units of fastText (Bojanowski et al. 2017, arXiv 1607.04606, section 3.2): each word w (words are
/// parted by U+0020) is written "<w>", and its units are the character n-grams of that for n = min_n ... max_n, and
/// "<w>" itself. A unit falls into bucket FNV-1a(its UTF-8 bytes; 32 bits) mod `dimensions`; the vector counts the
/// units in each bucket and is divided by its length. No entry is negative, so similarities lie in [0, 1].
class CharNgrams final : public Embedder {
 public:
  struct Options {
    int64_t min_n = 3;
    int64_t max_n = 5;
    int64_t dimensions = 1024;
    template <class V>
    void fields(V& v) {
      v.field("min_n", min_n, between(1, 16), "characters of the shortest n-grams");
      v.field("max_n", max_n, between(1, 16), "characters of the longest n-grams");
      v.field("dimensions", dimensions, between(16, 65536), "E, buckets of the hash");
    }
    void validate(ConfigReader& reader) {
      if (max_n < min_n) reader.problem("max_n", "must not be below min_n");
    }
  };

  explicit CharNgrams(Options options) : options_(options) {}
  std::string name() const override { return "char_ngrams"; }

  Tensor embed(std::span<const std::string_view> texts, at::Device device) const override {
    Tensor vectors = at::zeros({static_cast<int64_t>(texts.size()), options_.dimensions}, at::kFloat);
    float* data = vectors.data_ptr<float>();
    const std::vector<Bag> bags = count_all(texts);
    for (size_t i = 0; i < bags.size(); ++i)
      for (const Entry& entry : bags[i].entries)
        data[static_cast<int64_t>(i) * options_.dimensions + entry.bucket] = entry.count *
                                                                             static_cast<float>(bags[i].scale);
    return vectors.to(device);
  }

  /// A word of n characters has about 3 n units, far fewer than there are buckets: on the CPU the vectors stay sparse.
  Tensor similarities(std::span<const std::string_view> texts, const Tensor& index) const override {
    if (!index.device().is_cpu()) return Embedder::similarities(texts, index);
    const std::vector<Bag> bags = count_all(texts);
    const int64_t slots = index.size(1);
    Tensor similarity = at::zeros({index.size(0), slots, slots}, at::kDouble);
    double* data = similarity.data_ptr<double>();
    const Tensor places = index.contiguous();
    const int64_t* place = places.const_data_ptr<int64_t>();
    const auto bag = [&](int64_t slot) {
      return place[slot] < 0 ? nullptr : &bags.at(static_cast<size_t>(place[slot]));
    };
    at::parallel_for(0, index.size(0), kSetGrain, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        double* gram = data + b * slots * slots;
        for (int64_t i = 0; i < slots; ++i) {
          const Bag* left = bag(b * slots + i);
          if (left == nullptr) continue;
          for (int64_t j = 0; j <= i; ++j)
            if (const Bag* right = bag(b * slots + j))
              gram[i * slots + j] = gram[j * slots + i] = inner_product(*left, *right) * (left->scale * right->scale);
        }
      }
    });
    return similarity;
  }

 private:
  struct Entry {
    uint32_t bucket;
    float count;
  };
  /// The entries of a text's vector that are not 0, by bucket, before they are multiplied by `scale`.
  struct Bag {
    std::vector<Entry> entries;
    double scale = 0;
  };

  std::vector<Bag> count_all(std::span<const std::string_view> texts) const {
    std::vector<Bag> bags(texts.size());
    at::parallel_for(0, static_cast<int64_t>(texts.size()), kTextGrain, [&](int64_t begin, int64_t end) {
      std::string marked;
      std::vector<uint32_t> buckets;
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        bags[i] = count_units(texts[i], marked, buckets);
    });
    return bags;
  }

  // `marked` and `buckets` are room to work in.
  Bag count_units(std::string_view text, std::string& marked, std::vector<uint32_t>& buckets) const {
    buckets.clear();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find(' ', begin), text.size());
      if (end > begin) {
        marked.assign(1, '<').append(text.substr(begin, end - begin)).append(1, '>');
        count_word(marked,
                   [&](uint32_t hash) { buckets.push_back(hash % static_cast<uint32_t>(options_.dimensions)); });
      }
      begin = end + 1;
    }
    std::ranges::sort(buckets);
    Bag bag;
    bag.entries.reserve(buckets.size());
    double squares = 0;
    for (size_t first = 0, next = 0; first < buckets.size(); first = next) {
      while (next < buckets.size() && buckets[next] == buckets[first]) ++next;
      const auto count = static_cast<double>(next - first);
      bag.entries.push_back({buckets[first], static_cast<float>(count)});
      squares += count * count;
    }
    if (squares > 0) bag.scale = 1.0 / std::sqrt(squares);
    return bag;
  }

  static double inner_product(const Bag& left, const Bag& right) {
    double product = 0;
    if (&left == &right) {  // the diagonal, and repeated answers
      for (const Entry& entry : left.entries)
        product += static_cast<double>(entry.count) * static_cast<double>(entry.count);
      return product;
    }
    auto l = left.entries.begin();
    auto r = right.entries.begin();
    while (l != left.entries.end() && r != right.entries.end()) {
      if (l->bucket == r->bucket) product += static_cast<double>(l->count) * static_cast<double>(r->count);
      const bool left_on = l->bucket <= r->bucket, right_on = r->bucket <= l->bucket;
      l += left_on, r += right_on;
    }
    return product;
  }

  template <class CountUnit>
  void count_word(std::string_view word, const CountUnit& count_unit) const {
    for (size_t first = 0; first < word.size(); ++first) {
      if (continues_character(word[first])) continue;
      uint32_t hash = kFnvBasis;
      int64_t characters = 0;
      for (size_t at = first; at < word.size(); ++at) {
        hash = (hash ^ static_cast<unsigned char>(word[at])) * kFnvPrime;
        if (at + 1 < word.size() && continues_character(word[at + 1])) continue;
        if (++characters >= options_.min_n && characters <= options_.max_n) count_unit(hash);
        if (characters >= options_.max_n && first > 0) break;
      }
      if (first == 0) count_unit(hash);  // ran to the end: the word itself
    }
  }

  Options options_;
};

}  // namespace

void add_char_ngrams(Registry<Embedder>& registry) {
  add_embedder<CharNgrams>(registry, "char_ngrams", "hashed character n-grams: likeness of spelling, no model");
}

}  // namespace plural
