// A backend is one implementation of every kernel.
#pragma once

#include <cstddef>

#include "efficientad/conv_relu_pool.h"
#include "efficientad/hard_feature_loss.h"
#include "efficientad/image_convolution.h"
#include "efficientad/linear.h"
#include "efficientad/normalize_and_combine.h"
#include "efficientad/quantiles.h"
#include "efficientad/relu_pool.h"
#include "efficientad/resize_normalize.h"
#include "efficientad/segment_convolution.h"
#include "efficientad/squared_difference_map.h"
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
  Kernel<SegmentConvolution> winograd_convolution;
  Kernel<WinogradWeights> winograd_weights;
  Kernel<WinogradFilterGradient> winograd_filter_gradient;
  Kernel<Linear> linear;
  Kernel<WindowMeans> window_means;
  std::size_t (*window_means_workspace)(const WindowMeans&);
  // In which image_convolution and segment_convolution read weights of a type.
  WeightLayout (*weight_layout)(ScalarType);
};

// The same kernels but for the convolutions and the layout of their weights.
inline Backend with_convolutions(Backend backend, Kernel<ImageConvolution> image_convolution,
                                 Kernel<SegmentConvolution> segment_convolution,
                                 WeightLayout (*weight_layout)(ScalarType)) {
  backend.image_convolution = image_convolution;
  backend.segment_convolution = segment_convolution;
  backend.weight_layout = weight_layout;
  return backend;
}

}  // namespace efficientad
