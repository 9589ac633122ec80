// Exact order statistics of values that are computed on the fly and never written out.
//
// A random sample brackets each wanted rank. One pass over all values counts those below the
// bracket and keeps those inside it, about one in fifty; the wanted value is selected among these.
// A bracket that misses its rank (a few times in 100,000, or with adversarial data) is replaced by
// the side on which the rank lies, which the second pass cannot miss. The result does not depend on
// the sample or on the number of threads.
#pragma once

#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/nth_element.h"
#include "cpu/parallel.h"
#include "cpu/runs.h"
#include "cpu/simd.h"

namespace efficientad::EFFICIENTAD_INSTRUCTION_SET {

inline constexpr int kSampleSize = 1 << 13;

template <class Key>
inline constexpr Key kInfinity = static_cast<Key>(__builtin_inf());

// A closed interval of values. Where low == high its values are counted but not kept.
template <class Key>
struct Bracket {
  Key low = -kInfinity<Key>;
  Key high = kInfinity<Key>;
};

// A Source provides
//   using Key = float or double
//   Pieces pieces()                                     all its values, in units of work
//   Key value(index)                                    one value, index in [0, runs * length)
//   visit_slice(run, first, count, visit)               calls visit(vector, valid) on all values of
//   a
//                                                       slice; `valid` masks the lanes that hold
//                                                       one

// A random sample, drawn with replacement; NaN is left out.
template <class Key>
class Sample {
 public:
  template <class Source>
  explicit Sample(const Source& source, std::int64_t population) : population_(population) {
    std::uint64_t state = 0x9e3779b97f4a7c15u;
    for (int draw = 0; draw < kSampleSize; ++draw) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const auto scaled =
          static_cast<unsigned __int128>(state) * static_cast<std::uint64_t>(population);
      const Key value = source.value(static_cast<std::int64_t>(scaled >> 64));
      if (value == value) values_[count_++] = value;
    }
  }

  // An interval that holds the element of `rank` with four standard deviations to spare.
  Bracket<Key> bracket(std::int64_t rank) {
    const double fraction = (static_cast<double>(rank) + 0.5) / static_cast<double>(population_);
    const double position = fraction * count_;
    const double margin = 4 * __builtin_sqrt(position * (1 - fraction)) + 4;
    const double low = position - margin, high = position + margin;
    Bracket<Key> result;
    if (low >= 0) result.low = cpu::nth_element(values_, count_, static_cast<int>(low));
    if (high < count_) result.high = cpu::nth_element(values_, count_, static_cast<int>(high));
    return result;
  }

 private:
  std::int64_t population_;
  Key values_[kSampleSize];
  int count_ = 0;
};

// What one pass finds out about one bracket.
template <class Key>
struct Census {
  std::int64_t below = 0;   // values < low
  std::int64_t inside = 0;  // low <= value <= high
  std::int64_t nans = 0;
  double sum_above = 0;  // of values > high, and of NaN
  Buffer<Key> kept;      // the values inside, unless low == high
  std::int64_t kept_count = 0;

  void clear() {
    below = inside = nans = kept_count = 0;
    sum_above = 0;
  }

  Status add(const Census& other) {
    below += other.below;
    inside += other.inside;
    nans += other.nans;
    if (!kept.reserve(kept_count + other.kept_count)) return kOutOfMemory;
    if (other.kept_count > 0) {
      std::memcpy(kept.data() + kept_count, other.kept.data(),
                  static_cast<std::size_t>(other.kept_count) * sizeof(Key));
    }
    kept_count += other.kept_count;
    return kOk;
  }
};

template <class Key>
inline std::int64_t lanes_counted(Mask<Key> negative_counts) {
  std::int64_t count = 0;
  for (int lane = 0; lane < kLanes<Key>; ++lane) count -= negative_counts[lane];
  return count;
}

// Adds one piece to the census of one bracket; the sum of what is above is returned separately, to
// be added up in the order of the pieces.
template <class Source, class Key = typename Source::Key>
Status add_piece(const Source& source, const Pieces& pieces, std::int64_t piece,
                 const Bracket<Key>& bracket, Census<Key>& census, double& sum_above) {
  using WideSum = typename VectorType<double, kLanes<Key>* static_cast<int>(sizeof(double))>::type;
  const Vector<Key> low = broadcast(bracket.low), high = broadcast(bracket.high);
  const bool keep = bracket.low != bracket.high;
  Mask<Key> below = {}, inside = {}, nans = {};
  WideSum above_sums = {};
  Status status = kOk;
  pieces.for_each_slice(piece, [&](std::int64_t run, std::int64_t first, std::int64_t count) {
    if (!census.kept.reserve(census.kept_count + count + kLanes<Key>)) status = kOutOfMemory;
    if (status != kOk) return;
    Key* end = census.kept.data() + census.kept_count;
    source.visit_slice(run, first, count, [&](Vector<Key> value, Mask<Key> valid) {
      const Mask<Key> is_below = (value < low) & valid;
      const Mask<Key> is_inside = (value >= low) & (value <= high) & valid;
      const Mask<Key> is_above = valid & ~is_below & ~is_inside;
      below += is_below;
      inside += is_inside;
      nans += (value != value) & valid;
      if (keep) end = append(end, is_inside, value);
      if (any(is_above)) {
        const Vector<Key> selected = is_above ? value : Vector<Key>{};
        above_sums += __builtin_convertvector(selected, WideSum);
      }
    });
    census.kept_count = end - census.kept.data();
  });
  census.below += lanes_counted<Key>(below);
  census.inside += lanes_counted<Key>(inside);
  census.nans += lanes_counted<Key>(nans);
  sum_above = 0;
  for (int lane = 0; lane < kLanes<Key>; ++lane) sum_above += above_sums[lane];
  return status;
}

// Takes the census of several brackets in one pass over the values.
template <class Source, class Key = typename Source::Key>
Status take_census(const Source& source, const Bracket<Key>* brackets, int bracket_count,
                   const Team& team, Census<Key>* totals) {
  const Pieces pieces = source.pieces();
  Array<Census<Key>> censuses(std::int64_t{team.useful} * bracket_count);
  Buffer<double> sums_above(pieces.count * bracket_count);
  if (sums_above.data() == nullptr) return kOutOfMemory;
  const auto work = [&](int thread, std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      // A piece is in the cache when the second bracket looks at it.
      for (int index = 0; index < bracket_count; ++index) {
        const Status status = add_piece(source, pieces, piece, brackets[index],
                                        censuses[thread * bracket_count + index],
                                        sums_above[piece * bracket_count + index]);
        if (status != kOk) return status;
      }
    }
    return kOk;
  };
  if (const Status status = parallel_ranges_with_status(team, pieces.count, work); status != kOk) {
    return status;
  }
  for (int index = 0; index < bracket_count; ++index) {
    Census<Key>& total = totals[index];
    for (int thread = 0; thread < team.useful; ++thread) {
      const Status status = total.add(censuses[thread * bracket_count + index]);
      if (status != kOk) return status;
    }
    for (std::int64_t piece = 0; piece < pieces.count; ++piece) {
      total.sum_above += sums_above[piece * bracket_count + index];
    }
  }
  return kOk;
}

// The element of `rank` if it lies inside the bracket.
template <class Key>
struct Selected {
  bool found;
  Key value;
};

template <class Key>
Selected<Key> select_inside(const Bracket<Key>& bracket, Census<Key>& census, std::int64_t rank) {
  if (rank < census.below || rank >= census.below + census.inside) return {false, Key{}};
  if (bracket.low == bracket.high) return {true, bracket.low};
  return {true, cpu::nth_element(census.kept.data(), census.inside, rank - census.below)};
}

// The side of a bracket on which a rank lies that is not inside.
template <class Key>
Bracket<Key> side_of(const Bracket<Key>& bracket, const Census<Key>& census, std::int64_t rank) {
  if (rank < census.below) return {-kInfinity<Key>, bracket.low};
  return {bracket.high, kInfinity<Key>};
}

}  // namespace efficientad::EFFICIENTAD_INSTRUCTION_SET
