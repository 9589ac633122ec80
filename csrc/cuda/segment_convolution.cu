#include "cuda/device.h"
#include "cuda/kernels.h"
#include "cuda/sm80/segment_convolution.h"
#include "efficientad/segment_convolution.h"
#ifdef EFFICIENTAD_SM90
#include "cuda/sm90/segment_convolution.h"
#endif

namespace efficientad::cuda {
namespace {

bool is_aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; }

// Both kernels copy 16 bytes at a time; channels come in multiples of 64.
bool is_aligned(const SegmentConvolution& problem) {
  bool aligned =
      is_aligned(problem.weight) && is_aligned(problem.bias) && is_aligned(problem.output);
  for (int i = 0; i < problem.segment_count; ++i) {
    aligned = aligned && is_aligned(problem.segments[i].input);
  }
  return aligned;
}

}  // namespace

Status segment_convolution(const SegmentConvolution& problem, const Execution& execution) {
  if (problem.batch * problem.height * problem.width == 0) return kOk;
  if (!is_aligned(problem)) return "a tensor does not begin at a multiple of 16 bytes";
  DeviceProperties device;
  if (const Status status = device_properties(device); status != kOk) return status;
#ifdef EFFICIENTAD_SM90
  // Code for 9.0a runs on 9.0 and nowhere else.
  if (device.compute_capability == 90 && sm90::supports(problem)) {
    return sm90::segment_convolution(problem, execution);
  }
#endif
  if (device.compute_capability < kTensorCoreCapability) {
    return "the GPU's compute capability is below 8.0, so that it lacks the tensor cores that the "
           "engine is written for; use precision float32";
  }
  return sm80::segment_convolution(problem, execution);
}

}  // namespace efficientad::cuda
