// A backend is one implementation of every kernel.
#pragma once

#include <cstddef>

#include "efficientad/conv_relu_pool.h"
#include "efficientad/hard_feature_loss.h"
#include "efficientad/image_conv_relu_pool.h"
#include "efficientad/image_convolution.h"
#include "efficientad/linear.h"
#include "efficientad/normalize_and_combine.h"
#include "efficientad/quantiles.h"
#include "efficientad/relu_pool.h"
#include "efficientad/resize_normalize.h"
#include "efficientad/segment_convolution.h"
#include "efficientad/squared_difference_map.h"
#include "efficientad/training_convolution.h"
#include "efficientad/upsample_bilinear.h"
#include "efficientad/weight_layout.h"
#include "efficientad/window_means.h"
#include "efficientad/winograd_convolution.h"

namespace efficientad {

template <class Problem>
using Kernel = Status (*)(const Problem&, const Execution&);

// nullptr where a backend does not have a kernel of its own.
struct Backend {
  Kernel<ConvReluPool> conv_relu_pool;
  std::size_t (*conv_relu_pool_workspace)(const ConvReluPool&);
  Kernel<ReluPool> relu_pool;
  Kernel<ReluPoolGradient> relu_pool_gradient;
  Kernel<SquaredDifferenceMap> squared_difference_map;
  Kernel<HardFeatureLoss> hard_feature_loss;
  std::size_t (*hard_feature_loss_workspace)(const HardFeatureLoss&);
  Kernel<HardFeatureLossGradient> hard_feature_loss_gradient;
  Kernel<OrderStatistics> order_statistics;
  std::size_t (*order_statistics_workspace)(const OrderStatistics&);
  Kernel<UpsampleBilinear> upsample_bilinear;
  Kernel<UpsampleBilinearGradient> upsample_bilinear_gradient;
  Kernel<NormalizeAndCombine> normalize_and_combine;
  Kernel<ResizeNormalize> resize_normalize;
  Kernel<ImageConvolution> image_convolution;
  Kernel<SegmentConvolution> segment_convolution;
  Kernel<ConvolutionWeights> segment_weights;
  Kernel<FilterGradient> filter_gradient;
  Kernel<ImageConvReluPool> image_conv_relu_pool;
  Kernel<ImageConvReluPoolGradient> image_conv_relu_pool_gradient;
  Kernel<SegmentConvolution> winograd_convolution;
  Kernel<ConvolutionWeights> winograd_weights;
  Kernel<FilterGradient> winograd_filter_gradient;
  Kernel<Linear> linear;
  Kernel<WindowMeans> window_means;
  std::size_t (*window_means_workspace)(const WindowMeans&);
  // In which image_convolution and segment_convolution read weights of a type.
  WeightLayout (*weight_layout)(ScalarType);
};

// The kernels that an instruction set for convolutions has of its own.
struct Convolutions {
  Kernel<ImageConvolution> image_convolution;
  Kernel<SegmentConvolution> segment_convolution;
  Kernel<ConvolutionWeights> segment_weights;
  Kernel<FilterGradient> filter_gradient;
  Kernel<ImageConvReluPool> image_conv_relu_pool;
  Kernel<ImageConvReluPoolGradient> image_conv_relu_pool_gradient;
  WeightLayout (*weight_layout)(ScalarType);
};

// The same kernels but for those.
inline Backend with_convolutions(Backend backend, const Convolutions& convolutions) {
  backend.image_convolution = convolutions.image_convolution;
  backend.segment_convolution = convolutions.segment_convolution;
  backend.segment_weights = convolutions.segment_weights;
  backend.filter_gradient = convolutions.filter_gradient;
  backend.image_conv_relu_pool = convolutions.image_conv_relu_pool;
  backend.image_conv_relu_pool_gradient = convolutions.image_conv_relu_pool_gradient;
  backend.weight_layout = convolutions.weight_layout;
  return backend;
}

}  // namespace efficientad
