// SPDX-License-Identifier: Apache-2.0
// YAML text -> ConfigNode through yaml-cpp's events, and back. The events are read, not yaml-cpp's own tree,
// because that tree drops duplicate keys and forgets how a scalar was written.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <sstream>

#include "lib/config/yaml.h"
#include "lib/core/file_io.h"
#include "lib/core/format.h"
#include "lib/core/utf8.h"
#include "plural/config.h"
#include "plural/error.h"

namespace plural {
namespace {

Mark to_mark(const YAML::Mark& mark, const std::string& file) {
  if (mark.is_null()) return {file, 0, 0};
  return {file, mark.line + 1, mark.column + 1};
}

[[noreturn]] void fail(const Mark& mark, const std::string& what) {
  throw InputError(fmt::format("{}: {}", to_string(mark), what));
}

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(std::string file) : file_(std::move(file)) {}

  ConfigNode root;
  bool has_root = false;
  std::vector<DuplicateKey> duplicates;

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (has_root) fail(to_mark(mark, file_), "a second YAML document starts here; expected one document");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    place_ = to_mark(mark, file_);
    refuse_anchor(anchor);
    ConfigNode node;
    node.mark = place_;
    add(std::move(node), /*as_key=*/false);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fail(to_mark(mark, file_), "aliases (*name) are not supported; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    place_ = to_mark(mark, file_);
    refuse_anchor(anchor);
    // "?" = plain, "!" = quoted or block.
    if (tag != "?" && tag != "!") refuse_tag(tag);
    ConfigNode node;
    node.kind = ConfigNode::Kind::kScalar;
    node.scalar = value;
    node.quoted = tag == "!";
    node.mark = place_;
    add(std::move(node), /*as_key=*/true);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::kList);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    ConfigNode node;
    bool has_key = false;
    bool duplicate = false;  // the key's value is left out
    std::string key;
    Mark key_mark;
  };

  void refuse_anchor(YAML::anchor_t anchor) const {
    if (anchor) fail(place_, "anchors (&name) are not supported");
  }
  void refuse_tag(const std::string& tag) const { fail(place_, fmt::format("tags are not supported, got '{}'", tag)); }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, ConfigNode::Kind kind) {
    place_ = to_mark(mark, file_);
    refuse_anchor(anchor);
    if (!tag.empty() && tag != "?" && tag != "!") refuse_tag(tag);
    if (!stack_.empty() && stack_.back().node.kind == ConfigNode::Kind::kMap && !stack_.back().has_key)
      fail(place_, "a key must be a name, got a list or map");
    Frame frame;
    frame.node.kind = kind;
    frame.node.mark = place_;
    stack_.push_back(std::move(frame));
  }
  void close() {
    ConfigNode node = std::move(stack_.back().node);
    stack_.pop_back();
    add(std::move(node), /*as_key=*/false);
  }
  void add(ConfigNode node, bool as_key) {
    if (stack_.empty()) {
      root = std::move(node);
      has_root = true;
      return;
    }
    Frame& frame = stack_.back();
    if (frame.node.kind == ConfigNode::Kind::kList) {
      frame.node.items.push_back(std::move(node));
    } else if (!frame.has_key) {
      if (!as_key) fail(node.mark, "a key must be a name, got an empty value");
      frame.duplicate = false;
      for (const auto& entry : frame.node.entries) {
        if (entry.key != node.scalar) continue;
        frame.duplicate = true;
        duplicates.push_back(
            {node.mark, fmt::format("duplicate key '{}' (first at line {})", node.scalar, entry.mark.line)});
      }
      frame.key = std::move(node.scalar);
      frame.key_mark = node.mark;
      frame.has_key = true;
    } else {
      if (node.mark.line == 0) node.mark = frame.key_mark;
      if (!frame.duplicate) frame.node.entries.push_back({std::move(frame.key), frame.key_mark, std::move(node)});
      frame.has_key = false;
    }
  }

  std::string file_;
  Mark place_;
  std::vector<Frame> stack_;
};

void check_text(std::string_view text, const std::string& file) {
  const size_t bad = valid_utf8_prefix(text);
  const size_t place = std::min(bad, text.find('\0'));
  if (place >= text.size()) return;
  const int line = 1 +
                   static_cast<int>(std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(place), '\n'));
  fail({file, line, 1}, place == bad ? "this line is not valid UTF-8; save the file as UTF-8"
                                     : "this line has a zero byte; expected YAML text");
}

bool is_plain(const std::string& text) {
  if (text.empty()) return false;
  const auto is_word = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '/' || c == '.'; };
  const unsigned char first = static_cast<unsigned char>(text[0]);
  if (!std::isalpha(first) && first != '/' && first != '_') return false;
  for (unsigned char c : text)
    if (!is_word(c) && c != '-') return false;
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char* word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
    if (lower == word) return false;
  return true;
}

std::string quote(const std::string& text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\x{:02x}", c);
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}

std::string scalar_text(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::kNull) return "~";
  // Plain scalars stay plain, so that their type stays; those with odd characters are strings anyway.
  if (is_plain(node.scalar)) return node.scalar;
  if (node.quoted) return quote(node.scalar);
  const bool numeric = !node.scalar.empty() &&
                       std::all_of(node.scalar.begin(), node.scalar.end(),
                                   [](unsigned char c) {
                                     return std::isalnum(c) || c == '.' || c == '+' || c == '-' || c == '_';
                                   }) &&
                       node.scalar != "-" && node.scalar.substr(0, 3) != "---" && node.scalar.substr(0, 3) != "...";
  return numeric ? node.scalar : quote(node.scalar);
}

bool is_block(const ConfigNode& node) {
  return (node.kind == ConfigNode::Kind::kMap && !node.entries.empty()) ||
         (node.kind == ConfigNode::Kind::kList &&
          std::any_of(node.items.begin(), node.items.end(), [](const ConfigNode& item) {
            return item.kind == ConfigNode::Kind::kMap || item.kind == ConfigNode::Kind::kList;
          }));
}

std::string key_text(const std::string& key) { return is_plain(key) ? key : quote(key); }

void emit_value(const ConfigNode& node, int indent, std::string& out);

// Entries of a block node, each on its own lines; the caller has written the indentation of the first.
void emit_block(const ConfigNode& node, int indent, std::string& out) {
  bool first = true;
  const auto new_line = [&] {
    if (!first) out.append(static_cast<size_t>(indent), ' ');
    first = false;
  };
  for (const auto& entry : node.entries) {
    new_line();
    out += key_text(entry.key) + ":";
    emit_value(entry.value, indent + 2, out);
  }
  for (const auto& item : node.items) {
    new_line();
    if (is_block(item)) {
      out += "- ";
      emit_block(item, indent + 2, out);
    } else {
      out += "-";
      emit_value(item, indent + 2, out);
    }
  }
}

void emit_value(const ConfigNode& node, int indent, std::string& out) {
  if (is_block(node)) {
    out += "\n";
    out.append(static_cast<size_t>(indent), ' ');
    emit_block(node, indent, out);
  } else if (node.kind == ConfigNode::Kind::kMap) {
    out += " {}\n";
  } else if (node.kind == ConfigNode::Kind::kList) {
    out += " [";
    for (size_t i = 0; i < node.items.size(); ++i)
      out += fmt::format("{}{}", i ? ", " : "", scalar_text(node.items[i]));
    out += "]\n";
  } else {
    out += fmt::format(" {}\n", scalar_text(node));
  }
}

}  // namespace

namespace detail {

ConfigNode parse_yaml_value(std::string_view text, const std::string& file, std::vector<DuplicateKey>* duplicates) {
  check_text(text, file);
  std::istringstream stream{std::string(text)};
  TreeBuilder builder(file);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const YAML::Exception& error) {
    fail(to_mark(error.mark, file), "not valid YAML: " + error.msg);
  }
  if (duplicates) {
    *duplicates = std::move(builder.duplicates);
  } else if (!builder.duplicates.empty()) {
    std::string message;
    for (const DuplicateKey& duplicate : builder.duplicates)
      message += fmt::format("{}{}: {}", message.empty() ? "" : "\n", to_string(duplicate.mark), duplicate.message);
    throw InputError(message);
  }
  return std::move(builder.root);
}

}  // namespace detail

std::string to_string(const Mark& mark) {
  if (mark.line == 0) return mark.file;
  return fmt::format("{}:{}:{}", mark.file, mark.line, mark.column);
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const Entry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

bool operator==(const ConfigNode& a, const ConfigNode& b) {
  if (a.kind != b.kind || a.scalar != b.scalar || a.items.size() != b.items.size() ||
      a.entries.size() != b.entries.size())
    return false;
  for (size_t i = 0; i < a.items.size(); ++i)
    if (!(a.items[i] == b.items[i])) return false;
  for (size_t i = 0; i < a.entries.size(); ++i)
    if (a.entries[i].key != b.entries[i].key || !(a.entries[i].value == b.entries[i].value)) return false;
  return true;
}

ConfigNode without_keys(ConfigNode map, const std::vector<std::string>& keys) {
  std::erase_if(map.entries, [&](const ConfigNode::Entry& entry) {
    return std::find(keys.begin(), keys.end(), entry.key) != keys.end();
  });
  return map;
}

ConfigNode parse_yaml(std::string_view text, const std::string& file_name, std::vector<DuplicateKey>* duplicates) {
  ConfigNode root = detail::parse_yaml_value(text, file_name, duplicates);
  if (root.kind == ConfigNode::Kind::kNull) {
    root.kind = ConfigNode::Kind::kMap;
    root.mark = {file_name, 0, 0};
  }
  if (root.kind != ConfigNode::Kind::kMap) fail(root.mark, "expected keys and values (key: value)");
  return root;
}

ConfigNode read_yaml(const std::filesystem::path& file, std::vector<DuplicateKey>* duplicates) {
  return parse_yaml(detail::read_whole_file(file), file.string(), duplicates);
}

std::string to_yaml(const ConfigNode& node) {
  std::string out;
  if (is_block(node)) {
    emit_block(node, 0, out);
  } else {
    emit_value(node, 0, out);
    out.erase(0, 1);
  }
  return out;
}

}  // namespace plural
