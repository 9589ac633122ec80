#include "engine/steps.h"

namespace efficientad::engine {
namespace {

std::int64_t output_length(std::int64_t length, const Segment& segment) {
  return (length + 2 * segment.padding - segment.kernel) / segment.stride + 1;
}

}  // namespace

void Steps::add_resize(Phase phase, const ResizeNormalize& problem, Buffer output) {
  require(output, 3 * problem.output_height * problem.output_width, accumulator_of(type_));
  add(phase, [this, problem, output](const Execution& execution, const Memory& memory) {
    ResizeNormalize located = problem;
    located.image.data = const_cast<void*>(memory.image);  // only read
    located.output = at(memory, output);
    return backend_.resize_normalize(located, execution);
  });
}

Maps Steps::add_image_convolution(Phase phase, const Layer& layer, const ImageConvolution& problem,
                                  const Buffer* planes, Buffer output) {
  const Maps maps{output, problem.output_length(problem.height),
                  problem.output_length(problem.width), layer.output_channels};
  require(output, maps.height * maps.width * maps.channels, type_);
  ImageConvolution complete = problem;
  complete.type = type_;
  complete.batch = batch_;
  complete.output_channels = layer.output_channels;
  const bool own_image = planes == nullptr;
  const Buffer input = own_image ? output : *planes;
  add(phase, [=](const Execution& execution, const Memory& memory) {
    ImageConvolution located = complete;
    located.image = own_image ? memory.image : at(memory, input);
    located.weight = memory.weights + layer.weight;
    located.bias = memory.weights + layer.bias;
    located.output = at(memory, output);
    return backend_.image_convolution(located, execution);
  });
  return maps;
}

Maps Steps::add_convolution(Phase phase, const Layer& layer, const Maps& input,
                            const Segment& segment, bool pooled, std::int64_t second_group,
                            Buffer output) {
  SegmentConvolution problem{};
  problem.segment_count = 1;
  problem.segments[0] = segment;
  problem.height = output_length(segment.height, segment);
  problem.width = output_length(segment.width, segment);
  problem.second_group = second_group;
  problem.epilogue = pooled ? Epilogue::relu_pool : Epilogue::relu;
  const std::int64_t window = pooled ? 2 : 1;
  const Maps maps{output, problem.height / window, problem.width / window, layer.output_channels};
  require(output, maps.height * maps.width * maps.channels, type_);
  add_segments(phase, layer, problem, {input.buffer}, output);
  return maps;
}

void Steps::add_squared_difference(Phase phase, const Layer& layer,
                                   const std::vector<std::pair<Maps, Segment>>& segments,
                                   std::int64_t height, std::int64_t width, Buffer output) {
  SegmentConvolution problem{};
  std::array<Buffer, kMaximumSegments> inputs{};
  for (const auto& [maps, segment] : segments) {
    inputs[static_cast<std::size_t>(problem.segment_count)] = maps.buffer;
    problem.segments[problem.segment_count++] = segment;
  }
  problem.height = height;
  problem.width = width;
  problem.second_group = layer.output_channels;
  problem.epilogue = Epilogue::squared_difference;
  require(output, layer.output_channels / kPlaneChannels * height * width, accumulator_of(type_));
  add_segments(phase, layer, problem, inputs, output);
}

void Steps::add_segments(Phase phase, const Layer& layer, const SegmentConvolution& problem,
                         const std::array<Buffer, kMaximumSegments>& inputs, Buffer output) {
  SegmentConvolution complete = problem;
  complete.type = type_;
  complete.batch = batch_;
  complete.output_channels = layer.output_channels;
  const Kernel<SegmentConvolution> kernel =
      layer.winograd ? backend_.winograd_convolution : backend_.segment_convolution;
  add(phase, [=](const Execution& execution, const Memory& memory) {
    SegmentConvolution located = complete;
    for (int i = 0; i < located.segment_count; ++i) {
      located.segments[i].input = at(memory, inputs[static_cast<std::size_t>(i)]);
    }
    located.weight = memory.weights + layer.weight;
    located.bias = memory.weights + layer.bias;
    located.output = at(memory, output);
    return kernel(located, execution);
  });
}

Maps Steps::add_linear(Phase phase, const Layer& layer, const Maps& input, Buffer output) {
  add_linear(phase, layer, type_, input.buffer, input.height * input.width * input.channels,
             output);
  return {output, 1, 1, layer.output_channels};
}

void Steps::add_linear(Phase phase, const Layer& layer, ScalarType type, Buffer input,
                       std::int64_t inputs, Buffer output) {
  require(output, layer.output_channels, type);
  add(phase, [=](const Execution& execution, const Memory& memory) {
    const Linear problem{type,
                         at(memory, input),
                         memory.weights + layer.weight,
                         memory.weights + layer.bias,
                         batch_,
                         inputs,
                         layer.output_channels,
                         at(memory, output)};
    return backend_.linear(problem, execution);
  });
}

void Steps::add_pooled_linear(Phase phase, const Layer& layer, const Maps& input,
                              const Segment& segment, Buffer output) {
  const ScalarType sums = accumulator_of(type_);
  const WindowMeans means{type_,
                          nullptr,
                          batch_,
                          input.height,
                          input.width,
                          segment.pixel_channels,
                          segment.first_channel,
                          segment.channels,
                          segment.kernel,
                          nullptr,
                          nullptr};
  const std::int64_t inputs = segment.kernel * segment.kernel * segment.channels;
  require(Buffer::window_means, inputs, sums);
  workspace_.require(Buffer::window_means_workspace,
                     static_cast<std::int64_t>(backend_.window_means_workspace(means)));
  add(phase, [=](const Execution& execution, const Memory& memory) {
    WindowMeans located = means;
    located.input = at(memory, input.buffer);
    located.output = at(memory, Buffer::window_means);
    located.workspace = at(memory, Buffer::window_means_workspace);
    return backend_.window_means(located, execution);
  });
  add_linear(phase, layer, sums, Buffer::window_means, inputs, output);
}

Status Steps::run(Phase phase, const Execution& execution, const Memory& memory) const {
  for (const Step& step : steps_[static_cast<std::size_t>(phase)]) {
    const Status status = step(execution, memory);
    if (status != kOk) return status;
  }
  return kOk;
}

}  // namespace efficientad::engine
