// The tensor cores that the four warps of an emulated warpgroup share.
//
// What the threads issue is written down, once, since all must issue the same; it is carried out
// when all wait for it. So shared memory is read as late as it can be.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "emulation/block_parts.h"
#include "emulation/operands.h"

namespace efficientad::emulation {

class Warpgroup {
 public:
  static constexpr std::uint32_t kThreads = 128;
  static constexpr std::uint32_t kWarps = kThreads / cuda::kWarpSize;
  static constexpr int kRows = 64;      // of A
  static constexpr int kColumns = 128;  // rows of B
  static constexpr int kSums = kRows * kColumns / static_cast<int>(kThreads);

  struct Operands {
    MatrixType type;
    std::size_t a, b;  // places of the first row's 32 bytes, before the swizzle

    bool operator!=(const Operands& other) const {
      return type != other.type || a != other.a || b != other.b;
    }
  };

  Warpgroup(BlockParts& parts, std::uint32_t first_thread)
      : parts_(parts), first_thread_(first_thread) {}

  void start_block();

  // For the running thread.
  void fence(Site site) { issue({Kind::fence, site}); }
  void commit(Site site) { issue({Kind::commit, site}); }
  void multiply_add(float* sum, const Operands& operands, Site site);
  void wait(int pending, Site site);
  void fence_sums(float* sum);
  void check_ended() const;

 private:
  enum class Kind { fence, commit, multiply_add, wait };

  // What a warp knows to have happened before, the least of its lanes.
  struct WarpKnowledge {
    Clock clock;
    Time threads_known;
  };

  struct Step {
    Kind kind;
    Site site;
    Operands operands{};
    int pending = 0;  // of a wait
    std::size_t sums = 0;
    std::array<WarpKnowledge, kWarps> known{};
  };

  // The sums of all threads as a matrix, held here from their first multiply_add until the thread
  // fences them after a wait.
  struct Sums {
    std::array<float*, kThreads> place{};  // nullptr where they are not held
    std::array<int, kThreads> unfinished{};
    std::vector<float> values = std::vector<float>(kRows * kColumns);
  };

  std::uint32_t member() const { return parts_.scheduler.running() - first_thread_; }
  std::size_t issue(Step step);
  std::size_t find_sums(const float* sum);
  void hold(Sums& sums, float* sum, Site site);
  void add_knowledge(WarpKnowledge& known);
  void finish_groups(int pending);
  std::uint32_t own_lane_excepted(std::uint32_t warp) const;
  void carry_out(const Step& step);
  void record_rows(std::size_t place, int first_row, int rows, const Knowledge& by, SiteName site);
  void read_rows(MatrixType type, std::size_t place, int rows, float* values);

  BlockParts& parts_;
  std::uint32_t first_thread_;
  std::vector<Step> steps_;                     // since the last wait, which all have passed
  std::array<std::size_t, kThreads> issued_{};  // of those, by each thread
  std::vector<std::vector<Step>> groups_{{}};   // multiply_adds to be done; the last is uncommitted
  std::vector<Sums> sums_;
  bool fenced_ = false;
  std::uint32_t waiting_ = 0;
};

}  // namespace efficientad::emulation
