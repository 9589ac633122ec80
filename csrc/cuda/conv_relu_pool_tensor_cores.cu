#include "cuda/conv_relu_pool_tensor_cores.h"
#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/tensors.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::cuda::tensor_cores {
namespace {

constexpr int kThreads = 128;
constexpr std::int64_t kChannelMultiple = 64;

bool is_dense_channels_last(const FeatureMaps& maps) {
  return maps.channel_stride == 1 && maps.column_stride == maps.channels &&
         (maps.batch == 1 || maps.batch_stride == maps.pixels() * maps.channels) &&
         is_vectorizable(maps.data, 2, {});
}

template <class T>
struct Packing {
  Global<const T> weight;  // [output channels][channels][row][column]
  Global<const T> bias;
  Global<T> packed_weight;  // as SegmentConvolution takes it
  Global<float> packed_bias;
  std::int64_t channels, kernel, weights, output_channels;
  bool has_bias;
};

template <class T>
EFFICIENTAD_KERNEL(kThreads)
pack_kernel(Packing<T> packing) {
  constexpr std::int64_t kBlock = kBlockBytes / static_cast<std::int64_t>(sizeof(T));
  const std::int64_t taps = packing.kernel * packing.kernel;
  const std::int64_t threads = std::int64_t{grid_blocks().x} * kThreads;
  for (std::int64_t target = std::int64_t{block_index().x} * kThreads + thread_index();
       target < packing.weights + packing.output_channels; target += threads) {
    if (target >= packing.weights) {
      const std::int64_t channel = target - packing.weights;
      packing.packed_bias.store(channel,
                                packing.has_bias ? widen(packing.bias.load(channel)) : 0.0f);
      continue;
    }
    const std::int64_t output = target / (packing.channels * taps);
    const std::int64_t row = target / kBlock % packing.kernel;
    const std::int64_t column = target / kBlock / packing.kernel % packing.kernel;
    const std::int64_t block = target / kBlock / taps % (packing.channels / kBlock);
    const std::int64_t channel = block * kBlock + target % kBlock;
    packing.packed_weight.store(
        target, packing.weight.load(((output * packing.channels + channel) * packing.kernel + row) *
                                        packing.kernel +
                                    column));
  }
}

std::int64_t weight_elements(const ConvReluPool& problem) {
  return problem.output.channels * problem.input.channels * problem.kernel_height *
         problem.kernel_width;
}

template <class T>
Status run(const ConvReluPool& problem, const Execution& execution) {
  const FeatureMaps &input = problem.input, &output = problem.output;
  const std::int64_t weights = weight_elements(problem);
  T* const weight = static_cast<T*>(problem.workspace);
  float* const bias = reinterpret_cast<float*>(weight + weights);
  const Packing<T> packing{Global<const T>(static_cast<const T*>(problem.weight), weights),
                           Global<const T>(static_cast<const T*>(problem.bias), output.channels),
                           Global<T>(weight, weights),
                           Global<float>(bias, output.channels),
                           input.channels,
                           problem.kernel_width,
                           weights,
                           output.channels,
                           problem.bias != nullptr};
  const LaunchShape shape{grid_over(ceiling_divide(weights + output.channels, kThreads)), kThreads,
                          0};
  const Status status = launch(pack_kernel<T>, shape, execution, packing);
  if (status != kOk) return status;

  Segment segment{};
  segment.input = input.data;
  segment.pixel_channels = segment.channels = input.channels;
  segment.height = segment.input_height = input.height;
  segment.width = segment.input_width = input.width;
  segment.kernel = static_cast<int>(problem.kernel_width);
  segment.stride = 1;
  segment.padding = static_cast<int>(problem.padding);
  SegmentConvolution convolution{};
  convolution.type = problem.type;
  convolution.segment_count = 1;
  convolution.segments[0] = segment;
  convolution.weight = weight;
  convolution.bias = bias;
  convolution.batch = input.batch;
  convolution.height = input.height + 2 * problem.padding - problem.kernel_height + 1;
  convolution.width = input.width + 2 * problem.padding - problem.kernel_width + 1;
  convolution.output_channels = convolution.second_group = output.channels;
  convolution.epilogue = Epilogue::relu_pool;
  convolution.output = output.data;
  return segment_convolution(convolution, execution);
}

}  // namespace

bool suits(const ConvReluPool& problem) {
  return (problem.type == ScalarType::float16 || problem.type == ScalarType::bfloat16) &&
         problem.kernel_height == problem.kernel_width && problem.kernel_width <= 4 &&
         problem.padding < problem.kernel_width && problem.pool_padding == 0 &&
         problem.input.channels % kChannelMultiple == 0 &&
         problem.output.channels % kChannelMultiple == 0 && is_dense_channels_last(problem.input) &&
         is_dense_channels_last(problem.output);
}

std::size_t workspace_bytes(const ConvReluPool& problem) {
  return static_cast<std::size_t>(weight_elements(problem)) * sizeof(Half) +
         static_cast<std::size_t>(problem.output.channels) * sizeof(float);
}

Status conv_relu_pool(const ConvReluPool& problem, const Execution& execution) {
  return problem.type == ScalarType::float16 ? run<Half>(problem, execution)
                                             : run<BFloat16>(problem, execution);
}

}  // namespace efficientad::cuda::tensor_cores
