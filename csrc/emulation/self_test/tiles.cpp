#include <array>
#include <string_view>
#include <vector>

#include "cuda/device_sm90.h"
#include "emulation/self_test/product.h"
#include "emulation/self_test/self_test.h"

namespace efficientad::cuda {
namespace {

enum class Planted {
  none,
  missing_init_fence,
  missing_init_barrier,
  expects_too_much,
  expects_too_little,
  double_arrival,
  missing_transaction_wait,
  wrong_parity,
  missing_release,
  released_early,
  released_by_one_warp,
  missing_warpgroup_fence,
  missing_warpgroup_wait,
  divergent_warpgroup,
  sums_not_fenced,
  sums_written_unfenced,
  tile_misaligned,
  tile_out_of_bounds,
  operand_misaligned
};

constexpr std::array<std::string_view, 19> kNames = {"none",
                                                     "missing_init_fence",
                                                     "missing_init_barrier",
                                                     "expects_too_much",
                                                     "expects_too_little",
                                                     "double_arrival",
                                                     "missing_transaction_wait",
                                                     "wrong_parity",
                                                     "missing_release",
                                                     "released_early",
                                                     "released_by_one_warp",
                                                     "missing_warpgroup_fence",
                                                     "missing_warpgroup_wait",
                                                     "divergent_warpgroup",
                                                     "sums_not_fenced",
                                                     "sums_written_unfenced",
                                                     "tile_misaligned",
                                                     "tile_out_of_bounds",
                                                     "operand_misaligned"};

// A warpgroup multiplies 64 rows of A with 128 rows of B, from a ring of two stages that a thread
// of another warp fills. A is a tensor of 2 images of 4 x 7 pixels; boxes begin one pixel to the
// left of it, so that every eighth row is zero. B has fewer rows than its box.
constexpr int kConsumers = 128;
constexpr int kThreads = kConsumers + kWarpSize;
constexpr int kStages = 2;
constexpr int kSteps = 5;
constexpr int kTileRows = 64, kTileColumns = 128;
constexpr int kPixels = 7, kLines = 4, kImages = 2;
constexpr int kRows = kImages * kLines * kPixels;
constexpr int kColumns = 121;
constexpr int kStageBytes = (kTileRows + kTileColumns) * static_cast<int>(kTileRowBytes);

template <class T>
struct Shape {
  static constexpr int kRow = kTileRowBytes / sizeof(T);  // elements of a row of a tile
  static constexpr int kDepth = kSteps * kRow;
  static constexpr int kAStage = kTileRows * kRow;
  static constexpr int kBStage = kTileColumns * kRow;
};

struct Parameters {
  TensorMap a, b;
  Global<float> result;  // kTileRows x kTileColumns
  Planted fault;
};

template <class T>
struct Ring {
  SharedArray<T> a, b;
  TransactionBarriers full, empty;

  EFFICIENTAD_DEVICE explicit Ring(SharedMemory& memory)
      : a(memory.array<T>(kStages * Shape<T>::kAStage)),
        b(memory.array<T>(kStages * Shape<T>::kBStage)),
        full(memory.array<std::uint64_t>(kStages)),
        empty(memory.array<std::uint64_t>(kStages)) {}

  static constexpr std::size_t kBytes = shared_bytes<T>(kStages * Shape<T>::kAStage) +
                                        shared_bytes<T>(kStages * Shape<T>::kBStage) +
                                        2 * shared_bytes<std::uint64_t>(kStages);
};

template <class T>
EFFICIENTAD_DEVICE void produce(const Parameters& parameters, const Ring<T>& ring) {
  using S = Shape<T>;
  const Planted fault = parameters.fault;
  for (int step = 0; step < kSteps; ++step) {
    const int stage = step % kStages;
    const int parity = (step / kStages + (fault == Planted::wrong_parity ? 0 : 1)) % 2;
    transaction_wait(ring.empty, stage, parity);
    int bytes = kStageBytes;
    if (fault == Planted::expects_too_much) bytes += 128;
    if (fault == Planted::expects_too_little) bytes -= kTileRows * static_cast<int>(kTileRowBytes);
    transaction_arrive_expect(ring.full, stage, bytes);
    if (fault == Planted::double_arrival) transaction_arrive(ring.full, stage);
    int a_place = stage * S::kAStage;
    if (fault == Planted::tile_misaligned) a_place += S::kRow;
    if (fault == Planted::tile_out_of_bounds && stage == 1) a_place += 8 * S::kRow;
    load_tile<4>(ring.a, a_place, parameters.a, Coordinates{{step * S::kRow, -1, 0, 0}}, ring.full,
                 stage);
    load_tile<2>(ring.b, stage * S::kBStage, parameters.b, Coordinates{{step * S::kRow, 0}},
                 ring.full, stage);
  }
}

template <class T>
EFFICIENTAD_DEVICE void release(const Ring<T>& ring, int stage, Planted fault) {
  if (thread_index() % kWarpSize == 0 && fault != Planted::missing_release) {
    transaction_arrive(ring.empty, stage);
  }
}

template <class T>
EFFICIENTAD_DEVICE void multiply_stage(const Ring<T>& ring, int stage, Planted fault,
                                       float (&sum)[64]) {
  using S = Shape<T>;
  for (int segment = 0; segment < 4; ++segment) {
    int a = stage * S::kAStage + segment * S::kRow / 4;
    if (fault == Planted::divergent_warpgroup && thread_index() == 77) a = stage * S::kAStage;
    if (fault == Planted::operand_misaligned) a += S::kRow / 8;
    warpgroup_multiply_add<T>(sum, ring.a, a, ring.b, stage * S::kBStage + segment * S::kRow / 4);
  }
}

template <class T>
EFFICIENTAD_DEVICE void consume(const Ring<T>& ring, Planted fault, float (&sum)[64]) {
  warpgroup_fence_sums(sum);
  for (int step = 0; step < kSteps; ++step) {
    const int stage = step % kStages;
    if (fault != Planted::missing_transaction_wait) {
      transaction_wait(ring.full, stage, step / kStages % 2);
    }
    if (fault == Planted::sums_written_unfenced && step > 0) sum[7] = 1;
    if (fault != Planted::missing_warpgroup_fence) warpgroup_fence();
    multiply_stage(ring, stage, fault, sum);
    warpgroup_commit();
    if (fault == Planted::released_early) {
      release(ring, stage, fault);
    } else if (step > 0) {
      // One group stays under way while the other stage is released.
      if (fault != Planted::missing_warpgroup_wait) warpgroup_wait<1>();
      if (fault != Planted::released_by_one_warp || thread_index() < kWarpSize) {
        release(ring, 1 - stage, fault);
      }
    }
  }
  if (fault != Planted::missing_warpgroup_wait) warpgroup_wait<0>();
  if (fault != Planted::sums_not_fenced) warpgroup_fence_sums(sum);
}

template <class T>
EFFICIENTAD_KERNEL(kThreads)
tile_kernel(const EFFICIENTAD_GRID_CONSTANT Parameters parameters) {
  const Planted fault = parameters.fault;
  SharedMemory memory;
  const Ring<T> ring(memory);
  if (thread_index() == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      transaction_init(ring.full, stage, 1);
      transaction_init(ring.empty, stage,
                       fault == Planted::released_by_one_warp ? 1 : kConsumers / kWarpSize);
    }
    if (fault != Planted::missing_init_fence) transaction_init_fence();
  }
  if (fault != Planted::missing_init_barrier) barrier();

  const int thread = static_cast<int>(thread_index());
  if (thread >= kConsumers) {
    if (thread == kConsumers) produce(parameters, ring);
    return;
  }
  float sum[64] = {};
  consume(ring, fault, sum);
  const int lane = thread % kWarpSize;
  for (int i = 0; i < 64; ++i) {
    const int row = thread / kWarpSize * 16 + lane / 4 + i / 2 % 2 * 8;
    const int column = i / 4 * 8 + lane % 4 * 2 + i % 2;
    parameters.result.store(row * kTileColumns + column, sum[i]);
  }
}

// Takes the product out of the tile, whose other elements must be zero.
template <class T>
bool take_result(const std::vector<float>& tile, Product<T>& product) {
  for (int row = 0; row < kTileRows; ++row) {
    for (int column = 0; column < kTileColumns; ++column) {
      const float value = tile[row * kTileColumns + column];
      const int pixel = row % (kPixels + 1) - 1;
      if (pixel >= 0 && column < kColumns) {
        product.result[(row / (kPixels + 1) * kPixels + pixel) * kColumns + column] = value;
      } else if (!(value == 0)) {
        return false;
      }
    }
  }
  return product.is_right();
}

template <class T>
Status run(ScalarType type, Planted fault) {
  using S = Shape<T>;
  Product<T> product(kRows, kColumns, S::kDepth);
  std::vector<float> tile(kTileRows * kTileColumns, NAN);
  Parameters parameters{{}, {}, Global<float>(tile.data(), kTileRows * kTileColumns), fault};
  Status status = make_tensor_map(
      parameters.a, {type,
                     product.a_data(),
                     4,
                     {S::kDepth, kPixels, kLines, kImages},
                     {1, S::kDepth, kPixels * S::kDepth, kLines * kPixels * S::kDepth},
                     {S::kRow, kPixels + 1, kLines, kImages}});
  if (status != kOk) return status;
  status = make_tensor_map(
      parameters.b,
      {type, product.b_data(), 2, {S::kDepth, kColumns}, {1, S::kDepth}, {S::kRow, kTileColumns}});
  if (status != kOk) return status;
  const LaunchShape shape{{}, kThreads, Ring<T>::kBytes};
  status = launch(tile_kernel<T>, shape, Execution{}, parameters);
  if (status != kOk) return status;
  return take_result(tile, product) ? kOk : kWrongResult;
}

}  // namespace

Status self_test_tiles(const char* fault) {
  const int planted = find_fault(kNames, fault);
  if (planted < 0) return kUnknownFault;
  Status status = run<Half>(ScalarType::float16, static_cast<Planted>(planted));
  if (status == kOk) status = run<BFloat16>(ScalarType::bfloat16, static_cast<Planted>(planted));
  if (status == kOk) status = run<float>(ScalarType::float32, static_cast<Planted>(planted));
  return status;
}

}  // namespace efficientad::cuda
