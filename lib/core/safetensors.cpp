// SPDX-License-Identifier: Apache-2.0
// safetensors: 8 bytes of header length (little-endian), a JSON header, then the tensors back to back.
// Nothing the header says is believed before it is checked against the file.
#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <set>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/core/safetensors.h"
#include "plural/checkpoint.h"
#include "plural/error.h"

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace plural {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxDimensions = 64;              // of ATen

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {{"F64", at::kDouble}, {"F32", at::kFloat}, {"F16", at::kHalf}, {"BF16", at::kBFloat16},
                                 {"I64", at::kLong},   {"I32", at::kInt},   {"U8", at::kByte},  {"BOOL", at::kBool}};

const DtypeName* find_dtype(std::string_view name) {
  for (const DtypeName& dtype : kDtypes)
    if (name == dtype.name) return &dtype;
  return nullptr;
}
const DtypeName* find_dtype(at::ScalarType type) {
  for (const DtypeName& dtype : kDtypes)
    if (type == dtype.type) return &dtype;
  return nullptr;
}

struct Entry {
  std::string name;
  at::ScalarType type;
  std::vector<int64_t> shape;
  uint64_t begin, end;  // offsets into the data section
};

// Fails with the file's name, and the tensor's where there is one.
struct Place {
  std::string file;
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(fmt::format("{}: not a usable safetensors file: {}", file, what));
  }
  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    throw InputError(fmt::format("{}: tensor '{}': {}", file, tensor, what));
  }
};

std::string brief(const json& value) {
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

json parse_header(const std::string& text, const Place& place) {
  if (detail::json_too_deep(text)) place.fail("the header is nested too deep to be one of tensors");
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  std::string duplicate;
  const auto watch = [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(value.get_ref<const std::string&>()).second && duplicate.empty())
      duplicate = value.get<std::string>();
    return true;
  };
  json header;
  try {
    header = json::parse(text, watch);
  } catch (const json::exception& error) {
    place.fail(fmt::format("the header is not JSON ({})", error.what()));
  }
  if (!duplicate.empty()) place.fail(duplicate, "this name is in the header twice");
  if (!header.is_object()) place.fail("the header is not a JSON object");
  return header;
}

Entry parse_entry(const std::string& name, const json& value, uint64_t data_bytes, const Place& place) {
  if (!value.is_object())
    place.fail(name, "expected an object with dtype, shape and data_offsets, got " + brief(value));
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!value.contains(key)) place.fail(name, fmt::format("'{}' is missing", key));
  Entry entry{name, at::kFloat, {}, 0, 0};

  const json& dtype = value["dtype"];
  const DtypeName* known = dtype.is_string() ? find_dtype(dtype.get_ref<const std::string&>()) : nullptr;
  if (!known)
    place.fail(name, fmt::format("dtype {} is not supported (expected F64, F32, F16, BF16, I64, I32, U8 or BOOL)",
                                 brief(dtype)));
  entry.type = known->type;

  const json& shape = value["shape"];
  if (!shape.is_array() || shape.size() > kMaxDimensions)
    place.fail(name, fmt::format("shape: expected a list of at most {} sizes, got {}", kMaxDimensions, brief(shape)));
  // The product with empty dimensions counted as 1 bounds every stride.
  int64_t bytes = static_cast<int64_t>(c10::elementSize(entry.type)), bound = bytes;
  for (const json& size : shape) {
    if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
      place.fail(name, fmt::format("shape {}: expected whole numbers >= 0", brief(shape)));
    const int64_t n = size.get<int64_t>();
    entry.shape.push_back(n);
    if (__builtin_mul_overflow(bound, std::max<int64_t>(n, 1), &bound))
      place.fail(name, fmt::format("shape {} is too large", brief(shape)));
    bytes *= n;
  }

  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    place.fail(name, "data_offsets: expected [begin, end], got " + brief(offsets));
  entry.begin = offsets[0].get<uint64_t>();
  entry.end = offsets[1].get<uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes)
    place.fail(name, fmt::format("data_offsets [{}, {}] lie outside the {} bytes of data; the file is truncated or its "
                                 "header is wrong",
                                 entry.begin, entry.end, data_bytes));
  if (entry.end - entry.begin != static_cast<uint64_t>(bytes))
    place.fail(name, fmt::format("shape {} of {} needs {} bytes, but data_offsets give {}", brief(shape), known->name,
                                 bytes, entry.end - entry.begin));
  return entry;
}

// The format has no holes and no overlaps.
void check_layout(std::vector<Entry>& entries, uint64_t data_bytes, const Place& place) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t end = 0;
  const std::string* before = nullptr;
  for (const Entry& entry : entries) {
    if (entry.begin < end) place.fail(entry.name, fmt::format("its data overlap those of tensor '{}'", *before));
    if (entry.begin > end)
      place.fail(entry.name, fmt::format("{} unused bytes stand before its data", entry.begin - end));
    end = entry.end;
    before = &entry.name;
  }
  if (end != data_bytes) place.fail(fmt::format("{} bytes after the last tensor belong to none", data_bytes - end));
}

Tensor read_tensor(const detail::InputFile& file, uint64_t data_begin, const Entry& entry) {
  // Bytes other than 0 and 1 are no bool values in C++, so they are compared, not copied.
  const bool is_bool = entry.type == at::kBool;
  Tensor tensor = at::empty(entry.shape, at::TensorOptions().dtype(is_bool ? at::kByte : entry.type));
  file.read(data_begin + entry.begin, tensor.data_ptr(), entry.end - entry.begin);
  return is_bool ? tensor.ne(0) : tensor;
}

}  // namespace

NamedTensors read_safetensors(const std::filesystem::path& path, TensorMetadata* metadata) {
  const detail::InputFile file(path);
  const Place place{path.string()};
  if (file.size_bytes() < 8) place.fail(fmt::format("{} bytes are too few; the file is truncated", file.size_bytes()));
  uint64_t header_bytes = 0;
  file.read(0, &header_bytes, 8);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size_bytes() - 8)
    place.fail(
        fmt::format("the header should have {} bytes, but the file has {}; it is truncated or no safetensors file",
                    header_bytes, file.size_bytes()));
  std::string text(header_bytes, '\0');
  file.read(8, text.data(), text.size());
  const json header = parse_header(text, place);
  const uint64_t data_begin = 8 + header_bytes, data_bytes = file.size_bytes() - data_begin;

  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, data_bytes, place));
      continue;
    }
    if (!value.is_object()) place.fail("__metadata__ is not an object of strings");
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) place.fail(fmt::format("__metadata__: '{}' is not a string", key));
      if (metadata) (*metadata)[key] = item.get<std::string>();
    }
  }
  check_layout(entries, data_bytes, place);

  NamedTensors tensors;
  tensors.reserve(entries.size());
  for (const Entry& entry : entries) tensors.emplace_back(entry.name, read_tensor(file, data_begin, entry));
  return tensors;
}

namespace detail {

WrittenFile write_safetensors_file(const std::filesystem::path& path, const NamedTensors& tensors,
                                   const TensorMetadata& metadata) {
  // Wide elements first keeps every tensor aligned to its element size, as readers that map the file expect.
  std::vector<const NamedTensors::value_type*> order;
  for (const auto& item : tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return a->second.element_size() > b->second.element_size(); });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  header["__metadata__"]["format"] = "pt";
  for (const auto& [key, value] : metadata) header["__metadata__"][key] = value;
  std::set<std::string_view> names{"__metadata__"};
  uint64_t offset = 0;
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    PLURAL_CHECK(names.insert(name).second, "two tensors are called '" + name + "'");
    PLURAL_CHECK(tensor.defined(), "tensor '" + name + "' is undefined");
    const DtypeName* dtype = find_dtype(tensor.scalar_type());
    PLURAL_CHECK(dtype, "tensor '" + name + "' has a dtype that safetensors files of plural do not hold");
    const uint64_t bytes = static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    header[name] = {
        {"dtype", dtype->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t header_bytes = text.size();

  AtomicFile out(path);
  out.append(&header_bytes, 8);
  out.append(text.data(), text.size());
  for (const auto* item : order) {
    const Tensor tensor = item->second.detach().to(at::kCPU).contiguous();
    out.append(tensor.const_data_ptr(), static_cast<size_t>(tensor.numel()) * tensor.element_size());
  }
  out.commit();
  return {out.size_bytes(), out.crc()};
}

}  // namespace detail

void write_safetensors(const std::filesystem::path& file, const NamedTensors& tensors, const TensorMetadata& metadata) {
  detail::write_safetensors_file(file, tensors, metadata);
}

}  // namespace plural
