// A tensor of Python's, looked at from C++.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>

#include "efficientad/feature_maps.h"
#include "efficientad/scalar.h"

namespace efficientad::bindings {

inline constexpr int kMaximumDimensions = 4;

enum class Device { cpu, cuda };

// Borrowed: valid while the Python object is.
struct Tensor {
  void* data;
  Device device;
  int device_index;
  ScalarType type;
  int dimensions;
  std::int64_t shape[kMaximumDimensions];
  std::int64_t strides[kMaximumDimensions];  // in elements

  std::int64_t elements() const;
  bool is_dense() const;
  bool has_shape(std::initializer_list<std::int64_t> lengths) const;
};

// Raises TypeError for anything that is not a tensor of a supported type in memory, RuntimeError
// for a tensor without storage (a fake or meta tensor).
Tensor tensor_from_python(pybind11::handle object);

// A (batch, channels, height, width) tensor with whatever strides it has.
FeatureMaps strided_maps(const Tensor& tensor);

// The same for kernels that want one of the two layouts of feature_maps.h; raises ValueError where
// the tensor has neither.
FeatureMaps feature_maps(const Tensor& tensor);

// Maps of a single pixel have both layouts and are taken for planes; this gives them the other one
// where their partner has it. Raises ValueError where the layouts of two tensors really differ.
void match_layout(FeatureMaps& a, FeatureMaps& b);

// The data of a tensor that must be dense; raises ValueError where it is not.
void* dense_data(const Tensor& tensor);

}  // namespace efficientad::bindings
