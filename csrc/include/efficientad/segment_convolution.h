// A sum of convolutions that share an output grid, and what is done with it: every heavy step of
// the networks of EfficientAD (appendix A), in detection.
#pragma once

#include <cstdint>

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// One summand: a square convolution over channels-last feature maps. Output (y, x) at tap (r, s)
// reads row y * stride - padding + r and column x * stride - padding + s; there are zeros outside.
struct Segment {
  const void* input;            // [batch][input height][input width][pixel_channels]
  std::int64_t pixel_channels;  // all channels that are stored for a pixel
  std::int64_t first_channel;   // of those that are read
  std::int64_t channels;        // that are read: a multiple of 64
  std::int64_t height, width;   // that the taps see
  int kernel;                   // taps along either axis, 1 to 4
  int stride;                   // 1 or 2
  int padding;
  // The taps see the input itself, or resampled bilinearly to height x width. Only with stride 1.
  bool resampled;
  std::int64_t input_height, input_width;  // as stored; height and width where not resampled
  ResamplingAxis rows, columns;
};

enum class Epilogue {
  store,              // sum + bias
  relu,               // max(sum + bias, 0)
  relu_pool,          // the same, averaged over 2x2 windows; an odd last row or column is dropped
  squared_difference  // the mean over all output channels of (sum + bias)^2
};

inline constexpr int kMaximumSegments = 2;

// Channels whose squares one plane of squared differences adds up.
inline constexpr std::int64_t kPlaneChannels = 64;

// Feature maps hold `type`; sums are formed in its accumulator type, also across segments. On a
// CUDA device float16 and bfloat16 are multiplied as they are, float32 as tf32, rounded when
// stored.
struct SegmentConvolution {
  ScalarType type;  // of inputs, weight and stored output: any floating type a backend knows
  int segment_count;
  Segment segments[kMaximumSegments];
  // The matrix [output_channels][K] in the backend's WeightLayout, where K runs over segments,
  // blocks of kBlockBytes of a pixel's channels, tap columns, tap rows, and channels of the block,
  // the last fastest. Vertical taps are neighbours so that they can share a strip of the input.
  const void* weight;
  const void* bias;  // [output_channels], Accumulator
  std::int64_t batch;
  std::int64_t height, width;    // of the convolution's output, before pooling
  std::int64_t output_channels;  // a multiple of 64
  // Two networks side by side: output channels from `second_group` on read the `channels` channels
  // behind those that the others read. Equal to output_channels where there is one group.
  std::int64_t second_group;
  Epilogue epilogue;
  // store, relu, relu_pool: [batch][height][width][output_channels] of `type`, height and width
  // halved by pooling. squared_difference: Accumulator planes [output_channels / kPlaneChannels]
  // [batch][height][width], whose sum is the mean.
  void* output;
};

inline constexpr std::int64_t kBlockBytes = 128;

// Channels in one block of the reduction.
inline std::int64_t block_channels(ScalarType type) {
  switch (type) {
    case ScalarType::float64:
      return kBlockBytes / 8;
    case ScalarType::float32:
      return kBlockBytes / 4;
    default:
      return kBlockBytes / 2;
  }
}

// The length K of a row of weights.
inline std::int64_t reduction_length(const SegmentConvolution& problem) {
  std::int64_t length = 0;
  for (int i = 0; i < problem.segment_count; ++i) {
    const Segment& segment = problem.segments[i];
    length += segment.channels * segment.kernel * segment.kernel;
  }
  return length;
}

}  // namespace efficientad
