// SPDX-License-Identifier: Apache-2.0
#include "lib/text/tokenizer_json.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/json_depth.h"
#include "lib/core/utf8.h"
#include "plural/error.h"

namespace plural {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// Larger ids are a damaged file; the tables are indexed by id.
constexpr int64_t kMaxIds = int64_t{1} << 24;

/// A value of a JSON file that knows where it stands, so that every complaint names file and field.
class Field {
 public:
  Field(const fs::path& file, std::string path, const Json& value)
      : file_(file), path_(std::move(path)), value_(value) {}

  [[noreturn]] void fail(const std::string& reason) const {
    throw InputError(fmt::format("{}: field `{}`: {}", file_.string(), path_.empty() ? "(top level)" : path_, reason));
  }
  [[noreturn]] void unsupported(const std::string& supported) const {
    std::string shown = value_.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (shown.size() > 100) shown = shown.substr(0, 100) + "...";
    fail(fmt::format("{} is not supported (supported: {})", shown, supported));
  }

  bool is_null() const { return value_.is_null(); }
  const Json& json() const { return value_; }

  /// A member; null where it is missing.
  Field operator[](const std::string& name) const {
    if (!value_.is_object()) fail(fmt::format("expected an object, found {}", value_.type_name()));
    static const Json null;
    const auto found = value_.find(name);
    return Field(file_, path_.empty() ? name : path_ + "." + name, found == value_.end() ? null : *found);
  }
  std::vector<Field> items() const {
    if (!value_.is_array()) fail(fmt::format("expected a list, found {}", value_.type_name()));
    std::vector<Field> out;
    for (size_t i = 0; i < value_.size(); ++i) out.emplace_back(file_, fmt::format("{}[{}]", path_, i), value_[i]);
    return out;
  }

  const std::string& string() const {
    if (!value_.is_string()) fail(fmt::format("expected a string, found {}", value_.type_name()));
    return value_.get_ref<const std::string&>();
  }
  bool boolean(bool otherwise) const {
    if (value_.is_null()) return otherwise;
    if (!value_.is_boolean()) fail(fmt::format("expected true or false, found {}", value_.type_name()));
    return value_.get<bool>();
  }
  int32_t id() const {
    if (!value_.is_number_integer()) fail(fmt::format("expected a token id, found {}", value_.type_name()));
    const auto id = value_.get<int64_t>();
    if (id < 0 || id >= kMaxIds)
      fail(fmt::format("expected a token id in 0..{}, found {}", kMaxIds - 1, value_.dump()));
    return static_cast<int32_t>(id);
  }
  /// Not set, "" or false-like: a feature that this file does not use.
  bool is_off() const {
    return value_.is_null() || (value_.is_string() && string().empty()) ||
           (value_.is_boolean() && !value_.get<bool>()) || (value_.is_number() && value_.get<double>() == 0);
  }

 private:
  const fs::path& file_;
  std::string path_;
  const Json& value_;
};

Json read_json(const fs::path& file) {
  const std::string text = detail::read_whole_file(file);
  if (detail::json_too_deep(text)) throw InputError(fmt::format("{}: the JSON is nested too deep", file.string()));
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    throw InputError(fmt::format("{}: not valid JSON at byte {}: {}", file.string(), error.byte, error.what()));
  }
}

/// The printable alphabet of byte-level BPE: code point -> byte, -1 for characters outside it.
/// Bytes that print stand for themselves; the other 68 take the code points from 256 on, in order.
const std::array<int, 324>& byte_of_code_point() {
  static const auto table = [] {
    std::array<int, 324> bytes;
    bytes.fill(-1);
    size_t next = 256;
    for (int byte = 0; byte < 256; ++byte) {
      const bool prints = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      bytes[prints ? static_cast<size_t>(byte) : next++] = byte;
    }
    return bytes;
  }();
  return table;
}

/// The bytes a token of the vocabulary stands for; nothing if it is not spelled in the printable
/// alphabet.
std::optional<std::string> to_bytes(std::string_view token) {
  const auto& table = byte_of_code_point();
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const CodePoint c = decode_utf8(token.data() + at);
    if (c.value >= table.size() || table[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(table[c.value]));
    at += c.size;
  }
  return bytes;
}

void read_normalizer(const Field& field, std::vector<NormalForm>& out) {
  if (field.is_null()) return;
  const std::string& type = field["type"].string();
  if (type == "NFC") {
    out.push_back(NormalForm::kNfc);
  } else if (type == "NFD") {
    out.push_back(NormalForm::kNfd);
  } else if (type == "NFKC") {
    out.push_back(NormalForm::kNfkc);
  } else if (type == "NFKD") {
    out.push_back(NormalForm::kNfkd);
  } else if (type == "Sequence") {
    for (const Field& item : field["normalizers"].items()) read_normalizer(item, out);
  } else {
    field["type"].unsupported("null, NFC, NFD, NFKC, NFKD, Sequence");
  }
}

SplitBehavior read_behavior(const Field& field) {
  const std::string& name = field.string();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  field.unsupported("Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous");
}

std::unique_ptr<PreTokenizer> read_split(const Field& field) {
  const SplitBehavior behavior = read_behavior(field["behavior"]);
  const bool invert = field["invert"].boolean(false);
  const Field pattern = field["pattern"];
  try {
    if (!pattern["Regex"].is_null()) return make_split(pattern["Regex"].string(), behavior, invert);
    if (!pattern["String"].is_null()) return make_split_string(pattern["String"].string(), behavior, invert);
  } catch (const InputError& error) {
    pattern.fail(error.what());
  }
  pattern.unsupported("{\"Regex\": ...}, {\"String\": ...}");
}

/// `has_byte_level` becomes true if a ByteLevel stage was read: without one the ids stand for
/// characters, not bytes.
std::unique_ptr<PreTokenizer> read_pre_tokenizer(const Field& field, bool& has_byte_level) {
  const Field type_field = field["type"];
  const std::string& type = type_field.string();
  if (has_byte_level) field.fail("a stage after ByteLevel is not supported; ByteLevel must come last");
  if (type == "ByteLevel") {
    has_byte_level = true;
    return make_byte_level(field["add_prefix_space"].boolean(true), field["use_regex"].boolean(true));
  }
  if (type == "Digits") return make_digits(field["individual_digits"].boolean(false));
  if (type == "Split") return read_split(field);
  if (type == "Sequence") {
    std::vector<std::unique_ptr<PreTokenizer>> stages;
    for (const Field& item : field["pretokenizers"].items()) stages.push_back(read_pre_tokenizer(item, has_byte_level));
    return make_sequence(std::move(stages));
  }
  type_field.unsupported("ByteLevel, Digits, Split, Sequence");
}

void check_decoder(const Field& field) {
  if (field.is_null()) field.unsupported("ByteLevel");
  const std::string& type = field["type"].string();
  if (type == "Sequence") {
    const auto items = field["decoders"].items();
    if (items.size() != 1) field["decoders"].unsupported("a Sequence of one ByteLevel");
    check_decoder(items[0]);
  } else if (type != "ByteLevel") {
    field["type"].unsupported("ByteLevel");
  }
}

void read_template(const Field& field, TokenizerFile& out) {
  bool seen_text = false;
  for (const Field& piece : field["single"].items()) {
    if (!piece["Sequence"].is_null()) {
      if (seen_text) piece.fail("a second Sequence is not supported");
      seen_text = true;
    } else if (const Field special = piece["SpecialToken"]; !special.is_null()) {
      auto& ids = seen_text ? out.suffix_ids : out.prefix_ids;
      const Field entry = field["special_tokens"][special["id"].string()];
      for (const Field& id : entry["ids"].items()) ids.push_back(id.id());
    } else {
      piece.unsupported("Sequence, SpecialToken");
    }
  }
}

void read_post_processor(const Field& field, TokenizerFile& out) {
  if (field.is_null()) return;
  const std::string& type = field["type"].string();
  if (type == "ByteLevel") return;  // moves offsets only
  if (type == "TemplateProcessing") {
    if (!out.prefix_ids.empty() || !out.suffix_ids.empty()) field.fail("a second TemplateProcessing is not supported");
    read_template(field, out);
  } else if (type == "Sequence") {
    for (const Field& item : field["processors"].items()) read_post_processor(item, out);
  } else {
    field["type"].unsupported("null, ByteLevel, TemplateProcessing, Sequence");
  }
}

void set_bytes(TokenizerFile& out, int32_t id, std::string bytes) {
  if (static_cast<size_t>(id) >= out.id_bytes.size()) out.id_bytes.resize(static_cast<size_t>(id) + 1);
  out.id_bytes[static_cast<size_t>(id)] = std::move(bytes);
}

void read_vocab(const Field& field, TokenizerFile& out) {
  if (!field.json().is_object())
    field.fail(fmt::format("expected an object of tokens, found {}", field.json().type_name()));
  out.token_ids.reserve(field.json().size());
  for (const auto& [token, value] : field.json().items()) {
    if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() >= kMaxIds)
      field.fail(fmt::format("token {} has no id in 0..{}: {}", Json(token).dump(), kMaxIds - 1, value.dump()));
    const auto id = value.get<int32_t>();
    const std::optional<std::string> bytes = to_bytes(token);
    if (static_cast<size_t>(id) < out.id_bytes.size() && out.id_bytes[static_cast<size_t>(id)])
      field.fail(fmt::format("id {} is given to two tokens, one is {}", id, Json(token).dump()));
    set_bytes(out, id, bytes.value_or(token));
    out.token_ids.emplace(token, id);
    if (bytes) out.bpe.vocab.emplace(*bytes, id);
  }
}

/// The two sides of a merge, in either spelling: ["a", "b"] or "a b".
std::pair<std::string, std::string> merge_sides(const Field& merge) {
  if (merge.json().is_array()) {
    if (merge.json().size() != 2) merge.fail("expected two tokens");
    const auto sides = merge.items();
    return {sides[0].string(), sides[1].string()};
  }
  const std::string& text = merge.string();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
    merge.fail(fmt::format("expected two tokens with one space between, found \"{}\"", text));
  return {text.substr(0, space), text.substr(space + 1)};
}

void read_merges(const Field& field, TokenizerFile& out) {
  const auto id_of = [&](const Field& merge, const std::string& token) {
    const auto found = out.token_ids.find(token);
    if (found == out.token_ids.end())
      merge.fail(fmt::format("token \"{}\" is not in `model.vocab`; the file is damaged", token));
    return found->second;
  };
  out.bpe.merges.reserve(field.json().size());
  for (const Field& merge : field.items()) {
    const auto [left, right] = merge_sides(merge);
    out.bpe.merges.push_back({id_of(merge, left), id_of(merge, right), id_of(merge, left + right)});
  }
}

void read_model(const Field& model, TokenizerFile& out) {
  // Files of the first years leave the type out.
  if (const Field type = model["type"]; !type.is_null() && type.string() != "BPE") type.unsupported("BPE");
  for (const char* name : {"continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "dropout"})
    if (!model[name].is_off()) model[name].unsupported("null; byte-level BPE does without it");
  read_vocab(model["vocab"], out);
  read_merges(model["merges"], out);
  out.bpe.ignore_merges = model["ignore_merges"].boolean(false);
  out.bpe.fuse_unk = model["fuse_unk"].boolean(false);
  if (const Field unk = model["unk_token"]; !unk.is_null()) {
    const auto found = out.token_ids.find(unk.string());
    if (found != out.token_ids.end()) out.bpe.unk_id = found->second;
  }
}

void read_added_tokens(const Field& field, TokenizerFile& out) {
  if (field.is_null()) return;
  for (const Field& item : field.items()) {
    AddedToken token;
    token.id = item["id"].id();
    token.content = item["content"].string();
    token.special = item["special"].boolean(false);
    token.normalized = item["normalized"].boolean(!token.special);
    token.lstrip = item["lstrip"].boolean(false);
    token.rstrip = item["rstrip"].boolean(false);
    token.single_word = item["single_word"].boolean(false);
    if (token.content.empty()) continue;
    const auto [known, is_new] = out.token_ids.emplace(token.content, token.id);
    if (!is_new && known->second != token.id)
      item["id"].fail(
          fmt::format("\"{}\" has the id {} here and {} in `model.vocab`", token.content, token.id, known->second));
    set_bytes(out, token.id, token.content);
    out.added_tokens.push_back(std::move(token));
  }
}

/// A special token in tokenizer_config.json: "text" or {"content": "text", ...}.
std::optional<std::string> read_token_name(const Field& field) {
  if (field.is_null()) return std::nullopt;
  return field.json().is_object() ? field["content"].string() : field.string();
}

/// One template, or a list of named ones of which "default" counts.
std::optional<std::string> read_chat_template(const Field& field) {
  if (field.is_null()) return std::nullopt;
  if (!field.json().is_array()) return field.string();
  for (const Field& item : field.items())
    if (item["name"].string() == "default") return item["template"].string();
  return std::nullopt;
}

}  // namespace

TokenizerFile read_tokenizer_file(const fs::path& file) {
  if (!fs::exists(file))
    throw InputError(
        fmt::format("{}: no such file; a model folder needs the tokenizer.json of a byte-level BPE tokenizer. "
                    "`transformers` writes one: AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
                    file.string()));
  const Json json = read_json(file);
  const Field root(file, "", json);
  TokenizerFile out;
  read_normalizer(root["normalizer"], out.normalizers);
  bool has_byte_level = false;
  if (root["pre_tokenizer"].is_null()) root["pre_tokenizer"].unsupported("ByteLevel, or a Sequence that ends with it");
  out.pre_tokenizer = read_pre_tokenizer(root["pre_tokenizer"], has_byte_level);
  if (!has_byte_level) root["pre_tokenizer"].unsupported("ByteLevel, or a Sequence that ends with it");
  check_decoder(root["decoder"]);
  read_model(root["model"], out);
  read_added_tokens(root["added_tokens"], out);
  read_post_processor(root["post_processor"], out);
  return out;
}

WordPieceFile read_wordpiece_file(const fs::path& file) {
  if (!fs::exists(file))
    throw InputError(fmt::format("{}: no such file; a BERT encoder's folder needs its tokenizer.json", file.string()));
  const Json json = read_json(file);
  const Field root(file, "", json);
  const auto require_type = [&root](const char* part, const char* type) {
    if (root[part].is_null() || root[part]["type"].string() != type) root[part].unsupported(type);
    return root[part];
  };
  WordPieceFile out;
  const Field normalizer = require_type("normalizer", "BertNormalizer");
  out.normalizer.clean_text = normalizer["clean_text"].boolean(true);
  out.normalizer.handle_chinese_chars = normalizer["handle_chinese_chars"].boolean(true);
  out.normalizer.lowercase = normalizer["lowercase"].boolean(true);
  out.normalizer.strip_accents = normalizer["strip_accents"].boolean(out.normalizer.lowercase);
  require_type("pre_tokenizer", "BertPreTokenizer");

  TokenizerFile shared;
  const Field model = require_type("model", "WordPiece");
  read_vocab(model["vocab"], shared);
  out.continuing_prefix = model["continuing_subword_prefix"].string();
  if (const Field limit = model["max_input_chars_per_word"]; !limit.is_null()) out.max_characters = limit.id();
  const auto unk = shared.token_ids.find(model["unk_token"].string());
  if (unk == shared.token_ids.end()) model["unk_token"].fail("is not in `model.vocab`; the file is damaged");
  out.unk_id = unk->second;
  read_added_tokens(root["added_tokens"], shared);
  read_post_processor(root["post_processor"], shared);
  out.token_ids = std::move(shared.token_ids);
  out.added_tokens = std::move(shared.added_tokens);
  out.prefix_ids = std::move(shared.prefix_ids);
  out.suffix_ids = std::move(shared.suffix_ids);
  return out;
}

TokenizerConfigFile read_tokenizer_config(const fs::path& model_dir) {
  TokenizerConfigFile out;
  if (const fs::path file = model_dir / "tokenizer_config.json"; fs::exists(file)) {
    const Json json = read_json(file);
    const Field root(file, "", json);
    out.chat_template = read_chat_template(root["chat_template"]);
    if (!root["chat_format"].is_null()) out.chat_format = root["chat_format"].string();
    out.bos_token = read_token_name(root["bos_token"]);
    out.eos_token = read_token_name(root["eos_token"]);
  }
  // As in `transformers`, the file of its own wins.
  if (const fs::path file = model_dir / "chat_template.jinja"; fs::exists(file))
    out.chat_template = detail::read_whole_file(file);
  return out;
}

}  // namespace plural
