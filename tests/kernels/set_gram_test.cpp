// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/set_gram/set_gram.h"

#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural::kernels {
namespace {

double max_difference(const Tensor& found, const Tensor& expected) {
  REQUIRE(found.sizes() == expected.sizes());
  return found.numel() == 0 ? 0.0 : (found.cpu() - expected.cpu()).abs().max().item<double>();
}

/// I + A A^T: symmetric positive definite.
Tensor random_matrices(int64_t rows, int64_t size) {
  const Tensor a = at::randn({rows, size, size}, at::kDouble);
  return at::eye(size, at::kDouble) + a.bmm(a.transpose(1, 2));
}

TEST_CASE("set_gram multiplies the vectors of each set and leaves out missing ones") {
  at::manual_seed(1);
  for (const auto& [rows, slots, width] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{0, 3, 8}, {1, 1, 8}, {5, 3, 7}, {130, 5, 64}, {3, 33, 1}}) {
    INFO(rows << " sets of " << slots << ", width " << width);
    const Tensor vectors = at::randn({11, width}, at::kFloat);
    const Tensor index = at::randint(-1, 11, {rows, slots}, at::kLong);
    const Tensor found = set_gram(vectors.to(test_device()), index.to(test_device()));
    CHECK(found.scalar_type() == at::kDouble);
    const Tensor gathered = vectors.to(at::kDouble).index({index.clamp_min(0)}) * index.ge(0).unsqueeze(2);
    CHECK(max_difference(found, at::matmul(gathered, gathered.transpose(1, 2))) < 1e-4);
    CHECK(at::equal(found, found.transpose(1, 2)));
  }
  const Tensor none = set_gram(at::zeros({0, 4}, at::kFloat).to(test_device()),
                               at::full({2, 3}, -1, at::kLong).to(test_device()));
  CHECK(at::equal(none.cpu(), at::zeros({2, 3, 3}, at::kDouble)));
}

TEST_CASE("log_det_steps add up to the determinant, and each is the variance that is left") {
  at::manual_seed(2);
  // [[4, 2], [2, 5]]: 4, then 5 - 2 * 2 / 4 = 4.
  const Tensor small = at::tensor({4.0, 2.0, 2.0, 5.0}, at::kDouble).view({1, 2, 2}).to(test_device());
  CHECK(max_difference(log_det_steps(small), at::full({1, 2}, std::log(4.0), at::kDouble)) < 1e-12);
  for (const int64_t size : {1, 3, 8, 40}) {
    const Tensor matrices = random_matrices(70, size);
    const Tensor steps = log_det_steps(matrices.to(test_device()));
    CHECK(max_difference(steps.sum(1), at::logdet(matrices)) < 1e-8);
    // The first steps are those of the leading block.
    const int64_t half = (size + 1) / 2;
    const Tensor block = matrices.narrow(1, 0, half).narrow(2, 0, half);
    CHECK(max_difference(steps.narrow(1, 0, half).sum(1), at::logdet(block)) < 1e-8);
  }
  CHECK(log_det_steps(at::zeros({0, 3, 3}, at::kDouble).to(test_device())).sizes() == at::IntArrayRef({0, 3}));
  if (test_device().is_cpu()) CHECK_THROWS_AS(log_det_steps(-small), CheckError);
}

TEST_CASE("symmetric_eigenvalues equal LAPACK's, in rising order") {
  at::manual_seed(3);
  for (const int64_t size : {1, 2, 7, 40}) {
    const Tensor matrices = random_matrices(70, size);
    CHECK(max_difference(symmetric_eigenvalues(matrices.to(test_device())), at::linalg_eigvalsh(matrices)) < 1e-8);
  }
  CHECK(symmetric_eigenvalues(at::zeros({0, 2, 2}, at::kDouble).to(test_device())).numel() == 0);
}

TEST_CASE("vendi_scores are effective numbers of items, whatever the slots without one") {
  Tensor sets = at::zeros({4, 3, 3}, at::kDouble);
  sets[0].copy_(at::eye(3));  // three that share nothing
  sets[1].copy_(at::ones({3, 3}));
  sets[2][0][0] = sets[2][2][2] = 1;  // two, with a similarity of 0.6: eigenvalues 0.8 and 0.2 of S / 2
  sets[2][0][2] = sets[2][2][0] = 0.6;
  const double two = std::exp(-0.8 * std::log(0.8) - 0.2 * std::log(0.2));
  const Tensor expected = at::tensor({3.0, 1.0, two, 0.0}, at::kDouble);
  CHECK(max_difference(vendi_scores(sets.to(test_device())), expected) < 1e-9);
  CHECK(vendi_scores(at::zeros({0, 3, 3}, at::kDouble).to(test_device())).numel() == 0);
  CHECK_THROWS_AS(vendi_scores(at::eye(2, at::kDouble).to(test_device())), CheckError);
}

}  // namespace
}  // namespace plural::kernels
