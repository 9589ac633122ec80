#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/reduction.h"
#include "cuda/resampling.h"
#include "efficientad/normalize_and_combine.h"
#include "efficientad/scalar_dispatch.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = kTileThreads;
constexpr int kWarps = kThreads / kWarpSize;

// combined = (local - local_offset) * local_factor + (global - global_offset) * global_factor
template <class Number>
struct Calibration {
  Number local_offset, local_factor, global_offset, global_factor;
};

// A calibrated map is 0 at quantile a and 0.1 at quantile b; each map counts half.
double calibration_factor(const QuantilePair& quantiles) {
  return 0.5 * 0.1 / (quantiles.b - quantiles.a);
}

template <class T>
struct Problem {
  Global<const T> local_map, global_map;
  Calibration<Accumulator<T>> calibration;
  Axis rows, columns;
  std::int64_t planes, batch, pixels, tiles_across, tiles_along, tiles;
  Global<T> map;
  Global<Accumulator<T>> score;
};

// kPlanes is the number of planes where the compiler is to know it, so that all loads are on their
// way at once; otherwise 0.
template <int kPlanes, class T>
EFFICIENTAD_DEVICE Accumulator<T> combined_at(const Problem<T>& problem, std::int64_t index) {
  const Calibration<Accumulator<T>>& calibration = problem.calibration;
  Accumulator<T> local = widen(problem.local_map.load(index));
  Accumulator<T> global = widen(problem.global_map.load(index));
  const std::int64_t plane_stride = problem.batch * problem.pixels;
  const std::int64_t planes = kPlanes > 0 ? kPlanes : problem.planes;
#pragma unroll(kPlanes > 0 ? kPlanes : 1)
  for (std::int64_t plane = 1; plane < planes; ++plane) {
    local += widen(problem.local_map.load(index + plane * plane_stride));
    global += widen(problem.global_map.load(index + plane * plane_stride));
  }
  return (local - calibration.local_offset) * calibration.local_factor +
         (global - calibration.global_offset) * calibration.global_factor;
}

template <int kPlanes, class T>
EFFICIENTAD_DEVICE void write_score(const Problem<T>& problem, std::int64_t image,
                                    const SharedArray<Accumulator<T>>& scratch) {
  const std::int64_t first = image * problem.pixels;
  Accumulator<T> maximum = combined_at<kPlanes>(problem, first);
#pragma unroll 2
  for (std::int64_t pixel = thread_index(); pixel < problem.pixels; pixel += kThreads) {
    maximum = Maximum::apply(maximum, combined_at<kPlanes>(problem, first + pixel));
  }
  maximum = reduce_block<Maximum>(maximum, scratch);
  if (thread_index() == 0) problem.score.store(image, maximum);
}

template <int kPlanes, class T>
EFFICIENTAD_DEVICE void write_map_tile(const Problem<T>& problem, std::int64_t tile,
                                       const TileSamples<Accumulator<T>>& samples) {
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  const std::int64_t first_column = tile % problem.tiles_across * kTileColumns;
  const std::int64_t rest = tile / problem.tiles_across;
  const std::int64_t first_row = rest % problem.tiles_along * kTileRows;
  const std::int64_t image = rest / problem.tiles_along;
  const std::int64_t height = problem.rows.output_length, width = problem.columns.output_length;

  samples.compute(problem.rows, first_row, problem.columns, first_column);
  barrier();
  const std::int64_t row = first_row + warp, column = first_column + lane;
  if (row < height && column < width) {
    const Accumulator<T> value =
        interpolate(samples.row(warp), samples.column(lane), [&](std::int64_t y, std::int64_t x) {
          return combined_at<kPlanes>(
              problem, image * problem.pixels + y * problem.columns.input_length + x);
        });
    problem.map.store((image * height + row) * width + column, narrow<T>(value));
  }
  barrier();
}

// The first `batch` tiles are the scores of the images, the others are tiles of the maps.
template <class T, int kPlanes>
EFFICIENTAD_KERNEL(kThreads)
combine_kernel(Problem<T> problem) {
  SharedMemory memory;
  const TileSamples<Accumulator<T>> samples(memory);
  const auto scratch = memory.array<Accumulator<T>>(kWarps);
  for (std::int64_t tile = block_index().x; tile < problem.tiles; tile += grid_blocks().x) {
    if (tile < problem.batch) {
      write_score<kPlanes>(problem, tile, scratch);
    } else {
      write_map_tile<kPlanes>(problem, tile - problem.batch, samples);
    }
  }
}

template <class T>
Status run(const NormalizeAndCombine& problem, const Execution& execution) {
  using Number = Accumulator<T>;
  const std::int64_t pixels = problem.height * problem.width;
  const std::int64_t elements = problem.planes * problem.batch * pixels;
  const Axis rows(problem.rows, problem.height, problem.output_height);
  const Axis columns(problem.columns, problem.width, problem.output_width);
  const Calibration<Number> calibration{
      static_cast<Number>(problem.local_quantiles.a),
      static_cast<Number>(calibration_factor(problem.local_quantiles)),
      static_cast<Number>(problem.global_quantiles.a),
      static_cast<Number>(calibration_factor(problem.global_quantiles))};
  const std::int64_t tiles = problem.batch * (1 + tiles_across(columns) * tiles_along(rows));
  const std::int64_t output_elements = problem.batch * problem.output_height * problem.output_width;
  const Problem<T> parameters{Global<const T>(static_cast<const T*>(problem.local_map), elements),
                              Global<const T>(static_cast<const T*>(problem.global_map), elements),
                              calibration,
                              rows,
                              columns,
                              problem.planes,
                              problem.batch,
                              pixels,
                              tiles_across(columns),
                              tiles_along(rows),
                              tiles,
                              Global<T>(static_cast<T*>(problem.map), output_elements),
                              Global<Number>(static_cast<Number*>(problem.score), problem.batch)};
  const LaunchShape shape{grid_over(tiles), kThreads,
                          tile_samples_bytes<Number>() + shared_bytes<Number>(kWarps)};
  // One map each, from the op, or the engine's planes of squared differences, in float.
  constexpr std::int64_t kEnginePlanes = 384 / kPlaneChannels;
  if (problem.planes == 1) return launch(combine_kernel<T, 1>, shape, execution, parameters);
  if constexpr (std::is_same_v<T, float>) {
    if (problem.planes == kEnginePlanes) {
      return launch(combine_kernel<T, kEnginePlanes>, shape, execution, parameters);
    }
  }
  return launch(combine_kernel<T, 0>, shape, execution, parameters);
}

}  // namespace

Status normalize_and_combine(const NormalizeAndCombine& problem, const Execution& execution) {
  if (problem.batch == 0) return kOk;
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
