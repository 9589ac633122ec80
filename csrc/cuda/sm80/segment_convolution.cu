#include <algorithm>

#include "cuda/epilogue/epilogue.h"
#include "cuda/operand.h"
#include "cuda/sm80/input_strips.h"
#include "cuda/sm80/segment_convolution.h"
#include "cuda/tile/reduction_steps.h"
#include "cuda/tile/spatial_tile.h"

namespace efficientad::cuda::sm80 {
namespace {

// A tile of output pixels and channels, and the warps that share it: `row_warps` strips of warps
// along the pixels, `channel_warps` along the channels.
template <int kHeight, int kChannels, int kRowWarps, int kChannelWarps>
struct Shape {
  static constexpr int height = kHeight, channels = kChannels;
  static constexpr int channel_warps = kChannelWarps;
  static constexpr int threads = kRowWarps * kChannelWarps * kWarpSize;
  // Of one warp: strips of 16 pixels, and blocks of 8 channels.
  static constexpr int strips = kHeight / kStripHeight / kRowWarps;
  static constexpr int blocks = kChannels / 8 / kChannelWarps;
  static_assert(blocks * 8 % kPlaneChannels == 0, "a warp sums whole planes of squares");
};

using LargeShape = Shape<16, 128, 4, 2>;
using SmallShape = Shape<8, 64, 4, 1>;

// Tiles of weights in the ring: one in use, up to two on their way.
constexpr int kWeightSlots = 3;
// Strips of the input: one in use, one on its way.
constexpr int kStripSlots = 2;

template <class T>
struct Problem {
  SegmentInput<T> inputs[kMaximumSegments];
  ReductionSteps steps;
  Global<const T> weight;  // [output channels][steps.count * kBlockElements<T>]
  int second_group;
  EpilogueOutput<T> output;
  TileGrid tiles;
  int strip_elements;  // of a slot
  // Steps whose data are on their way while one is computed. With a single tap row each step needs
  // a strip of its own, of which only one can be on its way.
  int steps_ahead;

  Problem(const SegmentConvolution& problem, const TileGrid& grid)
      : inputs{SegmentInput<T>(problem.segments[0], problem.batch),
               SegmentInput<T>(problem.segments[problem.segment_count - 1], problem.batch)},
        steps(problem),
        weight(static_cast<const T*>(problem.weight),
               problem.output_channels * reduction_length(problem)),
        second_group(static_cast<int>(problem.second_group)),
        output(problem),
        tiles(grid),
        strip_elements(0),
        steps_ahead(2) {
    for (const SegmentInput<T>& input : inputs) {
      const int rows = strip_rows(grid.tile_height, input.stride, input.kernel);
      strip_elements = std::max(strip_elements, rows * kTileWidth * kBlockElements<T>);
      if (input.kernel == 1) steps_ahead = 1;
    }
  }

  std::size_t shared_bytes_of_block() const {
    return shared_bytes<T>(static_cast<std::size_t>(kStripSlots * strip_elements)) +
           shared_bytes<T>(
               static_cast<std::size_t>(kWeightSlots * tiles.tile_channels * kBlockElements<T>));
  }
};

// A tile of weights in shared memory: output channel n takes the kBlockBytes at n * kBlockBytes,
// its 16-byte chunk c lies at chunk c ^ (n % 8).
template <class S, class T>
EFFICIENTAD_DEVICE void copy_weights(const Problem<T>& problem, int channel, int step,
                                     const SharedArray<T>& weights, int slot) {
  const int thread = static_cast<int>(thread_index());
  const int chunk = thread % kChunksOfBlock;
  const std::int64_t row_elements =
      static_cast<std::int64_t>(problem.steps.count) * kBlockElements<T>;
  for (int n = thread / kChunksOfBlock; n < S::channels; n += S::threads / kChunksOfBlock) {
    copy_async(
        weights, slot + n * kBlockElements<T> + (chunk ^ n % 8) * kChunkElements<T>, problem.weight,
        (channel + n) * row_elements + step * kBlockElements<T> + chunk * kChunkElements<T>, true);
  }
}

// Starts the copies of one step after the other.
template <class S, class T, bool kResampled>
class Loader {
 public:
  EFFICIENTAD_DEVICE Loader(const Problem<T>& problem, const TilePlace& tile,
                            const SharedArray<T>& strips, const SharedArray<T>& weights)
      : problem_(problem), tile_(tile), strips_(strips), weights_(weights) {}

  // One group of copies, empty behind the last step.
  EFFICIENTAD_DEVICE void next() {
    if (index_ < problem_.steps.count) {
      if (step_.starts_strip()) load_strip();
      copy_weights<S>(problem_, tile_.channel, index_, weights_,
                      index_ % kWeightSlots * S::channels * kBlockElements<T>);
      step_.advance(problem_.steps);
      ++index_;
    }
    copy_async_commit();
  }

 private:
  EFFICIENTAD_DEVICE void load_strip() {
    const SegmentInput<T>& input = problem_.inputs[step_.segment];
    const int group = tile_.channel >= problem_.second_group ? 1 : 0;
    const StripSource source = strip_source(input, tile_, group, step_.block, step_.column);
    const int rows = strip_rows(S::height, input.stride, input.kernel);
    const int slot = strip_ % kStripSlots * problem_.strip_elements;
    if (kResampled && input.resampled) {
      resample_strip<S::threads>(input, source, rows, strips_, slot);
    } else {
      copy_strip<S::threads>(input, source, rows, strips_, slot);
    }
    ++strip_;
  }

  const Problem<T>& problem_;
  const TilePlace& tile_;
  const SharedArray<T>&strips_, &weights_;
  ReductionStep step_;
  int index_ = 0, strip_ = 0;
};

// Adds the products of one step to the warp's sums. `strip` is where the strip begins; the tap row
// has been added to it.
template <class S, class T>
EFFICIENTAD_DEVICE void add_products(const SharedArray<T>& strips, int strip, int stride,
                                     const SharedArray<T>& weights, int weight,
                                     float (&sums)[S::strips][4 * S::blocks]) {
  constexpr int kWords = 32;  // bytes of the reduction that one instruction takes
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  const int row_warp = warp / S::channel_warps, channel_warp = warp % S::channel_warps;
  // The lane's row of the four 8x16-byte matrices that one load brings.
  //   pixels:   matrix m is pixel row m % 2 of a strip, chunk m / 2 of 32 bytes; its rows are
  //   pixels channels: matrix m is block m / 2 of 8 channels, chunk m % 2; its rows are channels
  const int matrix = lane / 8, row = lane % 8;
#pragma unroll
  for (int part = 0; part < static_cast<int>(kBlockBytes) / kWords; ++part) {
    Vector<std::uint32_t, 4> pixels[S::strips];
#pragma unroll
    for (int i = 0; i < S::strips; ++i) {
      const int y = (row_warp * S::strips + i) * kStripHeight + matrix % 2;
      const int chunk = (2 * part + matrix / 2) ^ row;
      pixels[i] =
          load_matrices(strips, strip + (y * stride * kTileWidth + row) * kBlockElements<T> +
                                    chunk * kChunkElements<T>);
    }
#pragma unroll
    for (int pair = 0; pair < S::blocks; pair += 2) {
      const int n = (channel_warp * S::blocks + pair + matrix / 2) * 8 + row;
      const int chunk = (2 * part + matrix % 2) ^ row;
      const Vector<std::uint32_t, 4> filters =
          load_matrices(weights, weight + n * kBlockElements<T> + chunk * kChunkElements<T>);
#pragma unroll
      for (int i = 0; i < S::strips; ++i) {
#pragma unroll
        for (int block = 0; block < 2; ++block) {
          float (&products)[4] = *reinterpret_cast<float (*)[4]>(&sums[i][4 * (pair + block)]);
          multiply_add<T>(products, pixels[i], filters.values[2 * block],
                          filters.values[2 * block + 1]);
        }
      }
    }
  }
}

template <class S, class T, bool kResampled>
EFFICIENTAD_KERNEL(S::threads)
convolution_kernel(const EFFICIENTAD_GRID_CONSTANT Problem<T> problem) {
  SharedMemory memory;
  const auto strips =
      memory.array<T>(static_cast<std::size_t>(kStripSlots * problem.strip_elements));
  const auto weights =
      memory.array<T>(static_cast<std::size_t>(kWeightSlots * S::channels * kBlockElements<T>));
  const int warp = static_cast<int>(thread_index()) / kWarpSize;

  for (int index = static_cast<int>(block_index().x); index < problem.tiles.count;
       index += static_cast<int>(grid_blocks().x)) {
    const TilePlace tile = problem.tiles.place(index);
    float sums[S::strips][4 * S::blocks] = {};
    Loader<S, T, kResampled> loader(problem, tile, strips, weights);
    barrier();  // the tile before has been computed by all warps
    for (int i = 0; i < problem.steps_ahead; ++i) loader.next();

    ReductionStep step;
    int strip = 0;
    for (int k = 0; k < problem.steps.count; ++k) {
      if (problem.steps_ahead == 2) {
        copy_async_wait<1>();
      } else {
        copy_async_wait<0>();
      }
      // Everybody's copies for this step have arrived, and everybody is done with the step before,
      // whose slots are the next to be filled.
      barrier();
      loader.next();
      const int slot = strip % kStripSlots * problem.strip_elements;
      const int weight = k % kWeightSlots * S::channels * kBlockElements<T>;
      add_products<S>(strips, slot + step.row * kTileWidth * kBlockElements<T>,
                      problem.inputs[step.segment].stride, weights, weight, sums);
      if (step.ends_strip(problem.steps)) ++strip;
      step.advance(problem.steps);
    }

#pragma unroll
    for (int i = 0; i < S::strips; ++i) {
      finish_strip<S::blocks>(problem.output, tile.image,
                              tile.y + (warp / S::channel_warps * S::strips + i) * kStripHeight,
                              tile.x, tile.channel + warp % S::channel_warps * S::blocks * 8,
                              sums[i]);
    }
    copy_async_wait<0>();
  }
}

template <class S, class T, bool kResampled>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  const Problem<T> parameters(problem, TileGrid(problem, S::height, S::channels));
  const LaunchShape shape{grid_over(parameters.tiles.count), S::threads,
                          parameters.shared_bytes_of_block()};
  return launch(convolution_kernel<S, T, kResampled>, shape, execution, parameters);
}

bool is_resampled(const SegmentConvolution& problem) {
  for (int i = 0; i < problem.segment_count; ++i) {
    if (problem.segments[i].resampled) return true;
  }
  return false;
}

// A tile belongs to one group, and its strips have to fit 99 KiB beside the weights, which with
// stride 2 they do not.
bool large_tiles_fit(const SegmentConvolution& problem) {
  for (int i = 0; i < problem.segment_count; ++i) {
    if (problem.segments[i].stride != 1) return false;
  }
  return problem.output_channels % LargeShape::channels == 0 &&
         problem.second_group % LargeShape::channels == 0;
}

template <class T>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  if (is_resampled(problem)) return run<SmallShape, T, true>(problem, execution);
  DeviceProperties device;
  if (const Status status = device_properties(device); status != kOk) return status;
  // Large tiles load less for every product, but must be enough for all multiprocessors.
  if (large_tiles_fit(problem) &&
      TileGrid(problem, LargeShape::height, LargeShape::channels).count >= device.multiprocessors) {
    return run<LargeShape, T, false>(problem, execution);
  }
  return run<SmallShape, T, false>(problem, execution);
}

}  // namespace

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution) {
  return for_operand_type(problem.type,
                          [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda::sm80
