// conv_relu_pool as a convolution over segments, with the weights brought into its order first.
#pragma once

#include "efficientad/conv_relu_pool.h"

namespace efficientad::cuda::tensor_cores {

// Whether types, kernel, channels and layouts are what tensor cores take: half types alone, since
// float32 is computed in float32, and dense channels-last maps of multiples of 64 channels.
bool suits(const ConvReluPool& problem);

// For a problem that suits.
std::size_t workspace_bytes(const ConvReluPool& problem);
Status conv_relu_pool(const ConvReluPool& problem, const Execution& execution);

}  // namespace efficientad::cuda::tensor_cores
