#include "efficientad/image_convolution.h"

#include "cpu/feature_writer.h"
#include "cpu/image_source.h"
#include "cpu/kernels.h"
#include "efficientad/scalar_dispatch.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

template <class Scalar, class Value>
Status run(const ImageConvolution& problem, const Execution& execution) {
  const auto length = [&](std::int64_t image_length) {
    return problem.pooled ? image_length - kImageKernel + 1 : problem.output_length(image_length);
  };
  const ConvolutionGrid grid{problem.batch,           length(problem.height),
                             length(problem.width),   problem.output_channels,
                             problem.output_channels, kImageKernel * kImageKernel * kImageChannels,
                             problem.pooled};
  const FeatureWriter<Scalar> writer(grid, true, problem.output);
  const ImageSource<Scalar, Value> source(problem);
  const ImageSource<Scalar, Value>* const sources[] = {&source};
  return convolve<Scalar>(grid, sources, 1, problem.weight, problem.bias, execution, writer);
}

}  // namespace

Status image_convolution(const ImageConvolution& problem, const Execution& execution) {
  return for_floating_type(problem.type, [&](auto scalar) {
    using Scalar = decltype(scalar);
    return problem.image_type == ScalarType::uint8
               ? run<Scalar, std::uint8_t>(problem, execution)
               : run<Scalar, Accumulator<Scalar>>(problem, execution);
  });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
