# Writes ${OUT} with the commit of ${SOURCE}, only when it has changed. Run at every build (lib/train/CMakeLists.txt).
execute_process(COMMAND git -C ${SOURCE} describe --always --abbrev=12 --dirty=+changes --exclude *
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
file(CONFIGURE OUTPUT ${OUT} CONTENT "// Written by the build.
#pragma once
namespace plural { inline constexpr char kGitCommit[] = \"${commit}\"; }
")
