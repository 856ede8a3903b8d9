# LibTorch: the PyPI wheel in plural's virtual environment, or any other through -DTorch_DIR.
#
# Torch's own CMake package of a CUDA wheel demands a CUDA toolkit even for CPU programs, so the libraries are
# taken directly. plural::torch = libtorch_cpu + libc10: a CPU program that starts in 0.3 s. The CUDA half
# (plural::torch_cuda) is linked only by the CUDA kernels, a module that is loaded when a GPU is asked for.
if(DEFINED ENV{PLURAL_HOME})
  set(PLURAL_HOME $ENV{PLURAL_HOME})
else()
  set(PLURAL_HOME $ENV{HOME}/.cache/plural)
endif()
set(PLURAL_VENV ${PLURAL_HOME}/venv CACHE PATH "plural's virtual environment (make setup)")

if(Torch_DIR)
  cmake_path(SET PLURAL_TORCH_ROOT NORMALIZE "${Torch_DIR}/../../..")
else()
  file(GLOB PLURAL_TORCH_ROOT ${PLURAL_VENV}/lib/python3*/site-packages/torch)
endif()
if(NOT PLURAL_TORCH_ROOT OR NOT EXISTS ${PLURAL_TORCH_ROOT}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch was not found (looked in '${PLURAL_VENV}'). Run `make setup`, or pass "
                      "-DTorch_DIR=<libtorch>/share/cmake/Torch.")
endif()
message(STATUS "plural: LibTorch ${PLURAL_TORCH_ROOT}")

add_library(plural_torch INTERFACE IMPORTED GLOBAL)
target_include_directories(plural_torch SYSTEM INTERFACE
  ${PLURAL_TORCH_ROOT}/include ${PLURAL_TORCH_ROOT}/include/torch/csrc/api/include)
target_link_libraries(plural_torch INTERFACE
  ${PLURAL_TORCH_ROOT}/lib/libtorch_cpu.so ${PLURAL_TORCH_ROOT}/lib/libc10.so
  OpenMP::OpenMP_CXX Threads::Threads)
# In programs only: a plugin finds plural's symbols in the program that loads it, which the option would call an error.
target_link_options(plural_torch INTERFACE
  $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-Wl,--unresolved-symbols=ignore-in-shared-libs>
  -Wl,-rpath,${PLURAL_TORCH_ROOT}/lib)
add_library(plural::torch ALIAS plural_torch)

if(PLURAL_WITH_CUDA)
  add_library(plural_torch_cuda INTERFACE IMPORTED GLOBAL)
  target_include_directories(plural_torch_cuda SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(plural_torch_cuda INTERFACE plural_torch
    -Wl,--no-as-needed ${PLURAL_TORCH_ROOT}/lib/libtorch_cuda.so ${PLURAL_TORCH_ROOT}/lib/libc10_cuda.so -Wl,--as-needed)
  add_library(plural::torch_cuda ALIAS plural_torch_cuda)
endif()
