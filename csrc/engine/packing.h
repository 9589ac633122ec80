// From filters to weights as kernels read them: order, element type, place in memory.
#pragma once

#include <cstdint>
#include <functional>
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

// What is left of filters in this precision. What rounding takes from a weight is given to the next
// one of the same output channel, so that inputs which are much alike (neighbouring pixels, the
// colours of a pixel, anything with a mean) see a sum of errors that is no larger than one of them.
// Weights that are too large stay as they are.
Filters rounded(Filters filters, const Precision& precision);

// Writes the row of weights of an output channel.
using Row = std::function<void(std::int64_t output, double* row)>;

struct Rows {
  std::int64_t count, length;
  Row write;
};

// The filters that these refer to must outlive them.

// [tap row][tap column][input]: see ImageConvolution, and Linear over NHWC maps.
Rows rows_first(const Filters& filters);

// Segments, blocks of input channels, tap columns, tap rows, channels of the block: see
// SegmentConvolution.
Rows in_blocks(const std::vector<Filters>& segments, std::int64_t block);

// [point of rows][point of columns][channels], the channels running over segments: see
// winograd_convolution.h. Smaller filters are extended by zeros to the size of the largest.
Rows at_points(const std::vector<Filters>& segments);

// A part of a block of memory.
struct Array {
  std::int64_t offset;
  std::vector<char> bytes;
};

// Arrays one after the other, each aligned.
class Packer {
 public:
  // The offset at which the rounded values begin. `layer` says in an error whose they are.
  // Throws std::invalid_argument where a value is too large for the type.
  std::int64_t append(const std::vector<double>& values, const Precision& precision,
                      const std::string& layer);

  // The same for a matrix in a backend's order.
  std::int64_t append(const Rows& rows, const WeightLayout& layout, const Precision& precision,
                      const std::string& layer);

  std::int64_t bytes() const { return arena_.bytes(); }
  std::vector<Array> take() { return std::move(arrays_); }

 private:
  Arena arena_;
  std::vector<Array> arrays_;
};

}  // namespace efficientad::engine
