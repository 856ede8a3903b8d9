// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/decode_attention/decode_attention.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/device.h"

using namespace plural;
using kernels::DecodeAttentionInput;
using kernels::DecodeRow;

namespace {

struct Case {
  const char* name;
  std::vector<int64_t> prefix_lengths;  // one a group
  std::vector<int64_t> own_lengths;     // one a row; row r belongs to group r * P / R
  int64_t heads, kv_heads, size;
  int64_t window = 0;
};

std::vector<int64_t> lengths(int64_t n, int64_t from, int64_t step) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(from + i * step % 23);
  return out;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> table = {
      {"one token, no prefix", {0}, {1}, 1, 1, 1},
      {"one row", {5}, {1}, 3, 1, 64},
      {"no prefix", {0}, {7, 1, 3}, 4, 2, 20},
      {"odd head size", {33}, lengths(5, 1, 3), 6, 3, 20},
      {"head size 7", {17, 2}, lengths(6, 1, 5), 5, 5, 7},
      {"33 rows of one group", {111}, lengths(33, 1, 7), 9, 3, 64},
      {"four groups of 8", {90, 101, 1, 64}, lengths(32, 1, 5), 9, 3, 64},
      {"head size 128", {40, 0}, lengths(4, 2, 3), 8, 2, 128},
      {"head size 80", {40}, lengths(3, 9, 3), 8, 1, 80},
      {"window inside own tokens", {9}, {5, 8, 2}, 2, 2, 16, 3},
      {"window across the border", {30, 4}, lengths(6, 1, 4), 4, 2, 32, 8},
      {"window of one", {6}, {1, 4}, 2, 1, 24, 1},
      {"window wider than all", {6}, {1, 4}, 2, 1, 24, 1000},
      {"long", {1500}, {300, 17}, 4, 2, 64},
  };
  return table;
}

struct Made {
  std::vector<Tensor> prefix_keys, prefix_values;
  std::vector<DecodeRow> rows;
  DecodeAttentionInput input;
};

Made make(const Case& c, at::ScalarType dtype, at::Device device) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(c.size * 1000 + c.heads);
  const auto random = [&](std::vector<int64_t> shape) {
    return at::randn(shape, generator, at::TensorOptions().dtype(at::kDouble)).to(dtype).to(device);
  };
  Made made;
  const auto rows = static_cast<int64_t>(c.own_lengths.size()), groups = static_cast<int64_t>(c.prefix_lengths.size());
  const int64_t capacity = *std::max_element(c.own_lengths.begin(), c.own_lengths.end()) + 2;
  for (const int64_t length : c.prefix_lengths) {
    made.prefix_keys.push_back(random({c.kv_heads, length, c.size}));
    made.prefix_values.push_back(random({c.kv_heads, length, c.size}));
  }
  // Slots in reverse and with a gap, so that a slot is never taken for a row number.
  for (int64_t r = 0; r < rows; ++r) made.rows.push_back({rows - r, c.own_lengths[r], r * groups / rows});
  made.input.query = random({rows, c.heads, c.size});
  made.input.own_keys = random({rows + 1, c.kv_heads, capacity, c.size});
  made.input.own_values = random({rows + 1, c.kv_heads, capacity, c.size});
  made.input.scale = 1.0 / std::sqrt(static_cast<double>(c.size));
  made.input.window = c.window;
  return made;
}

DecodeAttentionInput with_spans(Made& made) {
  made.input.prefix_keys = made.prefix_keys;
  made.input.prefix_values = made.prefix_values;
  made.input.rows = made.rows;
  return made.input;
}

// The same by ATen's operators in float64, row by row.
Tensor composed(const Made& made) {
  const DecodeAttentionInput& in = made.input;
  const int64_t group = in.query.size(1) / in.own_keys.size(1);
  std::vector<Tensor> out;
  for (size_t r = 0; r < made.rows.size(); ++r) {
    const DecodeRow& row = made.rows[r];
    const auto join = [&](const Tensor& prefix, const Tensor& own) {
      return at::cat({prefix, own[row.slot].narrow(1, 0, row.own_length)}, 1)
          .to(at::kDouble)
          .repeat_interleave(group, 0);
    };
    Tensor keys = join(made.prefix_keys[row.prefix], in.own_keys);
    Tensor values = join(made.prefix_values[row.prefix], in.own_values);
    if (in.window > 0 && in.window < keys.size(1)) {
      keys = keys.narrow(1, keys.size(1) - in.window, in.window);
      values = values.narrow(1, values.size(1) - in.window, in.window);
    }
    const Tensor query = in.query[static_cast<int64_t>(r)].to(at::kDouble).unsqueeze(1);  // [H, 1, D]
    const Tensor weight = at::softmax(at::matmul(query, keys.transpose(1, 2)) * in.scale, -1);
    out.push_back(at::matmul(weight, values).squeeze(1));
  }
  return at::stack(out);
}

double tolerance(at::ScalarType dtype) {
  // bfloat16: the result is rounded to 8 bits; sums themselves are float32.
  return dtype == at::kDouble ? 1e-12 : dtype == at::kFloat ? 2e-6 : 1e-2;
}

}  // namespace

TEST_CASE("decode attention equals composed operators", "[decode_attention]") {
  const at::Device device = test_device();
  for (const Case& c : cases()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      INFO(c.name << ", " << c10::toString(dtype));
      Made made = make(c, dtype, device);
      const Tensor out = kernels::decode_attention(with_spans(made));
      const Tensor expected = composed(made);
      REQUIRE(out.sizes() == expected.sizes());
      REQUIRE(out.scalar_type() == dtype);
      const Tensor error = (out.to(at::kDouble) - expected).abs() / expected.abs().clamp_min(1.0);
      CHECK(error.max().item<double>() < tolerance(dtype));
    }
  }
}

TEST_CASE("two keys by hand", "[decode_attention]") {
  // q = 1; keys 0 (prefix) and ln 3 (own): weights 1/4 and 3/4; values 8 and 4 -> 5.
  const auto options = at::TensorOptions().device(test_device());
  const auto scalar = [&](double x) { return at::full({1, 1, 1}, x, options.dtype(at::kFloat)); };
  const std::vector<Tensor> keys = {scalar(0.0)}, values = {scalar(8.0)};
  const std::vector<DecodeRow> rows = {{0, 1, 0}};
  DecodeAttentionInput in{scalar(1.0), scalar(std::log(3.0)).unsqueeze(0), scalar(4.0).unsqueeze(0), keys, values,
                          rows};
  CHECK(kernels::decode_attention(in).item<float>() == Approx(5.0));
  in.window = 1;
  CHECK(kernels::decode_attention(in).item<float>() == Approx(4.0));
}

TEST_CASE("a row's attention does not depend on its neighbours, bit for bit", "[decode_attention]") {
  const Case c{"", {50, 31}, lengths(20, 1, 5), 9, 3, 64};
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Made made = make(c, dtype, test_device());
    const DecodeAttentionInput all = with_spans(made);
    const Tensor together = kernels::decode_attention(all);
    for (size_t r = 0; r < made.rows.size(); ++r) {
      DecodeAttentionInput one = all;
      one.query = all.query.narrow(0, static_cast<int64_t>(r), 1);
      one.rows = all.rows.subspan(r, 1);
      CHECK(at::equal(kernels::decode_attention(one)[0], together[static_cast<int64_t>(r)]));
    }
  }
}

TEST_CASE("large scores stay finite", "[decode_attention]") {
  Made made = make({"", {40}, {9, 2}, 2, 1, 64}, at::kFloat, test_device());
  made.input.query *= 1e4;
  const Tensor out = kernels::decode_attention(with_spans(made));
  CHECK(at::isfinite(out).all().item<bool>());
  CHECK((out.to(at::kDouble) - composed(made)).abs().max().item<double>() < 1e-3);
}

TEST_CASE("broken calls are refused", "[decode_attention]") {
  Made made = make({"", {4}, {2, 3}, 2, 1, 8}, at::kFloat, test_device());
  DecodeAttentionInput in = with_spans(made);
  SECTION("rows") { in.rows = in.rows.subspan(1); }
  SECTION("length past the capacity") { made.rows[0].own_length = 100; }
  SECTION("slot") { made.rows[1].slot = 7; }
  SECTION("prefix") { made.rows[1].prefix = 1; }
  SECTION("dtype") { in.own_keys = in.own_keys.to(at::kDouble); }
  SECTION("heads") { in.query = at::zeros({2, 3, 7}, in.query.options()); }
  SECTION("not contiguous") { in.query = in.query.transpose(0, 1); }
  CHECK_THROWS_AS(kernels::decode_attention(in), CheckError);
}

TEST_CASE("no rows", "[decode_attention]") {
  Made made = make({"", {4}, {2}, 2, 1, 8}, at::kFloat, test_device());
  DecodeAttentionInput in = with_spans(made);
  in.query = in.query.narrow(0, 0, 0);
  in.rows = {};
  CHECK(kernels::decode_attention(in).size(0) == 0);
}
