#include "cpu/buffer.h"
#include "cpu/cache.h"
#include "cpu/kernels.h"
#include "cpu/padded_maps.h"
#include "cpu/parallel.h"
#include "cpu/pixel_products.h"
#include "cpu/scratch.h"
#include "cpu/transpose.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {
namespace {

// A unit: output channels whose gradients are transposed together, a cache line of each pixel.
constexpr std::int64_t kUnitOutputs = 32;
constexpr std::int64_t kUnitBlocks = kUnitOutputs / kProductChannels;

constexpr std::int64_t kLineBytes = 64;
constexpr std::int64_t kLineNumbers = kLineBytes / sizeof(BFloat16);

// What a chunk's pixels have in a map: one pointer each, and one for the pixel before.
using ChunkPixels = const BFloat16 * [kChunkPixels + 1];

class Gradient {
 public:
  explicit Gradient(const FilterGradient& problem)
      : problem_(problem),
        input_blocks_(problem.input_channels / kProductChannels),
        taps_(problem.kernel * problem.kernel),
        rows_(problem.input_height + 2 * problem.padding),
        row_pixels_((problem.input_width + 2 * problem.padding + 1) / 2 * 2),
        chunks_((problem.batch * rows_ * row_pixels_ + kChunkPixels - 1) / kChunkPixels),
        // The last taps read kernel - 1 rows and two pixels behind the last chunk. One cache line
        // more, so that the blocks do not fall into the same sets of the caches.
        block_pitch_((chunks_ * kChunkPixels + (problem.kernel - 1) * row_pixels_ + 2) *
                         kPixelNumbers +
                     kLineNumbers),
        inputs_(problem.input, problem.batch, problem.input_height, problem.input_width,
                problem.input_channels),
        gradients_(problem.output_gradient, problem.batch, problem.height, problem.width,
                   problem.output_channels) {}

  Status run(const Execution& execution) {
    if (!reserve()) return kOutOfMemory;
    parallel_ranges(team_for(execution, input_blocks_ * block_pitch_), problem_.batch * rows_,
                    [&](int, std::int64_t begin, std::int64_t end) {
                      for (std::int64_t row = begin; row < end; ++row) write_pairs(row);
                    });
    // A unit's input blocks are split between threads where there are more of these than units.
    const std::int64_t units = problem_.output_channels / kUnitOutputs;
    const Team team = team_for(execution, chunks_ * kChunkPixels * taps_ * problem_.input_channels *
                                              problem_.output_channels);
    splits_ = (team.useful + units - 1) / units;
    if (splits_ > input_blocks_) splits_ = input_blocks_;
    return parallel_ranges_with_status(
        team, units * splits_,
        [&](int, std::int64_t begin, std::int64_t end) { return sum_parts(begin, end); });
  }

 private:
  bool reserve() {
    if (!inputs_.reserve() || !gradients_.reserve() ||
        !memory_.reserve(input_blocks_ * block_pitch_ + kLineNumbers)) {
      return false;
    }
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(memory_.data());
    pairs_ = reinterpret_cast<BFloat16*>((address + kLineBytes - 1) / kLineBytes * kLineBytes);
    // Behind the last image the gradients are zero, but what they multiply must not be NaN.
    const std::int64_t seen = problem_.batch * rows_ * row_pixels_ * kPixelNumbers;
    for (std::int64_t block = 0; block < input_blocks_; ++block) {
      std::memset(pairs_ + block * block_pitch_ + seen, 0,
                  static_cast<std::size_t>(block_pitch_ - seen) * sizeof(BFloat16));
    }
    return true;
  }

  // A row of inputs, padded: [input_blocks_][row_pixels_ / 2][kProductChannels][2], the blocks at
  // block_pitch_.
  void write_pairs(std::int64_t row) {
    const std::int64_t image = row / rows_, y = row % rows_ - problem_.padding;
    for (std::int64_t column = 0; column < row_pixels_; column += 2) {
      const std::int64_t x = column - problem_.padding;
      const BFloat16* const left = inputs_.pixel(image, y, x);
      const BFloat16* const right = inputs_.pixel(image, y, x + 1);
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

  // Zeros where there is no output: in the last rows and columns of a padded image, before the
  // first pixel, and behind the last image.
  void locate_gradients(std::int64_t chunk, ChunkPixels& pixels) const {
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
      pixel = gradients_.pixel(image, y, x);
      ++x;
    }
  }

  // Rows of pixels of a unit's channels: [kUnitOutputs][kGradientPitch].
  static void transpose_gradients(const ChunkPixels& pixels, std::int64_t output, BFloat16* rows) {
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

  std::int64_t output_of(std::int64_t part) const { return part / splits_ * kUnitOutputs; }
  Range blocks_of(std::int64_t part) const {
    return part_of(input_blocks_, part % splits_, splits_);
  }

  // Some parts at a time, whose sums fill half of the second-level cache.
  Status sum_parts(std::int64_t begin, std::int64_t end) const {
    const std::int64_t part_sums =
        kUnitBlocks * ((input_blocks_ + splits_ - 1) / splits_) * taps_ * kProductSums;
    std::int64_t at_once =
        cpu::second_level_cache() / 2 / (part_sums * static_cast<std::int64_t>(sizeof(float)));
    if (at_once > end - begin) at_once = end - begin;
    if (at_once < 1) at_once = 1;
    Scratch<float> sums(at_once * part_sums);
    Scratch<BFloat16> gradients(kUnitOutputs * kGradientPitch);
    if (sums.data() == nullptr || gradients.data() == nullptr) return kOutOfMemory;
    ChunkPixels pixels;
    const PixelProducts products(problem_.kernel);
    for (std::int64_t first = begin; first < end; first += at_once) {
      const std::int64_t count = at_once < end - first ? at_once : end - first;
      std::memset(sums.data(), 0, static_cast<std::size_t>(count * part_sums) * sizeof(float));
      for (std::int64_t chunk = 0; chunk < chunks_; ++chunk) {
        locate_gradients(chunk, pixels);
        for (std::int64_t i = 0; i < count; ++i) {
          transpose_gradients(pixels, output_of(first + i), gradients.data());
          add(chunk, blocks_of(first + i), gradients.data(), products, sums.data() + i * part_sums);
        }
      }
      for (std::int64_t i = 0; i < count; ++i) write(first + i, sums.data() + i * part_sums);
    }
    return kOk;
  }

  // sums: [kUnitBlocks][input blocks][tap rows][tap columns][gradient channels of a block][input
  // channels of a block].
  void add(std::int64_t chunk, const Range& blocks, const BFloat16* gradients,
           const PixelProducts& products, float* sums) const {
    for (std::int64_t unit_block = 0; unit_block < kUnitBlocks; ++unit_block) {
      const BFloat16* const from =
          gradients + unit_block * kProductChannels * kGradientPitch + kPixelsBefore;
      for (std::int64_t block = blocks.begin; block < blocks.end; ++block) {
        const BFloat16* const inputs = pairs_ + block * block_pitch_;
        for (int row = 0; row < problem_.kernel; ++row) {
          products.add(from, inputs + (chunk * kChunkPixels + row * row_pixels_) * kPixelNumbers,
                       sums);
          sums += problem_.kernel * kProductSums;
        }
      }
    }
  }

  void write(std::int64_t part, const float* sums) const {
    const Range blocks = blocks_of(part);
    float* const filters = static_cast<float*>(problem_.filter_gradient) +
                           output_of(part) * taps_ * problem_.input_channels;
    for (std::int64_t unit_block = 0; unit_block < kUnitBlocks; ++unit_block) {
      for (std::int64_t block = blocks.begin; block < blocks.end; ++block) {
        for (std::int64_t tap = 0; tap < taps_; ++tap) {
          for (std::int64_t channel = 0; channel < kProductChannels; ++channel) {
            const std::int64_t filter = (unit_block * kProductChannels + channel) * taps_ + tap;
            std::memcpy(filters + filter * problem_.input_channels + block * kProductChannels, sums,
                        kProductChannels * sizeof(float));
            sums += kProductChannels;
          }
        }
      }
    }
  }

  const FilterGradient& problem_;
  const std::int64_t input_blocks_;
  const std::int64_t taps_;
  const std::int64_t rows_, row_pixels_;  // of an image, padded
  const std::int64_t chunks_;
  const std::int64_t block_pitch_;  // numbers from a block of inputs to the next
  std::int64_t splits_ = 1;         // of a unit's input blocks; units * splits_ parts
  PaddedMaps<BFloat16> inputs_, gradients_;
  Buffer<BFloat16> memory_;
  BFloat16* pairs_ = nullptr;  // in memory_, aligned
};

}  // namespace

Status filter_gradient(const FilterGradient& problem, const Execution& execution) {
  return Gradient(problem).run(execution);
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
