// The gradient of filters by Winograd's method (winograd_convolution.h): for tiles of 7 - kernel
// outputs along either axis, whose gradients are the filter, and kernel x kernel sums, which are
// the outputs; added up over all tiles before A is applied.
#include "cpu/kernels.h"
#include "cpu/multiply.h"
#include "cpu/padded_maps.h"
#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "cpu/winograd_transforms.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Of the values at the points that are there at a time: as many as the sums have, to which they are
// added once, and these at the least.
constexpr std::int64_t kFewestBytes = std::int64_t{1} << 22;

// Tiles whose gradients, of a group of outputs, stay in the first-level cache for all inputs.
constexpr std::int64_t kTilesInCache = 64;

template <class Number, int kTaps>
class GradientAtPoints {
 public:
  explicit GradientAtPoints(const FilterGradient& problem)
      : problem_(problem),
        tile_rows_((problem.height + kTile - 1) / kTile),
        tile_columns_((problem.width + kTile - 1) / kTile),
        tiles_(problem.batch * tile_rows_ * tile_columns_),
        input_maps_(problem.input, problem.batch, problem.input_height, problem.input_width,
                    problem.input_channels),
        gradient_maps_(problem.output_gradient, problem.batch, problem.height, problem.width,
                       problem.output_channels) {
    const auto bytes = [](std::int64_t numbers) {
      return kPlanePoints * numbers * static_cast<std::int64_t>(sizeof(Number));
    };
    const std::int64_t sums = bytes(problem.input_channels * problem.output_channels);
    const std::int64_t tile = bytes(problem.input_channels + problem.output_channels);
    at_once_ = (sums > kFewestBytes ? sums : kFewestBytes) / tile;
    if (at_once_ > tiles_) at_once_ = tiles_;
    if (at_once_ < 1) at_once_ = 1;
    // One cache line more, so that the points do not fall into the same sets of the caches.
    input_pitch_ = at_once_ * problem.input_channels + kLanes<Number>;
    gradient_pitch_ = at_once_ * problem.output_channels + kPanel;
  }

  Status run(const Execution& execution) {
    if (!reserve()) return kOutOfMemory;
    const std::int64_t products = problem_.input_channels * problem_.output_channels;
    if (tiles_ == 0) {
      std::memset(sums_.data(), 0,
                  static_cast<std::size_t>(kPlanePoints * products) * sizeof(Number));
    }
    for (std::int64_t first = 0; first < tiles_; first += at_once_) {
      const std::int64_t count = tiles_ - first < at_once_ ? tiles_ - first : at_once_;
      const Team transforming =
          team_for(execution, count * (problem_.input_channels + problem_.output_channels));
      parallel_ranges(transforming, count, [&](int, std::int64_t begin, std::int64_t end) {
        for (std::int64_t tile = begin; tile < end; ++tile) transform(first + tile, tile);
      });
      const std::int64_t groups = problem_.output_channels / kGroup<Number>;
      parallel_ranges(team_for(execution, count * products), kPlanePoints * groups,
                      [&](int, std::int64_t begin, std::int64_t end) {
                        for (std::int64_t part = begin; part < end; ++part) {
                          multiply(part / groups, part % groups, count, first == 0);
                        }
                      });
    }
    parallel_ranges(team_for(execution, products), problem_.output_channels / kLanes<Number>,
                    [&](int, std::int64_t begin, std::int64_t end) {
                      for (std::int64_t part = begin; part < end; ++part) {
                        finish(part * kLanes<Number>);
                      }
                    });
    return kOk;
  }

 private:
  // Outputs along either axis whose gradients are a tile.
  static constexpr int kTile = kPoints - kTaps + 1;

  bool reserve() {
    return input_maps_.reserve() && gradient_maps_.reserve() &&
           inputs_.reserve(kPlanePoints * input_pitch_) &&
           gradients_.reserve(kPlanePoints * gradient_pitch_) &&
           sums_.reserve(kPlanePoints * problem_.input_channels * problem_.output_channels);
  }

  // Writes a tile's values: of the inputs [kPlanePoints][at_once_][input_channels], of the
  // gradients [kPlanePoints][output_channels / kPanel][at_once_][kPanel].
  void transform(std::int64_t tile, std::int64_t place) {
    const std::int64_t image = tile / (tile_rows_ * tile_columns_);
    const std::int64_t top = tile / tile_columns_ % tile_rows_ * kTile;
    const std::int64_t left = tile % tile_columns_ * kTile;
    const Number* pixels[kPoints][kPoints];
    for (int row = 0; row < kPoints; ++row) {
      for (int column = 0; column < kPoints; ++column) {
        pixels[row][column] = input_maps_.pixel(image, top + row - problem_.padding,
                                                left + column - problem_.padding);
      }
    }
    for (std::int64_t channel = 0; channel < problem_.input_channels; channel += kLanes<Number>) {
      Number* const to = inputs_.data() + place * problem_.input_channels + channel;
      square_to_points<Number, kPoints>(
          [&](int row, int column) { return load(pixels[row][column] + channel); },
          [&](int row, int column, Vector<Number> value) {
            store(to + (row * kPoints + column) * input_pitch_, value);
          });
    }
    for (int row = 0; row < kTile; ++row) {
      for (int column = 0; column < kTile; ++column) {
        pixels[row][column] = gradient_maps_.pixel(image, top + row, left + column);
      }
    }
    for (std::int64_t channel = 0; channel < problem_.output_channels; channel += kLanes<Number>) {
      Number* const to =
          gradients_.data() + (channel / kPanel * at_once_ + place) * kPanel + channel % kPanel;
      square_to_points<Number, kTile>(
          [&](int row, int column) { return load(pixels[row][column] + channel); },
          [&](int row, int column, Vector<Number> value) {
            store(to + (row * kPoints + column) * gradient_pitch_, value);
          });
    }
  }

  // Adds the products of so many tiles: sums [kPlanePoints][groups][input_channels][kGroup].
  void multiply(std::int64_t point, std::int64_t group, std::int64_t tiles, bool first) {
    const std::int64_t groups = problem_.output_channels / kGroup<Number>;
    const std::int64_t panel_pitch = at_once_ * kPanel;
    Number* const sums =
        sums_.data() + (point * groups + group) * problem_.input_channels * kGroup<Number>;
    const Number* input = inputs_.data() + point * input_pitch_;
    const Number* gradient = gradients_.data() + point * gradient_pitch_ +
                             group * (kGroup<Number> / kPanel) * panel_pitch;
    VectorMultiplication<Number> multiplication;
    const std::int64_t offset = 0;
    for (std::int64_t tile = 0; tile < tiles; tile += kTilesInCache) {
      const std::int64_t left = tiles - tile;
      const bool begins = first && tile == 0;
      multiplication.add(
          problem_.input_channels,
          {input + tile * problem_.input_channels, 1, gradient + tile * kPanel, panel_pitch},
          {&offset, 1, left < kTilesInCache ? left : kTilesInCache, problem_.input_channels, 1},
          {begins ? gradient_maps_.zeros() : sums, begins ? 0 : std::int64_t{kGroup<Number>},
           sums});
    }
  }

  // Filters of a vector of outputs.
  void finish(std::int64_t output) {
    const std::int64_t channels = problem_.input_channels;
    const std::int64_t groups = problem_.output_channels / kGroup<Number>;
    const std::int64_t point_pitch = groups * channels * kGroup<Number>;
    const Number* from = sums_.data() + output / kGroup<Number> * channels * kGroup<Number> +
                         output % kGroup<Number>;
    Number* const to =
        static_cast<Number*>(problem_.filter_gradient) + output * kTaps * kTaps * channels;
    // Some channels at a time: written one by one, the filters' lines would push each other out.
    Number filters[kLanes<Number>][kTaps * kTaps][kPanel];
    for (std::int64_t first = 0; first < channels; first += kPanel) {
      for (int channel = 0; channel < kPanel; ++channel) {
        const Number* const sums = from + (first + channel) * kGroup<Number>;
        points_to_tile<Number, kTaps>(
            [&](int row, int column) {
              return load(sums + (row * kPoints + column) * point_pitch);
            },
            [&](int row, int column, Vector<Number> value) {
              for (int lane = 0; lane < kLanes<Number>; ++lane) {
                filters[lane][row * kTaps + column][channel] = value[lane];
              }
            });
      }
      for (int lane = 0; lane < kLanes<Number>; ++lane) {
        for (int tap = 0; tap < kTaps * kTaps; ++tap) {
          std::memcpy(to + (lane * kTaps * kTaps + tap) * channels + first, filters[lane][tap],
                      sizeof(filters[lane][tap]));
        }
      }
    }
  }

  const FilterGradient& problem_;
  const std::int64_t tile_rows_, tile_columns_, tiles_;
  std::int64_t at_once_, input_pitch_, gradient_pitch_;
  PaddedMaps<Number> input_maps_, gradient_maps_;
  Scratch<Number> inputs_, gradients_, sums_;  // at the points
};

template <class Number>
Status run(const FilterGradient& problem, const Execution& execution) {
  return problem.kernel == 4 ? GradientAtPoints<Number, 4>(problem).run(execution)
                             : GradientAtPoints<Number, 3>(problem).run(execution);
}

}  // namespace

Status winograd_filter_gradient(const FilterGradient& problem, const Execution& execution) {
  return problem.type == ScalarType::float64 ? run<double>(problem, execution)
                                             : run<float>(problem, execution);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
