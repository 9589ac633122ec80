#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/reduction.h"
#include "cuda/tensors.h"
#include "efficientad/scalar_dispatch.h"
#include "efficientad/squared_difference_map.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

// With fewer blocks than this most of a GPU is idle: then narrower accesses and more blocks win.
constexpr std::int64_t kEnoughBlocks = 128;

template <class T>
struct Problem {
  Maps<const T> a, b;
  Global<T> output;
  std::int64_t pixels, channels, all_pixels, tiles;
};

// Adds the squared differences of Width neighbouring elements to as many sums.
template <int Width, class T>
EFFICIENTAD_DEVICE void add_squares(const Problem<T>& problem, std::int64_t a, std::int64_t b,
                                    Accumulator<T> (&sums)[Width]) {
  const auto left = problem.a.data.template load_vector<Width>(a);
  const auto right = problem.b.data.template load_vector<Width>(b);
  for (int i = 0; i < Width; ++i) {
    const Accumulator<T> difference = widen(left.values[i]) - widen(right.values[i]);
    sums[i] += difference * difference;
  }
}

// Planes: each warp takes every kWarps-th channel of the same 32 * Width neighbouring pixels, then
// the block adds the warps' sums.
template <class T, int Width>
EFFICIENTAD_KERNEL(kThreads)
planes_kernel(Problem<T> problem) {
  constexpr int kPixels = kWarpSize * Width;  // of a tile
  const int thread = static_cast<int>(thread_index());
  const int lane = thread % kWarpSize, warp = thread / kWarpSize;
  SharedMemory memory;
  // [warp][element of the vector][lane]: free of bank conflicts when written
  const auto partial = memory.array<Accumulator<T>>(kWarps * kPixels);

  for (std::int64_t tile = block_index().x; tile < problem.tiles; tile += grid_blocks().x) {
    Accumulator<T> sums[Width] = {};
    const std::int64_t first = tile * kPixels + lane * Width;
    if (first < problem.all_pixels) {
      const std::int64_t image = first / problem.pixels, pixel = first % problem.pixels;
      for (std::int64_t channel = warp; channel < problem.channels; channel += kWarps) {
        add_squares<Width>(problem, image * problem.a.image + channel * problem.a.channel + pixel,
                           image * problem.b.image + channel * problem.b.channel + pixel, sums);
      }
    }
    for (int i = 0; i < Width; ++i) {
      partial.store((warp * Width + i) * kWarpSize + lane, sums[i]);
    }
    barrier();
    const std::int64_t target = tile * kPixels + thread;
    if (thread < kPixels && target < problem.all_pixels) {
      const int place = thread % Width * kWarpSize + thread / Width;
      Accumulator<T> sum = partial.load(place);
      for (int other = 1; other < kWarps; ++other) sum += partial.load(other * kPixels + place);
      problem.output.store(target, narrow<T>(sum / static_cast<Accumulator<T>>(problem.channels)));
    }
    barrier();
  }
}

// Channels-last: a group of `lanes` (a power of two) neighbouring lanes shares a pixel's channels.
template <class T, int Width>
EFFICIENTAD_KERNEL(kThreads)
channels_last_kernel(Problem<T> problem, int lanes) {
  const int thread = static_cast<int>(thread_index());
  const int lane = thread % lanes;

  for (std::int64_t tile = block_index().x; tile < problem.tiles; tile += grid_blocks().x) {
    const std::int64_t target = tile * (kThreads / lanes) + thread / lanes;
    Accumulator<T> sums[Width] = {};
    if (target < problem.all_pixels) {
      const std::int64_t image = target / problem.pixels, pixel = target % problem.pixels;
      const std::int64_t a = image * problem.a.image + pixel * problem.a.pixel;
      const std::int64_t b = image * problem.b.image + pixel * problem.b.pixel;
      for (std::int64_t channel = lane * Width; channel < problem.channels;
           channel += lanes * Width) {
        add_squares<Width>(problem, a + channel, b + channel, sums);
      }
    }
    Accumulator<T> sum = sums[0];
    for (int i = 1; i < Width; ++i) sum += sums[i];
    sum = reduce_lanes<Sum>(sum, lanes);
    if (lane == 0 && target < problem.all_pixels) {
      problem.output.store(target, narrow<T>(sum / static_cast<Accumulator<T>>(problem.channels)));
    }
  }
}

template <class T, int Width>
Status run_planes(Problem<T> problem, const Execution& execution) {
  problem.tiles = ceiling_divide(problem.all_pixels, kWarpSize * Width);
  const LaunchShape shape{grid_over(problem.tiles), kThreads,
                          shared_bytes<Accumulator<T>>(kThreads * Width)};
  return launch(planes_kernel<T, Width>, shape, execution, problem);
}

template <class T, int Width>
Status run_channels_last(Problem<T> problem, const Execution& execution) {
  int lanes = 1;
  while (lanes < kWarpSize && lanes * Width < problem.channels) lanes *= 2;
  problem.tiles = ceiling_divide(problem.all_pixels, kThreads / lanes);
  const LaunchShape shape{grid_over(problem.tiles), kThreads, 0};
  return launch(channels_last_kernel<T, Width>, shape, execution, problem, lanes);
}

template <class T>
Status run(const SquaredDifferenceMap& map, const Execution& execution) {
  const FeatureMaps &a = map.a, &b = map.b;
  const std::int64_t all_pixels = a.batch * a.pixels();
  const Problem<T> problem{Maps<const T>(a),
                           Maps<const T>(b),
                           Global<T>(static_cast<T*>(map.output), all_pixels),
                           a.pixels(),
                           a.channels,
                           all_pixels,
                           0};
  constexpr int kWidth = kVectorWidth<T>;
  if (a.is_planes()) {
    const bool wide =
        all_pixels >= kEnoughBlocks * kWarpSize * kWidth &&
        is_vectorizable(a.data, sizeof(T), {a.batch_stride, a.channel_stride, a.pixels()}) &&
        is_vectorizable(b.data, sizeof(T), {b.batch_stride, b.channel_stride});
    return wide ? run_planes<T, kWidth>(problem, execution) : run_planes<T, 1>(problem, execution);
  }
  const bool wide =
      is_vectorizable(a.data, sizeof(T), {a.batch_stride, a.column_stride, a.channels}) &&
      is_vectorizable(b.data, sizeof(T), {b.batch_stride, b.column_stride});
  return wide ? run_channels_last<T, kWidth>(problem, execution)
              : run_channels_last<T, 1>(problem, execution);
}

}  // namespace

Status squared_difference_map(const SquaredDifferenceMap& problem, const Execution& execution) {
  if (problem.a.batch * problem.a.pixels() == 0) return kOk;
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
