// A batch of feature maps or images in memory.
#pragma once

#include <cstdint>

namespace efficientad {

// Element (n, c, y, x) is at data[n * batch_stride + c * channel_stride + y * row_stride +
// x * column_stride]; strides count elements.
//
// Kernels take two layouts, in both of which a map's rows follow each other without a gap
// (row_stride == width * column_stride):
//   planes         column_stride == 1, any channel_stride (NCHW, or a slice of its channels)
//   channels-last  channel_stride == 1, any column_stride (NHWC, or a slice of its channels)
struct FeatureMaps {
  void* data;
  std::int64_t batch, channels, height, width;
  std::int64_t batch_stride, channel_stride, row_stride, column_stride;

  std::int64_t pixels() const { return height * width; }
  std::int64_t elements() const { return batch * channels * height * width; }
  bool is_planes() const { return column_stride == 1; }
};

// One axis of a bilinear resampling: output sample i reads input coordinate
// clamp(step * i + start, 0, input_length - 1).
struct ResamplingAxis {
  double step;
  double start;
};

}  // namespace efficientad
