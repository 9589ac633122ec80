// The order in which a convolution's products are summed.
//
// One step is one tap of one segment over one block of kBlockBytes of a pixel's channels. Steps
// whose taps lie below each other read the same strip of the input, shifted by whole rows: a strip
// is loaded once for all of them, at its first step. The weights of step k are columns
// [k * block, (k + 1) * block) of the weight matrix.
#pragma once

#include "cuda/device.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda {

struct ReductionSteps {
  int segments;
  int blocks[kMaximumSegments];  // of channels
  int kernel[kMaximumSegments];  // taps along either axis
  int count;                     // of all steps

  explicit ReductionSteps(const SegmentConvolution& problem)
      : segments(problem.segment_count), blocks{}, kernel{}, count(0) {
    for (int i = 0; i < segments; ++i) {
      const Segment& segment = problem.segments[i];
      blocks[i] = static_cast<int>(segment.channels / block_channels(problem.type));
      kernel[i] = segment.kernel;
      count += blocks[i] * kernel[i] * kernel[i];
    }
  }
};

// Walks through the steps.
struct ReductionStep {
  int segment = 0, block = 0, column = 0, row = 0;

  EFFICIENTAD_DEVICE bool starts_strip() const { return row == 0; }

  EFFICIENTAD_DEVICE bool ends_strip(const ReductionSteps& steps) const {
    return row == steps.kernel[segment] - 1;
  }

  EFFICIENTAD_DEVICE void advance(const ReductionSteps& steps) {
    if (!ends_strip(steps)) {
      ++row;
      return;
    }
    row = 0;
    if (++column < steps.kernel[segment]) return;
    column = 0;
    if (++block < steps.blocks[segment]) return;
    block = 0;
    ++segment;
  }
};

}  // namespace efficientad::cuda
