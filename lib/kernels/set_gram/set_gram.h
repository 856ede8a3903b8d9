// SPDX-License-Identifier: Apache-2.0
// Linear algebra of many small sets: the Gram matrix of each set's vectors, and what measures of diversity ask of it.
// On the CPU row by row (Eigen), so that a row's value does not depend on its neighbours; on CUDA in one batch (ATen),
// but for the eigenvalues.
#pragma once

#include "plural/tensor.h"

namespace plural::kernels {

/// Inner products within each set. vectors [n, E] float32; index [B, K] int64: the vector of each slot, -1 = none.
/// Returns [B, K, K] float64 with zeros in the rows and columns of slots without a vector. Cost: B K^2 E / 2.
Tensor set_gram(const Tensor& vectors, const Tensor& index);

/// ln det of symmetric positive definite matrices [B, K, K] float64, as the sum of K steps, [B, K]: step i is the ln of
/// what is left of entry (i, i) when rows 0..i-1 are known (2 ln of the Cholesky factor's diagonal). A matrix that is
/// not positive definite throws CheckError on the CPU and has NaN steps on CUDA, where looking would mean waiting.
Tensor log_det_steps(const Tensor& matrices);

/// Eigenvalues in rising order, [B, K], of symmetric matrices [B, K, K] float64. On the CPU, wherever the matrices are.
Tensor symmetric_eigenvalues(const Tensor& matrices);

/// Vendi scores (Friedman and Dieng 2023, arXiv 2210.02410, equation 2), [B] float64: exp of the entropy of the
/// eigenvalues of S / n, an effective number of different items, 1 to n. similarity: S, [B, K, K] float64, positive
/// semi-definite, with 1 on the diagonal for the n items of a set and zeros in the rows and columns of other slots. 0
/// for sets without items. O(B K^3).
Tensor vendi_scores(const Tensor& similarity);

namespace detail {
/// The CPU loops; contiguous tensors, `out` is written.
void set_gram_cpu(const Tensor& vectors, const Tensor& index, Tensor& out);
void log_det_steps_cpu(const Tensor& matrices, Tensor& out);
void symmetric_eigenvalues_cpu(const Tensor& matrices, Tensor& out);
}  // namespace detail

}  // namespace plural::kernels
