// From an image as a camera or a file delivers it to the network's input.
#pragma once

#include "efficientad/execution.h"
#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad {

// Antialiased bilinear resize (a triangle filter as wide as the scale, at least one source pixel,
// weights normalised at the borders), then (value - mean) / deviation per channel.
//
// One channel is repeated to three. Four channels are red, green, blue, alpha: colour is composited
// on `background` before the resize, value * alpha + background * (1 - alpha).
struct ResizeNormalize {
  ScalarType type;    // of image: uint8, uint16 or any floating type
  FeatureMaps image;  // 1, 3 or 4 channels, any strides
  double scale;       // stored value -> [0, 1]: 1/255, 1/65535 or 1
  double mean[3];
  double deviation[3];
  double background[3];  // in [0, 1]
  std::int64_t output_height, output_width;
  void* output;  // dense [batch][3][output_height][output_width]: double for a double image, else
                 // float
};

}  // namespace efficientad
