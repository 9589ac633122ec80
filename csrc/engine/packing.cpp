#include "engine/packing.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <stdexcept>

#include "efficientad/scalar_dispatch.h"
#include "efficientad/winograd_convolution.h"

namespace efficientad::engine {
namespace {

// Rounds to nearest, ties away from zero, as the conversion instruction does.
float to_tf32(float value) {
  return std::isfinite(value) ? float_from_bits((float_bits(value) + 0x1000u) & ~0x1fffu) : value;
}

void convert(double from, double& to, const Precision&) { to = from; }
void convert(double from, float& to, const Precision& precision) {
  to = static_cast<float>(from);
  if (precision.tf32) to = to_tf32(to);
}
void convert(double from, Half& to, const Precision&) {
  to = float_to_half(static_cast<float>(from));
}
void convert(double from, BFloat16& to, const Precision&) {
  to = float_to_bfloat16(static_cast<float>(from));
}

double widened(double value) { return value; }
double widened(float value) { return value; }
double widened(Half value) { return half_to_float(value); }
double widened(BFloat16 value) { return bfloat16_to_float(value); }

constexpr std::int64_t kGap = 8;

// G filter G^T of winograd_convolution.h.
class PointValues {
 public:
  static constexpr int kPoints = winograd::kPoints;
  static constexpr std::int64_t kCount = kPoints * kPoints;

  explicit PointValues(int kernel) {
    for (int i = 0; i + 1 < kPoints; ++i) {
      const double point = winograd::kFinitePoints[i];
      double power = 1;
      for (int j = 0; j + 1 < kPoints; ++j) {
        if (j != i) power /= point - winograd::kFinitePoints[j];
      }
      for (int tap = 0; tap < kernel; ++tap) {
        matrix_[tap][i] = power;
        power *= point;
      }
    }
    matrix_[kernel - 1][kPoints - 1] = 1;
  }

  // A line of the first-level cache: input channels at a time.
  static constexpr std::int64_t kChannels = 8;

  // The values of the filters of kChannels input channels from `input` on, those of each point
  // side by side, the points `pitch` numbers apart.
  void write(const Filters& filters, std::int64_t output, std::int64_t input, double* to,
             std::int64_t pitch) const {
    double values[kCount][kChannels];
    for (std::int64_t channel = 0; channel < kChannels; ++channel) {
      const std::int64_t filter = output * filters.input_channels + input + channel;
      const double* tap = &filters.weight[static_cast<std::size_t>(filter * filters.taps())];
      double half[kMaximumKernel][kPoints] = {};  // [tap column][point of rows]
      for (int row = 0; row < filters.kernel; ++row) {
        for (int column = 0; column < filters.kernel; ++column) {
          add(*tap++, matrix_[row], half[column]);
        }
      }
      for (int row = 0; row < kPoints; ++row) {
        double along[kPoints] = {};
        for (int column = 0; column < filters.kernel; ++column) {
          add(half[column][row], matrix_[column], along);
        }
        for (int column = 0; column < kPoints; ++column) {
          values[row * kPoints + column][channel] = along[column];
        }
      }
    }
    for (const auto& point : values) {
      std::copy(std::begin(point), std::end(point), to);
      to += pitch;
    }
  }

 private:
  static constexpr int kMaximumKernel = 4;

  static void add(double factor, const double (&values)[kPoints], double (&sums)[kPoints]) {
    for (int point = 0; point < kPoints; ++point) sums[point] += factor * values[point];
  }

  double matrix_[kMaximumKernel][kPoints] = {};  // [tap][point]
};

[[noreturn]] void refuse(const std::string& layer, double value, ScalarType type) {
  const std::string size = std::to_string(std::abs(value));
  if (type == ScalarType::float16) {
    throw std::invalid_argument("the weights of " + layer + " reach " + size +
                                ", which is more than float16 holds (65504); use bfloat16");
  }
  throw std::invalid_argument("the weights of " + layer + " reach " + size +
                              ", which is more than their type holds; check the teacher's mean "
                              "and deviation");
}

}  // namespace

std::int64_t bytes_of(ScalarType type) {
  switch (type) {
    case ScalarType::float64:
      return 8;
    case ScalarType::float32:
      return 4;
    case ScalarType::uint8:
      return 1;
    default:
      return 2;
  }
}

ScalarType accumulator_of(ScalarType type) {
  return type == ScalarType::float64 ? ScalarType::float64 : ScalarType::float32;
}

Filters rounded(Filters filters, const Precision& precision) {
  const std::int64_t weights = filters.input_channels * filters.taps();
  for_floating_type(precision.type, [&](auto stored) {
    for (std::int64_t output = 0; output < filters.output_channels; ++output) {
      double* weight = &filters.at(output, 0, 0);
      double carried = 0;
      for (std::int64_t i = 0; i < weights; ++i) {
        const double wanted = weight[i] + carried;
        convert(wanted, stored, precision);
        const bool holds = std::isfinite(widened(stored));
        if (holds) weight[i] = widened(stored);
        carried = holds ? wanted - weight[i] : 0;
      }
    }
    return kOk;
  });
  return filters;
}

Rows rows_first(const Filters& filters) {
  return {filters.output_channels, filters.taps() * filters.input_channels,
          [&filters](std::int64_t output, double* row) {
            for (std::int64_t tap = 0; tap < filters.taps(); ++tap) {
              for (std::int64_t input = 0; input < filters.input_channels; ++input) {
                *row++ = filters.at(output, input, tap);
              }
            }
          }};
}

Rows in_blocks(const std::vector<Filters>& segments, std::int64_t block) {
  std::int64_t length = 0;
  for (const Filters& filters : segments) length += filters.input_channels * filters.taps();
  return {segments[0].output_channels, length,
          [&segments, block](std::int64_t output, double* row) {
            for (const Filters& filters : segments) {
              for (std::int64_t first = 0; first < filters.input_channels; first += block) {
                for (int s = 0; s < filters.kernel; ++s) {
                  for (int r = 0; r < filters.kernel; ++r) {
                    for (std::int64_t input = first; input < first + block; ++input) {
                      *row++ = filters.at(output, input, r * filters.kernel + s);
                    }
                  }
                }
              }
            }
          }};
}

Rows at_points(const std::vector<Filters>& segments) {
  std::int64_t channels = 0;
  int kernel = 0;
  for (const Filters& filters : segments) {
    channels += filters.input_channels;
    kernel = std::max(kernel, filters.kernel);
  }
  return {segments[0].output_channels, PointValues::kCount * channels,
          [&segments, channels, values = PointValues(kernel)](std::int64_t output, double* row) {
            for (const Filters& filters : segments) {
              for (std::int64_t input = 0; input < filters.input_channels;
                   input += PointValues::kChannels) {
                values.write(filters, output, input, row, channels);
                row += PointValues::kChannels;
              }
            }
          }};
}

std::int64_t Packer::append(const std::vector<double>& values, const Precision& precision,
                            const std::string& layer) {
  const auto row = [&values](std::int64_t, double* to) {
    std::copy(values.begin(), values.end(), to);
  };
  return append(Rows{1, static_cast<std::int64_t>(values.size()), row}, {1, 1}, precision, layer);
}

std::int64_t Packer::append(const Rows& rows, const WeightLayout& layout,
                            const Precision& precision, const std::string& layer) {
  const std::int64_t bytes = rows.count * rows.length * bytes_of(precision.type);
  Array array{arena_.add(bytes), std::vector<char>(static_cast<std::size_t>(bytes))};
  // Not at a power of two from each other, where rows would share a few sets of the caches.
  const std::int64_t pitch = rows.length + kGap;
  std::vector<double> panel(static_cast<std::size_t>(layout.panel * pitch));
  for_floating_type(precision.type, [&](auto stored) {
    char* to = array.bytes.data();
    for (std::int64_t first = 0; first < rows.count; first += layout.panel) {
      for (std::int64_t output = 0; output < layout.panel; ++output) {
        rows.write(first + output, panel.data() + output * pitch);
      }
      for (std::int64_t start = 0; start < rows.length; start += layout.interleave) {
        for (std::int64_t output = 0; output < layout.panel; ++output) {
          const double* values = panel.data() + output * pitch + start;
          for (int k = 0; k < layout.interleave; ++k) {
            convert(values[k], stored, precision);
            if (!std::isfinite(widened(stored))) refuse(layer, values[k], precision.type);
            std::memcpy(to, &stored, sizeof(stored));
            to += sizeof(stored);
          }
        }
      }
    }
    return kOk;
  });
  arrays_.push_back(std::move(array));
  return arrays_.back().offset;
}

}  // namespace efficientad::engine
