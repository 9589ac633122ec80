// Iteration over all elements of feature maps whose order does not matter.
#pragma once

#include <cstdint>

#include "cpu/simd.h"
#include "efficientad/feature_maps.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

// Feature maps of the same shape and layout as `count` runs of `length` elements, each contiguous
// in every one of them: whole images where nothing was sliced away between channels (planes) or
// pixels (channels-last), otherwise single channels or pixels.
struct Runs {
  std::int64_t count, length;
  std::int64_t per_image;

  template <class... Maps>
  explicit Runs(const FeatureMaps& first, const Maps&... others) {
    const bool dense = is_dense(first) && (is_dense(others) && ...);
    const std::int64_t inner = first.is_planes() ? first.pixels() : first.channels;
    per_image = dense ? 1 : first.channels * first.pixels() / (inner > 0 ? inner : 1);
    length = dense ? first.channels * first.pixels() : inner;
    count = first.batch * per_image;
  }

  std::int64_t offset(const FeatureMaps& maps, std::int64_t run) const {
    const std::int64_t stride = maps.is_planes() ? maps.channel_stride : maps.column_stride;
    return run / per_image * maps.batch_stride + run % per_image * stride;
  }

 private:
  static bool is_dense(const FeatureMaps& maps) {
    return maps.is_planes() ? maps.channel_stride == maps.pixels()
                            : maps.column_stride == maps.channels;
  }
};

// Runs cut into slices of at most kSlice elements, and slices grouped into pieces of about kSlice
// elements: units of work that do not depend on the number of threads.
struct Pieces {
  static constexpr std::int64_t kSlice = 1 << 15;

  Runs runs;
  std::int64_t slices_per_run, slices_per_piece, count;

  explicit Pieces(const Runs& all) : runs(all) {
    slices_per_run = (runs.length + kSlice - 1) / kSlice;
    const std::int64_t length = runs.length < kSlice ? runs.length : kSlice;
    slices_per_piece = length > 0 ? kSlice / length : 1;
    count = (runs.count * slices_per_run + slices_per_piece - 1) / slices_per_piece;
  }

  // Calls visit(run, first element, number of elements) for each slice of a piece.
  template <class Visit>
  void for_each_slice(std::int64_t piece, const Visit& visit) const {
    const std::int64_t slices = runs.count * slices_per_run;
    const std::int64_t begin = piece * slices_per_piece;
    const std::int64_t end = begin + slices_per_piece < slices ? begin + slices_per_piece : slices;
    for (std::int64_t slice = begin; slice < end; ++slice) {
      const std::int64_t first = slice % slices_per_run * kSlice;
      const std::int64_t left = runs.length - first;
      visit(slice / slices_per_run, first, left < kSlice ? left : kSlice);
    }
  }
};

// Calls visit(first, lanes, valid) on consecutive vectors of `count` elements; only the last one
// may have fewer valid lanes than a whole vector.
template <class Element, class Visit>
inline void visit_vectors(std::int64_t count, const Visit& visit) {
  constexpr int kWhole = kLanes<Element>;
  std::int64_t first = 0;
  for (; first + kWhole <= count; first += kWhole) {
    visit(first, std::int64_t{kWhole}, ~Mask<Element>{});
  }
  if (first < count) {
    Mask<Element> valid = {};
    for (int lane = 0; lane < count - first; ++lane) valid[lane] = -1;
    visit(first, count - first, valid);
  }
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
