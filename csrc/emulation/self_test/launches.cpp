#include <array>
#include <string_view>

#include "cuda/device_sm90.h"
#include "emulation/self_test/self_test.h"

namespace efficientad::cuda {
namespace {

enum class Planted {
  none,
  empty_grid,
  partial_warp,
  too_many_threads,
  too_much_shared_memory,
  map_misaligned_data,
  map_wide_box,
  map_tall_box,
  map_odd_stride,
  map_inner_stride,
  map_empty_dimension,
  map_rank
};

constexpr std::array<std::string_view, 12> kNames = {"none",
                                                     "empty_grid",
                                                     "partial_warp",
                                                     "too_many_threads",
                                                     "too_much_shared_memory",
                                                     "map_misaligned_data",
                                                     "map_wide_box",
                                                     "map_tall_box",
                                                     "map_odd_stride",
                                                     "map_inner_stride",
                                                     "map_empty_dimension",
                                                     "map_rank"};

// Sends a number through the last of `count` elements of shared memory.
EFFICIENTAD_KERNEL(kWarpSize)
last_element_kernel(int count, Global<float> result) {
  if (thread_index() != 0) return;
  SharedMemory memory;
  const auto values = memory.array<float>(static_cast<std::size_t>(count));
  values.store(count - 1, 7.0f);
  result.store(0, values.load(count - 1));
}

Status launch_kernel(Planted fault) {
  LaunchShape shape{{}, kWarpSize, kMaximumSharedBytes};
  if (fault == Planted::empty_grid) shape.grid.y = 0;
  if (fault == Planted::partial_warp) shape.threads = 33;
  if (fault == Planted::too_many_threads) shape.threads = 1056;
  if (fault == Planted::too_much_shared_memory) shape.shared_bytes += 16;
  float result = 0;
  const Status status =
      launch(last_element_kernel, shape, Execution{},
             static_cast<int>(kMaximumSharedBytes / sizeof(float)), Global<float>(&result, 1));
  if (status != kOk) return status;
  return result == 7.0f ? kOk : kWrongResult;
}

Status make_map(Planted fault) {
  static const Vector<float, 4> data[64] = {};
  TensorTiles tiles{ScalarType::float32, data, 2, {32, 8}, {1, 32}, {32, 8}};
  if (fault == Planted::map_misaligned_data) tiles.data = &data[0].values[1];
  if (fault == Planted::map_wide_box) tiles.box[0] = 64;
  if (fault == Planted::map_tall_box) tiles.box[1] = 257;
  if (fault == Planted::map_odd_stride) tiles.stride[1] = 33;
  if (fault == Planted::map_inner_stride) tiles.stride[0] = 2;
  if (fault == Planted::map_empty_dimension) tiles.extent[1] = 0;
  if (fault == Planted::map_rank) tiles.rank = 1;
  TensorMap map;
  return make_tensor_map(map, tiles);
}

}  // namespace

Status self_test_launches(const char* fault) {
  const int planted = find_fault(kNames, fault);
  if (planted < 0) return kUnknownFault;
  const Status status = make_map(static_cast<Planted>(planted));
  return status == kOk ? launch_kernel(static_cast<Planted>(planted)) : status;
}

}  // namespace efficientad::cuda
