#include "cpu/kernels.h"
#include "cpu/multiplier.h"
#include "cpu/parallel.h"
#include "cpu/winograd_transforms.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Panels of weights, in [panel][kPlanePoints][channels][kPanel], as segment_convolution's are.
template <class Number, int kTaps>
class WeightPanels {
 public:
  explicit WeightPanels(const ConvolutionWeights& problem)
      : problem_(problem),
        filters_(static_cast<const Number*>(problem.filters)),
        weight_(static_cast<Number*>(problem.weight)) {}

  std::int64_t count() const {
    return (problem_.transposed ? problem_.input_channels : problem_.output_channels) / kPanel;
  }

  void write(std::int64_t panel) const {
    if (problem_.transposed) {
      write_transposed(panel);
    } else {
      write_straight(panel);
    }
  }

 private:
  // [row][column] of the taps of an output and some neighbouring inputs.
  const Number* taps(std::int64_t output, std::int64_t input) const {
    return filters_ + output * kTaps * kTaps * problem_.input_channels + input;
  }

  void write_straight(std::int64_t panel) const {
    const std::int64_t channels = problem_.input_channels;
    Number values[kPlanePoints][kPanel][kLanes<Number>];
    for (std::int64_t channel = 0; channel < channels; channel += kLanes<Number>) {
      for (int output = 0; output < kPanel; ++output) {
        const Number* from = taps(panel * kPanel + output, channel);
        square_to_points<Number, kTaps>(
            [&](int row, int column) { return load(from + (row * kTaps + column) * channels); },
            [&](int row, int column, Vector<Number> value) {
              store(values[row * kPoints + column][output], value);
            });
      }
      for (int point = 0; point < kPlanePoints; ++point) {
        Number* to = weight_ + ((panel * kPlanePoints + point) * channels + channel) * kPanel;
        for (int lane = 0; lane < kLanes<Number>; ++lane) {
          for (int output = 0; output < kPanel; ++output) *to++ = values[point][output][lane];
        }
      }
    }
  }

  void write_transposed(std::int64_t panel) const {
    const std::int64_t channels = problem_.input_channels, outputs = problem_.output_channels;
    for (std::int64_t output = 0; output < outputs; ++output) {
      for (int lane = 0; lane < kPanel; lane += kLanes<Number>) {
        const Number* from = taps(output, panel * kPanel + lane);
        square_to_points<Number, kTaps>(
            [&](int row, int column) {
              const int turned = kTaps * kTaps - 1 - (row * kTaps + column);
              return load(from + turned * channels);
            },
            [&](int row, int column, Vector<Number> value) {
              const std::int64_t point = panel * kPlanePoints + row * kPoints + column;
              store(weight_ + (point * outputs + output) * kPanel + lane, value);
            });
      }
    }
  }

  const ConvolutionWeights& problem_;
  const Number* const filters_;
  Number* const weight_;
};

template <class Number, int kTaps>
Status run(const ConvolutionWeights& problem, const Execution& execution) {
  const WeightPanels<Number, kTaps> panels(problem);
  const Team team = team_for(execution, problem.output_channels * problem.input_channels);
  parallel_ranges(team, panels.count(), [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t panel = begin; panel < end; ++panel) panels.write(panel);
  });
  return kOk;
}

template <class Number>
Status run(const ConvolutionWeights& problem, const Execution& execution) {
  static_assert(kPanel % kLanes<Number> == 0);
  return problem.kernel == 4 ? run<Number, 4>(problem, execution)
                             : run<Number, 3>(problem, execution);
}

}  // namespace

Status winograd_weights(const ConvolutionWeights& problem, const Execution& execution) {
  return problem.type == ScalarType::float64 ? run<double>(problem, execution)
                                             : run<float>(problem, execution);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
