#include "cuda/convert.h"
#include "cuda/kernels.h"
#include "cuda/reduction.h"
#include "cuda/tensors.h"
#include "efficientad/linear.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::cuda {
namespace {

// Few warps to a block: one image has few outputs, which are to spread over the multiprocessors.
constexpr int kThreads = 64;
constexpr int kWarps = kThreads / kWarpSize;

template <class T>
struct Problem {
  Global<const T> input, weight;
  Global<const Accumulator<T>> bias;
  Global<T> output;
  std::int64_t inputs, outputs, items;
};

// A warp computes one output; its lanes take neighbouring vectors.
template <class T>
EFFICIENTAD_KERNEL(kThreads)
linear_kernel(Problem<T> problem) {
  constexpr int kWidth = kVectorWidth<T>;
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  for (std::int64_t item = std::int64_t{block_index().x} * kWarps + warp; item < problem.items;
       item += std::int64_t{grid_blocks().x} * kWarps) {
    const std::int64_t input = item / problem.outputs * problem.inputs;
    const std::int64_t weight = item % problem.outputs * problem.inputs;
    Accumulator<T> sums[kWidth] = {};
#pragma unroll 4
    for (std::int64_t i = lane * kWidth; i < problem.inputs; i += kWarpSize * kWidth) {
      const auto values = problem.input.template load_vector<kWidth>(input + i);
      const auto weights = problem.weight.template load_vector<kWidth>(weight + i);
#pragma unroll
      for (int j = 0; j < kWidth; ++j)
        sums[j] += widen(values.values[j]) * widen(weights.values[j]);
    }
    Accumulator<T> sum = sums[0];
#pragma unroll
    for (int j = 1; j < kWidth; ++j) sum += sums[j];
    sum = reduce_lanes<Sum>(sum);
    if (lane == 0) {
      problem.output.store(item, narrow<T>(sum + problem.bias.load(item % problem.outputs)));
    }
  }
}

template <class T>
Status run(const Linear& problem, const Execution& execution) {
  const std::int64_t items = problem.batch * problem.outputs;
  const Problem<T> parameters{
      Global<const T>(static_cast<const T*>(problem.input), problem.batch * problem.inputs),
      Global<const T>(static_cast<const T*>(problem.weight), problem.outputs * problem.inputs),
      Global<const Accumulator<T>>(static_cast<const Accumulator<T>*>(problem.bias),
                                   problem.outputs),
      Global<T>(static_cast<T*>(problem.output), items),
      problem.inputs,
      problem.outputs,
      items};
  const LaunchShape shape{grid_over(ceiling_divide(items, kWarps)), kThreads, 0};
  return launch(linear_kernel<T>, shape, execution, parameters);
}

}  // namespace

Status linear(const Linear& problem, const Execution& execution) {
  if (problem.batch * problem.outputs == 0) return kOk;
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::cuda
