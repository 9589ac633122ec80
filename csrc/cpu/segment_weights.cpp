#include "cpu/kernels.h"
#include "cpu/multiplier.h"
#include "cpu/parallel.h"
#include "cpu/transpose.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

static_assert(kPanel % kSquare == 0);

// Panels of a segment's weight in kWeightLayout<BFloat16>.
class WeightPanels {
 public:
  explicit WeightPanels(const ConvolutionWeights& problem)
      : kernel_(problem.kernel),
        transposed_(problem.transposed),
        filter_channels_(problem.input_channels),
        outputs_(transposed_ ? problem.input_channels : problem.output_channels),
        channels_(transposed_ ? problem.output_channels : problem.input_channels),
        filters_(static_cast<const float*>(problem.filters)),
        weight_(static_cast<BFloat16*>(problem.weight)) {}

  std::int64_t count() const { return outputs_ / kPanel; }
  std::int64_t numbers() const { return outputs_ * channels_ * kernel_ * kernel_; }

  void write(std::int64_t panel) const {
    BFloat16* to = weight_ + panel * kPanel * channels_ * kernel_ * kernel_;
    for (std::int64_t first = 0; first < channels_; first += kBlockChannels) {
      for (int column = 0; column < kernel_; ++column) {
        for (int row = 0; row < kernel_; ++row) {
          for (std::int64_t channel = first; channel < first + kBlockChannels; channel += kSquare) {
            write_channels(panel * kPanel, channel, row, column, to);
            to += kSquare * kPanel;
          }
        }
      }
    }
  }

 private:
  static constexpr std::int64_t kBlockChannels = kBlockBytes / sizeof(BFloat16);
  static constexpr int kInterleave = kWeightLayout<BFloat16>.interleave;
  static_assert(kInterleave == 1 || kInterleave == 2);

  // kSquare channels of one tap, for all outputs of a panel.
  void write_channels(std::int64_t output, std::int64_t channel, int row, int column,
                      BFloat16* to) const {
    for (std::int64_t lane = 0; lane < kPanel; lane += kSquare) {
      Vector<float> outputs[kSquare];  // of one channel each
      for (int i = 0; i < kSquare; ++i) {
        outputs[i] =
            transposed_
                ? load(filter(channel + i, kernel_ - 1 - row, kernel_ - 1 - column, output + lane))
                : load(filter(output + lane + i, row, column, channel));
      }
      if (!transposed_) transpose<float>(outputs);
      for (int i = 0; i < kSquare; i += kInterleave) {
        write_together(outputs + i, to + i * kPanel + lane * kInterleave);
      }
    }
  }

  const float* filter(std::int64_t output, int row, int column, std::int64_t channel) const {
    return filters_ + ((output * kernel_ + row) * kernel_ + column) * filter_channels_ + channel;
  }

  static void write_together(const Vector<float>* outputs, BFloat16* to) {
    if constexpr (kInterleave == 1) {
      store(to, outputs[0]);
    } else {
      BFloat16 first[kSquare], second[kSquare];
      store(first, outputs[0]);
      store(second, outputs[1]);
      const Pairs pairs = pairs_of(first, second);
      std::memcpy(to, &pairs, sizeof(pairs));
    }
  }

  const int kernel_;
  const bool transposed_;
  const std::int64_t filter_channels_;
  const std::int64_t outputs_, channels_;  // of the weight
  const float* const filters_;
  BFloat16* const weight_;
};

}  // namespace

Status segment_weights(const ConvolutionWeights& problem, const Execution& execution) {
  const WeightPanels panels(problem);
  parallel_ranges(team_for(execution, panels.numbers()), panels.count(),
                  [&](int, std::int64_t begin, std::int64_t end) {
                    for (std::int64_t panel = begin; panel < end; ++panel) panels.write(panel);
                  });
  return kOk;
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
