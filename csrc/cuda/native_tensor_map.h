// Tensor maps, made by the CUDA driver, to which nothing links: its entry point is asked for.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include "cuda/tensor_tiles.h"

namespace efficientad::cuda {

using TensorMap = CUtensorMap;

constexpr CUtensorMapDataType tensor_map_type(ScalarType type) {
  switch (type) {
    case ScalarType::float64:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case ScalarType::float32:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case ScalarType::float16:
      return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case ScalarType::bfloat16:
      return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case ScalarType::uint16:
      return CU_TENSOR_MAP_DATA_TYPE_UINT16;
    case ScalarType::uint8:
      break;
  }
  return CU_TENSOR_MAP_DATA_TYPE_UINT8;
}

using EncodeTensorMap = decltype(&cuTensorMapEncodeTiled);

// nullptr if the driver has no tensor maps.
inline EncodeTensorMap find_encode_tensor_map() {
  void* entry = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                             12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<EncodeTensorMap>(entry);
}

// For copies with the 128-byte swizzle and zeros outside of the tensor.
inline Status make_tensor_map(TensorMap& map, const TensorTiles& tiles) {
  if (const Status status = check(tiles); status != kOk) return status;
  static const EncodeTensorMap encode = find_encode_tensor_map();
  if (encode == nullptr) return "the CUDA driver is too old for tensor maps";
  cuuint64_t extents[kMaximumRank], strides[kMaximumRank];
  cuuint32_t box[kMaximumRank], steps[kMaximumRank];
  for (int dimension = 0; dimension < tiles.rank; ++dimension) {
    extents[dimension] = static_cast<cuuint64_t>(tiles.extent[dimension]);
    strides[dimension] =
        static_cast<cuuint64_t>(tiles.stride[dimension]) * element_bytes(tiles.type);
    box[dimension] = static_cast<cuuint32_t>(tiles.box[dimension]);
    steps[dimension] = 1;
  }
  // The first stride is that of an element, which the driver knows.
  const CUresult result =
      encode(&map, tensor_map_type(tiles.type), static_cast<cuuint32_t>(tiles.rank),
             const_cast<void*>(tiles.data), extents, strides + 1, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? kOk : "the CUDA driver refuses the tensor map";
}

}  // namespace efficientad::cuda
