// SPDX-License-Identifier: Apache-2.0
// Hashed character n-grams: spelling as a vector, without a model.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "lib/embed/embedders.h"

namespace plural {
namespace {

constexpr uint32_t kFnvBasis = 2166136261u, kFnvPrime = 16777619u;
/// Texts a thread takes at a time.
constexpr int64_t kGrain = 256;

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
    at::parallel_for(0, vectors.size(0), kGrain, [&](int64_t begin, int64_t end) {
      std::string marked;
      for (int64_t i = begin; i < end; ++i)
        embed_text(texts[static_cast<size_t>(i)], data + i * options_.dimensions, marked);
    });
    return vectors.to(device);
  }

 private:
  void embed_text(std::string_view text, float* counts, std::string& marked) const {
    // The squared length changes by 2c + 1 when a count c rises by 1: small whole numbers, exact in float64.
    double squares = 0;
    const auto count_unit = [&](uint32_t hash) {
      float& count = counts[hash % static_cast<uint32_t>(options_.dimensions)];
      squares += 2.0 * count + 1.0;
      count += 1.0f;
    };
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = std::min(text.find(' ', begin), text.size());
      if (end > begin) {
        marked.assign(1, '<').append(text.substr(begin, end - begin)).append(1, '>');
        count_word(marked, count_unit);
      }
      begin = end + 1;
    }
    if (squares == 0) return;
    const auto scale = static_cast<float>(1.0 / std::sqrt(squares));
    for (int64_t e = 0; e < options_.dimensions; ++e) counts[e] *= scale;
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
