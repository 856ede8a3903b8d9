// SPDX-License-Identifier: Apache-2.0
// The CUDA twins of the kernels, as function pointers that libplural_cuda.so fills in when it is loaded
// (docs/design/002-cuda-module.md). No torch header: .cu files may include this.
#pragma once

namespace plural::kernels {

struct CacheAppendRaw;
struct DecodeAttentionParams;
struct LogitsRaw;
struct RmsNormBackwardRaw;
struct RmsNormRaw;
struct RotaryRaw;
struct SampleParams;
struct SumCopiesRaw;
struct SwigluRaw;

struct CudaKernels {
  void (*cache_append)(const CacheAppendRaw&) = nullptr;
  void (*decode_attention)(const DecodeAttentionParams&) = nullptr;
  void (*logit_gradient)(const LogitsRaw&) = nullptr;
  void (*logit_statistics)(const LogitsRaw&) = nullptr;
  void (*rms_norm)(const RmsNormRaw&) = nullptr;
  void (*rms_norm_backward)(const RmsNormBackwardRaw&) = nullptr;
  void (*rotary)(const RotaryRaw&) = nullptr;
  void (*sample)(const SampleParams&) = nullptr;
  void (*sum_copies)(const SumCopiesRaw&) = nullptr;
  void (*swiglu)(const SwigluRaw&) = nullptr;
  void (*swiglu_backward)(const SwigluRaw&) = nullptr;
  /// The current stream of GPU `index` (cudaStream_t); also makes that GPU current for the caller's thread.
  void* (*use_device)(int index) = nullptr;
};

/// The table of the loaded module; CheckError when parse_device has not loaded it.
const CudaKernels& cuda_kernels();

}  // namespace plural::kernels

/// Exported by libplural_cuda.so. Returns the number of usable GPUs and, when there is one, fills the table.
extern "C" int plural_register_cuda_kernels(plural::kernels::CudaKernels* table);
