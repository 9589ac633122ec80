#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/tensors.h"
#include "efficientad/relu_pool.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 256;

// The pixels of one tensor with `width` neighbouring channels each, in the order in which
// neighbouring threads find neighbouring memory: columns first in planes, else channels first.
struct Items {
  std::int64_t height, pixels_across, channel_groups, count;
  bool is_planes;

  Items(const FeatureMaps& maps, int width)
      : height(maps.height),
        pixels_across(maps.width),
        channel_groups(ceiling_divide(maps.channels, width)),
        count(maps.batch * channel_groups * maps.pixels()),
        is_planes(maps.is_planes()) {}
};

struct Item {
  std::int64_t image, group, y, x;

  EFFICIENTAD_DEVICE Item(const Items& items, std::int64_t index) {
    if (!items.is_planes) {
      group = index % items.channel_groups;
      index /= items.channel_groups;
    }
    x = index % items.pixels_across;
    index /= items.pixels_across;
    y = index % items.height;
    index /= items.height;
    if (items.is_planes) {
      group = index % items.channel_groups;
      index /= items.channel_groups;
    }
    image = index;
  }
};

template <class T>
EFFICIENTAD_DEVICE std::int64_t offset(const Maps<T>& maps, const Item& item, int width,
                                       std::int64_t y, std::int64_t x) {
  return item.image * maps.image + item.group * width * maps.channel + y * maps.row +
         x * maps.pixel;
}

template <class T>
struct Forward {
  Maps<const T> input;
  Maps<T> output;
  Items items;  // of the output
  std::int64_t height, width, padding;
};

template <class T, int Width>
EFFICIENTAD_KERNEL(kThreads)
forward_kernel(Forward<T> problem) {
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t index = std::int64_t{block_index().x} * kThreads + thread_index();
       index < problem.items.count; index += threads) {
    const Item item(problem.items, index);
    Accumulator<T> sums[Width] = {};
    for (int dy = 0; dy < 2; ++dy) {
      for (int dx = 0; dx < 2; ++dx) {
        const std::int64_t y = 2 * item.y - problem.padding + dy;
        const std::int64_t x = 2 * item.x - problem.padding + dx;
        if (y < 0 || y >= problem.height || x < 0 || x >= problem.width) continue;
        const auto activations = problem.input.data.template load_vector<Width>(
            offset(problem.input, item, Width, y, x));
        for (int i = 0; i < Width; ++i) {
          const Accumulator<T> activation = widen(activations.values[i]);
          // Written so that a NaN stays one.
          sums[i] += activation < 0 ? 0 : activation;
        }
      }
    }
    Vector<T, Width> pooled;
    for (int i = 0; i < Width; ++i) pooled.values[i] = narrow<T>(sums[i] / 4);
    problem.output.data.store_vector(offset(problem.output, item, Width, item.y, item.x), pooled);
  }
}

template <class T>
struct Gradient {
  Maps<const T> input, output_gradient;
  Maps<T> input_gradient;
  Items items;                 // of the input
  std::int64_t height, width;  // of the pooled maps
  std::int64_t padding;
};

template <class T, int Width>
EFFICIENTAD_KERNEL(kThreads)
gradient_kernel(Gradient<T> problem) {
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t index = std::int64_t{block_index().x} * kThreads + thread_index();
       index < problem.items.count; index += threads) {
    const Item item(problem.items, index);
    const std::int64_t y = (item.y + problem.padding) / 2, x = (item.x + problem.padding) / 2;
    Vector<T, Width> result;
    for (int i = 0; i < Width; ++i) result.values[i] = narrow<T>(0);
    if (y < problem.height && x < problem.width) {
      const auto activations = problem.input.data.template load_vector<Width>(
          offset(problem.input, item, Width, item.y, item.x));
      const auto gradients = problem.output_gradient.data.template load_vector<Width>(
          offset(problem.output_gradient, item, Width, y, x));
      for (int i = 0; i < Width; ++i) {
        if (widen(activations.values[i]) <= 0) continue;
        result.values[i] = narrow<T>(widen(gradients.values[i]) / 4);
      }
    }
    problem.input_gradient.data.store_vector(
        offset(problem.input_gradient, item, Width, item.y, item.x), result);
  }
}

LaunchShape shape_over(const Items& items) {
  return {grid_over(ceiling_divide(items.count, kThreads)), kThreads, 0};
}

// Whether kVectorWidth channels of every pixel can be read and written at once.
template <class T, class... Each>
bool has_vectors(const Each&... maps) {
  return ((!maps.is_planes() && maps.channels % kVectorWidth<T> == 0 &&
           is_vectorizable(maps.data, sizeof(T), {maps.batch_stride, maps.column_stride})) &&
          ...);
}

template <class T, int Width>
Status run(const ReluPool& problem, const Execution& execution) {
  const FeatureMaps &input = problem.input, &output = problem.output;
  const Forward<T> parameters{Maps<const T>(input), Maps<T>(output), Items(output, Width),
                              input.height,         input.width,     problem.pool_padding};
  return launch(forward_kernel<T, Width>, shape_over(parameters.items), execution, parameters);
}

template <class T, int Width>
Status run(const ReluPoolGradient& problem, const Execution& execution) {
  const FeatureMaps &input = problem.input, &output = problem.output_gradient;
  const Gradient<T> parameters{
      Maps<const T>(input), Maps<const T>(output), Maps<T>(problem.input_gradient),
      Items(input, Width),  output.height,         output.width,
      problem.pool_padding};
  return launch(gradient_kernel<T, Width>, shape_over(parameters.items), execution, parameters);
}

}  // namespace

Status relu_pool(const ReluPool& problem, const Execution& execution) {
  if (problem.output.elements() == 0) return kOk;
  return for_floating_type(problem.type, [&](auto scalar) {
    using T = decltype(scalar);
    return has_vectors<T>(problem.input, problem.output)
               ? run<T, kVectorWidth<T>>(problem, execution)
               : run<T, 1>(problem, execution);
  });
}

Status relu_pool_gradient(const ReluPoolGradient& problem, const Execution& execution) {
  if (problem.input.elements() == 0) return kOk;
  return for_floating_type(problem.type, [&](auto scalar) {
    using T = decltype(scalar);
    return has_vectors<T>(problem.input, problem.output_gradient, problem.input_gradient)
               ? run<T, kVectorWidth<T>>(problem, execution)
               : run<T, 1>(problem, execution);
  });
}

}  // namespace efficientad::cuda
