// What is done with a convolution's sums where they become feature maps.
#pragma once

#include <cstdint>

#include "cpu/convolution.h"
#include "cpu/relu.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// The `finish` of convolve() that writes [batch][height][width][output_channels]: the sums, with
// ReLU or without, or pooled behind it.
template <class Scalar>
class FeatureWriter {
 public:
  using Number = Accumulator<Scalar>;

  FeatureWriter(const ConvolutionGrid& grid, bool rectified, void* output)
      : grid_(grid),
        rectified_(rectified),
        output_(static_cast<Scalar*>(output)),
        streamed_(grid.output_channels > kFewChannels &&
                  reinterpret_cast<std::uintptr_t>(output) % kVectorBytes == 0) {}

  void operator()(const ConvolutionTile& tile, const Number* sums) const {
    if (grid_.pooled) {
      pool(tile, sums, [](std::int64_t) { return RectifiedWindow{}; });
    } else if (rectified_) {
      store_all(tile, sums, [](Vector<Number> sum) { return relu(sum); });
    } else {
      store_all(tile, sums, [](Vector<Number> sum) { return sum; });
    }
  }

  // Writes the pooled windows of a tile. window_at(column) gives what makes activations of one
  // window's sums, activation(pixel, channel, sums), its pixels from 0 to 3 row by row, and is told
  // when it is finish()ed.
  template <class WindowAt>
  void pool(const ConvolutionTile& tile, const Number* sums, const WindowAt& window_at) const {
    const std::int64_t row_length = tile.pitch * kGroup<Scalar>;
    Scalar* destination = first_of(tile);
    for (std::int64_t column = 0; column < tile.columns; column += 2) {
      auto window = window_at(column);
      write(destination, [&](int channel) {
        const Number* const at = sums + channel;
        const Number* const below = at + row_length;
        const Vector<Number> sum = (window.activation(0, channel, load(at)) +
                                    window.activation(1, channel, load(at + kGroup<Scalar>))) +
                                   (window.activation(2, channel, load(below)) +
                                    window.activation(3, channel, load(below + kGroup<Scalar>)));
        return sum * Number{0.25};
      });
      window.finish();
      sums += 2 * kGroup<Scalar>;
      destination += grid_.output_channels;
    }
  }

 private:
  struct RectifiedWindow {
    Vector<Number> activation(int, int, Vector<Number> sums) const { return relu(sums); }
    void finish() const {}
  };

  // Where a tile's first output lies.
  Scalar* first_of(const ConvolutionTile& tile) const {
    const std::int64_t window = grid_.pooled ? 2 : 1;
    const std::int64_t row = tile.image * (grid_.height / window) + tile.row / window;
    const std::int64_t pixel = row * (grid_.width / window) + tile.column / window;
    return output_ + pixel * grid_.output_channels + tile.first_output;
  }

  // Writes value(channel) for a pixel's channels of a group, a vector at a time.
  template <class Value>
  void write(Scalar* destination, const Value& value) const {
#if defined(__AVX512F__)
    if constexpr (kOneLine) {
      if (streamed_) {
        stream_line(destination, value(0), value(kLanes<Number>));
        return;
      }
    }
#endif
    for (int channel = 0; channel < kGroup<Scalar>; channel += kLanes<Number>) {
      store(destination + channel, value(channel));
    }
  }

  // A pixel's share of a group is one cache line. Where many channels lie between it and that of
  // the next pixel, the caches are slow to fetch these lines before they are written.
  static constexpr bool kOneLine = kVectorBytes == 64 && kGroup<Scalar> * sizeof(Scalar) == 64;
  static constexpr std::int64_t kFewChannels = 64;

  template <class Function>
  void store_all(const ConvolutionTile& tile, const Number* sums, const Function& function) const {
    Scalar* destination = first_of(tile);
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      const Number* from = sums + row * tile.pitch * kGroup<Scalar>;
      Scalar* to = destination + row * grid_.width * grid_.output_channels;
      for (std::int64_t column = 0; column < tile.columns; ++column) {
        write(to, [&](int channel) { return function(load(from + channel)); });
        from += kGroup<Scalar>;
        to += grid_.output_channels;
      }
    }
  }

  const ConvolutionGrid& grid_;
  const bool rectified_;
  Scalar* const output_;
  [[maybe_unused]] const bool streamed_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
