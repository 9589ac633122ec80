#include "emulation/warpgroup.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/tensor_tiles.h"
#include "emulation/swizzle.h"

namespace efficientad::emulation {
namespace {

constexpr std::size_t kSegmentBytes = kDepthWords * sizeof(std::uint32_t);
constexpr std::size_t kSumBytes = Warpgroup::kSums * sizeof(float);

// Where a thread's sum lies in the 64 x 128 matrix; cuda/device_sm90.h states the layout.
constexpr std::size_t matrix_index(std::uint32_t member, int sum) {
  const std::uint32_t lane = member % cuda::kWarpSize;
  const std::uint32_t row = member / cuda::kWarpSize * 16 + lane / 4 + (sum % 4 < 2 ? 0 : 8);
  const std::uint32_t column =
      static_cast<std::uint32_t>(sum) / 4 * 8 + lane % 4 * 2 + static_cast<std::uint32_t>(sum) % 2;
  return row * Warpgroup::kColumns + column;
}

// The place in shared memory of a row's 32 bytes, whose two chunks the swizzle may have swapped.
constexpr std::size_t segment(std::size_t first_row, int row) {
  return swizzled(first_row + static_cast<std::size_t>(row) * cuda::kTileRowBytes) &
         ~(kSegmentBytes - 1);
}

// Each byte is 0xff if the first is and all equal their neighbour.
bool is_poisoned(const float* sum) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(sum);
  return bytes[0] == 0xff && std::memcmp(bytes, bytes + 1, kSumBytes - 1) == 0;
}

}  // namespace

void Warpgroup::start_block() {
  sums_.clear();
  fenced_ = false;
}

std::size_t Warpgroup::issue(Step step) {
  const std::size_t position = issued_[member()]++;
  if (position == steps_.size()) {
    if (step.kind == Kind::multiply_add && !fenced_) {
      throw Fault(
          "a warpgroup multiplies without a warpgroup_fence before the first of the group at " +
          step.site.text());
    }
    fenced_ = step.kind == Kind::fence || (fenced_ && step.kind == Kind::multiply_add);
    steps_.push_back(std::move(step));
    return position;
  }
  const Step& other = steps_[position];
  if (other.kind != step.kind || other.site != step.site || other.pending != step.pending ||
      other.operands != step.operands) {
    throw Fault("divergent warpgroup: reached at " + step.site.text() + " while others went by " +
                other.site.text() + (other.site == step.site ? " with different operands" : ""));
  }
  return position;
}

void Warpgroup::multiply_add(float* sum, const Operands& operands, Site site) {
  const std::uint32_t own = member();
  Step multiplication{Kind::multiply_add, site};
  multiplication.operands = operands;
  const std::size_t before = steps_.size();
  Step& step = steps_[issue(std::move(multiplication))];
  if (steps_.size() > before) step.sums = find_sums(sum);
  for (const Sums& sums : sums_) {
    if (sums.place[own] == sum && &sums != &sums_[step.sums]) {
      throw Fault("divergent warpgroup: different sums are added to at " + site.text());
    }
  }
  hold(sums_[step.sums], sum, site);
  ++sums_[step.sums].unfinished[own];
  add_knowledge(step.known[own / cuda::kWarpSize]);
}

// The matrix that holds the running thread's sums, or one that holds nobody's.
std::size_t Warpgroup::find_sums(const float* sum) {
  std::size_t unused = sums_.size();
  for (std::size_t index = 0; index < sums_.size(); ++index) {
    const auto& place = sums_[index].place;
    if (place[member()] == sum) return index;
    const bool held = std::any_of(place.begin(), place.end(), [](auto* p) { return p != nullptr; });
    if (!held) unused = index;
  }
  if (unused == sums_.size()) sums_.emplace_back();
  return unused;
}

void Warpgroup::hold(Sums& sums, float* sum, Site site) {
  float*& place = sums.place[member()];
  if (place == sum) {
    if (is_poisoned(sum)) return;
    throw Fault("sums are written without warpgroup_fence_sums before warpgroup_multiply_add at " +
                site.text());
  }
  place = sum;
  for (int i = 0; i < kSums; ++i) sums.values[matrix_index(member(), i)] = sum[i];
  std::memset(sum, 0xff, kSumBytes);
}

void Warpgroup::add_knowledge(WarpKnowledge& known) {
  const Knowledge own = parts_.clocks.known_to(parts_.scheduler.running());
  if (known.clock.empty()) {
    known.clock.assign(own.clock, own.clock + parts_.clocks.actors());
    known.threads_known = own.threads_known;
  } else {
    meet(known.clock, own.clock);
    known.threads_known = std::min(known.threads_known, own.threads_known);
  }
}

void Warpgroup::fence_sums(float* sum) {
  const std::uint32_t own = member();
  for (Sums& sums : sums_) {
    if (sums.place[own] != sum || sums.unfinished[own] > 0) continue;
    for (int i = 0; i < kSums; ++i) sum[i] = sums.values[matrix_index(own, i)];
    sums.place[own] = nullptr;
  }
}

void Warpgroup::wait(int pending, Site site) {
  Step step{Kind::wait, site};
  step.pending = pending;
  issue(std::move(step));
  if (++waiting_ < kThreads) {
    parts_.scheduler.wait(WaitAt("the other threads of the warpgroup", site));
    return;
  }
  waiting_ = 0;
  finish_groups(pending);
  for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
    const std::uint32_t number = first_thread_ / cuda::kWarpSize + warp;
    parts_.clocks.acquire_unit(number, parts_.clocks.tensor_cores_of(number));
    parts_.scheduler.wake_lanes(number, own_lane_excepted(number));
  }
}

std::uint32_t Warpgroup::own_lane_excepted(std::uint32_t warp) const {
  const std::uint32_t thread = parts_.scheduler.running();
  if (thread / cuda::kWarpSize != warp) return cuda::kWholeWarp;
  return ~(1u << thread % cuda::kWarpSize);
}

void Warpgroup::finish_groups(int pending) {
  for (Step& step : steps_) {
    if (step.kind == Kind::multiply_add) groups_.back().push_back(std::move(step));
    if (step.kind == Kind::commit) groups_.emplace_back();
  }
  steps_.clear();
  issued_.fill(0);
  while (groups_.size() > static_cast<std::size_t>(pending) + 1) {
    for (const Step& step : groups_.front()) carry_out(step);
    groups_.erase(groups_.begin());
  }
}

void Warpgroup::carry_out(const Step& step) {
  const SiteName site = parts_.memory.history().name_of(step.site);
  for (std::uint32_t warp = 0; warp < kWarps; ++warp) {
    const WarpKnowledge& known = step.known[warp];
    const Actor unit = parts_.clocks.tensor_cores_of(first_thread_ / cuda::kWarpSize + warp);
    const Knowledge by = parts_.clocks.known_to_unit(unit, known.clock, known.threads_known);
    constexpr int kWarpRows = kRows / static_cast<int>(kWarps);
    const int first_row = static_cast<int>(warp) * kWarpRows;
    record_rows(step.operands.a, first_row, kWarpRows, by, site);
    record_rows(step.operands.b, 0, kColumns, by, site);
  }

  float a[kRows * kMaximumDepth], b_rows[kColumns * kMaximumDepth], b[kMaximumDepth * kColumns];
  const MatrixType type = step.operands.type;
  const int depth = depth_of(type);
  read_rows(type, step.operands.a, kRows, a);
  read_rows(type, step.operands.b, kColumns, b_rows);
  for (int column = 0; column < kColumns; ++column) {
    for (int k = 0; k < depth; ++k) b[k * kColumns + column] = b_rows[column * depth + k];
  }
  Sums& sums = sums_[step.sums];
  multiply_add_128(a, b, kRows, depth, sums.values.data());
  for (int& unfinished : sums.unfinished) --unfinished;
}

void Warpgroup::record_rows(std::size_t place, int first_row, int rows, const Knowledge& by,
                            SiteName site) {
  for (int row = first_row; row < first_row + rows; ++row) {
    parts_.memory.history().record(AccessKind::read, segment(place, row), kSegmentBytes, by, site);
  }
}

void Warpgroup::read_rows(MatrixType type, std::size_t place, int rows, float* values) {
  std::uint32_t words[kColumns][kDepthWords];
  for (int row = 0; row < rows; ++row) {
    const std::size_t start = place + static_cast<std::size_t>(row) * cuda::kTileRowBytes;
    std::memcpy(words[row], parts_.memory.at(swizzled(start)), kChunkBytes);
    std::memcpy(words[row] + kDepthWords / 2, parts_.memory.at(swizzled(start + kChunkBytes)),
                kChunkBytes);
  }
  widen_words(type, words[0], rows * kDepthWords, values);
}

void Warpgroup::check_ended() const {
  const auto report = [](const Step& step) {
    throw Fault("the thread ends without waiting for the warpgroup's multiplication issued at " +
                step.site.text());
  };
  for (const Step& step : steps_) {
    if (step.kind == Kind::multiply_add) report(step);
  }
  for (const auto& group : groups_) {
    if (!group.empty()) report(group.front());
  }
}

}  // namespace efficientad::emulation
