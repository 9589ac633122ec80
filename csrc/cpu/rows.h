// The rows of feature maps, and work shared between threads row by row.
#pragma once

#include <cstdint>

#include "cpu/parallel.h"
#include "cpu/scratch.h"
#include "efficientad/feature_maps.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

template <class Scalar>
inline Scalar* row_of(const FeatureMaps& maps, std::int64_t image, std::int64_t channel,
                      std::int64_t row) {
  return static_cast<Scalar*>(maps.data) + image * maps.batch_stride +
         channel * maps.channel_stride + row * maps.row_stride;
}

// Calls visit(image, row) for all rows of channels-last maps.
template <class Visit>
inline void for_rows(const Team& team, const FeatureMaps& maps, const Visit& visit) {
  parallel_ranges(team, maps.batch * maps.height, [&](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      visit(index / maps.height, index % maps.height);
    }
  });
}

// Calls visit(index, line) for so many indices, where `line` is memory for `line_length` numbers of
// the thread's own.
template <class Number, class Visit>
inline Status for_each_with_line(const Team& team, std::int64_t count, std::int64_t line_length,
                                 const Visit& visit) {
  Scratch<Number> lines(team.useful * line_length);
  if (lines.data() == nullptr) return kOutOfMemory;
  parallel_ranges(team, count, [&](int thread, std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      visit(index, lines.data() + thread * line_length);
    }
  });
  return kOk;
}

// Calls visit(image, row, line) for all rows of channels-last maps.
template <class Number, class Visit>
inline Status for_rows_with_line(const Team& team, const FeatureMaps& maps,
                                 std::int64_t line_length, const Visit& visit) {
  return for_each_with_line<Number>(team, maps.batch * maps.height, line_length,
                                    [&](std::int64_t index, Number* line) {
                                      visit(index / maps.height, index % maps.height, line);
                                    });
}

// Calls visit(image, channel, row, line) for all rows of planes.
template <class Number, class Visit>
inline Status for_plane_rows(const Team& team, const FeatureMaps& maps, std::int64_t line_length,
                             const Visit& visit) {
  return for_each_with_line<Number>(team, maps.batch * maps.channels * maps.height, line_length,
                                    [&](std::int64_t index, Number* line) {
                                      const std::int64_t plane = index / maps.height;
                                      visit(plane / maps.channels, plane % maps.channels,
                                            index % maps.height, line);
                                    });
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
