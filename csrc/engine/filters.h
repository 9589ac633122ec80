// Filters in double precision, and the algebra by which layers are fused.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/networks.h"

namespace efficientad::engine {

struct Filters {
  std::int64_t output_channels, input_channels;
  int kernel;
  std::vector<double> weight;  // [output_channels][input_channels][tap row][tap column]
  std::vector<double> bias;    // [output_channels]

  std::int64_t taps() const { return static_cast<std::int64_t>(kernel) * kernel; }
  double& at(std::int64_t output, std::int64_t input, std::int64_t tap);
  double at(std::int64_t output, std::int64_t input, std::int64_t tap) const;
};

// All zero.
Filters no_filters(std::int64_t output_channels, std::int64_t input_channels, int kernel);

Filters filters_of(const Convolution& convolution);

// Of output (conv - mean) / deviation, channel by channel.
Filters normalised(Filters filters, const float* mean, const float* deviation);

Filters negated(Filters filters);

// Output channels [first, first + count).
Filters outputs(const Filters& filters, std::int64_t first, std::int64_t count);

// The outputs of a, then those of b; as many inputs each.
Filters stacked(const Filters& a, const Filters& b);

// a(x) + b(y) as one convolution of the channels of x, then those of y.
Filters joined(const Filters& a, const Filters& b);

// With zero filters for channels that are not there.
Filters padded(const Filters& filters, std::int64_t output_channels, std::int64_t input_channels);

}  // namespace efficientad::engine
