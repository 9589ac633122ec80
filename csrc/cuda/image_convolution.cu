#include "cuda/epilogue/epilogue.h"
#include "cuda/kernels.h"
#include "cuda/operand.h"
#include "cuda/tensors.h"
#include "cuda/tile/spatial_tile.h"
#include "efficientad/image_convolution.h"

namespace efficientad::cuda {
namespace {

// A block takes 16 x 16 pixels of the convolution's output: a warp takes two rows, which are two
// strips beside each other (spatial_tile.h).
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kEdge = kWarps * kStripHeight;
constexpr int kStrips = kEdge / kTileWidth;

// The pixels that such a tile sees, along one edge.
template <int kStride>
inline constexpr int kSeen = (kEdge - 1) * kStride + kImageKernel;

// The reduction: 4 tap rows of 4 pixels of 4 channels. Pixels that are neighbours in an image row
// are neighbours in shared memory, so that a tap row is one run of bytes, beginning at any pixel.
constexpr int kRowElements = kImageKernel * kImageChannels;
constexpr int kFilterElements = kImageKernel * kRowElements;
constexpr int kInstructionBytes = 32;
template <class T>
inline constexpr int kRowParts = kRowElements * static_cast<int>(sizeof(T)) / kInstructionBytes;
template <class T>
inline constexpr int kParts = kImageKernel * kRowParts<T>;

template <class T, class Pixel>
struct Problem {
  Global<const Pixel> image;
  Global<const T> weight;  // [output channels][kFilterElements]
  EpilogueOutput<T> output;
  int height, width, padding;
  int tile_channels, channel_tiles, across, along, tiles;
};

// A pixel's colours and a one, or zeros outside the image.
template <class T, class Pixel>
EFFICIENTAD_DEVICE Vector<T, kImageChannels> pixel_at(const Problem<T, Pixel>& problem, int image,
                                                      int y, int x) {
  Vector<T, kImageChannels> result = {};
  if (y < 0 || y >= problem.height || x < 0 || x >= problem.width) return result;
  constexpr int kColors = kImageChannels - 1;
  constexpr bool kInterleaved = sizeof(Pixel) == 1;
  const std::int64_t pixels = static_cast<std::int64_t>(problem.height) * problem.width;
  const std::int64_t pixel = static_cast<std::int64_t>(y) * problem.width + x;
  const std::int64_t first = image * pixels * kColors + (kInterleaved ? pixel * kColors : pixel);
#pragma unroll
  for (int color = 0; color < kColors; ++color) {
    const std::int64_t index = first + color * (kInterleaved ? 1 : pixels);
    result.values[color] = as_operand<T>(widen(problem.image.load(index)));
  }
  result.values[kColors] = as_operand<T>(1.0f);
  return result;
}

template <class T>
using PixelFragments = Vector<std::uint32_t, 4>[kStrips][kParts<T>];

// Lane l, with g = l / 4 and t = l % 4, needs of each part of 32 bytes of the reduction the words t
// and t + 4 of pixel g of both rows of the strip: (row 0, t), (row 1, t), (row 0, t + 4), (row 1,
// t + 4). They are read where the taps' pixels lie.
template <int kStride, class T>
EFFICIENTAD_DEVICE void load_pixels(const SharedArray<T>& seen, PixelFragments<T>& fragments) {
  constexpr int kWordElements = 4 / static_cast<int>(sizeof(T));
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip) {
#pragma unroll
    for (int part = 0; part < kParts<T>; ++part) {
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        const int row = (warp * kStripHeight + word % 2) * kStride + part / kRowParts<T>;
        const int column = (strip * kTileWidth + lane / 4) * kStride;
        const int element = (part % kRowParts<T> * 8 + word / 2 * 4 + lane % 4) * kWordElements;
        fragments[strip][part].values[word] =
            bit_copy<std::uint32_t>(seen.template load_vector<kWordElements>(
                (row * kSeen<kStride> + column) * kImageChannels + element));
      }
    }
  }
}

// Filters in shared memory: output channel n takes kFilterElements, its 16-byte chunk c lies at
// chunk c ^ (n % 8).
template <class T>
EFFICIENTAD_DEVICE int filter_chunk(int channel, int chunk) {
  return channel * kFilterElements + (chunk ^ channel % 8) * kChunkElements<T>;
}

template <class T, class Pixel>
EFFICIENTAD_DEVICE void copy_filters(const Problem<T, Pixel>& problem, int first_channel,
                                     const SharedArray<T>& filters) {
  constexpr int kChunks = kFilterElements / kChunkElements<T>;
  for (int item = static_cast<int>(thread_index()); item < problem.tile_channels * kChunks;
       item += kThreads) {
    const int channel = item / kChunks, chunk = item % kChunks;
    copy_async(filters, filter_chunk<T>(channel, chunk), problem.weight,
               static_cast<std::int64_t>(first_channel + channel) * kFilterElements +
                   chunk * kChunkElements<T>,
               true);
  }
  copy_async_commit();
}

// Sums of 16 output channels for the warp's strips.
template <class T>
EFFICIENTAD_DEVICE void add_products(const PixelFragments<T>& pixels, const SharedArray<T>& filters,
                                     int channel, float (&sums)[kStrips][8]) {
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
#pragma unroll
  for (int block = 0; block < 2; ++block) {
#pragma unroll
    for (int part = 0; part < kParts<T>; part += 2) {
      // Matrix m is chunk m of the four that two parts have; its rows are output channels.
      const Vector<std::uint32_t, 4> words = load_matrices(
          filters, filter_chunk<T>(channel + 8 * block + lane % 8, 2 * part + lane / 8));
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        float (&products)[4] = *reinterpret_cast<float (*)[4]>(&sums[strip][4 * block]);
        multiply_add<T>(products, pixels[strip][part], words.values[0], words.values[1]);
        multiply_add<T>(products, pixels[strip][part + 1], words.values[2], words.values[3]);
      }
    }
  }
}

template <class T, class Pixel, int kStride>
EFFICIENTAD_KERNEL(kThreads)
image_kernel(const EFFICIENTAD_GRID_CONSTANT Problem<T, Pixel> problem) {
  SharedMemory memory;
  const auto filters =
      memory.array<T>(static_cast<std::size_t>(problem.tile_channels * kFilterElements));
  const auto seen = memory.array<T>(kSeen<kStride> * kSeen<kStride> * kImageChannels);
  const int warp = static_cast<int>(thread_index()) / kWarpSize;

  for (int tile = static_cast<int>(block_index().x); tile < problem.tiles;
       tile += static_cast<int>(grid_blocks().x)) {
    const int first_channel = tile % problem.channel_tiles * problem.tile_channels;
    const int spatial = tile / problem.channel_tiles;
    const int x = spatial % problem.across * kEdge;
    const int y = spatial / problem.across % problem.along * kEdge;
    const int image = spatial / problem.across / problem.along;
    barrier();  // everybody is done with the tile before
    copy_filters(problem, first_channel, filters);
    for (int pixel = static_cast<int>(thread_index()); pixel < kSeen<kStride> * kSeen<kStride>;
         pixel += kThreads) {
      seen.template store_vector<kImageChannels>(
          pixel * kImageChannels,
          pixel_at(problem, image, y * kStride - problem.padding + pixel / kSeen<kStride>,
                   x * kStride - problem.padding + pixel % kSeen<kStride>));
    }
    copy_async_wait<0>();
    barrier();
    PixelFragments<T> pixels;
    load_pixels<kStride>(seen, pixels);
    for (int channel = 0; channel < problem.tile_channels; channel += 16) {
      float sums[kStrips][8] = {};
      add_products<T>(pixels, filters, channel, sums);
#pragma unroll
      for (int strip = 0; strip < kStrips; ++strip) {
        const int strip_y = y + warp * kStripHeight, strip_x = x + strip * kTileWidth;
        if constexpr (kStride == 1) {
          store_pooled<2>(problem.output, image, strip_y, strip_x, first_channel + channel,
                          sums[strip]);
        } else {
          store_features<2>(problem.output, image, strip_y, strip_x, first_channel + channel,
                            sums[strip]);
        }
      }
    }
  }
}

template <class T, class Pixel, int kStride>
Status run(const ImageConvolution& problem, const Execution& execution) {
  constexpr int kPadding = kStride == 1 ? 0 : 1;
  const auto convolved = [](std::int64_t length) {
    return (length + 2 * kPadding - kImageKernel) / kStride + 1;
  };
  const std::int64_t height = convolved(problem.height), width = convolved(problem.width);
  const int channels = static_cast<int>(problem.output_channels);
  const int tile_channels = channels % 128 == 0 ? 128 : 64;
  const std::int64_t across = ceiling_divide(width, kEdge), along = ceiling_divide(height, kEdge);
  const Problem<T, Pixel> parameters{
      Global<const Pixel>(static_cast<const Pixel*>(problem.image),
                          problem.batch * (kImageChannels - 1) * problem.height * problem.width),
      Global<const T>(static_cast<const T*>(problem.weight),
                      std::int64_t{channels} * kFilterElements),
      EpilogueOutput<T>(kStride == 1 ? Epilogue::relu_pool : Epilogue::relu, problem.bias,
                        problem.output, problem.batch, height, width, channels),
      static_cast<int>(problem.height),
      static_cast<int>(problem.width),
      kPadding,
      tile_channels,
      channels / tile_channels,
      static_cast<int>(across),
      static_cast<int>(along),
      static_cast<int>(problem.batch * along * across) * (channels / tile_channels)};
  const std::size_t filter_bytes =
      shared_bytes<T>(static_cast<std::size_t>(tile_channels * kFilterElements));
  const LaunchShape shape{
      grid_over(parameters.tiles), kThreads,
      filter_bytes + shared_bytes<T>(kSeen<kStride> * kSeen<kStride> * kImageChannels)};
  return launch(image_kernel<T, Pixel, kStride>, shape, execution, parameters);
}

template <class T>
Status run(const ImageConvolution& problem, const Execution& execution) {
  if (problem.image_type == ScalarType::uint8) {
    return problem.pooled ? run<T, std::uint8_t, 1>(problem, execution)
                          : run<T, std::uint8_t, 2>(problem, execution);
  }
  if (problem.image_type != ScalarType::float32) return "the image is neither uint8 nor float32";
  return problem.pooled ? run<T, float, 1>(problem, execution)
                        : run<T, float, 2>(problem, execution);
}

}  // namespace

Status image_convolution(const ImageConvolution& problem, const Execution& execution) {
  if (problem.batch == 0) return kOk;
  return for_operand_type(problem.type,
                          [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
