// SPDX-License-Identifier: Apache-2.0
// The one place of the version number: CMakeLists.txt reads it from here.
#pragma once

#define PLURAL_VERSION "0.1.0"
