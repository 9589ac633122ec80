#include "cpu/kernels.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// CPU kernels need no workspace from outside: what they need is small and kept by each thread
// (scratch.h), or lives for one call.
const Backend& backend() {
  static constexpr Backend kernels = {
      nullptr,  // conv_relu_pool: torch convolves, relu_pool does the rest
      nullptr,
      relu_pool,
      relu_pool_gradient,
      squared_difference_map,
      hard_feature_loss,
      [](const HardFeatureLoss&) { return std::size_t{0}; },
      hard_feature_loss_gradient,
      order_statistics,
      [](const OrderStatistics&) { return std::size_t{0}; },
      upsample_bilinear,
      upsample_bilinear_gradient,
      normalize_and_combine,
      resize_normalize,
      image_convolution,
      segment_convolution,
      segment_weights,
      filter_gradient,
      image_conv_relu_pool,
      image_conv_relu_pool_gradient,
      winograd_convolution,
      winograd_weights,
      winograd_filter_gradient,
      linear,
      window_means,
      [](const WindowMeans&) { return std::size_t{0}; },
      weight_layout,
  };
  return kernels;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
