// From filters to weights as kernels read them: order, element type, place in memory.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "efficientad/scalar.h"
#include "efficientad/weight_layout.h"
#include "engine/arena.h"
#include "engine/filters.h"

namespace efficientad::engine {

struct Precision {
  ScalarType type;  // a floating type
  bool tf32;        // float32 rounded to the 10 bits behind the point that tensor cores multiply
};

std::int64_t bytes_of(ScalarType type);

// In which sums are formed and biases, means and maps are kept.
ScalarType accumulator_of(ScalarType type);

// What is left of a weight in this precision; infinite where it is too large.
double rounded(double value, const Precision& precision);

// [output][tap row][tap column][input]: see ImageConvolution, and Linear over NHWC maps.
std::vector<double> rows_first(const Filters& filters);

// [output][K], K over segments, blocks of input channels, tap columns, tap rows, channels of the
// block: see SegmentConvolution.
std::vector<double> in_blocks(const std::vector<Filters>& segments, std::int64_t block);

// A matrix of `outputs` rows in a backend's order.
std::vector<double> in_layout(const std::vector<double>& rows, std::int64_t outputs,
                              const WeightLayout& layout);

// Arrays one after the other, each aligned; the gaps are zero.
class Packer {
 public:
  // The offset at which the rounded values begin. `layer` says in an error whose they are.
  // Throws std::invalid_argument where a value is too large for the type.
  std::int64_t append(const std::vector<double>& values, const Precision& precision,
                      const std::string& layer);

  std::int64_t bytes() const { return arena_.bytes(); }
  std::vector<char> take() { return std::move(memory_); }

 private:
  Arena arena_;
  std::vector<char> memory_;
};

}  // namespace efficientad::engine
