# The installed package: find_package(plural) gives plural::plural (all layers, no rewards), plural::rewards and each
# layer by name. Included last, when PLURAL_LIBRARIES is complete.
include(CMakePackageConfigHelpers)

# plural::plural: one name for the whole library.
get_property(libraries GLOBAL PROPERTY PLURAL_LIBRARIES)
set(layers ${libraries})
list(REMOVE_ITEM layers plural_rewards)
add_library(plural_all INTERFACE)
add_library(plural::plural ALIAS plural_all)
target_link_libraries(plural_all INTERFACE ${layers})
target_compile_features(plural_all INTERFACE cxx_std_20)
set_target_properties(plural_all PROPERTIES EXPORT_NAME plural)
# plural::plugin (lib/CMakeLists.txt): the headers, for libraries that a program with plural in it loads.
set_target_properties(plural_plugin PROPERTIES EXPORT_NAME plugin)
foreach(library IN LISTS libraries)
  string(REGEX REPLACE "^plural_" "" export_name ${library})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${export_name})
  target_compile_features(${library} PUBLIC cxx_std_20)
endforeach()

set(PLURAL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/plural)
install(TARGETS plural_all plural_plugin ${libraries} EXPORT pluralTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pluralTargets NAMESPACE plural:: DESTINATION ${PLURAL_CMAKE_DIR})
install(DIRECTORY include/plural DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

# The command finds LibTorch, and in ../lib the CUDA module. The build tree's programs get the same paths, so nothing is
# edited when they are installed.
if(TARGET plural_app)
  set_target_properties(plural_app PROPERTIES BUILD_WITH_INSTALL_RPATH TRUE
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${PLURAL_TORCH_ROOT}/lib")
  install(TARGETS plural_app RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET plural_cuda)
  set_target_properties(plural_cuda PROPERTIES BUILD_WITH_INSTALL_RPATH TRUE
    INSTALL_RPATH "${PLURAL_TORCH_ROOT}/lib")
  install(TARGETS plural_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

configure_package_config_file(cmake/pluralConfig.cmake.in ${PROJECT_BINARY_DIR}/pluralConfig.cmake
                              INSTALL_DESTINATION ${PLURAL_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pluralConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pluralConfig.cmake ${PROJECT_BINARY_DIR}/pluralConfigVersion.cmake
              cmake/PluralTorch.cmake
        DESTINATION ${PLURAL_CMAKE_DIR})
