// The precompiled header of all tests: torch first, then Catch2 (see catch.h).
#include <nlohmann/json.hpp>

#include "tests/support/catch.h"
