#include "engine/filters.h"

#include <algorithm>
#include <cstddef>

namespace efficientad::engine {
namespace {

// Adds `from` to `to`, from this output and this input channel on.
void place(const Filters& from, Filters& to, std::int64_t first_output, std::int64_t first_input) {
  for (std::int64_t output = 0; output < from.output_channels; ++output) {
    for (std::int64_t input = 0; input < from.input_channels; ++input) {
      for (std::int64_t tap = 0; tap < from.taps(); ++tap) {
        to.at(first_output + output, first_input + input, tap) += from.at(output, input, tap);
      }
    }
    to.bias[static_cast<std::size_t>(first_output + output)] +=
        from.bias[static_cast<std::size_t>(output)];
  }
}

}  // namespace

double& Filters::at(std::int64_t output, std::int64_t input, std::int64_t tap) {
  return weight[static_cast<std::size_t>((output * input_channels + input) * taps() + tap)];
}

double Filters::at(std::int64_t output, std::int64_t input, std::int64_t tap) const {
  return weight[static_cast<std::size_t>((output * input_channels + input) * taps() + tap)];
}

Filters no_filters(std::int64_t output_channels, std::int64_t input_channels, int kernel) {
  Filters filters{output_channels, input_channels, kernel, {}, {}};
  filters.weight.resize(
      static_cast<std::size_t>(output_channels * input_channels * filters.taps()));
  filters.bias.resize(static_cast<std::size_t>(output_channels));
  return filters;
}

Filters filters_of(const Convolution& convolution) {
  Filters filters =
      no_filters(convolution.output_channels, convolution.input_channels, convolution.kernel);
  std::copy_n(convolution.weight, filters.weight.size(), filters.weight.begin());
  std::copy_n(convolution.bias, filters.bias.size(), filters.bias.begin());
  return filters;
}

Filters normalised(Filters filters, const float* mean, const float* deviation) {
  const std::int64_t weights = filters.input_channels * filters.taps();
  for (std::int64_t output = 0; output < filters.output_channels; ++output) {
    const double scale = 1.0 / static_cast<double>(deviation[output]);
    double* row = &filters.at(output, 0, 0);
    for (std::int64_t i = 0; i < weights; ++i) row[i] *= scale;
    double& bias = filters.bias[static_cast<std::size_t>(output)];
    bias = (bias - static_cast<double>(mean[output])) * scale;
  }
  return filters;
}

Filters negated(Filters filters) {
  for (double& value : filters.weight) value = -value;
  for (double& value : filters.bias) value = -value;
  return filters;
}

Filters outputs(const Filters& filters, std::int64_t first, std::int64_t count) {
  Filters result = no_filters(count, filters.input_channels, filters.kernel);
  std::copy_n(filters.weight.begin() + first * filters.input_channels * filters.taps(),
              result.weight.size(), result.weight.begin());
  std::copy_n(filters.bias.begin() + first, count, result.bias.begin());
  return result;
}

Filters stacked(const Filters& a, const Filters& b) {
  Filters result = no_filters(a.output_channels + b.output_channels, a.input_channels, a.kernel);
  place(a, result, 0, 0);
  place(b, result, a.output_channels, 0);
  return result;
}

Filters joined(const Filters& a, const Filters& b) {
  Filters result = no_filters(a.output_channels, a.input_channels + b.input_channels, a.kernel);
  place(a, result, 0, 0);
  place(b, result, 0, a.input_channels);
  return result;
}

Filters padded(const Filters& filters, std::int64_t output_channels, std::int64_t input_channels) {
  Filters result = no_filters(output_channels, input_channels, filters.kernel);
  place(filters, result, 0, 0);
  return result;
}

}  // namespace efficientad::engine
