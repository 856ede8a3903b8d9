// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <map>
#include <random>

#include "plural/checkpoint.h"
#include "plural/error.h"
#include "tests/support/catch.h"
#include "tests/support/temp_dir.h"

using namespace plural;
using Catch::Contains;

namespace {

// The same definition as in tests/parity/safetensors_parity.py.
NamedTensors sample_tensors() {
  const Tensor grid = (at::arange(12, at::kDouble) * 0.375 - 1.5).reshape({3, 4});
  return {{"f64", grid},
          {"bool", at::tensor({1, 0, 0, 1}, at::kInt).to(at::kBool).reshape({2, 2})},
          {"f32", grid.to(at::kFloat)},
          {"u8", at::tensor({0, 1, 254, 255, 7}, at::kInt).to(at::kByte)},
          {"f16", grid.to(at::kHalf)},
          {"bf16", grid.to(at::kBFloat16)},
          {"i64", at::arange(-3, 4, at::kLong) * 1000000000000},
          {"i32", at::arange(-3, 4, at::kInt) * 1000000},
          {"scalar", at::scalar_tensor(2.5, at::kFloat)},
          {"empty", at::zeros({0, 3})},
          {"odd \"name\" \xc3\xa9", at::ones({1})}};
}

void check_equal(const NamedTensors& got, const NamedTensors& want) {
  REQUIRE(got.size() == want.size());
  std::map<std::string, Tensor> by_name(got.begin(), got.end());
  for (const auto& [name, tensor] : want) {
    INFO(name);
    REQUIRE(by_name.count(name) == 1);
    CHECK(by_name[name].scalar_type() == tensor.scalar_type());
    CHECK(at::equal(by_name[name], tensor));
  }
}

int python(const std::string& arguments) {
  const std::string script = std::string(std::getenv("PLURAL_SOURCE_DIR")) + "/tests/parity/safetensors_parity.py ";
  return std::system((std::string(std::getenv("PLURAL_TEST_PYTHON")) + " " + script + arguments).c_str());
}

std::string file_bytes(const std::string& header, const std::string& data) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header + data;
}

}  // namespace

TEST_CASE("safetensors files travel between plural and the Python package") {
  const TempDir dir;
  REQUIRE(python("write " + (dir / "python").string()) == 0);
  TensorMetadata metadata;
  check_equal(read_safetensors(dir / "python", &metadata), sample_tensors());
  CHECK(metadata == TensorMetadata{{"format", "pt"}, {"note", "from python"}});

  write_safetensors(dir / "plural", sample_tensors(), {{"note", "from plural"}});
  CHECK(python("check " + (dir / "plural").string()) == 0);
  check_equal(read_safetensors(dir / "plural"), sample_tensors());
}

TEST_CASE("every tensor of a written file is aligned and views are written as they look") {
  const TempDir dir;
  const Tensor view = at::arange(12, at::kFloat).reshape({3, 4}).t();
  write_safetensors(dir / "a", {{"b", at::ones({3}, at::kByte)}, {"v", view}, {"h", at::ones({3}, at::kHalf)}});
  const std::string bytes = read_bytes(dir / "a");
  uint64_t header_bytes;
  std::memcpy(&header_bytes, bytes.data(), 8);
  CHECK(header_bytes % 8 == 0);
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  CHECK(header["v"]["data_offsets"][0].get<int64_t>() % 4 == 0);
  CHECK(header["h"]["data_offsets"][0].get<int64_t>() % 2 == 0);
  for (const auto& [name, tensor] : read_safetensors(dir / "a"))
    if (name == "v") CHECK(at::equal(tensor, view));
  CHECK_THROWS_AS(write_safetensors(dir / "a", {{"x", view}, {"x", view}}), CheckError);
  CHECK_THROWS_AS(write_safetensors(dir / "a", {{"x", at::ones({2}, at::kShort)}}), CheckError);
}

TEST_CASE("safetensors headers are not believed") {
  const TempDir dir;
  const auto message = [&](const std::string& header, const std::string& data) {
    dir.write("bad.safetensors", file_bytes(header, data));
    const std::string text = thrown<InputError>([&] { read_safetensors(dir / "bad.safetensors"); });
    CHECK_THAT(text, Contains("bad.safetensors"));
    return text;
  };
  const std::string eight(8, '\0');
  const auto one = [](const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
    return R"({"w":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  dir.write("good", file_bytes(one("[2]", "[0,8]"), eight));
  CHECK(read_safetensors(dir / "good").at(0).second.numel() == 2);

  // Each says which tensor and why.
  CHECK_THAT(message(one("[2]", "[0,8]"), eight.substr(1)), Contains("'w'") && Contains("outside the 7 bytes"));
  CHECK_THAT(message(one("[3]", "[0,8]"), eight), Contains("'w'") && Contains("needs 12 bytes"));
  CHECK_THAT(message(one("[2]", "[8,0]"), eight), Contains("'w'"));
  CHECK_THAT(message(one("[2]", "[4,12]"), eight), Contains("'w'"));
  CHECK_THAT(message(one("[1]", "[4,8]"), eight), Contains("'w'") && Contains("4 unused bytes"));
  CHECK_THAT(message(one("[1]", "[0,4]"), eight), Contains("4 bytes after the last tensor"));
  CHECK_THAT(message(one("[-2]", "[0,8]"), eight), Contains("'w'") && Contains(">= 0"));
  CHECK_THAT(message(one("[2.0]", "[0,8]"), eight), Contains("'w'"));
  CHECK_THAT(message(one("[4294967296,4294967296,4294967296]", "[0,8]"), eight),
             Contains("'w'") && Contains("too large"));
  CHECK_THAT(message(one("[0,9223372036854775807,9223372036854775807]", "[0,0]"), ""), Contains("too large"));
  CHECK_THAT(message(one("[99999999999999999999]", "[0,8]"), eight), Contains("'w'"));
  CHECK_THAT(message(one("3", "[0,8]"), eight), Contains("'w'") && Contains("shape"));
  CHECK_THAT(message(one("[2]", "[0]"), eight), Contains("data_offsets"));
  CHECK_THAT(message(one("[2]", "[0,8]", "F8_E4M3"), eight), Contains("'w'") && Contains("F8_E4M3"));
  CHECK_THAT(message(R"({"w":{"dtype":"F32","shape":[2]}})", eight),
             Contains("'w'") && Contains("'data_offsets' is missing"));
  CHECK_THAT(message(R"({"w":[1,2]})", eight), Contains("'w'") && Contains("expected an object"));
  CHECK_THAT(
      message(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          std::string(12, '\0')),
      Contains("'b'") && Contains("overlap those of tensor 'a'"));
  const std::string w = R"("w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  CHECK_THAT(message(std::string("{") + w + "," + w + "}", eight), Contains("'w'") && Contains("twice"));
  CHECK_THAT(message(std::string("[") + one("[2]", "[0,8]") + "]", eight), Contains("not a JSON object"));
  CHECK_THAT(message(std::string("{") + w, eight), Contains("not JSON"));
  CHECK_THAT(message(R"({"__metadata__":{"a":1},)" + w + "}", eight), Contains("__metadata__"));
  CHECK_THAT(message("{\"\xff\":1}", eight), Contains("not JSON"));

  dir.write("short", "abc");
  CHECK_THAT(thrown<InputError>([&] { read_safetensors(dir / "short"); }), Contains("truncated"));
  dir.write("lies", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f", 8) + "{}");
  CHECK_THAT(thrown<InputError>([&] { read_safetensors(dir / "lies"); }), Contains("header"));
  // A value that is shown in a message must not overflow the stack.
  CHECK_THAT(message("{\"t\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}", ""),
             Contains("nested too deep"));
  CHECK_THAT(thrown<InputError>([&] { read_safetensors(dir / "missing"); }), Contains("cannot open"));
  CHECK_THAT(thrown<InputError>([&] { read_safetensors(dir.path()); }), Contains("regular file"));
}

TEST_CASE("mutated safetensors files are read or refused, never worse") {
  const TempDir dir;
  write_safetensors(dir / "good", sample_tensors());
  const std::string good = read_bytes(dir / "good");
  uint64_t header_bytes;
  std::memcpy(&header_bytes, good.data(), 8);
  std::mt19937_64 random(20240607);
  const std::string spice = "{}[]\",:0123456789-eE.\\\xff";
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string bytes = good;
    for (uint64_t change = 0, n = 1 + random() % 3; change < n; ++change) {
      const size_t place = random() % (8 + header_bytes);
      switch (random() % 4) {
        case 0:
          bytes[place % bytes.size()] = static_cast<char>(random());
          break;
        case 1:
          bytes[place % bytes.size()] = spice[random() % spice.size()];
          break;
        case 2:
          bytes.resize(1 + random() % bytes.size());
          break;
        default:
          bytes.insert(place % bytes.size(), 1, spice[random() % spice.size()]);
      }
    }
    dir.write("mutant", bytes);
    try {
      for (const auto& [name, tensor] : read_safetensors(dir / "mutant")) REQUIRE(tensor.defined());
    } catch (const InputError&) {
      ++refused;
    }
  }
  CHECK(refused > 1500);
  CHECK(refused < 3000);
}
