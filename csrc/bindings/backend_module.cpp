#include "bindings/backend_module.h"

#include <pybind11/stl.h>

#include <array>
#include <vector>

#include "bindings/call.h"
#include "bindings/engine_kernels.h"
#include "bindings/training_kernels.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

void require_same_shape(FeatureMaps& a, FeatureMaps& b) {
  require(
      a.batch == b.batch && a.channels == b.channels && a.height == b.height && a.width == b.width,
      "two tensors differ in shape");
  match_layout(a, b);
}

constexpr char kWrongPoolPadding[] = "the pooling's padding is neither 0 nor 1";

ConvReluPool conv_relu_pool_problem(Call& call, py::handle input, py::handle weight,
                                    const py::object& bias, std::int64_t padding,
                                    std::int64_t pool_padding, py::handle output) {
  ConvReluPool problem{};
  const Tensor x = call.tensor(input);
  problem.type = x.type;
  problem.input = feature_maps(x);
  const Tensor w = call.tensor(weight);
  require(w.dimensions == 4 && w.type == x.type && w.shape[1] == problem.input.channels,
          "the weight does not fit the input");
  problem.weight = dense_data(w);
  problem.kernel_height = w.shape[2];
  problem.kernel_width = w.shape[3];
  problem.bias = bias.is_none() ? nullptr : dense_data(call.tensor(bias, x.type, w.shape[0]));
  require(padding >= 0, "the padding is negative");
  require(pool_padding == 0 || pool_padding == 1, kWrongPoolPadding);
  problem.padding = padding;
  problem.pool_padding = pool_padding;
  const Tensor y = call.tensor(output);
  problem.output = feature_maps(y);
  // A window of nothing but padding is none.
  const auto pooled = [&](std::int64_t length, std::int64_t kernel) {
    const std::int64_t convolved = length + 2 * padding - kernel + 1;
    return convolved > 0 ? (convolved + 2 * pool_padding) / 2 : 0;
  };
  require(y.type == x.type && problem.output.batch == problem.input.batch &&
              problem.output.channels == w.shape[0] &&
              problem.output.height == pooled(problem.input.height, w.shape[2]) &&
              problem.output.width == pooled(problem.input.width, w.shape[3]),
          "the output does not fit the input");
  return problem;
}

void bind_conv_relu_pool(py::module_& module, const Target& target) {
  if (target.backend->conv_relu_pool != nullptr) {
    module.def("conv_relu_pool_workspace",
               [target](py::handle input, py::handle weight, const py::object& bias,
                        std::int64_t padding, std::int64_t pool_padding, py::handle output) {
                 Call call(target);
                 return target.backend->conv_relu_pool_workspace(conv_relu_pool_problem(
                     call, input, weight, bias, padding, pool_padding, output));
               });
    module.def("conv_relu_pool", [target](std::int64_t context, py::handle input, py::handle weight,
                                          const py::object& bias, std::int64_t padding,
                                          std::int64_t pool_padding, py::handle output,
                                          py::handle workspace) {
      Call call(target);
      ConvReluPool problem =
          conv_relu_pool_problem(call, input, weight, bias, padding, pool_padding, output);
      problem.workspace = call.memory(workspace, target.backend->conv_relu_pool_workspace(problem));
      call.run(target.backend->conv_relu_pool, problem, context);
    });
  }
}

bool is_pooled(const FeatureMaps& output, const FeatureMaps& input, std::int64_t pool_padding) {
  require(pool_padding == 0 || pool_padding == 1, kWrongPoolPadding);
  // A window of nothing but padding is none.
  const auto pooled = [&](std::int64_t length) {
    return length > 0 ? (length + 2 * pool_padding) / 2 : 0;
  };
  return output.batch == input.batch && output.channels == input.channels &&
         output.height == pooled(input.height) && output.width == pooled(input.width);
}

void bind_relu_pool(py::module_& module, const Target& target) {
  module.def("relu_pool", [target](std::int64_t context, py::handle input,
                                   std::int64_t pool_padding, py::handle output) {
    Call call(target);
    const Tensor x = call.tensor(input);
    const Tensor y = call.tensor(output);
    ReluPool problem{x.type, feature_maps(x), pool_padding, feature_maps(y)};
    match_layout(problem.input, problem.output);
    require(y.type == x.type && is_pooled(problem.output, problem.input, pool_padding),
            "the output does not fit the input");
    call.run(target.backend->relu_pool, problem, context);
  });
  module.def("relu_pool_gradient", [target](std::int64_t context, py::handle input,
                                            py::handle output_gradient, std::int64_t pool_padding,
                                            py::handle input_gradient) {
    Call call(target);
    const Tensor x = call.tensor(input);
    const Tensor from = call.tensor(output_gradient);
    const Tensor to = call.tensor(input_gradient, x.type, x.elements());
    ReluPoolGradient problem{x.type, feature_maps(x), feature_maps(from), pool_padding,
                             feature_maps(to)};
    match_layout(problem.input, problem.output_gradient);
    require_same_shape(problem.input, problem.input_gradient);
    require(from.type == x.type && is_pooled(problem.output_gradient, problem.input, pool_padding),
            "the output's gradient does not fit the input");
    call.run(target.backend->relu_pool_gradient, problem, context);
  });
}

void bind_squared_difference_map(py::module_& module, const Target& target) {
  module.def("squared_difference_map", [target](std::int64_t context, py::handle a, py::handle b,
                                                py::handle output) {
    Call call(target);
    const Tensor first = call.tensor(a);
    SquaredDifferenceMap problem;
    problem.type = first.type;
    problem.a = feature_maps(first);
    problem.b = feature_maps(call.tensor(b, first.type, first.elements()));
    require_same_shape(problem.a, problem.b);
    problem.output =
        dense_data(call.tensor(output, first.type, problem.a.batch * problem.a.pixels()));
    call.run(target.backend->squared_difference_map, problem, context);
  });
}

HardFeatureLoss hard_feature_loss_problem(Call& call, py::handle teacher, py::handle student,
                                          std::int64_t rank) {
  HardFeatureLoss problem{};
  const Tensor t = call.tensor(teacher);
  problem.type = t.type;
  problem.teacher = feature_maps(t);
  problem.student = feature_maps(call.tensor(student, t.type, t.elements()));
  require_same_shape(problem.teacher, problem.student);
  require(rank >= 0 && rank < t.elements(), "the rank is not that of an element");
  problem.rank = rank;
  return problem;
}

void bind_hard_feature_loss(py::module_& module, const Target& target) {
  module.def("hard_feature_loss_workspace", [target](py::handle teacher, py::handle student) {
    Call call(target);
    return target.backend->hard_feature_loss_workspace(
        hard_feature_loss_problem(call, teacher, student, 0));
  });
  module.def("hard_feature_loss", [target](std::int64_t context, py::handle teacher,
                                           py::handle student, std::int64_t rank, py::handle loss,
                                           py::handle selection, py::handle workspace) {
    Call call(target);
    HardFeatureLoss problem = hard_feature_loss_problem(call, teacher, student, rank);
    problem.loss = call.tensor(loss, accumulator_type(problem.type), 1).data;
    problem.selection =
        static_cast<double*>(dense_data(call.tensor(selection, ScalarType::float64, 2)));
    problem.workspace =
        call.memory(workspace, target.backend->hard_feature_loss_workspace(problem));
    call.run(target.backend->hard_feature_loss, problem, context);
  });
  module.def("hard_feature_loss_gradient", [target](std::int64_t context, py::handle teacher,
                                                    py::handle student, py::handle loss_gradient,
                                                    py::handle selection, py::handle gradient) {
    Call call(target);
    HardFeatureLoss forward = hard_feature_loss_problem(call, teacher, student, 0);
    HardFeatureLossGradient problem;
    problem.type = forward.type;
    problem.teacher = forward.teacher;
    problem.student = forward.student;
    problem.loss_gradient = call.tensor(loss_gradient, accumulator_type(problem.type), 1).data;
    problem.selection =
        static_cast<const double*>(dense_data(call.tensor(selection, ScalarType::float64, 2)));
    problem.gradient =
        feature_maps(call.tensor(gradient, problem.type, problem.student.elements()));
    require_same_shape(problem.student, problem.gradient);
    call.run(target.backend->hard_feature_loss_gradient, problem, context);
  });
}

OrderStatistics order_statistics_problem(Call& call, py::handle values,
                                         const std::vector<std::int64_t>& ranks) {
  OrderStatistics problem{};
  const Tensor x = call.tensor(values);
  problem.type = x.type;
  problem.values = dense_data(x);
  problem.count = x.elements();
  require(problem.count > 0, "there are no values");
  require(!ranks.empty() && ranks.size() <= kMaximumRanks, "1 to 16 ranks are possible");
  for (const std::int64_t rank : ranks) {
    require(rank >= 0 && rank < problem.count, "a rank is not that of an element");
    problem.ranks[problem.rank_count++] = rank;
  }
  return problem;
}

void bind_quantiles(py::module_& module, const Target& target) {
  module.attr("maximum_ranks") = kMaximumRanks;
  module.def("order_statistics_workspace",
             [target](py::handle values, const std::vector<std::int64_t>& ranks) {
               Call call(target);
               return target.backend->order_statistics_workspace(
                   order_statistics_problem(call, values, ranks));
             });
  module.def("order_statistics", [target](std::int64_t context, py::handle values,
                                          const std::vector<std::int64_t>& ranks, py::handle output,
                                          py::handle nan_count, py::handle workspace) {
    Call call(target);
    OrderStatistics problem = order_statistics_problem(call, values, ranks);
    problem.output = dense_data(call.tensor(output, problem.type, problem.rank_count));
    problem.nan_count = static_cast<std::int64_t*>(call.memory(nan_count, sizeof(std::int64_t)));
    problem.workspace = call.memory(workspace, target.backend->order_statistics_workspace(problem));
    call.run(target.backend->order_statistics, problem, context);
  });
}

void bind_upsample_bilinear(py::module_& module, const Target& target) {
  module.def("upsample_bilinear", [target](std::int64_t context, py::handle input, Axis rows,
                                           Axis columns, py::handle output) {
    Call call(target);
    const Tensor x = call.tensor(input);
    const Tensor y = call.tensor(output);
    UpsampleBilinear problem{x.type, feature_maps(x), feature_maps(y), resampling_axis(rows),
                             resampling_axis(columns)};
    match_layout(problem.input, problem.output);
    require(y.type == x.type && problem.output.batch == problem.input.batch &&
                problem.output.channels == problem.input.channels &&
                (y.elements() == 0 || x.elements() > 0),
            "the output does not fit the input");
    call.run(target.backend->upsample_bilinear, problem, context);
  });
  module.def("upsample_bilinear_gradient", [target](std::int64_t context,
                                                    py::handle output_gradient, Axis rows,
                                                    Axis columns, py::handle input_gradient) {
    Call call(target);
    const Tensor from = call.tensor(output_gradient);
    const Tensor to = call.tensor(input_gradient);
    UpsampleBilinearGradient problem{from.type, feature_maps(from), feature_maps(to),
                                     resampling_axis(rows), resampling_axis(columns)};
    match_layout(problem.output_gradient, problem.input_gradient);
    const FeatureMaps &output = problem.output_gradient, &input = problem.input_gradient;
    require(to.type == from.type && output.batch == input.batch &&
                output.channels == input.channels && (to.elements() == 0 || from.elements() > 0),
            "the input's gradient does not fit the output's");
    call.run(target.backend->upsample_bilinear_gradient, problem, context);
  });
}

void bind_normalize_and_combine(py::module_& module, const Target& target) {
  module.def(
      "normalize_and_combine",
      [target](std::int64_t context, py::handle local_map, py::handle global_map,
               std::pair<double, double> local_quantiles,
               std::pair<double, double> global_quantiles, Axis rows, Axis columns, py::handle map,
               py::handle score) {
        Call call(target);
        NormalizeAndCombine problem;
        const Tensor local = call.tensor(local_map);
        require(local.dimensions == 4 && local.shape[0] > 0,
                "expected maps of shape (planes, batch, height, width)");
        problem.type = local.type;
        problem.local_map = dense_data(local);
        problem.global_map = dense_data(call.tensor(global_map, local.type, local.elements()));
        problem.planes = local.shape[0];
        problem.batch = local.shape[1];
        problem.height = local.shape[2];
        problem.width = local.shape[3];
        require(problem.height > 0 && problem.width > 0, "the maps have no pixels");
        problem.local_quantiles = {local_quantiles.first, local_quantiles.second};
        problem.global_quantiles = {global_quantiles.first, global_quantiles.second};
        problem.rows = resampling_axis(rows);
        problem.columns = resampling_axis(columns);
        const Tensor output = call.tensor(map);
        require(output.dimensions == 4 && output.type == local.type &&
                    output.shape[0] == problem.batch && output.shape[1] == 1,
                "the output does not fit the maps");
        problem.output_height = output.shape[2];
        problem.output_width = output.shape[3];
        problem.map = dense_data(output);
        problem.score = dense_data(call.tensor(score, accumulator_type(local.type), problem.batch));
        call.run(target.backend->normalize_and_combine, problem, context);
      });
}

using Colour = std::array<double, 3>;

void copy_colour(const Colour& from, double (&to)[3]) {
  for (std::size_t channel = 0; channel < 3; ++channel) to[channel] = from[channel];
}

void bind_resize_normalize(py::module_& module, const Target& target) {
  module.def("resize_normalize", [target](std::int64_t context, py::handle image, double scale,
                                          const Colour& mean, const Colour& deviation,
                                          const Colour& background, py::handle output) {
    Call call(target);
    ResizeNormalize problem;
    const Tensor source = call.tensor(image);
    problem.type = source.type;
    problem.image = strided_maps(source);
    const std::int64_t channels = problem.image.channels;
    require(channels == 1 || channels == 3 || channels == 4, "expected 1, 3 or 4 channels");
    require(problem.image.height > 0 && problem.image.width > 0, "the image has no pixels");
    problem.scale = scale;
    copy_colour(mean, problem.mean);
    copy_colour(deviation, problem.deviation);
    copy_colour(background, problem.background);
    const Tensor result = call.tensor(output);
    require(result.dimensions == 4 && result.type == accumulator_type(source.type) &&
                result.shape[0] == problem.image.batch && result.shape[1] == 3,
            "the output does not fit the image");
    problem.output_height = result.shape[2];
    problem.output_width = result.shape[3];
    problem.output = dense_data(result);
    call.run(target.backend->resize_normalize, problem, context);
  });
}

}  // namespace

void bind_backend(py::module_& module, const Target& target) {
  bind_conv_relu_pool(module, target);
  bind_relu_pool(module, target);
  bind_squared_difference_map(module, target);
  bind_hard_feature_loss(module, target);
  bind_quantiles(module, target);
  bind_upsample_bilinear(module, target);
  bind_normalize_and_combine(module, target);
  bind_resize_normalize(module, target);
  bind_engine_kernels(module, target);
  bind_training_kernels(module, target);
}

Execution host_execution(std::int64_t context) {
  return {context > 0 ? static_cast<int>(context) : 1, nullptr};
}

}  // namespace efficientad::bindings
