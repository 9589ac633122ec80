#include "engine/packing.h"

#include <cmath>
#include <cstddef>
#include <cstring>
#include <stdexcept>

#include "efficientad/scalar_dispatch.h"

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

double rounded(double value, const Precision& precision) {
  double result = value;
  for_floating_type(precision.type, [&](auto stored) {
    convert(value, stored, precision);
    result = widened(stored);
    return kOk;
  });
  return result;
}

std::vector<double> rows_first(const Filters& filters) {
  std::vector<double> values;
  values.reserve(filters.weight.size());
  for (std::int64_t output = 0; output < filters.output_channels; ++output) {
    for (std::int64_t tap = 0; tap < filters.taps(); ++tap) {
      for (std::int64_t input = 0; input < filters.input_channels; ++input) {
        values.push_back(filters.at(output, input, tap));
      }
    }
  }
  return values;
}

std::vector<double> in_blocks(const std::vector<Filters>& segments, std::int64_t block) {
  std::size_t count = 0;
  for (const Filters& filters : segments) count += filters.weight.size();
  std::vector<double> values;
  values.reserve(count);
  for (std::int64_t output = 0; output < segments[0].output_channels; ++output) {
    for (const Filters& filters : segments) {
      for (std::int64_t first = 0; first < filters.input_channels; first += block) {
        for (int column = 0; column < filters.kernel; ++column) {
          for (int row = 0; row < filters.kernel; ++row) {
            for (std::int64_t input = first; input < first + block; ++input) {
              values.push_back(filters.at(output, input, row * filters.kernel + column));
            }
          }
        }
      }
    }
  }
  return values;
}

std::vector<double> in_layout(const std::vector<double>& rows, std::int64_t outputs,
                              const WeightLayout& layout) {
  const std::int64_t length = static_cast<std::int64_t>(rows.size()) / outputs;
  std::vector<double> values;
  values.reserve(rows.size());
  for (std::int64_t panel = 0; panel < outputs; panel += layout.panel) {
    for (std::int64_t first = 0; first < length; first += layout.interleave) {
      for (std::int64_t output = panel; output < panel + layout.panel; ++output) {
        for (std::int64_t k = first; k < first + layout.interleave; ++k) {
          values.push_back(rows[static_cast<std::size_t>(output * length + k)]);
        }
      }
    }
  }
  return values;
}

std::int64_t Packer::append(const std::vector<double>& values, const Precision& precision,
                            const std::string& layer) {
  const std::int64_t element = bytes_of(precision.type);
  const std::int64_t offset = arena_.add(static_cast<std::int64_t>(values.size()) * element);
  memory_.resize(static_cast<std::size_t>(arena_.bytes()));
  for_floating_type(precision.type, [&](auto stored) {
    char* to = memory_.data() + offset;
    for (const double value : values) {
      convert(value, stored, precision);
      if (!std::isfinite(widened(stored))) refuse(layer, value, precision.type);
      std::memcpy(to, &stored, sizeof(stored));
      to += sizeof(stored);
    }
    return kOk;
  });
  return offset;
}

}  // namespace efficientad::engine
