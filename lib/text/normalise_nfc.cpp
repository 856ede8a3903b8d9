// SPDX-License-Identifier: Apache-2.0
#include "lib/text/normalise_nfc.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>

#include <algorithm>

#include "plural/error.h"

namespace plural {
namespace {

const icu::Normalizer2& instance(NormalForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      found = icu::Normalizer2::getNFCInstance(status);
      break;
    case NormalForm::kNfd:
      found = icu::Normalizer2::getNFDInstance(status);
      break;
    case NormalForm::kNfkc:
      found = icu::Normalizer2::getNFKCInstance(status);
      break;
    case NormalForm::kNfkd:
      found = icu::Normalizer2::getNFKDInstance(status);
      break;
  }
  if (U_FAILURE(status) || found == nullptr)
    throw SystemError(std::string("ICU has no Unicode normalisation data: ") + u_errorName(status));
  return *found;
}

}  // namespace

std::string normalise(std::string_view text, NormalForm form) {
  // ASCII is in every normal form.
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; }))
    return std::string(text);
  const icu::Normalizer2& normaliser = instance(form);
  const icu::StringPiece piece(text.data(), static_cast<int32_t>(text.size()));
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  out.reserve(text.size());
  icu::StringByteSink<std::string> sink(&out);
  normaliser.normalizeUTF8(0, piece, sink, nullptr, status);
  if (U_FAILURE(status)) throw SystemError(std::string("ICU could not normalise text: ") + u_errorName(status));
  return out;
}

}  // namespace plural
