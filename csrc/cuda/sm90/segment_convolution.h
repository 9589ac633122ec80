// The convolution over segments on tensor cores of compute capability 9.0, by warpgroups.
#pragma once

#include "efficientad/segment_convolution.h"

namespace efficientad::cuda::sm90 {

// Whether segment_convolution takes the problem: stride 1, nothing resampled, and whole tiles of
// channels.
bool supports(const SegmentConvolution& problem);

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution);

}  // namespace efficientad::cuda::sm90
