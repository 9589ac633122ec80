#include <array>
#include <string_view>

#include "cuda/device.h"
#include "emulation/self_test/product.h"
#include "emulation/self_test/self_test.h"

namespace efficientad::cuda {
namespace {

enum class Planted {
  none,
  missing_copy_wait,
  late_commit,
  missing_barrier_after_wait,
  stage_overwritten,
  copy_misaligned,
  copy_out_of_bounds,
  source_out_of_bounds,
  copies_pending_at_end,
  matrix_misaligned,
  divergent_multiply_add
};

constexpr std::array<std::string_view, 11> kNames = {"none",
                                                     "missing_copy_wait",
                                                     "late_commit",
                                                     "missing_barrier_after_wait",
                                                     "stage_overwritten",
                                                     "copy_misaligned",
                                                     "copy_out_of_bounds",
                                                     "source_out_of_bounds",
                                                     "copies_pending_at_end",
                                                     "matrix_misaligned",
                                                     "divergent_multiply_add"};

// Each warp multiplies 16 rows of A with all columns of B, step by step over 32 bytes of depth,
// from a ring of two stages. In a stage, a row of A or column of B is 32 bytes, one after the
// other.
constexpr int kThreads = 64;
constexpr int kColumns = 8;
constexpr int kStages = 2;
constexpr int kSteps = 5;
constexpr int kRows = 27;  // of 32: the copies of the others give zeros

template <class T>
struct Shape {
  static constexpr int kChunk = 16 / sizeof(T);  // elements of one copy
  static constexpr int kStepDepth = 2 * kChunk;
  static constexpr int kDepth = kSteps * kStepDepth;
  static constexpr int kAStage = 32 * kStepDepth;
  static constexpr int kBStage = kColumns * kStepDepth;
};

template <class T>
struct Parameters {
  Global<const T> a, b;
  Global<float> result;
  Planted fault;
};

template <class T>
EFFICIENTAD_DEVICE void copy_stage(const Parameters<T>& parameters, const SharedArray<T>& a,
                                   const SharedArray<T>& b, int step) {
  using S = Shape<T>;
  const int row = static_cast<int>(thread_index()) / 2;
  const int chunk = static_cast<int>(thread_index()) % 2 * S::kChunk;
  const int stage = step % kStages;
  const bool present = row < kRows || parameters.fault == Planted::source_out_of_bounds;
  int place = stage * S::kAStage + row * S::kStepDepth + chunk;
  if (parameters.fault == Planted::copy_misaligned && step == 1) place += 1;
  if (parameters.fault == Planted::copy_out_of_bounds && step == 3) place += 8 * S::kChunk;
  copy_async(a, place, parameters.a, row * S::kDepth + step * S::kStepDepth + chunk, present);
  if (row < kColumns) {
    copy_async(b, stage * S::kBStage + row * S::kStepDepth + chunk, parameters.b,
               row * S::kDepth + step * S::kStepDepth + chunk, true);
  }
}

template <class T>
EFFICIENTAD_DEVICE void multiply_stage(const SharedArray<T>& a, const SharedArray<T>& b, int step,
                                       Planted fault, float (&sum)[4]) {
  using S = Shape<T>;
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int first_row = static_cast<int>(thread_index()) / kWarpSize * 16;
  const int stage = step % kStages;
  // Lanes 0-15 give the rows of the first 16 bytes, lanes 16-31 those of the second.
  int a_row = stage * S::kAStage + (first_row + lane % 16) * S::kStepDepth + lane / 16 * S::kChunk;
  if (fault == Planted::matrix_misaligned && lane == 9) a_row += 1;
  const auto a_words = load_matrices(a, a_row);
  // Matrices 0 and 1 are the two halves of B's columns; 2 and 3 repeat them.
  const auto b_words = load_matrices(
      b, stage * S::kBStage + lane % kColumns * S::kStepDepth + lane / kColumns % 2 * S::kChunk);
  if (fault == Planted::divergent_multiply_add && lane < 7) {
    multiply_add<T>(sum, a_words, b_words.values[0], b_words.values[1]);
  } else {
    multiply_add<T>(sum, a_words, b_words.values[0], b_words.values[1]);
  }
}

template <class T>
EFFICIENTAD_KERNEL(kThreads)
product_kernel(const EFFICIENTAD_GRID_CONSTANT Parameters<T> parameters) {
  using S = Shape<T>;
  const Planted fault = parameters.fault;
  SharedMemory memory;
  const auto a = memory.array<T>(kStages * S::kAStage);
  const auto b = memory.array<T>(kStages * S::kBStage);
  float sum[4] = {};
  copy_stage(parameters, a, b, 0);
  copy_async_commit();
  for (int step = 0; step < kSteps; ++step) {
    const bool last = step + 1 == kSteps;
    if (!last || fault == Planted::copies_pending_at_end) {
      copy_stage(parameters, a, b, last ? step - 1 : step + 1);
    }
    if (fault != Planted::late_commit) copy_async_commit();
    if (fault != Planted::missing_copy_wait) copy_async_wait<1>();
    if (fault == Planted::late_commit) copy_async_commit();
    if (fault != Planted::missing_barrier_after_wait) barrier();
    multiply_stage(a, b, step, fault, sum);
    if (fault != Planted::stage_overwritten) barrier();
  }
  const int lane = static_cast<int>(thread_index()) % kWarpSize;
  const int warp = static_cast<int>(thread_index()) / kWarpSize;
  for (int i = 0; i < 4; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 * 8;
    const int column = 2 * (lane % 4) + i % 2;
    if (row < kRows) parameters.result.store(row * kColumns + column, sum[i]);
  }
}

template <class T>
Status run(Planted fault) {
  using S = Shape<T>;
  Product<T> product(kRows, kColumns, S::kDepth);
  const LaunchShape shape{
      {}, kThreads, shared_bytes<T>(kStages * S::kAStage) + shared_bytes<T>(kStages * S::kBStage)};
  const Parameters<T> parameters{Global<const T>(product.a_data(), kRows * S::kDepth),
                                 Global<const T>(product.b_data(), kColumns * S::kDepth),
                                 Global<float>(product.result.data(), kRows * kColumns), fault};
  const Status status = launch(product_kernel<T>, shape, Execution{}, parameters);
  if (status != kOk) return status;
  return product.is_right() ? kOk : kWrongResult;
}

}  // namespace

Status self_test_matrices(const char* fault) {
  const int planted = find_fault(kNames, fault);
  if (planted < 0) return kUnknownFault;
  Status status = run<Half>(static_cast<Planted>(planted));
  if (status == kOk) status = run<BFloat16>(static_cast<Planted>(planted));
  if (status == kOk) status = run<float>(static_cast<Planted>(planted));
  return status;
}

}  // namespace efficientad::cuda
