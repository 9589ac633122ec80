#include "engine/weights.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>

#include "efficientad/image_convolution.h"
#include "efficientad/segment_convolution.h"
#include "engine/filters.h"

namespace efficientad::engine {
namespace {

constexpr std::int64_t kChannelMultiple = 64;
constexpr double kWhite = 255;  // of a byte
constexpr WeightLayout kRowByRow = {1, 1};

// Kernels of the autoencoder: five of stride 2, the bottleneck, six behind an upsampling, two more.
constexpr int kEncoderLayers = 5;
constexpr int kAutoencoderKernels[] = {4, 4, 4, 4, 4, 8, 4, 4, 4, 4, 4, 4, 3, 3};
constexpr std::size_t kAutoencoderLayers = std::size(kAutoencoderKernels);

std::int64_t in_multiples(std::int64_t channels) {
  return (channels + kChannelMultiple - 1) / kChannelMultiple * kChannelMultiple;
}

void require(bool condition) {
  if (!condition) throw std::invalid_argument("the layers are not those of EfficientAD's networks");
}

void check_chain(const Network& network) {
  require(network.front().input_channels == 3 && network.front().kernel == kImageKernel);
  for (std::size_t i = 1; i < network.size(); ++i) {
    require(network[i].input_channels == network[i - 1].output_channels);
  }
}

void check(const Model& model) {
  const Network &teacher = model.teacher, &student = model.student;
  require(teacher.size() >= 3 && student.size() == teacher.size());
  check_chain(teacher);
  check_chain(student);
  for (std::size_t i = 1; i < teacher.size(); ++i) {
    const Convolution &ours = teacher[i], &theirs = student[i];
    require(ours.kernel >= 1 && ours.kernel <= 4 && ours.kernel == theirs.kernel);
    require(ours.input_channels % kChannelMultiple == 0);
    require(theirs.input_channels % kChannelMultiple == 0);
    const bool last = i + 1 == teacher.size();
    require(last || ours.input_channels == theirs.input_channels);
  }
  require(model.autoencoder.size() == kAutoencoderLayers);
  check_chain(model.autoencoder);
  for (std::size_t i = 0; i < kAutoencoderLayers; ++i) {
    require(model.autoencoder[i].kernel == kAutoencoderKernels[i]);
    require(i == 0 || model.autoencoder[i].input_channels <= kChannelMultiple);
  }
  const std::int64_t channels = teacher.back().output_channels;
  require(channels % kChannelMultiple == 0 && student.back().output_channels == 2 * channels);
  require(model.autoencoder.back().output_channels == channels);
}

// Over bytes instead of normalised pixels. The mean is folded in as the rounded weights see it, so
// that rounding does not change the answer to an image of the mean colour. Where zeros are padded
// behind the normalisation, it goes into the channel that is 1 inside the image.
Filters over_bytes(const Filters& filters, const Normalisation& normalisation,
                   const Precision& precision, bool zeros_are_padded) {
  Filters scaled = filters;
  for (std::int64_t output = 0; output < filters.output_channels; ++output) {
    for (std::int64_t channel = 0; channel < 3; ++channel) {
      for (std::int64_t tap = 0; tap < filters.taps(); ++tap) {
        scaled.at(output, channel, tap) /= kWhite * normalisation.deviation[channel];
      }
    }
  }
  Filters result = padded(rounded(scaled, precision), filters.output_channels, kImageChannels);
  for (std::int64_t output = 0; output < filters.output_channels; ++output) {
    for (std::int64_t tap = 0; tap < filters.taps(); ++tap) {
      double shift = 0;
      for (std::int64_t channel = 0; channel < 3; ++channel) {
        shift -= result.at(output, channel, tap) * kWhite * normalisation.mean[channel];
      }
      double& constant = zeros_are_padded ? result.at(output, 3, tap)
                                          : result.bias[static_cast<std::size_t>(output)];
      constant += shift;
    }
  }
  return result;
}

Filters over_planes(const Filters& filters) {
  return padded(filters, filters.output_channels, kImageChannels);
}

// Whether Winograd's convolution multiplies less.
bool fewer_at_points(const std::vector<Filters>& segments) {
  std::int64_t channels = 0, products = 0;
  int kernel = 0;
  for (const Filters& filters : segments) {
    channels += filters.input_channels;
    products += filters.input_channels * filters.taps();
    kernel = std::max(kernel, filters.kernel);
  }
  if (kernel < 3) return false;
  const std::int64_t outputs = winograd::outputs_along(kernel), points = winograd::kPoints;
  return channels * points * points < products * outputs * outputs;
}

class Fusion {
 public:
  Fusion(const Model& model, const Precision& precision, const Backend& backend)
      : model_(model),
        precision_(precision),
        layout_(backend.weight_layout(precision.type)),
        has_winograd_(backend.winograd_convolution != nullptr &&
                      precision.type == accumulator_of(precision.type)),
        sums_{accumulator_of(precision.type), false},
        weights_{} {
    weights_.precision = precision;
    weights_.normalisation = model.normalisation;
  }

  PackedWeights run() {
    fuse_pdn();
    fuse_autoencoder();
    fuse_last_layers();
    weights_.bytes = packer_.bytes();
    return {std::move(weights_), packer_.take()};
  }

 private:
  // In the order of a convolution's weights, or one row after the other.
  Layer append(const Filters& shape, const Rows& weight, const WeightLayout& layout,
               const std::vector<double>& bias, const Precision& precision,
               const std::string& name) {
    const std::int64_t offset = packer_.append(weight, layout, precision, name);
    return {offset,
            packer_.append(bias, sums_, name),
            shape.input_channels,
            shape.output_channels,
            shape.kernel,
            false};
  }

  Layer over_image(const Filters& exact, const std::string& name) {
    const Filters filters = rounded(exact, precision_);
    return append(filters, rows_first(filters), layout_, filters.bias, precision_, name);
  }

  // Filters that are summed up, all of this stride.
  Layer over_segments(std::vector<Filters> segments, int stride, const std::string& name) {
    std::vector<double> bias = segments[0].bias;
    for (std::size_t i = 1; i < segments.size(); ++i) {
      for (std::size_t output = 0; output < bias.size(); ++output) {
        bias[output] += segments[i].bias[output];
      }
    }
    const bool winograd = has_winograd_ && stride == 1 && fewer_at_points(segments);
    if (!winograd) {  // else their values at the points are what is rounded
      for (Filters& filters : segments) filters = rounded(std::move(filters), precision_);
    }
    const Rows rows =
        winograd ? at_points(segments) : in_blocks(segments, block_channels(precision_.type));
    Layer layer = append(segments[0], rows, layout_, bias, precision_, name);
    layer.winograd = winograd;
    return layer;
  }

  void fuse_pdn() {
    for (std::size_t i = 0; i + 1 < model_.teacher.size(); ++i) {
      const Filters both = stacked(filters_of(model_.teacher[i]), filters_of(model_.student[i]));
      const std::string name = "layer " + std::to_string(i + 1) + " of the teacher and the student";
      if (i == 0) {
        weights_.images_of_planes = over_image(over_planes(both), name);
        weights_.images_of_bytes =
            over_image(over_bytes(both, model_.normalisation, precision_, false), name);
      } else {
        weights_.pdn.push_back(over_segments({both}, 1, name));
        weights_.second_groups.push_back(model_.teacher[i].output_channels);
      }
    }
  }

  void fuse_autoencoder() {
    for (std::size_t i = 0; i + 1 < kAutoencoderLayers; ++i) {
      const Filters own = filters_of(model_.autoencoder[i]);
      const std::string name = "layer " + std::to_string(i + 1) + " of the autoencoder";
      const Filters filters =
          padded(own, in_multiples(own.output_channels),
                 i == 0 ? own.input_channels : in_multiples(own.input_channels));
      if (i == 0) {
        weights_.autoencoder_of_planes = over_image(over_planes(filters), name);
        weights_.autoencoder_of_bytes =
            over_image(over_bytes(filters, model_.normalisation, precision_, true), name);
      } else if (i < kEncoderLayers) {
        weights_.encoder.push_back(over_segments({filters}, 2, name));
      } else if (i == kEncoderLayers) {
        const Filters linear = rounded(filters, precision_);
        weights_.bottleneck =
            append(linear, rows_first(linear), kRowByRow, linear.bias, precision_, name);
      } else {
        weights_.decoder.push_back(over_segments({filters}, 1, name));
      }
    }
  }

  void fuse_last_layers() {
    const Filters teacher = normalised(filters_of(model_.teacher.back()), model_.teacher_mean,
                                       model_.teacher_deviation);
    const Filters student = filters_of(model_.student.back());
    const std::int64_t channels = teacher.output_channels;
    const Filters like_teacher = outputs(student, 0, channels);
    const Filters like_autoencoder = outputs(student, channels, channels);
    const Filters last = filters_of(model_.autoencoder.back());

    weights_.local_map = over_segments({joined(teacher, negated(like_teacher))}, 1,
                                       "the last layers of the normalised teacher and the student");
    weights_.global_map = over_segments(
        {padded(last, channels, in_multiples(last.input_channels)), negated(like_autoencoder)}, 1,
        "the last layers of the autoencoder and the student");

    const bool of_student = model_.feature_source == FeatureSource::student;
    const Filters& pooled = of_student ? like_teacher : teacher;
    weights_.first_feature_channel = of_student ? teacher.input_channels : 0;
    // One block of all channels: [output][tap column][tap row][channel], as WindowMeans writes.
    const std::vector<Filters> segment = {pooled};
    weights_.features =
        append(pooled, in_blocks(segment, pooled.input_channels), kRowByRow, pooled.bias, sums_,
               of_student ? "the student's last layer" : "the normalised teacher's last layer");
  }

  const Model& model_;
  const Precision precision_;
  const WeightLayout layout_;
  const bool has_winograd_;
  const Precision sums_;
  Weights weights_;
  Packer packer_;
};

}  // namespace

PackedWeights pack(const Model& model, const Precision& precision, const Backend& backend) {
  check(model);
  return Fusion(model, precision, backend).run();
}

}  // namespace efficientad::engine
