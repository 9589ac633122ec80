// The CUDA kernels' host functions; the problem's header says what each one computes.
#pragma once

#include "efficientad/backend.h"

namespace efficientad::cuda {

// The compute capability from which on there are the tensor cores that the kernels are written for.
inline constexpr int kTensorCoreCapability = 80;

Status conv_relu_pool(const ConvReluPool& problem, const Execution& execution);
std::size_t conv_relu_pool_workspace(const ConvReluPool& problem);
Status relu_pool(const ReluPool& problem, const Execution& execution);
Status relu_pool_gradient(const ReluPoolGradient& problem, const Execution& execution);
Status squared_difference_map(const SquaredDifferenceMap& problem, const Execution& execution);
Status hard_feature_loss(const HardFeatureLoss& problem, const Execution& execution);
std::size_t hard_feature_loss_workspace(const HardFeatureLoss& problem);
Status hard_feature_loss_gradient(const HardFeatureLossGradient& problem,
                                  const Execution& execution);
Status order_statistics(const OrderStatistics& problem, const Execution& execution);
std::size_t order_statistics_workspace(const OrderStatistics& problem);
Status upsample_bilinear(const UpsampleBilinear& problem, const Execution& execution);
Status upsample_bilinear_gradient(const UpsampleBilinearGradient& problem,
                                  const Execution& execution);
Status normalize_and_combine(const NormalizeAndCombine& problem, const Execution& execution);
Status resize_normalize(const ResizeNormalize& problem, const Execution& execution);
Status image_convolution(const ImageConvolution& problem, const Execution& execution);
Status segment_convolution(const SegmentConvolution& problem, const Execution& execution);
Status linear(const Linear& problem, const Execution& execution);
Status window_means(const WindowMeans& problem, const Execution& execution);
std::size_t window_means_workspace(const WindowMeans& problem);

}  // namespace efficientad::cuda
