#include "cpu/backend.h"

#include "cpu/amx.h"

namespace efficientad {

#if defined(EFFICIENTAD_X86_64)
// Beyond AVX-512, only the convolutions have something to gain. Each of these sets is the one below
// with convolutions of its own.
#define EFFICIENTAD_CONVOLUTIONS_OVER(set, below)                                            \
  namespace set {                                                                            \
  Status image_convolution(const ImageConvolution& problem, const Execution& execution);     \
  Status segment_convolution(const SegmentConvolution& problem, const Execution& execution); \
  Status segment_weights(const ConvolutionWeights& problem, const Execution& execution);     \
  Status filter_gradient(const FilterGradient& problem, const Execution& execution);         \
  Status image_conv_relu_pool(const ImageConvReluPool& problem, const Execution& execution); \
  Status image_conv_relu_pool_gradient(const ImageConvReluPoolGradient& problem,             \
                                       const Execution& execution);                          \
  WeightLayout weight_layout(ScalarType type);                                               \
  const Backend& backend() {                                                                 \
    static const Backend kernels = with_convolutions(                                        \
        below::backend(),                                                                    \
        {image_convolution, segment_convolution, segment_weights, filter_gradient,           \
         image_conv_relu_pool, image_conv_relu_pool_gradient, weight_layout});               \
    return kernels;                                                                          \
  }                                                                                          \
  }
#endif

namespace portable {
const Backend& backend();
}
#if defined(EFFICIENTAD_X86_64)
namespace avx2 {
const Backend& backend();
}
namespace avx512 {
const Backend& backend();
}
EFFICIENTAD_CONVOLUTIONS_OVER(avx512_bf16, avx512)
#if defined(EFFICIENTAD_AMX_BF16)
EFFICIENTAD_CONVOLUTIONS_OVER(amx_bf16, avx512)
#endif
#if defined(EFFICIENTAD_AMX_FP16)
EFFICIENTAD_CONVOLUTIONS_OVER(amx_fp16, avx512)
#endif
#endif

namespace cpu {
namespace {

void add(InstructionSets& sets, const char* name, bool supported, const Backend& (*backend)()) {
  sets.entries[sets.count++] = {name, supported, supported ? &backend() : nullptr};
}

}  // namespace

InstructionSets instruction_sets() {
  InstructionSets sets{};
  add(sets, "portable", true, portable::backend);
#if defined(EFFICIENTAD_X86_64)
  // __builtin_cpu_supports also asks the operating system whether it saves the registers.
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool has_avx512_bf16 = has_avx512 && __builtin_cpu_supports("avx512bf16");
  add(sets, "avx2", has_avx2, avx2::backend);
  add(sets, "avx512", has_avx512, avx512::backend);
  add(sets, "avx512_bf16", has_avx512_bf16, avx512_bf16::backend);
  const AmxTypes amx = has_avx512_bf16 ? amx_types() : AmxTypes{};
#if defined(EFFICIENTAD_AMX_BF16)
  add(sets, "amx_bf16", amx.bfloat16, amx_bf16::backend);
#endif
#if defined(EFFICIENTAD_AMX_FP16)
  add(sets, "amx_fp16", amx.bfloat16 && amx.float16, amx_fp16::backend);
#endif
  static_cast<void>(amx);
#endif
  return sets;
}

}  // namespace cpu
}  // namespace efficientad
