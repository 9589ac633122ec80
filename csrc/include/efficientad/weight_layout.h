// The order in which a backend reads the weights of its convolutions.
#pragma once

#include <cstdint>

namespace efficientad {

// A weight matrix of `output_channels` rows of K numbers is stored as
//   [output_channels / panel][K / interleave][panel][interleave]
// so that {1, 1} stores one row after the other. Panels put the output channels of a vector side by
// side, and beside each other the numbers that one instruction sums up.
struct WeightLayout {
  int panel;       // divides 64
  int interleave;  // divides every K
};

}  // namespace efficientad
