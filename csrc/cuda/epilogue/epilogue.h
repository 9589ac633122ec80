// What is done with the sums of a strip of a tile (spatial_tile.h), without leaving the registers.
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "cuda/operand.h"
#include "cuda/tile/spatial_tile.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda {

// Written so that a NaN stays one.
EFFICIENTAD_DEVICE float relu(float value) { return value < 0 ? 0 : value; }

// Where a convolution's results go; only one of `features` and `planes` is there.
template <class T>
struct EpilogueOutput {
  Epilogue epilogue;
  Global<const float> bias;
  Global<T> features;           // [batch][height][width][channels], pooled where the epilogue pools
  Global<float> planes;         // [channels / kPlaneChannels][batch][height][width]
  int height, width, channels;  // of what is written
  std::int64_t plane;           // elements of a plane

  // Height and width are the convolution's, before pooling.
  EpilogueOutput(Epilogue kind, const void* bias_data, void* output, std::int64_t batch,
                 std::int64_t convolution_height, std::int64_t convolution_width,
                 std::int64_t output_channels)
      : epilogue(kind),
        bias(static_cast<const float*>(bias_data), output_channels),
        channels(static_cast<int>(output_channels)) {
    const std::int64_t pool = epilogue == Epilogue::relu_pool ? 2 : 1;
    height = static_cast<int>(convolution_height / pool);
    width = static_cast<int>(convolution_width / pool);
    plane = batch * height * width;
    if (epilogue == Epilogue::squared_difference) {
      planes = Global<float>(static_cast<float*>(output), plane * (channels / kPlaneChannels));
    } else {
      features = Global<T>(static_cast<T*>(output), plane * channels);
    }
  }

  explicit EpilogueOutput(const SegmentConvolution& problem)
      : EpilogueOutput(problem.epilogue, problem.bias, problem.output, problem.batch,
                       problem.height, problem.width, problem.output_channels) {}

  EFFICIENTAD_DEVICE bool contains(int y, int x) const { return y < height && x < width; }
  EFFICIENTAD_DEVICE std::int64_t pixel(int image, int y, int x) const {
    return (static_cast<std::int64_t>(image) * height + y) * width + x;
  }
  EFFICIENTAD_DEVICE void store_pair(std::int64_t pixel, int channel, float first,
                                     float second) const {
    features.template store_vector<2>(pixel * channels + channel,
                                      {{as_operand<T>(first), as_operand<T>(second)}});
  }
};

// The functions below take the sums of kBlocks blocks of 8 channels, the first of which is
// `channel`, for the strip whose first pixel is (y, x).

template <int kBlocks, class T>
EFFICIENTAD_DEVICE void store_features(const EpilogueOutput<T>& output, int image, int y, int x,
                                       int channel, const float (&sums)[4 * kBlocks]) {
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const bool rectified = output.epilogue == Epilogue::relu;
  x += lane / 4;
  channel += lane % 4 * 2;
#pragma unroll
  for (int row = 0; row < kStripHeight; ++row) {
    if (!output.contains(y + row, x)) continue;
    const std::int64_t pixel = output.pixel(image, y + row, x);
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
      const auto bias = output.bias.template load_vector<2>(channel + 8 * block);
      const float first = sums[4 * block + 2 * row] + bias.values[0];
      const float second = sums[4 * block + 2 * row + 1] + bias.values[1];
      output.store_pair(pixel, channel + 8 * block, rectified ? relu(first) : first,
                        rectified ? relu(second) : second);
    }
  }
}

// Two blocks of channels at a time: of the two lanes that hold a window, the first one writes one
// block and the second one the other.
template <int kBlocks, class T>
EFFICIENTAD_DEVICE void store_pooled(const EpilogueOutput<T>& output, int image, int y, int x,
                                     int channel, const float (&sums)[4 * kBlocks]) {
  static_assert(kBlocks % 2 == 0);
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const bool second_lane = lane / 4 % 2 == 1;
  const int pooled_y = y / 2, pooled_x = x / 2 + lane / 8;
  const bool inside = output.contains(pooled_y, pooled_x);
  const std::int64_t pixel = output.pixel(image, pooled_y, pooled_x);
  channel += lane % 4 * 2;
#pragma unroll
  for (int pair = 0; pair < kBlocks; pair += 2) {
    float mean[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int block = pair + i;
      const auto bias = output.bias.template load_vector<2>(channel + 8 * block);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float column = relu(sums[4 * block + c] + bias.values[c]) +
                             relu(sums[4 * block + 2 + c] + bias.values[c]);
        mean[i][c] = 0.25f * (column + shuffle_xor(column, 4));
      }
    }
    if (inside) {
      output.store_pair(pixel, channel + 8 * (pair + (second_lane ? 1 : 0)),
                        second_lane ? mean[1][0] : mean[0][0],
                        second_lane ? mean[1][1] : mean[0][1]);
    }
  }
}

template <int kBlocks, class T>
EFFICIENTAD_DEVICE void store_squares(const EpilogueOutput<T>& output, int image, int y, int x,
                                      int channel, const float (&sums)[4 * kBlocks]) {
  constexpr int kPlaneBlocks = static_cast<int>(kPlaneChannels) / 8;
  static_assert(kBlocks % kPlaneBlocks == 0);
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  x += lane / 4;
#pragma unroll
  for (int first = 0; first < kBlocks; first += kPlaneBlocks) {
    float squares[kStripHeight] = {};
#pragma unroll
    for (int block = first; block < first + kPlaneBlocks; ++block) {
      const auto bias = output.bias.template load_vector<2>(channel + 8 * block + lane % 4 * 2);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float difference = sums[4 * block + i] + bias.values[i % 2];
        squares[i / 2] += difference * difference;
      }
    }
    const std::int64_t plane = (channel / 8 + first) / kPlaneBlocks * output.plane;
#pragma unroll
    for (int row = 0; row < kStripHeight; ++row) {
      float sum = squares[row] + shuffle_xor(squares[row], 1);
      sum += shuffle_xor(sum, 2);
      if (lane % 4 == 0 && output.contains(y + row, x)) {
        output.planes.store(plane + output.pixel(image, y + row, x),
                            sum / static_cast<float>(output.channels));
      }
    }
  }
}

// The whole warp takes part.
template <int kBlocks, class T>
EFFICIENTAD_DEVICE void finish_strip(const EpilogueOutput<T>& output, int image, int y, int x,
                                     int channel, const float (&sums)[4 * kBlocks]) {
  switch (output.epilogue) {
    case Epilogue::relu_pool:
      return store_pooled<kBlocks>(output, image, y, x, channel, sums);
    case Epilogue::squared_difference:
      return store_squares<kBlocks>(output, image, y, x, channel, sums);
    default:
      return store_features<kBlocks>(output, image, y, x, channel, sums);
  }
}

}  // namespace efficientad::cuda
