// SPDX-License-Identifier: Apache-2.0
// REINFORCE (Williams 1992): A log pi.
#include "lib/objectives/parts.h"

namespace plural {

SurrogateTerms reinforce(const RatioTerms&, const ObjectiveInput& input, const ObjectiveOptions&) {
  return {input.advantage * input.log_prob};
}

}  // namespace plural
