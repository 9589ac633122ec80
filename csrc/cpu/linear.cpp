#include "efficientad/linear.h"

#include "cpu/dot_products.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

template <class Scalar>
Status run(const Linear& problem, const Execution& execution) {
  using Number = Accumulator<Scalar>;
  const std::int64_t batch = problem.batch, inputs = problem.inputs, outputs = problem.outputs;
  const Widened<Scalar> input(problem.input, batch * inputs, execution);
  const Widened<Scalar> weight(problem.weight, outputs * inputs, execution);
  Scratch<Number> sums(batch * outputs);
  if (input.data() == nullptr || weight.data() == nullptr || sums.data() == nullptr) {
    return kOutOfMemory;
  }
  // Outputs are shared between threads: there is often a single row of inputs.
  const Team team = team_for(execution, batch * inputs * outputs);
  parallel_ranges(team, outputs, [&](int, std::int64_t begin, std::int64_t end) {
    dot_products(input.data(), batch, weight.data() + begin * inputs,
                 static_cast<const Number*>(problem.bias) + begin, end - begin, inputs,
                 sums.data() + begin, outputs);
  });
  Scalar* output = static_cast<Scalar*>(problem.output);
  for (std::int64_t index = 0; index < batch * outputs; ++index) {
    store_one(output + index, sums[index]);
  }
  return kOk;
}

}  // namespace

Status linear(const Linear& problem, const Execution& execution) {
  return for_floating_type(problem.type,
                           [&](auto scalar) { return run<decltype(scalar)>(problem, execution); });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
