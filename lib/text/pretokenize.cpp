// SPDX-License-Identifier: Apache-2.0
#include "lib/text/pretokenize.h"

#include "lib/text/unicode_classes.h"

namespace plural {
namespace {

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), pattern_(use_regex ? make_known_scanner(kGpt2Pattern) : nullptr) {}

  void split(std::string_view text, Pieces& out) const override {
    if (text.empty()) return;
    if (add_prefix_space_ && text.front() != ' ') text = out.owned.emplace_back(' ' + std::string(text));
    if (pattern_) {
      pattern_->split(text, out);
    } else {
      out.views.push_back(text);
    }
  }

 private:
  bool add_prefix_space_;
  std::unique_ptr<PreTokenizer> pattern_;
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(bool individual) : individual_(individual) {}

  void split(std::string_view text, Pieces& out) const override {
    const uint8_t* classes = char_classes();
    size_t begin = 0;
    bool in_digits = false;
    for (size_t at = 0; at < text.size();) {
      const auto byte = static_cast<unsigned char>(text[at]);
      const CodePoint c = byte < 0x80 ? CodePoint{byte, 1} : decode_utf8(text.data() + at);
      const bool is_digit = (classes[c.value] & kDigit) != 0;
      if (at > begin && (is_digit != in_digits || (is_digit && individual_))) {
        out.views.push_back(text.substr(begin, at - begin));
        begin = at;
      }
      in_digits = is_digit;
      at += c.size;
    }
    if (begin < text.size()) out.views.push_back(text.substr(begin));
  }

 private:
  bool individual_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) : stages_(std::move(stages)) {}

  void split(std::string_view text, Pieces& out) const override {
    if (text.empty()) return;
    std::vector<std::string_view> before{text};
    Pieces after;
    after.owned.swap(out.owned);
    for (const auto& stage : stages_) {
      after.views.clear();
      after.views.reserve(before.size());
      for (const std::string_view piece : before) stage->split(piece, after);
      before.swap(after.views);
    }
    out.owned.swap(after.owned);
    out.views.insert(out.views.end(), before.begin(), before.end());
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> stages_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}

std::unique_ptr<PreTokenizer> make_digits(bool individual_digits) {
  return std::make_unique<Digits>(individual_digits);
}

std::unique_ptr<PreTokenizer> make_sequence(std::vector<std::unique_ptr<PreTokenizer>> stages) {
  return std::make_unique<Sequence>(std::move(stages));
}

std::unique_ptr<PreTokenizer> make_split(const std::string& regex, SplitBehavior behavior, bool invert) {
  // The known patterns match every character, so only what happens to matches is left to choose.
  if (!invert && behavior == SplitBehavior::kIsolated)
    if (auto scanner = make_known_scanner(regex)) return scanner;
  // Llama-3-like files say Removed with invert: the matches are what stays.
  if (invert && behavior == SplitBehavior::kRemoved)
    if (auto scanner = make_known_scanner(regex)) return scanner;
  return make_split_oniguruma(regex, behavior, invert);
}

}  // namespace plural
