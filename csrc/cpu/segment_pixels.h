// The pixels of a segment as its taps see them: padded, resampled, in the type that is multiplied.
#pragma once

#include <type_traits>

#include "cpu/bilinear.h"
#include "cpu/multiplier.h"
#include "efficientad/segment_convolution.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Scalar>
class SegmentPixels {
 public:
  using Number = Accumulator<Scalar>;
  using Input = typename Multiplier<Scalar>::Input;
  static constexpr std::int64_t kBlockChannels =
      kBlockBytes / static_cast<std::int64_t>(sizeof(Scalar));

  SegmentPixels(const SegmentConvolution& problem, const Segment& segment)
      : segment_(segment),
        channels_(segment.channels * (problem.second_group < problem.output_channels ? 2 : 1)),
        rows_(segment.rows, segment.input_height, segment.resampled ? segment.height : 1),
        columns_(segment.columns, segment.input_width, segment.resampled ? segment.width : 1) {}

  bool has_memory() const { return rows_.has_memory() && columns_.has_memory(); }

  // That are read, of both groups.
  std::int64_t channels() const { return channels_; }

  // The channels that are read, of a pixel as it is stored.
  const Scalar* stored(std::int64_t image, std::int64_t row, std::int64_t column) const {
    const std::int64_t index =
        (image * segment_.input_height + row) * segment_.input_width + column;
    return static_cast<const Scalar*>(segment_.input) + index * segment_.pixel_channels +
           segment_.first_channel;
  }

  // Writes a pixel as the taps see it, block by block of kBlockChannels, which lie `block_pitch`
  // numbers apart.
  void read(std::int64_t image, std::int64_t row, std::int64_t column, Input* to,
            std::int64_t block_pitch) const {
    if (row < 0 || row >= segment_.height || column < 0 || column >= segment_.width) {
      write(to, block_pitch, [](std::int64_t) { return Vector<Number>{}; });
      return;
    }
    if (!segment_.resampled) {
      const Scalar* from = stored(image, row, column);
      if constexpr (std::is_same_v<Scalar, Input>) {
        for (std::int64_t block = 0; block < channels_; block += kBlockChannels) {
          std::memcpy(to, from + block, kBlockBytes);
          to += block_pitch;
        }
      } else {
        write(to, block_pitch, [&](std::int64_t channel) { return load(from + channel); });
      }
      return;
    }
    const std::int64_t top = rows_.lower()[row], bottom = rows_.upper()[row];
    const std::int64_t left = columns_.lower()[column], right = columns_.upper()[column];
    const Number down = rows_.fraction()[row], across = columns_.fraction()[column];
    const Scalar* top_left = stored(image, top, left);
    const Scalar* top_right = stored(image, top, right);
    const Scalar* bottom_left = stored(image, bottom, left);
    const Scalar* bottom_right = stored(image, bottom, right);
    write(to, block_pitch, [&](std::int64_t channel) {
      const auto blend = [&](const Scalar* from, const Scalar* towards) {
        const Vector<Number> value = load(from + channel);
        return value + across * (load(towards + channel) - value);
      };
      const Vector<Number> above = blend(top_left, top_right);
      const Vector<Number> below = blend(bottom_left, bottom_right);
      return above + down * (below - above);
    });
  }

 private:
  // Writes value(channel) for all channels, a vector at a time.
  template <class Value>
  void write(Input* to, std::int64_t block_pitch, const Value& value) const {
    for (std::int64_t block = 0; block < channels_; block += kBlockChannels) {
      for (std::int64_t channel = 0; channel < kBlockChannels; channel += kLanes<Number>) {
        store(to + channel, value(block + channel));
      }
      to += block_pitch;
    }
  }

  const Segment& segment_;
  const std::int64_t channels_;
  const AxisTable<Number> rows_, columns_;
};

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
