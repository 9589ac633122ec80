#include "efficientad/squared_difference_map.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/scalar_dispatch.h"
#include "cpu/simd.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Pixels whose sums stay in registers while the channels pass by.
constexpr int kVectorsPerTile = 8;

template <class Scalar>
struct Operands {
  const Scalar* a;
  const Scalar* b;
  Scalar* output;
};

// Sums over channels for `pixels` consecutive pixels of one image, planes layout.
template <class Scalar>
void planes_tile(const SquaredDifferenceMap& problem, const Operands<Scalar>& at,
                 std::int64_t pixels) {
  using Sum = Accumulator<Scalar>;
  const Sum scale = Sum{1} / static_cast<Sum>(problem.a.channels);
  Vector<Sum> sums[kVectorsPerTile] = {};
  if (pixels == kVectorsPerTile * kLanes<Sum>) {
    for (std::int64_t channel = 0; channel < problem.a.channels; ++channel) {
      const Scalar* a = at.a + channel * problem.a.channel_stride;
      const Scalar* b = at.b + channel * problem.b.channel_stride;
      for (int vector = 0; vector < kVectorsPerTile; ++vector) {
        const Vector<Sum> difference = load(a + vector * kLanes<Sum>) - load(b + vector * kLanes<Sum>);
        sums[vector] += difference * difference;
      }
    }
    for (int vector = 0; vector < kVectorsPerTile; ++vector) {
      store(at.output + vector * kLanes<Sum>, sums[vector] * scale);
    }
    return;
  }
  for (std::int64_t first = 0; first < pixels; first += kLanes<Sum>) {
    const std::int64_t count = pixels - first < kLanes<Sum> ? pixels - first : kLanes<Sum>;
    Vector<Sum> sum = {};
    for (std::int64_t channel = 0; channel < problem.a.channels; ++channel) {
      const Vector<Sum> difference =
          load_first(at.a + first + channel * problem.a.channel_stride, count) -
          load_first(at.b + first + channel * problem.b.channel_stride, count);
      sum += difference * difference;
    }
    store_first(at.output + first, sum * scale, count);
  }
}

template <class Scalar>
Accumulator<Scalar> channels_last_pixel(const Scalar* a, const Scalar* b, std::int64_t channels) {
  using Sum = Accumulator<Scalar>;
  constexpr int kSums = 4;
  Vector<Sum> sums[kSums] = {};
  std::int64_t channel = 0;
  for (; channel + kSums * kLanes<Sum> <= channels; channel += kSums * kLanes<Sum>) {
    for (int index = 0; index < kSums; ++index) {
      const std::int64_t at = channel + index * kLanes<Sum>;
      const Vector<Sum> difference = load(a + at) - load(b + at);
      sums[index] += difference * difference;
    }
  }
  for (; channel < channels; channel += kLanes<Sum>) {
    const std::int64_t count = channels - channel < kLanes<Sum> ? channels - channel : kLanes<Sum>;
    const Vector<Sum> difference = load_first(a + channel, count) - load_first(b + channel, count);
    sums[0] += difference * difference;
  }
  return sum_of_lanes<Sum>((sums[0] + sums[1]) + (sums[2] + sums[3])) / static_cast<Sum>(channels);
}

template <class Scalar>
void run(const SquaredDifferenceMap& problem, const Execution& execution) {
  const FeatureMaps& a = problem.a;
  const FeatureMaps& b = problem.b;
  const std::int64_t pixels = a.pixels();
  const int threads = useful_threads(execution, a.elements());
  const auto operands = [&](std::int64_t image, std::int64_t pixel) {
    return Operands<Scalar>{
        static_cast<const Scalar*>(a.data) + image * a.batch_stride + pixel * a.column_stride,
        static_cast<const Scalar*>(b.data) + image * b.batch_stride + pixel * b.column_stride,
        static_cast<Scalar*>(problem.output) + image * pixels + pixel};
  };
  if (a.is_planes()) {
    constexpr std::int64_t kTile = kVectorsPerTile * kLanes<Accumulator<Scalar>>;
    const std::int64_t tiles = (pixels + kTile - 1) / kTile;
    parallel_ranges(threads, a.batch * tiles, [&](int, std::int64_t begin, std::int64_t end) {
      for (std::int64_t tile = begin; tile < end; ++tile) {
        const std::int64_t first = tile % tiles * kTile;
        const std::int64_t count = pixels - first < kTile ? pixels - first : kTile;
        planes_tile(problem, operands(tile / tiles, first), count);
      }
    });
    return;
  }
  parallel_ranges(threads, a.batch * pixels, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      const Operands<Scalar> at = operands(pixel / pixels, pixel % pixels);
      store_one(at.output, channels_last_pixel(at.a, at.b, a.channels));
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
