// SPDX-License-Identifier: Apache-2.0
// Split by any pattern, with Oniguruma as `tokenizers` has it (Ruby syntax, UTF-8).
#include <oniguruma.h>

#include <algorithm>
#include <mutex>

#include "lib/core/format.h"
#include "lib/text/pretokenize.h"
#include "lib/core/utf8.h"
#include "plural/error.h"

namespace plural {
namespace {

/// A part of the text, and whether it goes away.
struct Part {
  size_t begin, end;
  bool is_match;
};

std::vector<std::string_view> apply(SplitBehavior behavior, std::vector<Part> parts, std::string_view text) {
  std::vector<Part> merged;
  bool previous = false;
  const auto add = [&](const Part& part, bool extend) {
    if (extend && !merged.empty()) {
      merged.back().begin = std::min(merged.back().begin, part.begin);
      merged.back().end = std::max(merged.back().end, part.end);
    } else {
      merged.push_back({part.begin, part.end, false});
    }
    previous = part.is_match;
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      merged = std::move(parts);
      break;
    case SplitBehavior::kRemoved:
      std::copy_if(parts.begin(), parts.end(), std::back_inserter(merged), [](const Part& p) { return !p.is_match; });
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) add(part, part.is_match == previous);
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) add(part, part.is_match && !previous);
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) add(*part, part->is_match && !previous);
      std::reverse(merged.begin(), merged.end());
      break;
  }
  std::vector<std::string_view> out;
  for (const Part& part : merged)
    if (part.end > part.begin) out.push_back(text.substr(part.begin, part.end - part.begin));
  return out;
}

/// A compiled pattern; searching it is thread-safe.
class Regex {
 public:
  explicit Regex(const std::string& pattern) {
    static std::once_flag once;
    std::call_once(once, [] {
      OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
      onig_initialize(encodings, 1);
    });
    OnigErrorInfo info;
    const auto* begin = reinterpret_cast<const OnigUChar*>(pattern.data());
    const int status = onig_new(&regex_, begin, begin + pattern.size(), ONIG_OPTION_NONE, ONIG_ENCODING_UTF8,
                                ONIG_SYNTAX_RUBY, &info);
    if (status != ONIG_NORMAL) {
      OnigUChar reason[ONIG_MAX_ERROR_MESSAGE_LEN];
      const int length = onig_error_code_to_str(reason, status, &info);
      throw InputError(fmt::format("the pattern '{}' is not a regular expression that Oniguruma understands: {}",
                                   pattern, std::string(reinterpret_cast<char*>(reason), static_cast<size_t>(length))));
    }
  }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;
  ~Regex() { onig_free(regex_); }

  std::vector<Part> find_parts(std::string_view text) const {
    std::vector<Part> parts;
    const std::unique_ptr<OnigRegion, void (*)(OnigRegion*)> region(onig_region_new(),
                                                                    [](OnigRegion* r) { onig_region_free(r, 1); });
    const auto* begin = reinterpret_cast<const OnigUChar*>(text.data());
    const auto* end = begin + text.size();
    size_t done = 0;   // end of the last match
    size_t from = 0;   // where to search on
    bool any = false;  // an empty match right after a match does not count
    while (from <= text.size()) {
      const auto found = onig_search(regex_, begin, end, begin + from, end, region.get(), ONIG_OPTION_NONE);
      if (found == ONIG_MISMATCH) break;
      if (found < 0) throw InputError(fmt::format("Oniguruma gave up on a pre-tokeniser pattern (code {})", found));
      const auto match_begin = static_cast<size_t>(region->beg[0]);
      const auto match_end = static_cast<size_t>(region->end[0]);
      if (match_begin == match_end && any && done == match_end) {
        from += from < text.size() ? decode_utf8(text.data() + from).size : 1;
        continue;
      }
      if (done != match_begin) parts.push_back({done, match_begin, false});
      parts.push_back({match_begin, match_end, true});
      done = from = match_end;
      any = true;
    }
    if (done != text.size()) parts.push_back({done, text.size(), false});
    return parts;
  }

 private:
  OnigRegex regex_ = nullptr;
};

/// A fixed string as a pattern.
class Literal {
 public:
  explicit Literal(std::string literal) : literal_(std::move(literal)) {}

  std::vector<Part> find_parts(std::string_view text) const {
    std::vector<Part> parts;
    size_t done = 0;
    for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, done)) {
      if (done != at) parts.push_back({done, at, false});
      done = at + literal_.size();
      parts.push_back({at, done, true});
    }
    if (done != text.size()) parts.push_back({done, text.size(), false});
    return parts;
  }

 private:
  std::string literal_;
};

template <class Pattern>
class Split : public PreTokenizer {
 public:
  Split(const std::string& pattern, SplitBehavior behavior, bool invert)
      : pattern_(pattern), behavior_(behavior), invert_(invert) {}

  void split(std::string_view text, Pieces& out) const override {
    if (text.empty()) return;
    std::vector<Part> parts = pattern_.find_parts(text);
    if (invert_)
      for (Part& part : parts) part.is_match = !part.is_match;
    for (const std::string_view piece : apply(behavior_, std::move(parts), text)) out.views.push_back(piece);
  }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

}  // namespace

std::unique_ptr<PreTokenizer> make_split_oniguruma(const std::string& regex, SplitBehavior behavior, bool invert) {
  return std::make_unique<Split<Regex>>(regex, behavior, invert);
}

std::unique_ptr<PreTokenizer> make_split_string(const std::string& literal, SplitBehavior behavior, bool invert) {
  if (literal.empty()) throw InputError("a Split pre-tokeniser with an empty string splits nowhere; remove it");
  return std::make_unique<Split<Literal>>(literal, behavior, invert);
}

}  // namespace plural
