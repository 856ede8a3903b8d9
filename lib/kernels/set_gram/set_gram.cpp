// SPDX-License-Identifier: Apache-2.0
#include "lib/kernels/set_gram/set_gram.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "plural/error.h"

namespace plural::kernels {
namespace {

/// Elements of the gathered vectors that the batched form holds at a time: 256 MB.
constexpr int64_t kGatheredElements = int64_t{1} << 26;

void check_matrices(const Tensor& matrices) {
  PLURAL_CHECK(matrices.dim() == 3 && matrices.size(1) == matrices.size(2) && matrices.scalar_type() == at::kDouble,
               "expected matrices [B, K, K] in float64");
}

Tensor set_gram_batched(const Tensor& vectors, const Tensor& index) {
  const int64_t rows = index.size(0), slots = index.size(1), width = vectors.size(1);
  const int64_t chunk = std::max<int64_t>(1, kGatheredElements / std::max<int64_t>(1, slots * width));
  std::vector<Tensor> parts;
  for (int64_t first = 0; first < rows; first += chunk) {
    const Tensor part = index.narrow(0, first, std::min(chunk, rows - first));
    const Tensor gathered = vectors.index_select(0, part.clamp_min(0).flatten()).view({-1, slots, width}) *
                            part.ge(0).unsqueeze(2);
    parts.push_back(gathered.bmm(gathered.transpose(1, 2)).to(at::kDouble));
  }
  return at::cat(parts);
}

}  // namespace

Tensor set_gram(const Tensor& vectors, const Tensor& index) {
  const at::NoGradGuard no_grad;
  check_shapes({{"vectors", vectors, "n E"}, {"index", index, "B K"}});
  PLURAL_CHECK(vectors.scalar_type() == at::kFloat && index.scalar_type() == at::kLong,
               "set_gram takes float32 vectors and int64 indices");
  PLURAL_CHECK(vectors.device() == index.device(), "vectors and index are on different devices");
  Tensor out = at::zeros({index.size(0), index.size(1), index.size(1)}, vectors.options().dtype(at::kDouble));
  if (vectors.size(0) == 0 || index.numel() == 0) return out;
  if (!index.is_cpu()) return set_gram_batched(vectors, index);
  detail::set_gram_cpu(vectors.contiguous(), index.contiguous(), out);
  return out;
}

Tensor log_det_steps(const Tensor& matrices) {
  const at::NoGradGuard no_grad;
  check_matrices(matrices);
  if (!matrices.is_cpu()) {
    const Tensor factor = std::get<0>(at::linalg_cholesky_ex(matrices));
    return factor.diagonal(0, 1, 2).log() * 2;
  }
  Tensor out = at::empty({matrices.size(0), matrices.size(1)}, matrices.options());
  detail::log_det_steps_cpu(matrices.contiguous(), out);
  return out;
}

Tensor symmetric_eigenvalues(const Tensor& matrices) {
  const at::NoGradGuard no_grad;
  check_matrices(matrices);
  // Small, and CUDA's batched solvers give a matrix other bits next to others: the CPU's loop does them all.
  const Tensor on_cpu = matrices.cpu().contiguous();
  Tensor out = at::empty({matrices.size(0), matrices.size(1)}, on_cpu.options());
  detail::symmetric_eigenvalues_cpu(on_cpu, out);
  return out.to(matrices.device());
}

Tensor vendi_scores(const Tensor& similarity) {
  const at::NoGradGuard no_grad;
  check_matrices(similarity);
  const Tensor n = similarity.diagonal(0, 1, 2).gt(0.5).sum(1);  // slots without an item have eigenvalue 0
  // Rounding can leave an eigenvalue of 0 a little below it.
  const Tensor share = (symmetric_eigenvalues(similarity) / n.clamp_min(1).unsqueeze(1)).clamp_min(0);
  return at::xlogy(share, share).sum(1).neg().exp() * n.gt(0);
}

}  // namespace plural::kernels
