// The networks of a model as they come from training: float32, in torch's layout.
#pragma once

#include <cstdint>
#include <vector>

namespace efficientad::engine {

// A square convolution with bias. Activations, pooling, strides and upsampling follow from its
// place in its network.
struct Convolution {
  const float* weight;  // [output_channels][input_channels][kernel][kernel]
  const float* bias;    // [output_channels]
  std::int64_t output_channels, input_channels;
  int kernel;
};

using Network = std::vector<Convolution>;

// What the networks' input is: (value in [0, 1] - mean) / deviation, channel by channel.
struct Normalisation {
  double mean[3];
  double deviation[3];
};

// Of whose output PUAD's feature is the mean over space (ICIP 2024, section 3).
enum class FeatureSource {
  student,  // its half that imitates the teacher
  teacher   // normalised: what the student imitates
};

// EfficientAD, appendix A. Borrowed: read while weights are fused, not kept.
struct Model {
  Network teacher, student, autoencoder;
  const float* teacher_mean;       // of each channel of the teacher's output
  const float* teacher_deviation;  // likewise, positive
  Normalisation normalisation;
  FeatureSource feature_source;
};

}  // namespace efficientad::engine
