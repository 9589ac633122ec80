#include "cuda/backend.h"
#include "cuda/kernels.h"

namespace efficientad::cuda {

const Backend& backend() {
  static constexpr Backend kernels = {
      conv_relu_pool,
      conv_relu_pool_workspace,
      relu_pool,
      relu_pool_gradient,
      squared_difference_map,
      hard_feature_loss,
      hard_feature_loss_workspace,
      hard_feature_loss_gradient,
      order_statistics,
      order_statistics_workspace,
      upsample_bilinear,
      upsample_bilinear_gradient,
      normalize_and_combine,
      resize_normalize,
      image_convolution,
      segment_convolution,
      nullptr,  // segment_weights, filter_gradient, image_conv_relu_pool and its gradient: on a GPU
                // trainings use cuDNN and relu_pool
      nullptr,
      nullptr,
      nullptr,
      nullptr,  // winograd_convolution and what belongs to it: tensor cores round too much for it
      nullptr,
      nullptr,
      linear,
      window_means,
      window_means_workspace,
      [](ScalarType) { return WeightLayout{1, 1}; },
  };
  return kernels;
}

}  // namespace efficientad::cuda
