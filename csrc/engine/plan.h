// The plan: a model's networks as a short list of fused steps over one workspace, for one batch
// size, one input size and one kind of image.
#pragma once

#include <cstdint>

#include "efficientad/backend.h"
#include "engine/steps.h"
#include "engine/weights.h"

namespace efficientad::engine {

struct Request {
  std::int64_t batch, height, width;
  // uint8: [batch][height][width][3]; the weights' accumulator type: normalised planes
  // [batch][3][height][width]
  ScalarType image_type;
  bool features;  // whether the phase of that name does anything
};

class Plan {
 public:
  // `backend` must outlive the plan. Throws std::invalid_argument where the request cannot be met.
  Plan(const Weights& weights, const Request& request, const Backend& backend);

  Status run(Phase phase, const Execution& execution, const Memory& memory) const {
    return steps_.run(phase, execution, memory);
  }

  // After local_map and global_map. The caller fills in quantiles, axes and output; the maps and
  // their sizes are the plan's.
  Status combine(NormalizeAndCombine problem, const Execution& execution,
                 const char* workspace) const;

  const Request& request() const { return request_; }
  const Weights& weights() const { return weights_; }
  ScalarType accumulator_type() const { return accumulator_of(weights_.precision.type); }
  std::int64_t workspace_bytes() const { return steps_.workspace().bytes(); }

  // The feature grid. In its buffer, a map is the sum of `planes` arrays
  // [batch][grid_height][grid_width] of the accumulator type, one after the other.
  std::int64_t grid_height() const { return grid_height_; }
  std::int64_t grid_width() const { return grid_width_; }
  std::int64_t planes() const { return weights_.local_map.output_channels / kPlaneChannels; }

  // Where a buffer begins in the workspace. The features' one holds [batch][channels] of the
  // accumulator type: the mean over the feature grid of what the weights' FeatureSource says.
  std::int64_t offset(Buffer buffer) const { return steps_.workspace().offset(buffer); }

 private:
  Maps plan_pdn();
  Maps plan_autoencoder();
  Maps plan_encoder();
  void plan_last_layers(const Maps& pdn, const Maps& autoencoder);

  const Weights weights_;
  const Request request_;
  const Backend& backend_;
  std::int64_t grid_height_ = 0, grid_width_ = 0;
  Steps steps_;
};

}  // namespace efficientad::engine
