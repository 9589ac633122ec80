// The convolution over segments on tensor cores of compute capability 8.0 and newer, by warps.
#pragma once

#include "efficientad/segment_convolution.h"

namespace efficientad::cuda::sm80 {

// Takes every problem whose type is float16, bfloat16 or float32.
Status segment_convolution(const SegmentConvolution& problem, const Execution& execution);

}  // namespace efficientad::cuda::sm80
