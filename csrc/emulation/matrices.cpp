#include "emulation/matrices.h"

#include <cstring>

#include "emulation/block.h"

namespace efficientad::emulation {
namespace {

using cuda::kWarpSize;
using Words = cuda::Vector<std::uint32_t, 4>;

constexpr int kMatrices = 4;
constexpr int kMatrixRows = 8;
constexpr std::size_t kWordBytes = sizeof(std::uint32_t);

struct MatrixLoad {
  std::size_t row;
  Words words;
  Site site;
};

void load_for_warp(Block& block, const LaneOperands& operands) {
  const SiteName site =
      block.memory().history().name_of(static_cast<const MatrixLoad*>(operands[0])->site);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    MatrixLoad& own = *static_cast<MatrixLoad*>(operands[lane]);
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const int source = matrix * kMatrixRows + lane / 4;
      const std::size_t offset = static_cast<const MatrixLoad*>(operands[source])->row +
                                 static_cast<std::size_t>(lane % 4) * kWordBytes;
      block.record_lane(AccessKind::read, lane, offset, kWordBytes, site);
      std::memcpy(&own.words.values[matrix], block.memory().at(offset), kWordBytes);
    }
  }
}

constexpr int kRows = 16;
constexpr int kColumns = 8;

struct MultiplyAdd {
  MatrixType type;
  float* sum;
  const Words& a;
  std::uint32_t b[2];
};

void multiply_for_warp(Block&, const LaneOperands& operands) {
  std::uint32_t a_words[kRows][kDepthWords], b_words[kColumns][kDepthWords];
  float sums[kRows][kColumns];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MultiplyAdd& own = *static_cast<const MultiplyAdd*>(operands[lane]);
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; ++i) {
      a_words[group + i % 2 * 8][member + i / 2 * 4] = own.a.values[i];
      sums[group + i / 2 * 8][2 * member + i % 2] = own.sum[i];
    }
    for (int i = 0; i < 2; ++i) b_words[group][member + 4 * i] = own.b[i];
  }

  const MatrixType type = static_cast<const MultiplyAdd*>(operands[0])->type;
  const int depth = depth_of(type);
  float a[kRows * kMaximumDepth], b_columns[kColumns * kMaximumDepth], b[kMaximumDepth * kColumns];
  widen_words(type, a_words[0], kRows * kDepthWords, a);
  widen_words(type, b_words[0], kColumns * kDepthWords, b_columns);
  for (int k = 0; k < depth; ++k) {
    for (int column = 0; column < kColumns; ++column) {
      b[k * kColumns + column] = b_columns[column * depth + k];
    }
  }
  multiply_add_8(a, b, kRows, depth, sums[0]);

  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MultiplyAdd& own = *static_cast<const MultiplyAdd*>(operands[lane]);
    const int group = lane / 4, member = lane % 4;
    for (int i = 0; i < 4; ++i) own.sum[i] = sums[group + i / 2 * 8][2 * member + i % 2];
  }
}

}  // namespace

Words load_matrices(std::size_t row, Site site) {
  MatrixLoad load{row, {}, site};
  Block::current().meet(load_for_warp, &load, site);
  return load.words;
}

void multiply_add(MatrixType type, float (&sum)[4], const Words& a, std::uint32_t b0,
                  std::uint32_t b1, Site site) {
  MultiplyAdd operation{type, sum, a, {b0, b1}};
  Block::current().meet(multiply_for_warp, &operation, site);
}

}  // namespace efficientad::emulation
