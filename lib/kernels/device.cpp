// SPDX-License-Identifier: Apache-2.0
#include "plural/device.h"

#include <dlfcn.h>
#include <malloc.h>

#include <charconv>
#include <exception>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <vector>

#include "lib/core/format.h"
#include "lib/kernels/cuda_kernels.h"
#include "plural/error.h"

namespace plural {
namespace {

constexpr const char* kModule = "libplural_cuda.so";

struct Module {
  kernels::CudaKernels table;
  int gpus = 0;
  std::string problem;  // why no GPU can be used; "" when one can
};

// Beside the program, in ../lib, then wherever the loader looks (the program's rpath, LD_LIBRARY_PATH).
std::vector<std::string> module_places() {
  std::vector<std::string> places;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    for (const auto& place : {program.parent_path() / kModule, program.parent_path().parent_path() / "lib" / kModule}) {
      if (std::filesystem::exists(place, error)) places.push_back(place.string());
    }
  }
  places.emplace_back(kModule);
  return places;
}

Module load_module() {
  Module module;
  void* handle = nullptr;
  for (const std::string& place : module_places()) {
    // Global, because libtorch_cuda must be visible to libtorch_cpu's lookups of CUDA hooks.
    handle = dlopen(place.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (handle != nullptr) break;
    if (module.problem.empty()) module.problem = dlerror();
  }
  if (handle == nullptr) {
    module.problem = fmt::format(
        "the CUDA module {} could not be loaded ({}). Build plural where nvcc is on the PATH (-DPLURAL_CUDA=ON) and "
        "keep the module beside the program or in ../lib, or use --device cpu",
        kModule, module.problem);
    return module;
  }
  module.problem.clear();
  const auto enter = reinterpret_cast<decltype(&plural_register_cuda_kernels)>(
      dlsym(handle, "plural_register_cuda_kernels"));
  if (enter == nullptr) {
    module.problem = fmt::format("{} belongs to another version of plural; build both together", kModule);
    return module;
  }
  module.gpus = enter(&module.table);
  if (module.gpus <= 0) {
    module.problem = "no usable GPU was found (see nvidia-smi for the driver's view). Use --device cpu";
  }
  return module;
}

const Module& cuda_module() {
  static const Module module = load_module();  // once a process, also after a failure
  return module;
}

}  // namespace

namespace kernels {

const CudaKernels& cuda_kernels() {
  const Module& module = cuda_module();
  PLURAL_CHECK(module.problem.empty(), fmt::format("CUDA kernels are not there: {}", module.problem));
  return module.table;
}

}  // namespace kernels

at::Device parse_device(std::string_view name) {
  if (name == "cpu") return at::Device(at::kCPU);
  int index = 0;
  bool known = name == "cuda";
  constexpr std::string_view kPrefix = "cuda:";
  if (name.starts_with(kPrefix)) {
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(name.data() + kPrefix.size(), end, index);
    known = error == std::errc() && rest == end && index >= 0;
  }
  if (!known) throw InputError(fmt::format("unknown device '{}': use cpu, cuda or cuda:N", name));
  const Module& module = cuda_module();
  if (!module.problem.empty()) throw InputError(fmt::format("device '{}': {}", name, module.problem));
  if (index >= module.gpus) {
    throw InputError(fmt::format("device '{}': this machine has {} usable GPU{} (cuda:0{}). Choose one of them", name,
                                 module.gpus, module.gpus == 1 ? "" : "s",
                                 module.gpus == 1 ? "" : fmt::format(" to cuda:{}", module.gpus - 1)));
  }
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

bool cuda_available() {
  try {
    return cuda_module().problem.empty();
  } catch (const std::exception&) {
    return false;
  }
}

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);                // large blocks come from the heap too
  mallopt(M_TRIM_THRESHOLD, INT32_MAX);  // and its top is not given back before 2 GiB of it are free
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

void release_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

}  // namespace plural
