// SPDX-License-Identifier: Apache-2.0
// Copies and their sums against plain loops on the host.
#include "lib/kernels/cache_append/cache_append.h"
#include "lib/kernels/sum_copies/sum_copies.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

namespace plural {
namespace {

const std::pair<at::ScalarType, double> kTypes[] = {{at::kDouble, 1e-14}, {at::kFloat, 1e-6}, {at::kBFloat16, 1e-2}};

Tensor longs(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong).to(test_device()); }

}  // namespace

TEST_CASE("sum_copies adds every copy of a row") {
  at::manual_seed(51);
  // Row 0 has three copies, row 1 none, row 2 one, row 3 two, of them one that row 0 has too.
  const std::vector<int64_t> begin = {0, 3, 3, 4, 6}, place = {4, 0, 2, 1, 3, 4};
  for (const auto& [dtype, limit] : kTypes) {
    INFO(at::toString(dtype));
    const Tensor copies = at::randn({5, 300}, at::kDouble).to(dtype);
    const Tensor sum = kernels::sum_copies(copies.to(test_device()), longs(begin), longs(place));
    REQUIRE(sum.scalar_type() == dtype);
    REQUIRE(sum.sizes() == at::IntArrayRef({4, 300}));
    for (int64_t n = 0; n < 4; ++n) {
      Tensor expected = at::zeros({300}, at::kDouble);
      for (int64_t i = begin[n]; i < begin[n + 1]; ++i) expected += copies[place[i]].to(at::kDouble);
      CHECK((sum[n].cpu().to(at::kDouble) - expected).abs().max().item<double>() <= limit * 3);
    }
  }
  // Many small numbers on a large one: bfloat16 would lose each of them.
  const Tensor many = at::cat({at::full({1, 1}, 256.0), at::full({256, 1}, 0.5)}).to(at::kBFloat16).to(test_device());
  CHECK(kernels::sum_copies(many, longs({0, 257}), at::arange(257).to(test_device())).item<float>() == 384.0F);
  CHECK(kernels::sum_copies(many.narrow(0, 0, 0), longs({0}), longs({})).sizes() == at::IntArrayRef({0, 1}));
}

TEST_CASE("cache_append writes a token of each row at its place and nothing else") {
  at::manual_seed(52);
  const std::vector<int64_t> slots = {3, 0}, places = {4, 1};
  for (const auto& [dtype, limit] : kTypes) {
    INFO(at::toString(dtype));
    Tensor row_keys = at::zeros({4, 2, 5, 6}, at::TensorOptions().dtype(dtype).device(test_device()));
    Tensor row_values = at::zeros_like(row_keys);
    // Keys and values are parts of a wider product, as decode passes them.
    const Tensor wide = at::randn({2, 30}, at::kDouble).to(dtype).to(test_device());
    const Tensor keys = wide.narrow(1, 3, 12).unflatten(1, {2, 6}),
                 values = wide.narrow(1, 15, 12).unflatten(1, {2, 6});
    kernels::cache_append_(row_keys, row_values, longs(slots), longs(places), keys, values);
    Tensor expected_keys = at::zeros_like(row_keys), expected_values = at::zeros_like(row_keys);
    for (size_t r = 0; r < slots.size(); ++r) {
      expected_keys[slots[r]].select(1, places[r]).copy_(keys[static_cast<int64_t>(r)]);
      expected_values[slots[r]].select(1, places[r]).copy_(values[static_cast<int64_t>(r)]);
    }
    CHECK(at::equal(row_keys, expected_keys));
    CHECK(at::equal(row_values, expected_values));
  }
}

}  // namespace plural
