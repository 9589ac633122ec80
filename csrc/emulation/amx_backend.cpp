#include "emulation/amx_backend.h"

#include "cpu/backend.h"

namespace efficientad {
namespace emulated_amx {

Status image_convolution(const ImageConvolution& problem, const Execution& execution);
Status segment_convolution(const SegmentConvolution& problem, const Execution& execution);
Status segment_weights(const ConvolutionWeights& problem, const Execution& execution);
Status filter_gradient(const FilterGradient& problem, const Execution& execution);
Status image_conv_relu_pool(const ImageConvReluPool& problem, const Execution& execution);
Status image_conv_relu_pool_gradient(const ImageConvReluPoolGradient& problem,
                                     const Execution& execution);
WeightLayout weight_layout(ScalarType type);

}  // namespace emulated_amx

namespace emulation {

const Backend& amx_backend() {
  static const Backend kernels =
      with_convolutions(*cpu::instruction_sets().entries[0].backend,
                        {emulated_amx::image_convolution, emulated_amx::segment_convolution,
                         emulated_amx::segment_weights, emulated_amx::filter_gradient,
                         emulated_amx::image_conv_relu_pool,
                         emulated_amx::image_conv_relu_pool_gradient, emulated_amx::weight_layout});
  return kernels;
}

}  // namespace emulation
}  // namespace efficientad
