// Selection of the elements of given ranks, without sorting and without storing the elements.
//
// Each pass looks at one digit of all keys, from the most significant one down: it counts, for
// every digit value, the elements that share the digits known so far with the element sought, and
// then picks the digit in whose count the rank falls. Counts are integers: the order of atomic
// additions does not matter.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda/device.h"
#include "cuda/radix_key.h"
#include "cuda/runs.h"
#include "efficientad/quantiles.h"

namespace efficientad::cuda {

inline constexpr int kDigitBits = 11;
inline constexpr int kBins = 1 << kDigitBits;

// Histograms that a block holds at a time; more ranks are shared among blockIdx.y.
inline constexpr int kBlockHistograms = 4;
inline constexpr std::int64_t kMaximumSelectionBlocks = 1024;
inline constexpr int kMaximumPickThreads = kMaximumRanks * kWarpSize;
inline constexpr int kMinimumPickThreads = 4 * kWarpSize;

// What a selection keeps in global memory. prefixes[r] holds the digits known so far of the element
// of rank r, as the low bits; positions[r] is its rank among the elements that share them.
// Ranks ascend, hence so do prefixes, and equal ones are neighbours: the first of them leads, and
// histograms[leader * kBins + digit] serves them all. nan_count counts the elements that are NaN.
template <class Key>
struct Selection {
  Global<Key> prefixes;
  Global<std::int64_t> positions;
  Global<std::uint64_t> histograms;
  Global<std::uint64_t> nan_count;
  int rank_count;

  // A multiple of kVectorBytes, as the workspace's address must be.
  static constexpr std::size_t bytes(int rank_count) {
    return sizeof(std::uint64_t) * kBins * static_cast<std::size_t>(rank_count) +
           sizeof(std::int64_t) * kMaximumRanks + sizeof(Key) * kMaximumRanks + kVectorBytes;
  }

  Selection(void* workspace, int ranks) : rank_count(ranks) {
    unsigned char* place = static_cast<unsigned char*>(workspace);
    histograms = {reinterpret_cast<std::uint64_t*>(place), std::int64_t{kBins} * ranks};
    place += sizeof(std::uint64_t) * kBins * static_cast<std::size_t>(ranks);
    positions = {reinterpret_cast<std::int64_t*>(place), ranks};
    place += sizeof(std::int64_t) * kMaximumRanks;
    prefixes = {reinterpret_cast<Key*>(place), ranks};
    place += sizeof(Key) * kMaximumRanks;
    nan_count = {reinterpret_cast<std::uint64_t*>(place), 1};
  }

  EFFICIENTAD_DEVICE bool leads(int rank) const {
    return rank == 0 || prefixes.load(rank - 1) != prefixes.load(rank);
  }
};

// The digit of a pass: `bits` bits, `shift` above the lowest one.
struct Digit {
  int shift, bits;

  template <class Key>
  EFFICIENTAD_DEVICE Key value(Key key) const {
    return (key >> shift) & ((Key{1} << bits) - 1);
  }
  // The digits above; 0 in the first pass, where none are known.
  template <class Key>
  EFFICIENTAD_DEVICE Key above(Key key) const {
    return static_cast<Key>(key >> shift >> bits);
  }
};

struct Ranks {
  std::int64_t values[kMaximumRanks];
};

template <class Key>
EFFICIENTAD_KERNEL(Runs::kThreads)
selection_start_kernel(Selection<Key> selection, Ranks ranks) {
  const int thread = static_cast<int>(thread_index());
  for (int bin = static_cast<int>(block_index().x) * kBins + thread;
       bin < static_cast<int>(block_index().x + 1) * kBins; bin += Runs::kThreads) {
    selection.histograms.store(bin, 0);
  }
  if (block_index().x == 0 && thread == 0) {
    for (int rank = 0; rank < kMaximumRanks; ++rank) {
      if (rank >= selection.rank_count) continue;
      selection.prefixes.store(rank, 0);
      selection.positions.store(rank, ranks.values[rank]);
    }
    selection.nan_count.store(0, 0);
  }
}

// A Source names its Key, kBits and kNan as RadixKey does; visit_keys(visit) calls visit(key) for
// all elements of this warp's share of `runs`.
template <class Source>
EFFICIENTAD_KERNEL(Runs::kThreads)
selection_count_kernel(Source source, Selection<typename Source::Key> selection, Digit digit) {
  using Key = typename Source::Key;
  const int thread = static_cast<int>(thread_index());
  const int first_rank = static_cast<int>(block_index().y) * kBlockHistograms;
  const int left = selection.rank_count - first_rank;
  const int ranks = left < kBlockHistograms ? left : kBlockHistograms;
  Key prefixes[kBlockHistograms] = {};
  bool active[kBlockHistograms] = {};
  bool any = false;
  for (int i = 0; i < ranks; ++i) {
    prefixes[i] = selection.prefixes.load(first_rank + i);
    active[i] = selection.leads(first_rank + i);
    any = any || active[i];
  }
  if (!any) return;  // the whole block: a neighbour counts for all of these ranks

  SharedMemory memory;
  const auto counts = memory.array<std::uint32_t>(static_cast<std::size_t>(ranks) * kBins);
  for (int bin = thread; bin < ranks * kBins; bin += Runs::kThreads) counts.store(bin, 0);
  barrier();
  std::uint64_t nans = 0;
  source.visit_keys([&](Key key) {
    nans += key == Source::kNan ? 1 : 0;
    const Key above = digit.above(key);
    for (int i = 0; i < kBlockHistograms; ++i) {
      if (active[i] && above == prefixes[i]) {
        counts.atomic_add(i * kBins + static_cast<int>(digit.value(key)), 1u);
      }
    }
  });
  const bool first_pass = digit.shift + digit.bits == Source::kBits;
  if (nans > 0 && first_pass && first_rank == 0) selection.nan_count.atomic_add(0, nans);
  barrier();
  for (int bin = thread; bin < ranks * kBins; bin += Runs::kThreads) {
    const std::uint32_t count = counts.load(bin);
    if (count > 0) selection.histograms.atomic_add(first_rank * kBins + bin, count);
  }
}

// One block; warp r picks the digit of rank r. Clears the histograms for the next pass.
template <class Key>
EFFICIENTAD_KERNEL(kMaximumPickThreads)
selection_pick_kernel(Selection<Key> selection, Digit digit) {
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int rank = static_cast<int>(thread_index()) / kWarpSize;
  bool found = false;
  Key prefix = 0;
  std::int64_t position = 0;
  if (rank < selection.rank_count) {
    int leader = rank;
    while (!selection.leads(leader)) --leader;
    const int bins_per_lane = (1 << digit.bits) / kWarpSize;
    const int first_bin = leader * kBins + lane * bins_per_lane;
    std::int64_t own = 0;
    for (int bin = 0; bin < bins_per_lane; ++bin) {
      own += static_cast<std::int64_t>(selection.histograms.load(first_bin + bin));
    }
    std::int64_t end = own;
    for (int distance = 1; distance < kWarpSize; distance *= 2) {
      const std::int64_t before = shuffle_up(end, distance);
      if (lane >= distance) end += before;
    }
    position = selection.positions.load(rank) - (end - own);
    found = position >= 0 && position < own;
    if (found) {
      int bin = 0;
      std::int64_t count = static_cast<std::int64_t>(selection.histograms.load(first_bin));
      while (position >= count) {
        position -= count;
        ++bin;
        count = static_cast<std::int64_t>(selection.histograms.load(first_bin + bin));
      }
      prefix = static_cast<Key>(selection.prefixes.load(rank) << digit.bits) |
               static_cast<Key>(lane * bins_per_lane + bin);
    }
  }
  barrier();
  if (found) {
    selection.prefixes.store(rank, prefix);
    selection.positions.store(rank, position);
  }
  for (int bin = static_cast<int>(thread_index()); bin < selection.rank_count * kBins;
       bin += static_cast<int>(block_threads())) {
    selection.histograms.store(bin, 0);
  }
}

// Afterwards selection.prefixes[r] is the key of rank ranks.values[r] (ascending), for r below
// selection.rank_count. The last digit of a key has at least 5 bits, one bin for each lane.
template <class Source>
Status select(const Source& source, const Ranks& ranks,
              const Selection<typename Source::Key>& selection, const Execution& execution) {
  using Key = typename Source::Key;
  const auto rank_count = static_cast<std::uint32_t>(selection.rank_count);
  const LaunchShape start{{rank_count, 1, 1}, Runs::kThreads, 0};
  Status status = launch(selection_start_kernel<Key>, start, execution, selection, ranks);

  const std::uint32_t held = rank_count < kBlockHistograms ? rank_count : kBlockHistograms;
  LaunchShape count{source.runs.grid(kMaximumSelectionBlocks), Runs::kThreads,
                    shared_bytes<std::uint32_t>(std::size_t{held} * kBins)};
  count.grid.y = (rank_count + kBlockHistograms - 1) / kBlockHistograms;
  const LaunchShape pick{
      {}, std::max<std::uint32_t>(rank_count * kWarpSize, kMinimumPickThreads), 0};
  for (int bits_left = Source::kBits; bits_left > 0 && status == kOk;) {
    const int bits = bits_left < kDigitBits ? bits_left : kDigitBits;
    bits_left -= bits;
    const Digit digit{bits_left, bits};
    status = launch(selection_count_kernel<Source>, count, execution, source, selection, digit);
    if (status != kOk) break;
    status = launch(selection_pick_kernel<Key>, pick, execution, selection, digit);
  }
  return status;
}

}  // namespace efficientad::cuda
