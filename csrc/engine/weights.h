// The weights of all fused layers of a model in one block of memory, and where each one is.
#pragma once

#include <cstdint>
#include <vector>

#include "efficientad/backend.h"
#include "efficientad/scalar.h"
#include "engine/networks.h"
#include "engine/packing.h"

namespace efficientad::engine {

struct Layer {
  std::int64_t weight, bias;  // offsets in bytes
  std::int64_t input_channels, output_channels;
  int kernel;
  bool winograd;  // the weight is that of winograd_convolution
};

// Teacher and student run side by side: their channels are stacked, the teacher's first. The
// autoencoder's channels are padded with zeros to a multiple of 64.
struct Weights {
  Precision precision;
  Normalisation normalisation;
  std::int64_t bytes;  // of the block

  // Over bytes with the normalisation folded in, and over planes that are normalised already.
  Layer images_of_bytes, images_of_planes;
  // The PDN's layers between the first and the last; output channels from second_groups[i] on are
  // the student's.
  std::vector<Layer> pdn;
  std::vector<std::int64_t> second_groups;

  Layer autoencoder_of_bytes, autoencoder_of_planes;
  std::vector<Layer> encoder;
  Layer bottleneck;
  std::vector<Layer> decoder;  // all but the last

  Layer local_map;   // T - S over all stacked channels
  Layer global_map;  // A - S': the autoencoder's input channels; the student's are the PDN's last
  Layer features;    // the source's last layer, over window means
  std::int64_t first_feature_channel;  // of the stacked channels that it sees
};

struct PackedWeights {
  Weights weights;
  std::vector<Array> arrays;  // what the block holds, in order; the gaps do not matter
};

// Folds and fuses in double precision, then rounds. Throws std::invalid_argument where the layers
// are not those of EfficientAD, or where a weight is too large for the type. Convolutions are in
// the backend's layout, linear layers row by row.
PackedWeights pack(const Model& model, const Precision& precision, const Backend& backend);

}  // namespace efficientad::engine
