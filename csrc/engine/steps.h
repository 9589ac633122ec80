// Fused steps over one workspace: each one a kernel's problem whose addresses are filled in when
// it runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "efficientad/backend.h"
#include "engine/weights.h"
#include "engine/workspace.h"

namespace efficientad::engine {

// A part of a plan that runs on one stream without a break.
enum class Phase {
  image,        // reads the image: the first layers of all networks
  networks,     // after image: teacher and student, up to their last layers
  autoencoder,  // after image, beside networks: the autoencoder, up to its last layer
  local_map,    // after networks
  global_map,   // after networks and autoencoder, beside local_map
  features      // after networks, beside local_map
};
inline constexpr std::size_t kPhases = static_cast<std::size_t>(Phase::features) + 1;

// The memory of one run, in the backend's address space. Weights and workspace begin at multiples
// of kAlignment; what the workspace held before does not matter.
struct Memory {
  const char* weights;
  char* workspace;
  const void* image;  // nullptr in all phases but the one that reads it
};

// Feature maps [batch][height][width][channels] in a buffer.
struct Maps {
  Buffer buffer;
  std::int64_t height, width, channels;
};

// Each method but the last two adds one step to a phase and makes its output's buffer large enough.
// Types, batch, addresses and sizes of the output are filled in here.
class Steps {
 public:
  // `backend` must outlive the steps.
  Steps(const Backend& backend, ScalarType type, std::int64_t batch)
      : backend_(backend), type_(type), batch_(batch) {}
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  // The image resized to planes of the accumulator type.
  void add_resize(Phase phase, const ResizeNormalize& problem, Buffer output);

  // A first layer, over the image itself where `planes` is nullptr, else over those in its buffer.
  Maps add_image_convolution(Phase phase, const Layer& layer, const ImageConvolution& problem,
                             const Buffer* planes, Buffer output);

  // Convolution and ReLU, with or without pooling, of one input.
  Maps add_convolution(Phase phase, const Layer& layer, const Maps& input, const Segment& segment,
                       bool pooled, std::int64_t second_group, Buffer output);

  // The squared differences that one or two segments sum up to, as planes of height x width.
  void add_squared_difference(Phase phase, const Layer& layer,
                              const std::vector<std::pair<Maps, Segment>>& segments,
                              std::int64_t height, std::int64_t width, Buffer output);

  // A fully connected layer over all numbers of an image's maps, in the steps' type.
  Maps add_linear(Phase phase, const Layer& layer, const Maps& input, Buffer output);

  // The same over the means of the windows that the layer's taps see, in the accumulator type.
  // `segment` says which channels they are of.
  void add_pooled_linear(Phase phase, const Layer& layer, const Maps& input, const Segment& segment,
                         Buffer output);

  // Gives every buffer its place; no step can be added afterwards.
  void place() { workspace_.place(); }

  Status run(Phase phase, const Execution& execution, const Memory& memory) const;

  const Workspace& workspace() const { return workspace_; }

 private:
  using Step = std::function<Status(const Execution&, const Memory&)>;

  void add(Phase phase, Step step) {
    steps_[static_cast<std::size_t>(phase)].push_back(std::move(step));
  }
  void add_segments(Phase phase, const Layer& layer, const SegmentConvolution& problem,
                    const std::array<Buffer, kMaximumSegments>& inputs, Buffer output);
  void add_linear(Phase phase, const Layer& layer, ScalarType type, Buffer input,
                  std::int64_t inputs, Buffer output);
  // Makes room for an image's so many elements, times the batch.
  void require(Buffer buffer, std::int64_t elements, ScalarType type) {
    workspace_.require(buffer, batch_ * elements * bytes_of(type));
  }
  char* at(const Memory& memory, Buffer buffer) const {
    return memory.workspace + workspace_.offset(buffer);
  }

  const Backend& backend_;
  const ScalarType type_;
  const std::int64_t batch_;
  Workspace workspace_;
  std::array<std::vector<Step>, kPhases> steps_;
};

}  // namespace efficientad::engine
