#include "bindings/training_kernels.h"

#include "bindings/call.h"
#include "efficientad/image_convolution.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

constexpr std::int64_t kChannelMultiple = 64;

// What a kind of convolutions computes in, and how it reads filters.
struct Kind {
  bool (*takes)(ScalarType type);
  const char* wrong_types;
  std::int64_t smallest_kernel;
  const char* wrong_filters;
  std::int64_t (*weight_size)(std::int64_t kernel);  // numbers of a weight, from one filter
};

constexpr Kind kSegment{
    [](ScalarType type) { return type == ScalarType::bfloat16; },
    "the maps and the weight are not bfloat16", 1,
    "expected filters (output channels, kernel, kernel, input channels), the kernel 1 to 4, the "
    "channels multiples of 64",
    [](std::int64_t kernel) { return kernel * kernel; }};
constexpr Kind kWinograd{
    [](ScalarType type) { return type == ScalarType::float32 || type == ScalarType::float64; },
    "the maps and the weight are neither float32 nor float64", 3,
    "expected filters (output channels, kernel, kernel, input channels), the kernel 3 or 4, the "
    "channels multiples of 64",
    [](std::int64_t) { return std::int64_t{winograd::kPoints} * winograd::kPoints; }};

// (output channels, kernel, kernel, input channels), in the accumulator of `type`.
Tensor filters_of(Call& call, py::handle object, const Kind& kind, ScalarType type) {
  require(kind.takes(type), kind.wrong_types);
  const Tensor filters = call.tensor(object);
  require(filters.type == accumulator_type(type), "the filters are not of the accumulator's type");
  require(filters.dimensions == 4 && filters.shape[1] == filters.shape[2] &&
              filters.shape[1] >= kind.smallest_kernel && filters.shape[1] <= 4 &&
              filters.shape[0] > 0 && filters.shape[0] % kChannelMultiple == 0 &&
              filters.shape[3] > 0 && filters.shape[3] % kChannelMultiple == 0,
          kind.wrong_filters);
  return filters;
}

void bind_weights(py::module_& module, const Target& target, const char* name, const Kind& kind,
                  Kernel<ConvolutionWeights> kernel) {
  if (kernel == nullptr) return;
  module.def(name, [target, kind, kernel](std::int64_t context, py::handle filters, bool transposed,
                                          py::handle weight) {
    Call call(target);
    const Tensor to = call.tensor(weight);
    const Tensor from = filters_of(call, filters, kind, to.type);
    require(to.elements() == from.shape[0] * from.shape[3] * kind.weight_size(from.shape[1]),
            "the weight has another number of elements than the filters give");
    const ConvolutionWeights problem{
        to.type,    dense_data(from), from.shape[0], from.shape[3], static_cast<int>(from.shape[1]),
        transposed, dense_data(to)};
    call.run(kernel, problem, context);
  });
}

void bind_filter_gradient(py::module_& module, const Target& target, const char* name,
                          const Kind& kind, Kernel<FilterGradient> kernel) {
  if (kernel == nullptr) return;
  module.def(name, [target, kind, kernel](std::int64_t context, py::handle input,
                                          py::handle output_gradient, int padding,
                                          py::handle filter_gradient) {
    Call call(target);
    const Tensor x = call.tensor(input);
    const Tensor y = call.tensor(output_gradient);
    const Tensor to = filters_of(call, filter_gradient, kind, x.type);
    require(y.type == x.type && x.dimensions == 4 && y.dimensions == 4 &&
                x.shape[0] == y.shape[0] && x.shape[3] == to.shape[3] && y.shape[3] == to.shape[0],
            "the maps (batch, height, width, channels) do not fit the filters");
    const std::int64_t taps = to.shape[1];
    require(padding >= 0 && padding < taps, "the padding is not less than the kernel");
    for (int axis = 1; axis <= 2; ++axis) {
      require(y.shape[axis] == x.shape[axis] + 2 * padding - taps + 1,
              "the output's gradient does not fit the input");
    }
    const FilterGradient problem{x.type,
                                 dense_data(x),
                                 dense_data(y),
                                 x.shape[0],
                                 x.shape[1],
                                 x.shape[2],
                                 y.shape[1],
                                 y.shape[2],
                                 to.shape[3],
                                 to.shape[0],
                                 static_cast<int>(taps),
                                 padding,
                                 dense_data(to)};
    call.run(kernel, problem, context);
  });
}

constexpr const char* kWrongImages =
    "expected images (batch, 3, height, width) of the accumulator of the maps' type, at least one "
    "window of the pool large";
constexpr const char* kWrongFilters =
    "expected filters (output channels, 4, 4, 3) of the images' type, the output channels a "
    "multiple of 64, and as many biases";
constexpr const char* kWrongMaps =
    "the maps (batch, height, width, channels) do not fit the images";
constexpr const char* kWrongActive =
    "expected the bits of what is active (batch, convolved height, width, channels / 8) in uint8";

// The tensors that the forward and the backward kernel have in common.
struct ImageStage {
  ScalarType type;
  const void* image;
  std::int64_t batch, height, width, output_channels;
  void *filters, *bias, *maps;
  std::uint8_t* active;  // nullptr for None
};

ImageStage image_stage(Call& call, py::handle image, py::handle filters, py::handle bias,
                       py::handle maps, const py::object& active) {
  const Tensor x = call.tensor(image), w = call.tensor(filters), b = call.tensor(bias);
  const Tensor y = call.tensor(maps);
  require(x.type == accumulator_type(y.type) && x.dimensions == 4 && x.shape[1] == kImageColours &&
              x.shape[2] > kImageKernel && x.shape[3] > kImageKernel,
          kWrongImages);
  const std::int64_t batch = x.shape[0], outputs = w.shape[0];
  require(w.type == x.type && b.type == x.type &&
              w.has_shape({outputs, kImageKernel, kImageKernel, kImageColours}) && outputs > 0 &&
              outputs % kChannelMultiple == 0 && b.has_shape({outputs}),
          kWrongFilters);
  const std::int64_t rows = (x.shape[2] - kImageKernel + 1) / 2;
  const std::int64_t columns = (x.shape[3] - kImageKernel + 1) / 2;
  require(y.has_shape({batch, rows, columns, outputs}), kWrongMaps);
  std::uint8_t* bits = nullptr;
  if (!active.is_none()) {
    const Tensor a = call.tensor(active);
    require(a.type == ScalarType::uint8 && a.has_shape({batch, 2 * rows, 2 * columns, outputs / 8}),
            kWrongActive);
    bits = static_cast<std::uint8_t*>(dense_data(a));
  }
  return {y.type,  dense_data(x), batch,         x.shape[2],    x.shape[3],
          outputs, dense_data(w), dense_data(b), dense_data(y), bits};
}

void bind_image_conv_relu_pool(py::module_& module, const Target& target) {
  if (target.backend->image_conv_relu_pool == nullptr) return;
  module.def("image_conv_relu_pool", [target](std::int64_t context, py::handle image,
                                              py::handle filters, py::handle bias, int pool_padding,
                                              py::handle output, const py::object& active) {
    Call call(target);
    const ImageStage stage = image_stage(call, image, filters, bias, output, active);
    require(pool_padding == 0 || pool_padding == 1, "the pooling's padding is neither 0 nor 1");
    const ImageConvReluPool problem{stage.type,   stage.image,   stage.batch, stage.height,
                                    stage.width,  stage.filters, stage.bias,  stage.output_channels,
                                    pool_padding, stage.maps,    stage.active};
    call.run(target.backend->image_conv_relu_pool, problem, context);
  });
  module.def(
      "image_conv_relu_pool_gradient",
      [target](std::int64_t context, py::handle image, const py::object& active,
               py::handle output_gradient, py::handle filter_gradient, py::handle bias_gradient) {
        Call call(target);
        const ImageStage stage =
            image_stage(call, image, filter_gradient, bias_gradient, output_gradient, active);
        require(stage.active != nullptr, kWrongActive);
        const ImageConvReluPoolGradient problem{
            stage.type,   stage.image, stage.batch,           stage.height,  stage.width,
            stage.active, stage.maps,  stage.output_channels, stage.filters, stage.bias};
        call.run(target.backend->image_conv_relu_pool_gradient, problem, context);
      });
}

}  // namespace

void bind_training_kernels(py::module_& module, const Target& target) {
  const Backend& backend = *target.backend;
  bind_weights(module, target, "segment_weights", kSegment, backend.segment_weights);
  bind_weights(module, target, "winograd_weights", kWinograd, backend.winograd_weights);
  bind_filter_gradient(module, target, "filter_gradient", kSegment, backend.filter_gradient);
  bind_filter_gradient(module, target, "winograd_filter_gradient", kWinograd,
                       backend.winograd_filter_gradient);
  bind_image_conv_relu_pool(module, target);
}

}  // namespace efficientad::bindings
