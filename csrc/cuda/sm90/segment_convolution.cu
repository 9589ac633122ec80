// One producer warp feeds two rings in shared memory with the copy engine; two warpgroups multiply.
//
// Ring of strips: the input of one block of channels and one column of taps, tile height + kernel
// - 1 rows of 8 pixels of kBlockBytes each, as the copy engine's 128-byte swizzle lays them out.
// Eight pixels are 1024 bytes, one repetition of the swizzle, so that the operand of the tap row
// below begins 1024 bytes further on: all tap rows of a column are read from one copy of the input.
// Ring of weights: for one step, 128 output channels of kBlockBytes each, laid out alike.
#include <algorithm>

#include "cuda/device_sm90.h"
#include "cuda/epilogue/epilogue.h"
#include "cuda/operand.h"
#include "cuda/sm90/ring.h"
#include "cuda/sm90/segment_convolution.h"
#include "cuda/tile/reduction_steps.h"
#include "cuda/tile/spatial_tile.h"

namespace efficientad::cuda::sm90 {
namespace {

constexpr int kTileChannels = 128;
constexpr int kWarpgroupWarps = 4;
constexpr int kConsumerWarpgroups = 2;
constexpr int kConsumerWarps = kConsumerWarpgroups * kWarpgroupWarps;
constexpr int kThreads = (kConsumerWarps + 1) * kWarpSize;

// Rows of the matrix that one instruction multiplies, and its pixel rows.
constexpr int kMatrixHeight = 64 / kTileWidth;
// Bytes of the reduction that one instruction takes.
constexpr int kInstructionBytes = 32;

// What a block may take of a multiprocessor's 227 KiB: the rest is for a block of the autoencoder's
// small kernels, which run beside this one.
constexpr std::size_t kSharedBudget = 160 * 1024;
constexpr int kMaximumWeightSlots = 8;

template <class T>
inline constexpr int kPixelRowElements = kTileWidth * kBlockElements<T>;
template <class T>
inline constexpr int kWeightElements = kTileChannels * kBlockElements<T>;

template <class T>
struct Problem {
  TensorMap inputs[kMaximumSegments];  // (channel, x, y, image)
  TensorMap weight;                    // (reduction, output channel)
  ReductionSteps steps;
  int first_channel[kMaximumSegments], padding[kMaximumSegments];
  int group_channels[kMaximumSegments];  // between the channels of the two groups
  int second_group;
  EpilogueOutput<T> output;
  TileGrid tiles;
  int strip_rows;  // of the highest segment: what a slot has room for
  int strip_slots, weight_slots;

  Problem(const SegmentConvolution& problem, const TileGrid& grid)
      : inputs{},
        weight{},
        steps(problem),
        first_channel{},
        padding{},
        group_channels{},
        second_group(static_cast<int>(problem.second_group)),
        output(problem),
        tiles(grid),
        strip_rows(0),
        strip_slots(2),
        weight_slots(0) {
    for (int i = 0; i < problem.segment_count; ++i) {
      const Segment& segment = problem.segments[i];
      first_channel[i] = static_cast<int>(segment.first_channel);
      padding[i] = segment.padding;
      group_channels[i] = static_cast<int>(segment.channels);
      strip_rows = std::max(strip_rows, grid.tile_height + segment.kernel - 1);
      // With one tap row a strip lasts for one step only.
      if (segment.kernel == 1) strip_slots = 3;
    }
    const std::size_t strips = strip_bytes() * static_cast<std::size_t>(strip_slots);
    const std::size_t barriers =
        RingBarriers::bytes(strip_slots) + RingBarriers::bytes(kMaximumWeightSlots);
    weight_slots = std::min(
        kMaximumWeightSlots,
        static_cast<int>((kSharedBudget - strips - barriers) / (kTileChannels * kBlockBytes)));
  }

  std::size_t strip_bytes() const {
    return static_cast<std::size_t>(strip_rows * kTileWidth) * kBlockBytes;
  }
  std::size_t shared_bytes_of_block() const {
    return strip_bytes() * static_cast<std::size_t>(strip_slots) +
           static_cast<std::size_t>(weight_slots) * kTileChannels * kBlockBytes +
           RingBarriers::bytes(strip_slots) + RingBarriers::bytes(weight_slots);
  }
};

// A block's share of shared memory. The operands come first: they must lie at multiples of 1024
// bytes.
template <class T>
struct Rings {
  SharedArray<T> strips, weights;
  RingBarriers strip_barriers, weight_barriers;

  EFFICIENTAD_DEVICE Rings(const Problem<T>& problem, SharedMemory& memory)
      : strips(memory.array<T>(static_cast<std::size_t>(problem.strip_slots * problem.strip_rows *
                                                        kPixelRowElements<T>))),
        weights(
            memory.array<T>(static_cast<std::size_t>(problem.weight_slots * kWeightElements<T>))),
        strip_barriers(memory, problem.strip_slots),
        weight_barriers(memory, problem.weight_slots) {}
};

// One thread: copies what the consumers need, tile by tile and step by step.
template <class T>
EFFICIENTAD_DEVICE void produce(const Problem<T>& problem, const Rings<T>& rings) {
  RingPosition strip(problem.strip_slots), weight(problem.weight_slots);
  for (int index = static_cast<int>(block_index().x); index < problem.tiles.count;
       index += static_cast<int>(grid_blocks().x)) {
    const TilePlace tile = problem.tiles.place(index);
    const bool second_group = tile.channel >= problem.second_group;
    ReductionStep step;
    for (int k = 0; k < problem.steps.count; ++k) {
      const int segment = step.segment;
      if (step.starts_strip()) {
        const int rows = problem.tiles.tile_height + problem.steps.kernel[segment] - 1;
        strip.acquire_empty(rings.strip_barriers,
                            rows * kTileWidth * static_cast<int>(kBlockBytes));
        const int channel = problem.first_channel[segment] +
                            (second_group ? problem.group_channels[segment] : 0) +
                            step.block * kBlockElements<T>;
        const int x = tile.x - problem.padding[segment] + step.column;
        const int y = tile.y - problem.padding[segment];
        load_tile<4>(rings.strips, strip.slot() * problem.strip_rows * kPixelRowElements<T>,
                     problem.inputs[segment], {{channel, x, y, tile.image}},
                     rings.strip_barriers.full(), strip.slot());
        strip.advance();
      }
      weight.acquire_empty(rings.weight_barriers, kTileChannels * static_cast<int>(kBlockBytes));
      load_tile<2>(rings.weights, weight.slot() * kWeightElements<T>, problem.weight,
                   {{k * kBlockElements<T>, tile.channel}}, rings.weight_barriers.full(),
                   weight.slot());
      weight.advance();
      step.advance(problem.steps);
    }
  }
}

// Two warpgroups: each multiplies kMatrices times 64 pixels of the tile with all its channels.
template <class T, int kMatrices>
EFFICIENTAD_DEVICE void consume(const Problem<T>& problem, const Rings<T>& rings) {
  constexpr int kSums = kTileChannels / 2;  // of a thread and matrix: 64 x 128 / 128 threads
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  const int first_row = warp / kWarpgroupWarps * kMatrices * kMatrixHeight;
  RingPosition strip(problem.strip_slots), weight(problem.weight_slots);
  for (int index = static_cast<int>(block_index().x); index < problem.tiles.count;
       index += static_cast<int>(grid_blocks().x)) {
    const TilePlace tile = problem.tiles.place(index);
    float sums[kMatrices][kSums] = {};
    ReductionStep step;
    // What the operations still on their way read, to be released when they are done.
    RingPosition read_strip = strip, read_weight = weight;
    bool read_strip_ended = false;
    for (int k = 0; k < problem.steps.count; ++k) {
      if (step.starts_strip()) strip.wait_full(rings.strip_barriers);
      weight.wait_full(rings.weight_barriers);
      const int pixels =
          (strip.slot() * problem.strip_rows + first_row + step.row) * kPixelRowElements<T>;
      const int filters = weight.slot() * kWeightElements<T>;
#pragma unroll
      for (int matrix = 0; matrix < kMatrices; ++matrix) warpgroup_fence_sums(sums[matrix]);
      warpgroup_fence();
#pragma unroll
      for (int part = 0; part < static_cast<int>(kBlockBytes) / kInstructionBytes; ++part) {
        constexpr int kElements = kInstructionBytes / static_cast<int>(sizeof(T));
#pragma unroll
        for (int matrix = 0; matrix < kMatrices; ++matrix) {
          warpgroup_multiply_add<T>(
              sums[matrix], rings.strips,
              pixels + matrix * kMatrixHeight * kPixelRowElements<T> + part * kElements,
              rings.weights, filters + part * kElements);
        }
      }
      warpgroup_commit();
      if (k > 0) {
        warpgroup_wait<1>();
        read_weight.release(rings.weight_barriers);
        if (read_strip_ended) read_strip.release(rings.strip_barriers);
      }
      read_weight = weight;
      read_strip = strip;
      read_strip_ended = step.ends_strip(problem.steps);
      weight.advance();
      if (read_strip_ended) strip.advance();
      step.advance(problem.steps);
    }
    warpgroup_wait<0>();
#pragma unroll
    for (int matrix = 0; matrix < kMatrices; ++matrix) warpgroup_fence_sums(sums[matrix]);
    read_weight.release(rings.weight_barriers);
    read_strip.release(rings.strip_barriers);

    const int y = tile.y + first_row + warp % kWarpgroupWarps * kStripHeight;
#pragma unroll
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      finish_strip<kTileChannels / 8>(problem.output, tile.image, y + matrix * kMatrixHeight,
                                      tile.x, tile.channel, sums[matrix]);
    }
  }
}

template <class T, int kMatrices>
EFFICIENTAD_KERNEL(kThreads)
convolution_kernel(const EFFICIENTAD_GRID_CONSTANT Problem<T> problem) {
  SharedMemory memory;
  const Rings<T> rings(problem, memory);
  if (thread_index() == 0) {
    rings.strip_barriers.initialize(problem.strip_slots, kConsumerWarps);
    rings.weight_barriers.initialize(problem.weight_slots, kConsumerWarps);
    transaction_init_fence();
  }
  barrier();
  if (thread_index() < kConsumerWarps * kWarpSize) {
    consume<T, kMatrices>(problem, rings);
  } else if (thread_index() % kWarpSize == 0) {
    produce(problem, rings);
  }
}

// The box of a copy is what lands in a slot of a ring.
Status map_input(TensorMap& map, const SegmentConvolution& problem, const Segment& segment,
                 int tile_height) {
  const std::int64_t row = segment.width * segment.pixel_channels;
  return make_tensor_map(map,
                         {problem.type,
                          segment.input,
                          4,
                          {segment.pixel_channels, segment.width, segment.height, problem.batch},
                          {1, segment.pixel_channels, row, row * segment.height},
                          {static_cast<int>(block_channels(problem.type)), kTileWidth,
                           tile_height + segment.kernel - 1, 1}});
}

Status map_weight(TensorMap& map, const SegmentConvolution& problem) {
  const std::int64_t length = reduction_length(problem);
  return make_tensor_map(map, {problem.type,
                               problem.weight,
                               2,
                               {length, problem.output_channels},
                               {1, length},
                               {static_cast<int>(block_channels(problem.type)), kTileChannels}});
}

template <class T, int kMatrices>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  constexpr int kHeight = kConsumerWarpgroups * kMatrices * kMatrixHeight;
  DeviceProperties device;
  if (const Status status = device_properties(device); status != kOk) return status;
  Problem<T> parameters(problem, TileGrid(problem, kHeight, kTileChannels));
  Status status = map_weight(parameters.weight, problem);
  for (int i = 0; i < problem.segment_count && status == kOk; ++i) {
    status = map_input(parameters.inputs[i], problem, problem.segments[i], kHeight);
  }
  if (status != kOk) return status;
  // A block stays on its multiprocessor and copies for the next tile while it finishes one. As few
  // blocks as need no more turns than one on every multiprocessor would: the autoencoder's kernels,
  // which run beside this one, have the other multiprocessors.
  const std::int64_t turns = ceiling_divide(parameters.tiles.count, device.multiprocessors);
  const LaunchShape shape{grid_over(ceiling_divide(parameters.tiles.count, turns)), kThreads,
                          parameters.shared_bytes_of_block()};
  return launch(convolution_kernel<T, kMatrices>, shape, execution, parameters);
}

template <class T>
Status run(const SegmentConvolution& problem, const Execution& execution) {
  DeviceProperties device;
  if (const Status status = device_properties(device); status != kOk) return status;
  // Higher tiles load less for every product, but must be enough for all multiprocessors.
  const bool enough =
      TileGrid(problem, kConsumerWarpgroups * 2 * kMatrixHeight, kTileChannels).count >=
      device.multiprocessors;
  return enough ? run<T, 2>(problem, execution) : run<T, 1>(problem, execution);
}

}  // namespace

bool supports(const SegmentConvolution& problem) {
  bool supported =
      problem.output_channels % kTileChannels == 0 && problem.second_group % kTileChannels == 0;
  for (int i = 0; i < problem.segment_count; ++i) {
    const Segment& segment = problem.segments[i];
    supported = supported && segment.stride == 1 && !segment.resampled;
  }
  return supported;
}

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution) {
  return for_operand_type(problem.type,
                          [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda::sm90
