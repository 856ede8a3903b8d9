// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/sampler/sampler.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "lib/core/format.h"
#include "lib/kernels/dispatch.h"
#include "plural/error.h"
#include "plural/rng.h"

namespace plural::kernels {
namespace {

void check(const SampleInput& in) {
  PLURAL_CHECK(in.logits.dim() == 2 && in.logits.scalar_type() == at::kFloat && in.logits.is_contiguous(),
               "sample: logits are [R, V] float32 contiguous");
  PLURAL_CHECK(in.logits.size(1) > 0, "sample: the vocabulary is empty");
  PLURAL_CHECK(static_cast<int64_t>(in.rows.size()) == in.logits.size(0),
               fmt::format("sample: {} draws for {} rows of logits", in.rows.size(), in.logits.size(0)));
  PLURAL_CHECK(in.drawable >= 0 && in.drawable <= in.logits.size(1),
               fmt::format("sample: {} drawable ids of {}", in.drawable, in.logits.size(1)));
  PLURAL_CHECK(in.temperature >= 0 && in.top_k >= 0 && in.top_p >= 0 && in.top_p <= 1 && in.min_p >= 0 && in.min_p <= 1,
               fmt::format("sample: temperature {}, top_k {}, top_p {}, min_p {}", in.temperature, in.top_k, in.top_p,
                           in.min_p));
}

}  // namespace

SampleOutput sample(const SampleInput& in) {
  check(in);
  const int64_t rows = in.logits.size(0);
  SampleOutput out{at::empty({rows}, in.logits.options().dtype(at::kLong)), at::empty({rows}, in.logits.options())};
  if (rows == 0) return out;
  SampleParams params;
  params.logits = in.logits.const_data_ptr<float>();
  params.ids = out.ids.mutable_data_ptr<int64_t>();
  params.log_prob = out.log_prob.mutable_data_ptr<float>();
  params.rows = in.rows.data();
  params.row_count = rows;
  params.vocab = in.logits.size(1);
  params.drawable = in.drawable == 0 ? params.vocab : in.drawable;
  params.key[0] = static_cast<uint32_t>(in.seed);
  params.key[1] = static_cast<uint32_t>(in.seed >> 32);
  // As RandomStream lays out its counter (lib/core/rng.cpp); a test holds the two together.
  params.step[0] = static_cast<uint32_t>(in.step);
  params.step[1] = static_cast<uint32_t>(in.step >> 32) ^ (static_cast<uint32_t>(RandomPurpose::kSampling) << 16);
  // Below 1e-6 nothing but the likeliest tokens is left, and its inverse still fits a float with room.
  params.temperature = in.temperature == 0 ? 0.0F : std::max(static_cast<float>(in.temperature), 1e-6F);
  params.top_k = in.top_k >= params.drawable ? 0 : in.top_k;
  params.top_p = in.top_p;
  params.min_p = static_cast<float>(in.min_p);
  if (const CudaKernels* cuda = cuda_kernels_for(in.logits)) {
    params.stream = cuda->use_device(in.logits.device().index());
    cuda->sample(params);
  } else {
    sample_cpu(params);
  }
  return out;
}

}  // namespace plural::kernels
