#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/resampling.h"
#include "cuda/tensors.h"
#include "efficientad/scalar_dispatch.h"
#include "efficientad/upsample_bilinear.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = kTileThreads;

// A tile also spans this many channels: one per lane when the layout is channels-last.
constexpr int kTileChannels = kWarpSize;

// Channels for which a thread of the gradient uses the weights that it has computed.
constexpr int kBundle = 8;

template <class T>
struct Forward {
  Maps<const T> input;
  Maps<T> output;
  Axis rows, columns;
  std::int64_t channels, tiles_across, tiles_along, channel_tiles, tiles;
};

// The pixel of the tile at (row, column), for channels [channel, end), Unroll at a time.
template <int Unroll, class T>
EFFICIENTAD_DEVICE void write_pixel(const Forward<T>& problem,
                                    const TileSamples<Accumulator<T>>& samples, std::int64_t image,
                                    std::int64_t channel, std::int64_t end, std::int64_t first_row,
                                    int row, std::int64_t first_column, int column) {
  if (first_row + row >= problem.rows.output_length ||
      first_column + column >= problem.columns.output_length) {
    return;
  }
  const Sample<Accumulator<T>> vertical = samples.row(row), horizontal = samples.column(column);
  const std::int64_t pixel =
      (first_row + row) * problem.columns.output_length + first_column + column;
  const std::int64_t source = image * problem.input.image;
  const std::int64_t target = image * problem.output.image + pixel * problem.output.pixel;
#pragma unroll Unroll
  for (; channel < end; ++channel) {
    const Accumulator<T> value =
        interpolate(vertical, horizontal, [&](std::int64_t y, std::int64_t x) {
          const std::int64_t corner = y * problem.columns.input_length + x;
          return widen(problem.input.data.load(source + channel * problem.input.channel +
                                               corner * problem.input.pixel));
        });
    problem.output.data.store(target + channel * problem.output.channel, narrow<T>(value));
  }
}

// Neighbouring lanes write neighbouring elements: columns of planes, channels of channels-last.
template <class T, bool IsPlanes>
EFFICIENTAD_KERNEL(kThreads)
forward_kernel(Forward<T> problem) {
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  SharedMemory memory;
  const TileSamples<Accumulator<T>> samples(memory);

  for (std::int64_t tile = block_index().x; tile < problem.tiles; tile += grid_blocks().x) {
    const std::int64_t first_column = tile % problem.tiles_across * kTileColumns;
    std::int64_t rest = tile / problem.tiles_across;
    const std::int64_t first_row = rest % problem.tiles_along * kTileRows;
    rest /= problem.tiles_along;
    const std::int64_t channel = rest % problem.channel_tiles * kTileChannels;
    const std::int64_t image = rest / problem.channel_tiles;
    const std::int64_t end = lesser(problem.channels, channel + kTileChannels);

    samples.compute(problem.rows, first_row, problem.columns, first_column);
    barrier();
    if (IsPlanes) {
      write_pixel<4>(problem, samples, image, channel, end, first_row, warp, first_column, lane);
    } else {
      const std::int64_t own = channel + lane;
      for (int pixel = warp; pixel < kTileRows * kTileColumns; pixel += kTileRows) {
        write_pixel<1>(problem, samples, image, own, lesser(end, own + 1), first_row,
                       pixel / kTileColumns, first_column, pixel % kTileColumns);
      }
    }
    barrier();
  }
}

template <class T>
Status forward(const UpsampleBilinear& problem, const Execution& execution) {
  const FeatureMaps &input = problem.input, &output = problem.output;
  const Axis rows(problem.rows, input.height, output.height);
  const Axis columns(problem.columns, input.width, output.width);
  const std::int64_t channel_tiles = ceiling_divide(output.channels, kTileChannels);
  const std::int64_t tiles =
      tiles_across(columns) * tiles_along(rows) * channel_tiles * output.batch;
  const Forward<T> parameters{
      Maps<const T>(input),  Maps<T>(output),   rows,          columns, output.channels,
      tiles_across(columns), tiles_along(rows), channel_tiles, tiles};
  const LaunchShape shape{grid_over(tiles), kThreads, tile_samples_bytes<Accumulator<T>>()};
  return launch(output.is_planes() ? forward_kernel<T, true> : forward_kernel<T, false>, shape,
                execution, parameters);
}

template <class T>
struct Gradient {
  Maps<const T> output_gradient;
  Maps<T> input_gradient;
  Axis rows, columns;
  std::int64_t channels, pixels;
  int neighbours;  // lanes that work on neighbouring channels of one pixel
  std::int64_t channel_tiles, items;
};

struct Range {
  std::int64_t begin, end;
};

// Output samples that may read input element `index`: those whose coordinate lies within 1 of it,
// plus one on either side for rounding, and at the ends all those that are clamped.
EFFICIENTAD_DEVICE Range readers(const Axis& axis, std::int64_t index) {
  const double length = static_cast<double>(axis.output_length);
  Range range{0, axis.output_length};
  if (!(axis.step > 0)) return range;
  const double center = static_cast<double>(index) - axis.start;
  if (index > 0) {
    const double begin = ceil((center - 1) / axis.step) - 1;
    range.begin = static_cast<std::int64_t>(fmin(fmax(begin, 0.0), length));
  }
  if (index < axis.input_length - 1) {
    const double end = floor((center + 1) / axis.step) + 2;
    range.end = static_cast<std::int64_t>(fmin(fmax(end, 0.0), length));
  }
  return range;
}

// The weight with which output sample `output` reads input element `index`.
template <class Number>
EFFICIENTAD_DEVICE Number weight_of(const Axis& axis, std::int64_t output, std::int64_t index) {
  const Sample<Number> sample = sample_at<Number>(axis, output);
  Number weight = 0;
  if (sample.lower == index) weight += 1 - sample.fraction;
  if (sample.upper == index) weight += sample.fraction;
  return weight;
}

// An item is an input pixel with kBundle channels: neighbouring ones where a plane's pixels are
// neighbours in memory (then `neighbours` is 1), otherwise every 32nd, one lane beside the other.
template <class T>
EFFICIENTAD_KERNEL(kThreads)
gradient_kernel(Gradient<T> problem) {
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t item = std::int64_t{block_index().x} * kThreads + thread_index();
       item < problem.items; item += threads) {
    const std::int64_t neighbour = item % problem.neighbours;
    std::int64_t rest = item / problem.neighbours;
    const std::int64_t pixel = rest % problem.pixels;
    rest /= problem.pixels;
    const std::int64_t first_channel =
        rest % problem.channel_tiles * kBundle * problem.neighbours + neighbour;
    const std::int64_t image = rest / problem.channel_tiles;

    const std::int64_t y = pixel / problem.columns.input_length;
    const std::int64_t x = pixel % problem.columns.input_length;
    const Range row_range = readers(problem.rows, y);
    const Range column_range = readers(problem.columns, x);
    Accumulator<T> sums[kBundle] = {};
    for (std::int64_t row = row_range.begin; row < row_range.end; ++row) {
      const Accumulator<T> row_weight = weight_of<Accumulator<T>>(problem.rows, row, y);
      if (row_weight == 0) continue;
      for (std::int64_t column = column_range.begin; column < column_range.end; ++column) {
        const Accumulator<T> weight =
            row_weight * weight_of<Accumulator<T>>(problem.columns, column, x);
        if (weight == 0) continue;
        const std::int64_t source =
            image * problem.output_gradient.image +
            (row * problem.columns.output_length + column) * problem.output_gradient.pixel;
        for (int i = 0; i < kBundle; ++i) {
          const std::int64_t channel = first_channel + i * problem.neighbours;
          if (channel >= problem.channels) continue;
          sums[i] += weight * widen(problem.output_gradient.data.load(
                                  source + channel * problem.output_gradient.channel));
        }
      }
    }
    for (int i = 0; i < kBundle; ++i) {
      const std::int64_t channel = first_channel + i * problem.neighbours;
      if (channel >= problem.channels) continue;
      problem.input_gradient.data.store(image * problem.input_gradient.image +
                                            channel * problem.input_gradient.channel +
                                            pixel * problem.input_gradient.pixel,
                                        narrow<T>(sums[i]));
    }
  }
}

template <class T>
Status gradient(const UpsampleBilinearGradient& problem, const Execution& execution) {
  const FeatureMaps &output = problem.output_gradient, &input = problem.input_gradient;
  const int neighbours = input.is_planes() ? 1 : kWarpSize;
  const std::int64_t channel_tiles = ceiling_divide(input.channels, kBundle * neighbours);
  const Gradient<T> parameters{Maps<const T>(output),
                               Maps<T>(input),
                               Axis(problem.rows, input.height, output.height),
                               Axis(problem.columns, input.width, output.width),
                               input.channels,
                               input.pixels(),
                               neighbours,
                               channel_tiles,
                               input.batch * channel_tiles * input.pixels() * neighbours};
  const LaunchShape shape{grid_over(ceiling_divide(parameters.items, kThreads)), kThreads, 0};
  return launch(gradient_kernel<T>, shape, execution, parameters);
}

}  // namespace

Status upsample_bilinear(const UpsampleBilinear& problem, const Execution& execution) {
  if (problem.output.elements() == 0) return kOk;
  return for_floating_type(
      problem.type, [&](auto scalar) { return forward<decltype(scalar)>(problem, execution); });
}

Status upsample_bilinear_gradient(const UpsampleBilinearGradient& problem,
                                  const Execution& execution) {
  if (problem.input_gradient.elements() == 0) return kOk;
  return for_floating_type(
      problem.type, [&](auto scalar) { return gradient<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
