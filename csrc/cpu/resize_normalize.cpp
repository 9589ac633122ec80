#include "efficientad/resize_normalize.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "cpu/simd.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// The source samples that an output sample averages, and their weights.
template <class Number>
class AntialiasedAxis {
 public:
  AntialiasedAxis(std::int64_t input_length, std::int64_t output_length)
      : first_(output_length), count_(output_length) {
    const double scale = static_cast<double>(input_length) / static_cast<double>(output_length);
    const double support = scale > 1 ? scale : 1;
    maximum_ = 2 * static_cast<std::int64_t>(__builtin_ceil(support)) + 1;
    if (!weights_.reserve(output_length * maximum_) || !has_memory()) return;
    for (std::int64_t index = 0; index < output_length; ++index) {
      const double centre = scale * (static_cast<double>(index) + 0.5);
      std::int64_t first = static_cast<std::int64_t>(centre - support + 0.5);
      std::int64_t end = static_cast<std::int64_t>(centre + support + 0.5);
      if (centre - support + 0.5 < 0) first = 0;
      if (end > input_length) end = input_length;
      const auto triangle = [&](std::int64_t sample) {
        const double distance = (static_cast<double>(sample) - centre + 0.5) / support;
        const double height = 1 - (distance < 0 ? -distance : distance);
        return height > 0 ? height : 0.0;
      };
      // A sample on the filter's very edge has no weight.
      while (end - first > 1 && triangle(end - 1) == 0) --end;
      double total = 0;
      for (std::int64_t sample = first; sample < end; ++sample) total += triangle(sample);
      first_[index] = first;
      count_[index] = end - first;
      for (std::int64_t sample = first; sample < end; ++sample) {
        weights_[index * maximum_ + sample - first] = static_cast<Number>(triangle(sample) / total);
      }
    }
  }

  bool has_memory() const {
    return first_.data() != nullptr && count_.data() != nullptr && weights_.data() != nullptr;
  }

  std::int64_t first(std::int64_t index) const { return first_.data()[index]; }
  std::int64_t count(std::int64_t index) const { return count_.data()[index]; }
  const Number* weights(std::int64_t index) const { return weights_.data() + index * maximum_; }

 private:
  std::int64_t maximum_;
  Scratch<std::int64_t> first_, count_;
  Scratch<Number> weights_;
};

template <class Stored>
inline void add_weighted(const Stored* source, std::int64_t count, float weight, float* sums) {
  for (std::int64_t index = 0; index < count; ++index) {
    sums[index] += weight * static_cast<float>(source[index]);
  }
}

template <class Stored, class Number>
inline void add_weighted_vectors(const Stored* source, std::int64_t count, Number weight,
                                 Number* sums) {
  for (std::int64_t index = 0; index < count; index += kLanes<Number>) {
    const std::int64_t left = count - index;
    const std::int64_t lanes = left < kLanes<Number> ? left : kLanes<Number>;
    const Vector<Number> sum =
        load_up_to(sums + index, lanes) + weight * load_up_to(source + index, lanes);
    store_up_to(sums + index, sum, lanes);
  }
}

inline void add_weighted(const float* source, std::int64_t count, float weight, float* sums) {
  add_weighted_vectors(source, count, weight, sums);
}
inline void add_weighted(const double* source, std::int64_t count, double weight, double* sums) {
  add_weighted_vectors(source, count, weight, sums);
}
inline void add_weighted(const Half* source, std::int64_t count, float weight, float* sums) {
  add_weighted_vectors(source, count, weight, sums);
}
inline void add_weighted(const BFloat16* source, std::int64_t count, float weight, float* sums) {
  add_weighted_vectors(source, count, weight, sums);
}

inline float value_of(const std::uint8_t* source) { return static_cast<float>(*source); }
inline float value_of(const std::uint16_t* source) { return static_cast<float>(*source); }
template <class Floating>
inline Accumulator<Floating> value_of(const Floating* source) {
  return load_one(source);
}

// Resamples one image row by row: source rows are averaged vertically first, which runs along
// memory; what is left to do horizontally is one row.
template <class Stored>
class RowResampler {
 public:
  using Number = Accumulator<Stored>;

  explicit RowResampler(const ResizeNormalize& problem)
      : problem_(problem),
        image_(problem.image),
        composited_(image_.channels == 4),
        interleaved_(composited_ ||
                     (image_.channel_stride == 1 && image_.column_stride == image_.channels)),
        colours_(image_.channels == 1 ? 1 : 3),
        sums_(colours_ * image_.width + 1),
        line_(colours_ * image_.width) {}

  bool has_memory() const { return sums_.data() != nullptr && line_.data() != nullptr; }

  void output_row(std::int64_t image, std::int64_t row, const AntialiasedAxis<Number>& rows,
                  const AntialiasedAxis<Number>& columns) {
    average_rows(image, rows.first(row), rows.count(row), rows.weights(row));
    const std::int64_t output_pixels = problem_.output_height * problem_.output_width;
    Number* output = static_cast<Number*>(problem_.output) + image * 3 * output_pixels +
                     row * problem_.output_width;
    // Composited values are in [0, 1] already.
    const double scale = composited_ ? 1.0 : problem_.scale;
    Number factor[3], offset[3];
    for (int channel = 0; channel < 3; ++channel) {
      factor[channel] = static_cast<Number>(scale / problem_.deviation[channel]);
      offset[channel] = static_cast<Number>(-problem_.mean[channel] / problem_.deviation[channel]);
    }
    if (interleaved_ && colours_ == 3) {
      average_pixels(columns, factor, offset, output, output_pixels);
      return;
    }
    for (std::int64_t column = 0; column < problem_.output_width; ++column) {
      const Number* weights = columns.weights(column);
      for (std::int64_t colour = 0; colour < colours_; ++colour) {
        const Number* source = sums_.data() + colour * image_.width + columns.first(column);
        Number average = 0;
        for (std::int64_t tap = 0; tap < columns.count(column); ++tap) {
          average += weights[tap] * source[tap];
        }
        const std::int64_t last = colours_ == 1 ? 2 : colour;
        for (std::int64_t channel = colour; channel <= last; ++channel) {
          output[channel * output_pixels + column] = average * factor[channel] + offset[channel];
        }
      }
    }
  }

 private:
  void average_rows(std::int64_t image, std::int64_t first, std::int64_t count,
                    const Number* weights) {
    Number* sums = sums_.data();
    for (std::int64_t index = 0; index <= colours_ * image_.width; ++index) sums[index] = 0;
    for (std::int64_t tap = 0; tap < count; ++tap) {
      const Stored* row = static_cast<const Stored*>(image_.data) + image * image_.batch_stride +
                          (first + tap) * image_.row_stride;
      const Number weight = weights[tap];
      if (composited_) {
        composite(row);
        add_weighted(line_.data(), 3 * image_.width, weight, sums);
      } else if (interleaved_) {
        add_weighted(row, colours_ * image_.width, weight, sums);
      } else {
        for (std::int64_t colour = 0; colour < colours_; ++colour) {
          add_weighted(plane(row, colour), image_.width, weight, sums + colour * image_.width);
        }
      }
    }
  }

  // The horizontal average of interleaved colours: red, green and blue of a pixel, and the red of
  // the next one, in a vector of four.
  void average_pixels(const AntialiasedAxis<Number>& columns, const Number* factor,
                      const Number* offset, Number* output, std::int64_t output_pixels) {
    using Pixel = typename VectorType<Number, 4 * static_cast<int>(sizeof(Number))>::type;
    const Pixel factors = {factor[0], factor[1], factor[2], Number{0}};
    const Pixel offsets = {offset[0], offset[1], offset[2], Number{0}};
    for (std::int64_t column = 0; column < problem_.output_width; ++column) {
      const Number* weights = columns.weights(column);
      const Number* source = sums_.data() + 3 * columns.first(column);
      Pixel average = {};
      for (std::int64_t tap = 0; tap < columns.count(column); ++tap) {
        Pixel pixel;
        std::memcpy(&pixel, source + 3 * tap, sizeof(pixel));
        average += weights[tap] * pixel;
      }
      average = average * factors + offsets;
      for (int channel = 0; channel < 3; ++channel) {
        output[channel * output_pixels + column] = average[channel];
      }
    }
  }

  // One channel of a row, gathered into `line_` if its elements do not follow each other.
  const Stored* plane(const Stored* row, std::int64_t colour) {
    const Stored* source = row + colour * image_.channel_stride;
    if (image_.column_stride == 1) return source;
    Stored* gathered = reinterpret_cast<Stored*>(line_.data());
    for (std::int64_t column = 0; column < image_.width; ++column) {
      gathered[column] = source[column * image_.column_stride];
    }
    return gathered;
  }

  // Red, green and blue over the background, interleaved, in [0, 1].
  void composite(const Stored* row) {
    const Number scale = static_cast<Number>(problem_.scale);
    for (std::int64_t column = 0; column < image_.width; ++column) {
      const Stored* pixel = row + column * image_.column_stride;
      const Number alpha = value_of(pixel + 3 * image_.channel_stride) * scale;
      for (std::int64_t colour = 0; colour < 3; ++colour) {
        const Number value = value_of(pixel + colour * image_.channel_stride) * scale;
        const Number background = static_cast<Number>(problem_.background[colour]);
        line_.data()[3 * column + colour] = background + alpha * (value - background);
      }
    }
  }

  const ResizeNormalize& problem_;
  const FeatureMaps& image_;
  const bool composited_;
  const bool interleaved_;
  const std::int64_t colours_;
  Scratch<Number> sums_;
  Scratch<Number> line_;
};

template <class Stored>
Status run(const ResizeNormalize& problem, const Execution& execution) {
  using Number = Accumulator<Stored>;
  const FeatureMaps& image = problem.image;
  const AntialiasedAxis<Number> rows(image.height, problem.output_height);
  const AntialiasedAxis<Number> columns(image.width, problem.output_width);
  if (!rows.has_memory() || !columns.has_memory()) return kOutOfMemory;
  const std::int64_t output_rows = image.batch * problem.output_height;
  const std::int64_t work = image.elements() + output_rows * problem.output_width;
  const auto resample = [&](int, std::int64_t begin, std::int64_t end) {
    RowResampler<Stored> resampler(problem);
    if (!resampler.has_memory()) return kOutOfMemory;
    for (std::int64_t index = begin; index < end; ++index) {
      resampler.output_row(index / problem.output_height, index % problem.output_height, rows,
                           columns);
    }
    return kOk;
  };
  return parallel_ranges_with_status(team_for(execution, work), output_rows, resample);
}

}  // namespace

Status resize_normalize(const ResizeNormalize& problem, const Execution& execution) {
  switch (problem.type) {
    case ScalarType::uint8:
      return run<std::uint8_t>(problem, execution);
    case ScalarType::uint16:
      return run<std::uint16_t>(problem, execution);
    case ScalarType::float64:
      return run<double>(problem, execution);
    case ScalarType::float32:
      return run<float>(problem, execution);
    case ScalarType::float16:
      return run<Half>(problem, execution);
    case ScalarType::bfloat16:
      return run<BFloat16>(problem, execution);
  }
  return "the element type is unknown";
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
