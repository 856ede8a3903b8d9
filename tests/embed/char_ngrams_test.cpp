// SPDX-License-Identifier: Apache-2.0
#include "plural/config.h"
#include "plural/embedder.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural {
namespace {

Tensor embed(const std::vector<std::string_view>& texts, const std::string& options = "{}") {
  const auto embedder = builtin_embedders().make("char_ngrams", parse_yaml(options, "options"));
  const Tensor vectors = embedder->embed(texts, test_device());
  CHECK(vectors.device() == test_device());
  return vectors.cpu();
}

double cosine(std::string_view a, std::string_view b, const std::string& options = "{}") {
  const Tensor vectors = embed({a, b}, options);
  return vectors[0].dot(vectors[1]).item<double>();
}

TEST_CASE("char_ngrams counts the n-grams of <word> in the buckets of FNV-1a") {
  // <cat> has <ca cat at> <cat cat> <cat>, and itself once more; buckets by an implementation of FNV-1a in Python.
  const Tensor cat = embed({"cat"})[0];
  Tensor expected = at::zeros({1024}, at::kFloat);
  for (const int64_t bucket : {7, 386, 443, 621, 907}) expected[bucket] = 1.0 / 3;
  expected[169] = 2.0 / 3;
  CHECK(at::allclose(cat, expected, 0, 1e-6));
  // One character of two bytes is one character: <é> has one 3-gram, which is the word itself.
  const Tensor accent = embed({"\u00e9"}, "{dimensions: 64}")[0];
  CHECK(accent[23].item<double>() == Approx(1));
  CHECK(accent.count_nonzero().item<int64_t>() == 1);
}

TEST_CASE("char_ngrams likens spellings") {
  CHECK(cosine("cat", "cats") == Approx(1 / std::sqrt(10.0)).margin(1e-6));  // 3 shared of 9 and 10 (squared lengths)
  CHECK(cosine("cat", "dog") == 0);
  // house: 5 trigrams, 4 of four, 3 of five, itself; cat as above: 9 / (3 sqrt(13 + 9)).
  CHECK(cosine("house cat", "cat") == Approx(3 / std::sqrt(22.0)).margin(1e-6));
  CHECK(cosine("house cat", "cat house") == Approx(1));
  CHECK(cosine("gr\u00f6\u00dfe", "gr\u00f6sse") == Approx(0.20801257).margin(1e-6));  // Python
  CHECK(cosine("cat", "cats", "{min_n: 1, max_n: 1}") > 0.7);
}

TEST_CASE("char_ngrams takes any bytes, and nothing to embed is 0") {
  const std::string broken("\xff\x80 \xc3", 4);
  const Tensor vectors = embed({"", "   ", broken, std::string_view("\0", 1), "a"});
  const Tensor lengths = vectors.norm(2, 1);
  CHECK(lengths[0].item<double>() == 0);
  CHECK(lengths[1].item<double>() == 0);
  for (const int64_t i : {2, 3, 4}) CHECK(lengths[i].item<double>() == Approx(1));
  CHECK(embed({}).sizes() == at::IntArrayRef({0, 1024}));
}

TEST_CASE("char_ngrams' similarities are the inner products of its vectors") {
  const std::vector<std::string_view> texts = {"house cat", "cats", "", "dog", "house dogs", "house cat"};
  const Tensor index = at::tensor({0, 1, 4, -1, 2, 3, 5, 0}, at::kLong).view({2, 4}).to(test_device());
  const auto embedder = builtin_embedders().make("char_ngrams", parse_yaml("{}", "options"));
  const Tensor found = embedder->similarities(texts, index);
  CHECK(found.device() == test_device());
  const Tensor vectors = embed(texts).to(at::kDouble);
  for (int64_t b = 0; b < 2; ++b)
    for (int64_t i = 0; i < 4; ++i)
      for (int64_t j = 0; j < 4; ++j) {
        const auto left = index[b][i].item<int64_t>(), right = index[b][j].item<int64_t>();
        const double expected = left < 0 || right < 0 ? 0 : vectors[left].dot(vectors[right]).item<double>();
        CHECK(found[b][i][j].item<double>() == Approx(expected).margin(1e-6));
      }
  CHECK(found[1][2][3].item<double>() == Approx(1));
  CHECK(found[0][0][1].item<double>() > 0.1);
}

TEST_CASE("a text's vector does not depend on the texts beside it") {
  std::vector<std::string> texts;
  for (int i = 0; i < 2000; ++i) texts.push_back("word" + std::to_string(i * 7919));
  const Tensor all = embed({texts.begin(), texts.end()});
  for (const size_t i : {size_t{0}, size_t{777}, size_t{1999}})
    CHECK(at::equal(all[static_cast<int64_t>(i)], embed({texts[i]})[0]));
}

}  // namespace
}  // namespace plural
