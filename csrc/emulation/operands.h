// What tensor cores read and how they calculate: operands as they lie in memory become floats,
// whose products are exact in float.
#pragma once

#include <cstdint>

#include "efficientad/scalar.h"

namespace efficientad::emulation {

enum class MatrixType { float16, bfloat16, tf32 };

constexpr MatrixType matrix_type(Half) { return MatrixType::float16; }
constexpr MatrixType matrix_type(BFloat16) { return MatrixType::bfloat16; }
constexpr MatrixType matrix_type(float) { return MatrixType::tf32; }

// One instruction multiplies rows of 32 bytes: this many words, and at most this many elements.
inline constexpr int kDepthWords = 8;
inline constexpr int kMaximumDepth = 16;

constexpr int depth_of(MatrixType type) { return type == MatrixType::tf32 ? 8 : 16; }

// Elements from words of 4 bytes, the element in the low half of a word first. tf32 takes the upper
// 19 bits of a float. `values` has room for depth_of(type) / kDepthWords elements per word.
void widen_words(MatrixType type, const std::uint32_t* words, int count, float* values);

// sums[row][column] += sum over k < depth, in order, of a[row][k] * b[k][column], for matrices
// without gaps between their rows.
void multiply_add_8(const float* a, const float* b, int rows, int depth, float* sums);
void multiply_add_128(const float* a, const float* b, int rows, int depth, float* sums);

float round_to_tf32(float value);

}  // namespace efficientad::emulation
