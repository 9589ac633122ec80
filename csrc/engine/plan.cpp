#include "engine/plan.h"

#include <cstddef>
#include <iterator>
#include <stdexcept>

namespace efficientad::engine {
namespace {

// The encoder sees 256x256 pixels at any input size, so that its bottleneck is 64 numbers.
constexpr std::int64_t kAutoencoderInput = 256;
// What the decoder's convolutions see, one after the other; the last one sees the feature grid.
constexpr std::int64_t kDecoderEdges[] = {3, 8, 15, 32, 63, 127};
constexpr std::int64_t kReceptiveField = 33;

Buffer other(Buffer buffer) {
  switch (buffer) {
    case Buffer::pdn_even:
      return Buffer::pdn_odd;
    case Buffer::pdn_odd:
      return Buffer::pdn_even;
    case Buffer::autoencoder_even:
      return Buffer::autoencoder_odd;
    default:
      return Buffer::autoencoder_even;
  }
}

// Output and input laid over each other edge to edge.
ResamplingAxis half_pixel_axis(std::int64_t input, std::int64_t output) {
  const double step = static_cast<double>(input) / static_cast<double>(output);
  return {step, 0.5 * step - 0.5};
}

// All channels of maps, not resampled and without padding.
Segment segment_over(const Maps& maps, int kernel) {
  Segment segment{};
  segment.pixel_channels = segment.channels = maps.channels;
  segment.height = segment.input_height = maps.height;
  segment.width = segment.input_width = maps.width;
  segment.kernel = kernel;
  segment.stride = 1;
  return segment;
}

Segment resampled(Segment segment, std::int64_t height, std::int64_t width) {
  segment.resampled = true;
  segment.height = height;
  segment.width = width;
  segment.rows = half_pixel_axis(segment.input_height, height);
  segment.columns = half_pixel_axis(segment.input_width, width);
  return segment;
}

// To the autoencoder's input: bytes are normalised on the way, planes are already.
ResizeNormalize resize(const Request& request, const Normalisation& normalisation) {
  const std::int64_t height = request.height, width = request.width, pixels = height * width;
  const bool bytes = request.image_type == ScalarType::uint8;
  ResizeNormalize problem{};
  problem.type = request.image_type;
  problem.image =
      bytes ? FeatureMaps{nullptr, request.batch, 3, height, width, 3 * pixels, 1, 3 * width, 3}
            : FeatureMaps{nullptr, request.batch, 3, height, width, 3 * pixels, pixels, width, 1};
  problem.scale = bytes ? 1.0 / 255.0 : 1.0;
  for (int channel = 0; channel < 3; ++channel) {
    problem.mean[channel] = bytes ? normalisation.mean[channel] : 0.0;
    problem.deviation[channel] = bytes ? normalisation.deviation[channel] : 1.0;
  }
  problem.output_height = problem.output_width = kAutoencoderInput;
  return problem;
}

void require(bool condition, const char* sentence) {
  if (!condition) throw std::invalid_argument(sentence);
}

void check(const Weights& weights, const Request& request, const Backend& backend) {
  require(backend.image_convolution != nullptr && backend.segment_convolution != nullptr &&
              backend.linear != nullptr && backend.window_means != nullptr,
          "this backend lacks a kernel that the engine needs");
  require(request.batch > 0, "a plan is for at least one image");
  require(request.height >= kReceptiveField && request.width >= kReceptiveField,
          "the images hold no feature; expected at least 33x33 pixels");
  require(request.image_type == ScalarType::uint8 ||
              request.image_type == accumulator_of(weights.precision.type),
          "the images are neither bytes nor of the weights' accumulator type");
}

}  // namespace

Plan::Plan(const Weights& weights, const Request& request, const Backend& backend)
    : weights_(weights),
      request_(request),
      backend_(backend),
      steps_(backend, weights.precision.type, request.batch) {
  check(weights, request, backend);
  const Maps pdn = plan_pdn();
  grid_height_ = pdn.height - weights.local_map.kernel + 1;
  grid_width_ = pdn.width - weights.local_map.kernel + 1;
  const Maps autoencoder = plan_autoencoder();
  plan_last_layers(pdn, autoencoder);
  steps_.place();
}

Maps Plan::plan_pdn() {
  const bool bytes = request_.image_type == ScalarType::uint8;
  ImageConvolution first{};
  first.image_type = request_.image_type;
  first.height = request_.height;
  first.width = request_.width;
  first.pooled = true;
  Maps maps = steps_.add_image_convolution(
      Phase::image, bytes ? weights_.images_of_bytes : weights_.images_of_planes, first, nullptr,
      Buffer::pdn_even);
  for (std::size_t i = 0; i < weights_.pdn.size(); ++i) {
    const Layer& layer = weights_.pdn[i];
    Segment segment = segment_over(maps, layer.kernel);
    segment.channels = layer.input_channels;  // of either network
    const bool pooled = i == 0;
    maps = steps_.add_convolution(Phase::networks, layer, maps, segment, pooled,
                                  weights_.second_groups[i], other(maps.buffer));
  }
  return maps;
}

Maps Plan::plan_encoder() {
  const bool fits = request_.height == kAutoencoderInput && request_.width == kAutoencoderInput;
  const bool bytes = fits && request_.image_type == ScalarType::uint8;
  const ScalarType planes_type = accumulator_type();
  const Buffer planes = Buffer::autoencoder_odd;
  if (!fits) {
    require(request_.image_type != ScalarType::uint8 || planes_type == ScalarType::float32,
            "in float64, bytes cannot be resized for the autoencoder; pass normalised planes");
    steps_.add_resize(Phase::image, resize(request_, weights_.normalisation), planes);
  }
  ImageConvolution first{};
  first.image_type = bytes ? ScalarType::uint8 : planes_type;
  first.height = first.width = kAutoencoderInput;
  first.pooled = false;
  Maps maps = steps_.add_image_convolution(
      Phase::image, bytes ? weights_.autoencoder_of_bytes : weights_.autoencoder_of_planes, first,
      fits ? nullptr : &planes, other(planes));
  for (const Layer& layer : weights_.encoder) {
    Segment segment = segment_over(maps, layer.kernel);
    segment.stride = 2;
    segment.padding = 1;
    maps = steps_.add_convolution(Phase::autoencoder, layer, maps, segment, false,
                                  layer.output_channels, other(maps.buffer));
  }
  return steps_.add_linear(Phase::autoencoder, weights_.bottleneck, maps, other(maps.buffer));
}

Maps Plan::plan_autoencoder() {
  Maps maps = plan_encoder();
  for (std::size_t i = 0; i < weights_.decoder.size(); ++i) {
    const Layer& layer = weights_.decoder[i];
    const bool on_grid = i == std::size(kDecoderEdges);
    Segment segment =
        resampled(segment_over(maps, layer.kernel), on_grid ? grid_height_ : kDecoderEdges[i],
                  on_grid ? grid_width_ : kDecoderEdges[i]);
    segment.padding = on_grid ? 1 : 2;
    maps = steps_.add_convolution(Phase::autoencoder, layer, maps, segment, false,
                                  layer.output_channels, other(maps.buffer));
  }
  return maps;
}

void Plan::plan_last_layers(const Maps& pdn, const Maps& autoencoder) {
  const Layer& local_map = weights_.local_map;
  const Segment both = segment_over(pdn, local_map.kernel);
  steps_.add_squared_difference(Phase::local_map, local_map, {{pdn, both}}, grid_height_,
                                grid_width_, Buffer::local_planes);

  const Layer& global_map = weights_.global_map;
  Segment decoded = segment_over(autoencoder, global_map.kernel);
  decoded.padding = 1;
  Segment student = segment_over(pdn, local_map.kernel);
  student.first_channel = weights_.second_groups.back();
  student.channels = student.pixel_channels - student.first_channel;
  steps_.add_squared_difference(Phase::global_map, global_map,
                                {{autoencoder, decoded}, {pdn, student}}, grid_height_, grid_width_,
                                Buffer::global_planes);

  if (request_.features) {
    Segment source = segment_over(pdn, weights_.features.kernel);
    source.first_channel = weights_.first_feature_channel;
    source.channels = weights_.features.input_channels;
    steps_.add_pooled_linear(Phase::features, weights_.features, pdn, source, Buffer::features);
  }
}

Status Plan::combine(NormalizeAndCombine problem, const Execution& execution,
                     const char* workspace) const {
  problem.type = accumulator_type();
  problem.local_map = workspace + offset(Buffer::local_planes);
  problem.global_map = workspace + offset(Buffer::global_planes);
  problem.planes = planes();
  problem.batch = request_.batch;
  problem.height = grid_height_;
  problem.width = grid_width_;
  return backend_.normalize_and_combine(problem, execution);
}

}  // namespace efficientad::engine
