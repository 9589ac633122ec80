#include "bindings/engine_kernels.h"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/call.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

constexpr std::int64_t kChannelMultiple = 64;

// The data of a dense tensor of this type and shape; ValueError with `sentence` for any other.
void* dense_data(Call& call, py::handle object, ScalarType type,
                 std::initializer_list<std::int64_t> shape, const char* sentence) {
  const Tensor tensor = call.tensor(object);
  require(tensor.type == type && tensor.has_shape(shape), sentence);
  return dense_data(tensor);
}

constexpr const char* kWrongWeight = "the weight does not fit the input";
constexpr const char* kWrongBias = "the bias does not fit the weight";
constexpr const char* kWrongOutput = "the output does not fit the input";

void bind_image_convolution(py::module_& module, const Target& target) {
  module.def("image_convolution", [target](std::int64_t context, py::handle image,
                                           py::handle weight, py::handle bias, bool pooled,
                                           py::handle output) {
    Call call(target);
    ImageConvolution problem;
    const Tensor w = call.tensor(weight);
    problem.type = w.type;
    const Tensor x = call.tensor(image);
    const bool bytes = x.type == ScalarType::uint8;
    require(x.dimensions == 4 && (bytes || x.type == accumulator_type(w.type)) &&
                x.shape[bytes ? 3 : 1] == 3,
            "expected uint8 images (batch, height, width, 3) or images (batch, 3, height, width) "
            "of the weight's accumulator type");
    problem.image_type = x.type;
    problem.image = dense_data(x);
    problem.batch = x.shape[0];
    problem.height = x.shape[bytes ? 1 : 2];
    problem.width = x.shape[bytes ? 2 : 3];
    require(problem.height >= kImageKernel && problem.width >= kImageKernel,
            "the image is smaller than the convolution's kernel");
    require(w.dimensions == 4 &&
                w.has_shape({w.shape[0], kImageKernel, kImageKernel, kImageChannels}) &&
                w.shape[0] % kChannelMultiple == 0,
            "expected a weight (output channels, 4, 4, 4), the output channels a multiple of 64");
    problem.output_channels = w.shape[0];
    problem.weight = dense_data(w);
    problem.bias = dense_data(call, bias, accumulator_type(w.type), {w.shape[0]}, kWrongBias);
    problem.pooled = pooled;
    const std::int64_t rows = problem.output_length(problem.height);
    const std::int64_t columns = problem.output_length(problem.width);
    problem.output =
        dense_data(call, output, w.type, {x.shape[0], rows, columns, w.shape[0]}, kWrongOutput);
    if (problem.batch * rows * columns * w.shape[0] == 0) return;
    call.run(target.backend->image_convolution, problem, context);
  });
}

// The size to which the input is resampled, and the two axes.
using Resampling = std::tuple<std::int64_t, std::int64_t, Axis, Axis>;

// input, first channel, channels, kernel, stride, padding, resampling
using PythonSegment =
    std::tuple<py::object, std::int64_t, std::int64_t, int, int, int, std::optional<Resampling>>;

// `groups`: how many times `channels` channels are read.
Segment segment_of(const PythonSegment& from, const Tensor& input, int groups) {
  require(input.dimensions == 4, "expected segments (batch, height, width, channels)");
  Segment segment{};
  segment.input = dense_data(input);
  segment.input_height = segment.height = input.shape[1];
  segment.input_width = segment.width = input.shape[2];
  segment.pixel_channels = input.shape[3];
  const std::optional<Resampling>& resampling = std::get<6>(from);
  std::tie(std::ignore, segment.first_channel, segment.channels, segment.kernel, segment.stride,
           segment.padding, std::ignore) = from;
  require(segment.channels > 0 && segment.channels % kChannelMultiple == 0 &&
              segment.channels <= segment.pixel_channels && segment.first_channel >= 0 &&
              segment.first_channel % kChannelMultiple == 0 &&
              segment.first_channel <= segment.pixel_channels - groups * segment.channels,
          "a segment's channels are not a multiple of 64 channels of its input");
  require(segment.kernel >= 1 && segment.kernel <= 4, "a segment's kernel is not 1 to 4");
  require(segment.stride == 1 || segment.stride == 2, "a segment's stride is not 1 or 2");
  require(segment.padding >= 0 && segment.padding < segment.kernel,
          "a segment's padding is not less than its kernel");
  if (resampling.has_value()) {
    segment.resampled = true;
    segment.height = std::get<0>(*resampling);
    segment.width = std::get<1>(*resampling);
    segment.rows = resampling_axis(std::get<2>(*resampling));
    segment.columns = resampling_axis(std::get<3>(*resampling));
    require(segment.stride == 1, "a resampled segment's stride is not 1");
  }
  require(segment.height > 0 && segment.width > 0 && segment.input_height > 0 &&
              segment.input_width > 0,
          "a segment has no pixels");
  return segment;
}

Epilogue epilogue_of(const std::string& name) {
  if (name == "store") return Epilogue::store;
  if (name == "relu") return Epilogue::relu;
  if (name == "relu_pool") return Epilogue::relu_pool;
  require(name == "squared_difference",
          "the epilogue is none of store, relu, relu_pool and squared_difference");
  return Epilogue::squared_difference;
}

void* segment_convolution_output(Call& call, const SegmentConvolution& problem, py::handle output) {
  const std::int64_t channels = problem.output_channels;
  if (problem.epilogue == Epilogue::squared_difference) {
    return dense_data(call, output, accumulator_type(problem.type),
                      {channels / kPlaneChannels, problem.batch, problem.height, problem.width},
                      kWrongOutput);
  }
  const int step = problem.epilogue == Epilogue::relu_pool ? 2 : 1;
  return dense_data(call, output, problem.type,
                    {problem.batch, problem.height / step, problem.width / step, channels},
                    kWrongOutput);
}

// A kernel over segments; weight_length(problem) is the length of a row of its weights.
template <class WeightLength>
void bind_segments(py::module_& module, const Target& target, const char* name,
                   Kernel<SegmentConvolution> kernel, const WeightLength& weight_length) {
  module.def(
      name, [=](std::int64_t context, const std::vector<PythonSegment>& segments, py::handle weight,
                py::handle bias, std::pair<std::int64_t, std::int64_t> size,
                std::int64_t second_group, const std::string& epilogue, py::handle output) {
        Call call(target);
        SegmentConvolution problem{};
        const Tensor w = call.tensor(weight);
        problem.type = w.type;
        problem.output_channels = w.dimensions > 0 ? w.shape[0] : 0;
        require(problem.output_channels > 0 && problem.output_channels % kChannelMultiple == 0,
                "the output channels are not a multiple of 64");
        require(second_group > 0 && second_group <= problem.output_channels &&
                    second_group % kChannelMultiple == 0,
                "the second group does not start at a multiple of 64 output channels");
        problem.second_group = second_group;
        require(!segments.empty() && segments.size() <= kMaximumSegments,
                "1 or 2 segments are possible");
        for (const PythonSegment& from : segments) {
          const Tensor input = call.tensor(std::get<0>(from));
          const int groups = second_group < problem.output_channels ? 2 : 1;
          const Segment segment = segment_of(from, input, groups);
          if (problem.segment_count == 0) problem.batch = input.shape[0];
          require(input.type == problem.type && input.shape[0] == problem.batch,
                  "the segments and the weight differ in element type or batch");
          problem.segments[problem.segment_count++] = segment;
        }
        require(w.has_shape({problem.output_channels, weight_length(problem)}), kWrongWeight);
        problem.weight = dense_data(w);
        problem.bias =
            dense_data(call, bias, accumulator_type(w.type), {problem.output_channels}, kWrongBias);
        std::tie(problem.height, problem.width) = size;
        require(problem.height >= 0 && problem.width >= 0, "the size is negative");
        problem.epilogue = epilogue_of(epilogue);
        problem.output = segment_convolution_output(call, problem, output);
        if (problem.batch * problem.height * problem.width == 0) return;
        call.run(kernel, problem, context);
      });
}

std::int64_t winograd_weight_length(const SegmentConvolution& problem) {
  for (int i = 0; i < problem.segment_count; ++i) {
    require(problem.segments[i].stride == 1, "a segment's stride is not 1");
  }
  const int kernel = winograd::kernel_of(problem);
  require(kernel == 3 || kernel == 4, "the largest kernel is not 3 or 4");
  return winograd::kPoints * winograd::kPoints * winograd::channels_of(problem);
}

void bind_linear(py::module_& module, const Target& target) {
  module.def("linear", [target](std::int64_t context, py::handle input, py::handle weight,
                                py::handle bias, py::handle output) {
    Call call(target);
    Linear problem;
    const Tensor x = call.tensor(input);
    require(x.dimensions == 2 && x.shape[1] > 0 && x.shape[1] % kChannelMultiple == 0,
            "expected an input (batch, inputs), the inputs a multiple of 64");
    problem.type = x.type;
    problem.input = dense_data(x);
    problem.batch = x.shape[0];
    problem.inputs = x.shape[1];
    const Tensor w = call.tensor(weight);
    require(w.type == x.type && w.dimensions == 2 && w.shape[1] == problem.inputs, kWrongWeight);
    problem.weight = dense_data(w);
    problem.outputs = w.shape[0];
    problem.bias = dense_data(call, bias, accumulator_type(x.type), {problem.outputs}, kWrongBias);
    problem.output =
        dense_data(call, output, x.type, {problem.batch, problem.outputs}, kWrongOutput);
    if (problem.batch * problem.outputs == 0) return;
    call.run(target.backend->linear, problem, context);
  });
}

WindowMeans window_means_problem(Call& call, py::handle input, std::int64_t first_channel,
                                 std::int64_t channels, int kernel) {
  WindowMeans problem{};
  const Tensor x = call.tensor(input);
  require(x.dimensions == 4, "expected an input (batch, height, width, channels)");
  problem.type = x.type;
  problem.input = dense_data(x);
  problem.batch = x.shape[0];
  problem.height = x.shape[1];
  problem.width = x.shape[2];
  problem.pixel_channels = x.shape[3];
  require(channels > 0 && channels % kChannelMultiple == 0 && channels <= problem.pixel_channels &&
              first_channel >= 0 && first_channel % kChannelMultiple == 0 &&
              first_channel <= problem.pixel_channels - channels,
          "the channels are not a multiple of 64 channels of the input");
  require(kernel >= 1 && kernel <= 4, "the kernel is not 1 to 4");
  require(problem.height >= kernel && problem.width >= kernel,
          "the input is smaller than the convolution's kernel");
  problem.first_channel = first_channel;
  problem.channels = channels;
  problem.kernel = kernel;
  return problem;
}

void bind_window_means(py::module_& module, const Target& target) {
  module.def("window_means_workspace", [target](py::handle input, std::int64_t first_channel,
                                                std::int64_t channels, int kernel) {
    Call call(target);
    return target.backend->window_means_workspace(
        window_means_problem(call, input, first_channel, channels, kernel));
  });
  module.def("window_means", [target](std::int64_t context, py::handle input,
                                      std::int64_t first_channel, std::int64_t channels, int kernel,
                                      py::handle output, py::handle workspace) {
    Call call(target);
    WindowMeans problem = window_means_problem(call, input, first_channel, channels, kernel);
    problem.output = dense_data(call, output, accumulator_type(problem.type),
                                {problem.batch, kernel, kernel, channels}, kWrongOutput);
    problem.workspace = call.memory(workspace, target.backend->window_means_workspace(problem));
    if (problem.batch == 0) return;
    call.run(target.backend->window_means, problem, context);
  });
}

}  // namespace

void bind_engine_kernels(py::module_& module, const Target& target) {
  const Backend& backend = *target.backend;
  if (backend.image_convolution != nullptr) bind_image_convolution(module, target);
  if (backend.segment_convolution != nullptr) {
    bind_segments(module, target, "segment_convolution", backend.segment_convolution,
                  reduction_length);
  }
  if (backend.winograd_convolution != nullptr) {
    bind_segments(module, target, "winograd_convolution", backend.winograd_convolution,
                  winograd_weight_length);
  }
  if (backend.linear != nullptr) bind_linear(module, target);
  if (backend.window_means != nullptr) bind_window_means(module, target);
}

}  // namespace efficientad::bindings
