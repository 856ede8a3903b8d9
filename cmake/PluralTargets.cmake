# plural_add_library(core SOURCES ... DEPS ...)  one layer of lib/: static target plural_<name>, alias plural::<name>
# plural_add_test(text_test SOURCES ... DEPS ... [LABELS ...])  one Catch2 executable and one ctest entry;
#   with FILTER only the cases that it names; with PER_DEVICE a second entry <name>.cuda, which is skipped where no GPU
#   is and leaves out the cases tagged [host]
include_guard()

add_library(plural_flags INTERFACE)
target_compile_options(plural_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-unused-parameter $<$<BOOL:${PLURAL_WERROR}>:-Werror>>)
if(PLURAL_SANITIZE)
  target_compile_options(plural_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${PLURAL_SANITIZE} -fno-omit-frame-pointer>)
  target_link_options(plural_flags INTERFACE -fsanitize=${PLURAL_SANITIZE})
endif()

# One precompiled header, reused by every library file that says TORCH_PCH.
add_library(plural_pch OBJECT ${CMAKE_CURRENT_LIST_DIR}/pch.cpp)
target_link_libraries(plural_pch PUBLIC plural::torch nlohmann_json::nlohmann_json plural_flags)
target_include_directories(plural_pch PUBLIC ${PROJECT_SOURCE_DIR}/include)
target_precompile_headers(plural_pch PRIVATE ${CMAKE_CURRENT_LIST_DIR}/pch.h)

function(plural_add_library name)
  cmake_parse_arguments(ARG "TORCH_PCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(plural_${name} STATIC ${ARG_SOURCES})
  add_library(plural::${name} ALIAS plural_${name})
  target_include_directories(plural_${name}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
    PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(plural_${name} PUBLIC ${ARG_DEPS} PRIVATE $<BUILD_INTERFACE:plural_flags>)
  if(ARG_TORCH_PCH)
    target_precompile_headers(plural_${name} REUSE_FROM plural_pch)
    target_link_libraries(plural_${name} PUBLIC plural::torch PRIVATE $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>)
  endif()
  set_property(GLOBAL APPEND PROPERTY PLURAL_LIBRARIES plural_${name})
endfunction()

function(plural_add_test name)
  cmake_parse_arguments(ARG "PER_DEVICE" "FILTER" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} plural_test_main plural_flags nlohmann_json::nlohmann_json)
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_precompile_headers(${name} REUSE_FROM plural_test_main)
  set(environment "PLURAL_TEST_PYTHON=${PLURAL_VENV}/bin/python" "PLURAL_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "PLURAL_BIN=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}" "PLURAL_HOME=${PLURAL_HOME}")
  add_test(NAME ${name} COMMAND ${name} ${ARG_FILTER})
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 1200 ENVIRONMENT "${environment}")
  if(ARG_PER_DEVICE AND PLURAL_WITH_CUDA)
    add_dependencies(${name} plural_cuda)
    add_test(NAME ${name}.cuda COMMAND ${name} "~[host]")
    set_tests_properties(${name}.cuda PROPERTIES LABELS "cuda" TIMEOUT 1200 SKIP_RETURN_CODE 77
      ENVIRONMENT "${environment};PLURAL_TEST_DEVICE=cuda")
  endif()
endfunction()
