// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <cmath>

#include "lib/kernels/set_gram/set_gram.h"
#include "plural/error.h"

namespace plural::kernels::detail {
namespace {

using ConstVector = Eigen::Map<const Eigen::VectorXf>;
using Vector = Eigen::Map<Eigen::VectorXd>;
using ConstMatrix = Eigen::Map<const Eigen::MatrixXd>;  // symmetric, so the order of storage does not matter

/// Sets a thread takes at a time: a few tens of microseconds of work.
constexpr int64_t kGrain = 64;

}  // namespace

void set_gram_cpu(const Tensor& vectors, const Tensor& index, Tensor& out) {
  const int64_t slots = index.size(1), width = vectors.size(1), count = vectors.size(0);
  const float* data = vectors.const_data_ptr<float>();
  const int64_t* places = index.const_data_ptr<int64_t>();
  double* products = out.data_ptr<double>();
  at::parallel_for(0, index.size(0), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t* place = places + b * slots;
      double* gram = products + b * slots * slots;
      for (int64_t i = 0; i < slots; ++i) {
        if (place[i] < 0) continue;
        PLURAL_CHECK(place[i] < count, "an index is past the last vector");
        const ConstVector left(data + place[i] * width, width);
        for (int64_t j = 0; j <= i; ++j)
          if (place[j] >= 0)
            gram[i * slots + j] = gram[j * slots + i] = left.dot(ConstVector(data + place[j] * width, width));
      }
    }
  });
}

void log_det_steps_cpu(const Tensor& matrices, Tensor& out) {
  const int64_t slots = matrices.size(1);
  const double* data = matrices.const_data_ptr<double>();
  double* steps = out.data_ptr<double>();
  at::parallel_for(0, matrices.size(0), kGrain, [&](int64_t begin, int64_t end) {
    Eigen::MatrixXd work(slots, slots);
    for (int64_t b = begin; b < end; ++b) {
      work = ConstMatrix(data + b * slots * slots, slots, slots);
      const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> factor(work);  // in place
      PLURAL_CHECK(factor.info() == Eigen::Success, "log_det_steps needs positive definite matrices");
      Vector(steps + b * slots, slots) = 2 * work.diagonal().array().log();
    }
  });
}

void symmetric_eigenvalues_cpu(const Tensor& matrices, Tensor& out) {
  const int64_t slots = matrices.size(1);
  const double* data = matrices.const_data_ptr<double>();
  double* values = out.data_ptr<double>();
  at::parallel_for(0, matrices.size(0), kGrain, [&](int64_t begin, int64_t end) {
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(slots);
    for (int64_t b = begin; b < end; ++b) {
      solver.compute(ConstMatrix(data + b * slots * slots, slots, slots), Eigen::EigenvaluesOnly);
      Vector(values + b * slots, slots) = solver.eigenvalues();
    }
  });
}

}  // namespace plural::kernels::detail
