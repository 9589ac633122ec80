#include "efficientad/squared_difference_map.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/runs.h"
#include "cpu/simd.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Pixels of one tile: their sums stay in the first-level cache while the channels pass by, and each
// channel is read in a run long enough for the hardware to fetch ahead.
constexpr std::int64_t kTilePixels = 1024;
constexpr int kChannelsAtOnce = 4;

template <class Scalar>
struct Operands {
  const Scalar* a;
  const Scalar* b;
  Scalar* output;
};

// Adds `channels` (at most kChannelsAtOnce) channels to the sums of `pixels` consecutive pixels;
// first to each other, which rounds a quarter as often at the size of the whole sum.
template <class Scalar>
inline void add_channels(const SquaredDifferenceMap& problem, const Scalar* a, const Scalar* b,
                         int channels, std::int64_t pixels, Accumulator<Scalar>* sums) {
  using Sum = Accumulator<Scalar>;
  visit_vectors<Sum>(pixels, [&](std::int64_t pixel, std::int64_t count, Mask<Sum>) {
    Vector<Sum> sum = {};
    for (int channel = 0; channel < channels; ++channel) {
      const Vector<Sum> difference =
          load_up_to(a + channel * problem.a.channel_stride + pixel, count) -
          load_up_to(b + channel * problem.b.channel_stride + pixel, count);
      sum += difference * difference;
    }
    store(sums + pixel, load(sums + pixel) + sum);
  });
}

// The map of `pixels` consecutive pixels of one image, planes layout.
template <class Scalar>
void planes_tile(const SquaredDifferenceMap& problem, const Operands<Scalar>& at,
                 std::int64_t pixels) {
  using Sum = Accumulator<Scalar>;
  Sum sums[kTilePixels] = {};
  const std::int64_t channels = problem.a.channels;
  std::int64_t channel = 0;
  for (; channel + kChannelsAtOnce <= channels; channel += kChannelsAtOnce) {
    add_channels(problem, at.a + channel * problem.a.channel_stride,
                 at.b + channel * problem.b.channel_stride, kChannelsAtOnce, pixels, sums);
  }
  if (channel < channels) {
    add_channels(problem, at.a + channel * problem.a.channel_stride,
                 at.b + channel * problem.b.channel_stride, static_cast<int>(channels - channel),
                 pixels, sums);
  }
  const Sum scale = Sum{1} / static_cast<Sum>(channels);
  visit_vectors<Sum>(pixels, [&](std::int64_t pixel, std::int64_t count, Mask<Sum>) {
    store_up_to(at.output + pixel, load(sums + pixel) * scale, count);
  });
}

// The sum over channels of one pixel, channels-last layout. `a_next` and `b_next` are fetched ahead
// by hand: where channels were sliced away, the hardware does not see that pixels follow after a
// gap.
template <class Scalar>
inline Accumulator<Scalar> channels_last_sum(const Scalar* a, const Scalar* b, const Scalar* a_next,
                                             const Scalar* b_next, std::int64_t channels) {
  using Sum = Accumulator<Scalar>;
  constexpr int kSums = 4;
  Vector<Sum> sums[kSums] = {};
  std::int64_t channel = 0;
  for (; channel + kSums * kLanes<Sum> <= channels; channel += kSums * kLanes<Sum>) {
    for (int index = 0; index < kSums; ++index) {
      const std::int64_t at = channel + index * kLanes<Sum>;
      __builtin_prefetch(a_next + at);
      __builtin_prefetch(b_next + at);
      const Vector<Sum> difference = load(a + at) - load(b + at);
      sums[index] += difference * difference;
    }
  }
  for (; channel < channels; channel += kLanes<Sum>) {
    const std::int64_t count = channels - channel < kLanes<Sum> ? channels - channel : kLanes<Sum>;
    const Vector<Sum> difference = load_first(a + channel, count) - load_first(b + channel, count);
    sums[0] += difference * difference;
  }
  return sum_of_lanes<Sum>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// The map of `pixels` consecutive pixels of one image, channels-last layout.
template <class Scalar>
void channels_last_pixels(const SquaredDifferenceMap& problem, const Operands<Scalar>& at,
                          std::int64_t pixels) {
  constexpr std::int64_t kPixelsAhead = 4;
  const std::int64_t channels = problem.a.channels;
  const Accumulator<Scalar> scale =
      Accumulator<Scalar>{1} / static_cast<Accumulator<Scalar>>(channels);
  const Scalar* a = at.a;
  const Scalar* b = at.b;
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
    // The last pixels fetch themselves again.
    const std::int64_t ahead = pixel + kPixelsAhead < pixels ? kPixelsAhead : 0;
    store_one(at.output + pixel,
              scale * channels_last_sum(a, b, a + ahead * problem.a.column_stride,
                                        b + ahead * problem.b.column_stride, channels));
    a += problem.a.column_stride;
    b += problem.b.column_stride;
  }
}

template <class Scalar>
void run(const SquaredDifferenceMap& problem, const Execution& execution) {
  const FeatureMaps& a = problem.a;
  const FeatureMaps& b = problem.b;
  const std::int64_t pixels = a.pixels();
  const Team team = team_for(execution, a.elements());
  const auto operands = [&](std::int64_t image, std::int64_t pixel) {
    return Operands<Scalar>{
        static_cast<const Scalar*>(a.data) + image * a.batch_stride + pixel * a.column_stride,
        static_cast<const Scalar*>(b.data) + image * b.batch_stride + pixel * b.column_stride,
        static_cast<Scalar*>(problem.output) + image * pixels + pixel};
  };
  if (a.is_planes()) {
    const std::int64_t tiles = (pixels + kTilePixels - 1) / kTilePixels;
    parallel_ranges(team, a.batch * tiles, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) {
        const Range range = part_of(pixels, tile % tiles, tiles);
        planes_tile(problem, operands(tile / tiles, range.begin), range.end - range.begin);
      }
    });
    return;
  }
  parallel_ranges(team, a.batch * pixels, [&](int, std::int64_t begin, std::int64_t end) {
    while (begin < end) {
      const Operands<Scalar> at = operands(begin / pixels, begin % pixels);
      const std::int64_t left_in_image = pixels - begin % pixels;
      const std::int64_t count = left_in_image < end - begin ? left_in_image : end - begin;
      channels_last_pixels(problem, at, count);
      begin += count;
    }
  });
}

}  // namespace

Status squared_difference_map(const SquaredDifferenceMap& problem, const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    run<decltype(scalar)>(problem, execution);
    return kOk;
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
