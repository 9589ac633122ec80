#include "bindings/training_kernels.h"

#include "bindings/call.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

constexpr std::int64_t kChannelMultiple = 64;

// (output channels, kernel, kernel, input channels), as Winograd's convolutions take them.
Tensor filters_of(Call& call, py::handle object) {
  const Tensor filters = call.tensor(object);
  require(filters.type == ScalarType::float32 || filters.type == ScalarType::float64,
          "the filters are neither float32 nor float64");
  require(filters.dimensions == 4 && filters.shape[1] == filters.shape[2] &&
              (filters.shape[1] == 3 || filters.shape[1] == 4) && filters.shape[0] > 0 &&
              filters.shape[0] % kChannelMultiple == 0 && filters.shape[3] > 0 &&
              filters.shape[3] % kChannelMultiple == 0,
          "expected filters (output channels, kernel, kernel, input channels), the kernel 3 or 4, "
          "the channels multiples of 64");
  return filters;
}

void bind_winograd_weights(py::module_& module, const Target& target) {
  module.def("winograd_weights", [target](std::int64_t context, py::handle filters, bool transposed,
                                          py::handle weight) {
    Call call(target);
    const Tensor from = filters_of(call, filters);
    const std::int64_t points = winograd::kPoints * winograd::kPoints;
    const WinogradWeights problem{
        from.type,
        dense_data(from),
        from.shape[0],
        from.shape[3],
        static_cast<int>(from.shape[1]),
        transposed,
        dense_data(call.tensor(weight, from.type, from.shape[0] * from.shape[3] * points))};
    call.run(target.backend->winograd_weights, problem, context);
  });
}

void bind_winograd_filter_gradient(py::module_& module, const Target& target) {
  module.def("winograd_filter_gradient", [target](std::int64_t context, py::handle input,
                                                  py::handle output_gradient, int padding,
                                                  py::handle filter_gradient) {
    Call call(target);
    const Tensor to = filters_of(call, filter_gradient);
    const Tensor x = call.tensor(input);
    const Tensor y = call.tensor(output_gradient);
    require(x.type == to.type && y.type == to.type && x.dimensions == 4 && y.dimensions == 4 &&
                x.shape[0] == y.shape[0] && x.shape[3] == to.shape[3] && y.shape[3] == to.shape[0],
            "the maps (batch, height, width, channels) do not fit the filters");
    const std::int64_t kernel = to.shape[1];
    require(padding >= 0 && padding < kernel, "the padding is not less than the kernel");
    for (int axis = 1; axis <= 2; ++axis) {
      require(y.shape[axis] == x.shape[axis] + 2 * padding - kernel + 1,
              "the output's gradient does not fit the input");
    }
    const WinogradFilterGradient problem{to.type,
                                         dense_data(x),
                                         dense_data(y),
                                         x.shape[0],
                                         x.shape[1],
                                         x.shape[2],
                                         y.shape[1],
                                         y.shape[2],
                                         to.shape[3],
                                         to.shape[0],
                                         static_cast<int>(kernel),
                                         padding,
                                         dense_data(to)};
    call.run(target.backend->winograd_filter_gradient, problem, context);
  });
}

}  // namespace

void bind_training_kernels(py::module_& module, const Target& target) {
  if (target.backend->winograd_weights != nullptr) bind_winograd_weights(module, target);
  if (target.backend->winograd_filter_gradient != nullptr) {
    bind_winograd_filter_gradient(module, target);
  }
}

}  // namespace efficientad::bindings
