#include "cuda/conv_relu_pool_tensor_cores.h"
#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/tensors.h"
#include "efficientad/conv_relu_pool.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

constexpr int kThreads = 128;

// Output channels for which a thread uses the input elements that it has loaded.
constexpr int kBundle = 4;

// Activations that one pooled output averages.
constexpr int kWindow = 2;

template <class T>
struct Problem {
  Maps<const T> input;
  Global<const T> weight, bias;
  Maps<T> output;
  std::int64_t input_channels, input_height, input_width;
  std::int64_t kernel_height, kernel_width, padding, pool_padding;
  std::int64_t activation_height, activation_width;
  std::int64_t output_channels, output_height, output_width;
  std::int64_t channel_bundles, items;
  bool has_bias;
};

// One pooled output pixel, for kBundle output channels.
template <class T>
struct Item {
  std::int64_t image, first_channel, y, x;

  EFFICIENTAD_DEVICE Item(const Problem<T>& problem, std::int64_t index) {
    x = index % problem.output_width;
    index /= problem.output_width;
    y = index % problem.output_height;
    index /= problem.output_height;
    first_channel = index % problem.channel_bundles * kBundle;
    image = index / problem.channel_bundles;
  }
};

template <class T>
using Sums = Accumulator<T>[kBundle][kWindow][kWindow];

// Adds the products of one weight position with the 2x2 input elements that meet it, the first of
// which is at (y, x).
template <class T>
EFFICIENTAD_DEVICE void add_products(const Problem<T>& problem, const Item<T>& item,
                                     std::int64_t input_channel, std::int64_t y, std::int64_t x,
                                     std::int64_t position, Sums<T>& sums) {
  const std::int64_t source =
      item.image * problem.input.image + input_channel * problem.input.channel;
  Accumulator<T> values[kWindow][kWindow];
  for (int dy = 0; dy < kWindow; ++dy) {
    for (int dx = 0; dx < kWindow; ++dx) {
      const bool inside = y + dy >= 0 && y + dy < problem.input_height && x + dx >= 0 &&
                          x + dx < problem.input_width;
      const std::int64_t offset =
          source + (y + dy) * problem.input.row + (x + dx) * problem.input.pixel;
      values[dy][dx] = inside ? widen(problem.input.data.load(offset)) : 0;
    }
  }
  for (int i = 0; i < kBundle; ++i) {
    if (item.first_channel + i >= problem.output_channels) continue;
    const std::int64_t filter = (item.first_channel + i) * problem.input_channels + input_channel;
    const Accumulator<T> weight = widen(
        problem.weight.load(filter * problem.kernel_height * problem.kernel_width + position));
    for (int dy = 0; dy < kWindow; ++dy) {
      for (int dx = 0; dx < kWindow; ++dx) sums[i][dy][dx] += weight * values[dy][dx];
    }
  }
}

// Bias, ReLU and average; activations outside the convolution's output are the pooling's zeros.
template <class T>
EFFICIENTAD_DEVICE void write_pooled(const Problem<T>& problem, const Item<T>& item, std::int64_t y,
                                     std::int64_t x, const Sums<T>& sums) {
  for (int i = 0; i < kBundle; ++i) {
    const std::int64_t channel = item.first_channel + i;
    if (channel >= problem.output_channels) continue;
    const Accumulator<T> bias = problem.has_bias ? widen(problem.bias.load(channel)) : 0;
    Accumulator<T> pooled = 0;
    for (int dy = 0; dy < kWindow; ++dy) {
      for (int dx = 0; dx < kWindow; ++dx) {
        const bool inside = y + dy >= 0 && y + dy < problem.activation_height && x + dx >= 0 &&
                            x + dx < problem.activation_width;
        const Accumulator<T> activation = sums[i][dy][dx] + bias;
        // Written so that a NaN stays one.
        pooled += inside && !(activation < 0) ? activation : 0;
      }
    }
    problem.output.data.store(item.image * problem.output.image + channel * problem.output.channel +
                                  item.y * problem.output.row + item.x * problem.output.pixel,
                              narrow<T>(pooled / (kWindow * kWindow)));
  }
}

// Neighbouring threads take neighbouring pooled pixels of a row, with the same weights.
template <class T>
EFFICIENTAD_KERNEL(kThreads)
pooled_kernel(Problem<T> problem) {
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t index = std::int64_t{block_index().x} * kThreads + thread_index();
       index < problem.items; index += threads) {
    const Item<T> item(problem, index);
    // The window's first activation, and the input element under its filter's first weight.
    const std::int64_t y = item.y * kWindow - problem.pool_padding;
    const std::int64_t x = item.x * kWindow - problem.pool_padding;
    Sums<T> sums = {};
    for (std::int64_t channel = 0; channel < problem.input_channels; ++channel) {
      for (std::int64_t row = 0; row < problem.kernel_height; ++row) {
        for (std::int64_t column = 0; column < problem.kernel_width; ++column) {
          add_products(problem, item, channel, y - problem.padding + row,
                       x - problem.padding + column, row * problem.kernel_width + column, sums);
        }
      }
    }
    write_pooled(problem, item, y, x, sums);
  }
}

template <class T>
Status run(const ConvReluPool& problem, const Execution& execution) {
  const FeatureMaps &input = problem.input, &output = problem.output;
  const std::int64_t weights =
      output.channels * input.channels * problem.kernel_height * problem.kernel_width;
  const std::int64_t channel_bundles = ceiling_divide(output.channels, kBundle);
  const Problem<T> parameters{Maps<const T>(input),
                              Global<const T>(static_cast<const T*>(problem.weight), weights),
                              Global<const T>(static_cast<const T*>(problem.bias), output.channels),
                              Maps<T>(output),
                              input.channels,
                              input.height,
                              input.width,
                              problem.kernel_height,
                              problem.kernel_width,
                              problem.padding,
                              problem.pool_padding,
                              input.height + 2 * problem.padding - problem.kernel_height + 1,
                              input.width + 2 * problem.padding - problem.kernel_width + 1,
                              output.channels,
                              output.height,
                              output.width,
                              channel_bundles,
                              output.batch * channel_bundles * output.pixels(),
                              problem.bias != nullptr};
  const LaunchShape shape{grid_over(ceiling_divide(parameters.items, kThreads)), kThreads, 0};
  return launch(pooled_kernel<T>, shape, execution, parameters);
}

}  // namespace

std::size_t conv_relu_pool_workspace(const ConvReluPool& problem) {
  return tensor_cores::suits(problem) ? tensor_cores::workspace_bytes(problem) : 0;
}

Status conv_relu_pool(const ConvReluPool& problem, const Execution& execution) {
  if (problem.output.elements() == 0) return kOk;
  DeviceProperties device;
  if (const Status status = device_properties(device); status != kOk) return status;
  if (tensor_cores::suits(problem) && device.compute_capability >= kTensorCoreCapability) {
    return tensor_cores::conv_relu_pool(problem, execution);
  }
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
