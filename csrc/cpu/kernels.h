// The kernels of one instruction set; see backend.h for what each one computes.
#pragma once

#include <cstddef>

#include "efficientad/backend.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

Status relu_pool(const ReluPool& problem, const Execution& execution);
Status relu_pool_gradient(const ReluPoolGradient& problem, const Execution& execution);
Status squared_difference_map(const SquaredDifferenceMap& problem, const Execution& execution);
Status hard_feature_loss(const HardFeatureLoss& problem, const Execution& execution);
Status hard_feature_loss_gradient(const HardFeatureLossGradient& problem,
                                  const Execution& execution);
Status order_statistics(const OrderStatistics& problem, const Execution& execution);
Status upsample_bilinear(const UpsampleBilinear& problem, const Execution& execution);
Status upsample_bilinear_gradient(const UpsampleBilinearGradient& problem,
                                  const Execution& execution);
Status normalize_and_combine(const NormalizeAndCombine& problem, const Execution& execution);
Status resize_normalize(const ResizeNormalize& problem, const Execution& execution);
Status image_convolution(const ImageConvolution& problem, const Execution& execution);
Status segment_convolution(const SegmentConvolution& problem, const Execution& execution);
Status segment_weights(const ConvolutionWeights& problem, const Execution& execution);
Status filter_gradient(const FilterGradient& problem, const Execution& execution);
Status image_conv_relu_pool(const ImageConvReluPool& problem, const Execution& execution);
Status image_conv_relu_pool_gradient(const ImageConvReluPoolGradient& problem,
                                     const Execution& execution);
Status winograd_convolution(const SegmentConvolution& problem, const Execution& execution);
Status winograd_weights(const ConvolutionWeights& problem, const Execution& execution);
Status winograd_filter_gradient(const FilterGradient& problem, const Execution& execution);
WeightLayout weight_layout(ScalarType type);
Status linear(const Linear& problem, const Execution& execution);
Status window_means(const WindowMeans& problem, const Execution& execution);

const Backend& backend();

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
