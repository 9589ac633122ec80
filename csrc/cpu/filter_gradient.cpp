#include "cpu/buffer.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pixel_products.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// Channels whose gradients are turned at a time: a cache line of a pixel.
constexpr std::int64_t kUnitOutputs = 32;
constexpr std::int64_t kUnitBlocks = kUnitOutputs / kProductChannels;

// Sums that a thread adds to by turns: half of the second-level cache.
constexpr std::int64_t kSumBytes = std::int64_t{1} << 20;

class Gradient {
 public:
  explicit Gradient(const FilterGradient& problem)
      : problem_(problem),
        input_blocks_(problem.input_channels / kProductChannels),
        rows_(problem.input_height + 2 * problem.padding),
        row_pixels_((problem.input_width + 2 * problem.padding + 1) / 2 * 2),
        chunks_((problem.batch * rows_ * row_pixels_ + kChunkPixels - 1) / kChunkPixels),
        // What the last taps see from the last chunk on, and a line.
        block_pitch_((chunks_ * kChunkPixels + (problem.kernel - 1) * row_pixels_ + 4) *
                     kPixelNumbers),
        unit_sums_(kUnitOutputs * problem.kernel * problem.kernel * problem.input_channels) {}

  Status run(const Execution& execution) {
    if (!reserve()) return kOutOfMemory;
    parallel_ranges(team_for(execution, input_blocks_ * block_pitch_), problem_.batch * rows_,
                    [&](int, std::int64_t begin, std::int64_t end) {
                      for (std::int64_t row = begin; row < end; ++row) pair_up(row);
                    });
    const std::int64_t units = problem_.output_channels / kUnitOutputs;
    return parallel_ranges_with_status(
        team_for(execution, chunks_ * kChunkPixels * unit_sums_ * units), units,
        [&](int, std::int64_t begin, std::int64_t end) { return sum_up(begin, end); });
  }

 private:
  bool reserve() {
    const std::int64_t longest = problem_.input_channels > problem_.output_channels
                                     ? problem_.input_channels
                                     : problem_.output_channels;
    constexpr std::int64_t kLine = 64, kLineNumbers = kLine / sizeof(BFloat16);
    if (!zeros_.reserve(longest) || !memory_.reserve(input_blocks_ * block_pitch_ + kLineNumbers)) {
      return false;
    }
    std::memset(zeros_.data(), 0, static_cast<std::size_t>(longest) * sizeof(BFloat16));
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory_.data());
    pairs_ = reinterpret_cast<BFloat16*>((address + kLine - 1) / kLine * kLine);
    // Behind the last image, what taps see is multiplied by gradients of zero.
    const std::int64_t seen = problem_.batch * rows_ * row_pixels_ * kPixelNumbers;
    for (std::int64_t block = 0; block < input_blocks_; ++block) {
      std::memset(pairs_ + block * block_pitch_ + seen, 0,
                  static_cast<std::size_t>(block_pitch_ - seen) * sizeof(BFloat16));
    }
    return true;
  }

  const BFloat16* input(std::int64_t row, std::int64_t column) const {
    const std::int64_t y = row % rows_ - problem_.padding, x = column - problem_.padding;
    if (y < 0 || y >= problem_.input_height || x < 0 || x >= problem_.input_width) {
      return zeros_.data();
    }
    const std::int64_t index = (row / rows_ * problem_.input_height + y) * problem_.input_width + x;
    return static_cast<const BFloat16*>(problem_.input) + index * problem_.input_channels;
  }

  // Writes a row of inputs, padded: [input_blocks_][row_pixels_ / 2][kProductChannels][2], the
  // blocks at block_pitch_.
  void pair_up(std::int64_t row) {
    for (std::int64_t column = 0; column < row_pixels_; column += 2) {
      const BFloat16* const left = input(row, column);
      const BFloat16* const right = input(row, column + 1);
      BFloat16* to = pairs_ + (row * row_pixels_ + column) * kPixelNumbers;
      for (std::int64_t block = 0; block < problem_.input_channels; block += kProductChannels) {
        for (std::int64_t lane = 0; lane < kProductChannels; lane += kSquare) {
          const Pairs pairs = pairs_of(left + block + lane, right + block + lane);
          std::memcpy(to + 2 * lane, &pairs, sizeof(pairs));
        }
        to += block_pitch_;
      }
    }
  }

  // Where the gradients of a chunk's pixels are, and of the one before. There are zeros where no
  // output is: in the last rows and columns of an image, and around all of them.
  void find(std::int64_t chunk, const BFloat16* (&pixels)[kChunkPixels + 1]) const {
    const std::int64_t first = chunk * kChunkPixels;
    std::int64_t x = first % row_pixels_ - 1, y = first / row_pixels_ % rows_;
    std::int64_t image = first / row_pixels_ / rows_;
    for (const BFloat16*& pixel : pixels) {
      if (x == row_pixels_) {
        x = 0;
        if (++y == rows_) {
          y = 0;
          ++image;
        }
      }
      const bool inside =
          x >= 0 && x < problem_.width && y < problem_.height && image < problem_.batch;
      const std::int64_t index = (image * problem_.height + y) * problem_.width + x;
      pixel = inside ? static_cast<const BFloat16*>(problem_.output_gradient) +
                           index * problem_.output_channels
                     : zeros_.data();
      ++x;
    }
  }

  // Writes the rows of kUnitOutputs channels from `output` on.
  static void turn(const BFloat16* const (&pixels)[kChunkPixels + 1], std::int64_t output,
                   BFloat16* rows) {
    for (std::int64_t channel = 0; channel < kUnitOutputs; ++channel) {
      rows[channel * kGradientPitch + kPixelsBefore - 1] = pixels[0][output + channel];
    }
    for (std::int64_t pixel = 0; pixel < kChunkPixels; pixel += 2 * kSquare) {
      for (std::int64_t channel = 0; channel < kUnitOutputs; channel += kSquare) {
        Pairs square[kSquare];
#pragma GCC unroll 16
        for (int i = 0; i < kSquare; ++i) {
          const BFloat16* const* const pair = pixels + 1 + pixel + 2 * i;
          square[i] = pairs_of(pair[0] + output + channel, pair[1] + output + channel);
        }
        transpose<std::uint32_t>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kSquare; ++i) {
          std::memcpy(rows + (channel + i) * kGradientPitch + kPixelsBefore + pixel, &square[i],
                      sizeof(square[i]));
        }
      }
    }
  }

  // All sums of some units of output channels.
  Status sum_up(std::int64_t begin, std::int64_t end) const {
    const std::int64_t fitting =
        kSumBytes / (unit_sums_ * static_cast<std::int64_t>(sizeof(float)));
    const std::int64_t at_once = fitting < 1 ? 1 : fitting < end - begin ? fitting : end - begin;
    Scratch<float> sums(at_once * unit_sums_);
    Scratch<BFloat16> gradients(kUnitOutputs * kGradientPitch);
    if (sums.data() == nullptr || gradients.data() == nullptr) return kOutOfMemory;
    const BFloat16* pixels[kChunkPixels + 1];
    const PixelProducts products(problem_.kernel);
    for (std::int64_t first = begin; first < end; first += at_once) {
      const std::int64_t count = at_once < end - first ? at_once : end - first;
      std::memset(sums.data(), 0, static_cast<std::size_t>(count * unit_sums_) * sizeof(float));
      for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        find(chunk, pixels);
        for (std::int64_t unit = 0; unit < count; ++unit) {
          turn(pixels, (first + unit) * kUnitOutputs, gradients.data());
          add(chunk, gradients.data(), products, sums.data() + unit * unit_sums_);
        }
      }
      for (std::int64_t unit = 0; unit < count; ++unit) {
        write((first + unit) * kUnitOutputs, sums.data() + unit * unit_sums_);
      }
    }
    return kOk;
  }

  // Sums of a unit: [kUnitBlocks][input_blocks_][tap row][tap column][gradient channel of the
  // block][input channel of the block].
  void add(std::int64_t chunk, const BFloat16* gradients, const PixelProducts& products,
           float* sums) const {
    for (std::int64_t block = 0; block < kUnitBlocks; ++block) {
      const BFloat16* const from =
          gradients + block * kProductChannels * kGradientPitch + kPixelsBefore;
      for (std::int64_t input_block = 0; input_block < input_blocks_; ++input_block) {
        const BFloat16* const inputs = pairs_ + input_block * block_pitch_;
        for (int row = 0; row < problem_.kernel; ++row) {
          products.add(from, inputs + (chunk * kChunkPixels + row * row_pixels_) * kPixelNumbers,
                       sums);
          sums += problem_.kernel * kProductSums;
        }
      }
    }
  }

  void write(std::int64_t output, const float* sums) const {
    const std::int64_t taps = problem_.kernel * problem_.kernel;
    float* to =
        static_cast<float*>(problem_.filter_gradient) + output * taps * problem_.input_channels;
    for (std::int64_t channel = 0; channel < kUnitOutputs; ++channel) {
      const float* const block = sums +
                                 channel / kProductChannels * input_blocks_ * taps * kProductSums +
                                 channel % kProductChannels * kProductChannels;
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        for (std::int64_t input_block = 0; input_block < input_blocks_; ++input_block) {
          std::memcpy(to, block + (input_block * taps + tap) * kProductSums,
                      kProductChannels * sizeof(float));
          to += kProductChannels;
        }
      }
    }
  }

  const FilterGradient& problem_;
  const std::int64_t input_blocks_;
  const std::int64_t rows_, row_pixels_;  // of an image, padded
  const std::int64_t chunks_;
  const std::int64_t block_pitch_;  // numbers from a block of inputs to the next
  const std::int64_t unit_sums_;
  Scratch<BFloat16> zeros_;
  Buffer<BFloat16> memory_;
  BFloat16* pairs_ = nullptr;  // in memory_, aligned
};

}  // namespace

Status filter_gradient(const FilterGradient& problem, const Execution& execution) {
  return Gradient(problem).run(execution);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
