#include "bindings/tensor.h"

#include <string>

#include "bindings/dlpack.h"

namespace py = pybind11;

namespace efficientad::bindings {
namespace {

// The exchange table of a tensor class, or nullptr where the class has none that can be read. The
// class that was asked for last is kept alive, so that its address is nobody else's.
const dlpack::ExchangeTable* exchange_table(PyTypeObject* type) {
  static PyTypeObject* known_type = nullptr;
  static const dlpack::ExchangeTable* known_table = nullptr;
  if (type == known_type) return known_table;
  const dlpack::ExchangeTable* table = nullptr;
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule != nullptr) {
    table = static_cast<const dlpack::ExchangeTable*>(
        PyCapsule_GetPointer(capsule, dlpack::kCapsuleName));
    Py_DECREF(capsule);
  }
  PyErr_Clear();
  while (table != nullptr && table->version.major != dlpack::kSupportedMajorVersion) {
    table = table->previous;
  }
  Py_INCREF(type);
  Py_XDECREF(known_type);
  known_type = type;
  known_table = table;
  return table;
}

ScalarType scalar_type(std::uint8_t code, int bits) {
  if (code == dlpack::kFloat && bits == 64) return ScalarType::float64;
  if (code == dlpack::kFloat && bits == 32) return ScalarType::float32;
  if (code == dlpack::kFloat && bits == 16) return ScalarType::float16;
  if (code == dlpack::kBFloat && bits == 16) return ScalarType::bfloat16;
  if (code == dlpack::kUnsigned && bits == 8) return ScalarType::uint8;
  if (code == dlpack::kUnsigned && bits == 16) return ScalarType::uint16;
  throw py::type_error("the tensor's element type is not supported");
}

Tensor from_exchange_table(const dlpack::ExchangeTable& table, py::handle object) {
  dlpack::Tensor source;
  if (table.tensor_from_python(object.ptr(), &source) != 0) throw py::error_already_set();
  if (source.dimensions > kMaximumDimensions) {
    throw py::value_error("the tensor has more than 4 dimensions");
  }
  if (source.device.type != dlpack::kCpu && source.device.type != dlpack::kCuda) {
    throw py::type_error("the tensor is neither in a CPU's nor in a CUDA device's memory");
  }
  Tensor tensor;
  tensor.data = static_cast<char*>(source.data) + source.byte_offset;
  tensor.device = source.device.type == dlpack::kCpu ? Device::cpu : Device::cuda;
  tensor.device_index = source.device.index;
  tensor.type = scalar_type(source.type.code, source.type.bits);
  tensor.dimensions = source.dimensions;
  for (int dimension = 0; dimension < source.dimensions; ++dimension) {
    tensor.shape[dimension] = source.shape[dimension];
    tensor.strides[dimension] = source.strides[dimension];
  }
  return tensor;
}

// For versions of torch without the exchange table: the same facts from the tensor's attributes.
Tensor from_attributes(py::handle object) {
  if (!py::hasattr(object, "data_ptr") || !py::hasattr(object, "stride")) {
    throw py::type_error("expected a torch.Tensor, got " +
                         py::str(py::type::of(object)).cast<std::string>());
  }
  const std::string device = object.attr("device").attr("type").cast<std::string>();
  if (device != "cpu" && device != "cuda") {
    throw py::type_error("the tensor is neither in a CPU's nor in a CUDA device's memory");
  }
  const py::object index = object.attr("device").attr("index");
  const std::string name = py::str(object.attr("dtype")).cast<std::string>();
  const py::tuple shape = object.attr("shape");
  const py::tuple strides = object.attr("stride")();
  if (shape.size() > kMaximumDimensions) {
    throw py::value_error("the tensor has more than 4 dimensions");
  }
  Tensor tensor;
  tensor.data = reinterpret_cast<void*>(object.attr("data_ptr")().cast<std::uintptr_t>());
  tensor.device = device == "cpu" ? Device::cpu : Device::cuda;
  tensor.device_index = index.is_none() ? 0 : index.cast<int>();
  const int bits = 8 * object.attr("element_size")().cast<int>();
  const std::uint8_t code = name == "torch.bfloat16"            ? dlpack::kBFloat
                            : name.rfind("torch.float", 0) == 0 ? dlpack::kFloat
                            : name.rfind("torch.uint", 0) == 0  ? dlpack::kUnsigned
                                                                : dlpack::kInt;
  tensor.type = scalar_type(code, bits);
  tensor.dimensions = static_cast<int>(shape.size());
  for (int dimension = 0; dimension < tensor.dimensions; ++dimension) {
    tensor.shape[dimension] = shape[static_cast<std::size_t>(dimension)].cast<std::int64_t>();
    tensor.strides[dimension] = strides[static_cast<std::size_t>(dimension)].cast<std::int64_t>();
  }
  return tensor;
}

}  // namespace

std::int64_t Tensor::elements() const {
  std::int64_t count = 1;
  for (int dimension = 0; dimension < dimensions; ++dimension) count *= shape[dimension];
  return count;
}

bool Tensor::is_dense() const {
  if (elements() == 0) return true;
  std::int64_t expected = 1;
  for (int dimension = dimensions - 1; dimension >= 0; --dimension) {
    if (shape[dimension] != 1 && strides[dimension] != expected) return false;
    expected *= shape[dimension];
  }
  return true;
}

bool Tensor::has_shape(std::initializer_list<std::int64_t> lengths) const {
  if (dimensions != static_cast<int>(lengths.size())) return false;
  const std::int64_t* length = shape;
  for (const std::int64_t expected : lengths) {
    if (*length++ != expected) return false;
  }
  return true;
}

Tensor tensor_from_python(py::handle object) {
  const dlpack::ExchangeTable* table = exchange_table(Py_TYPE(object.ptr()));
  const Tensor tensor =
      table != nullptr ? from_exchange_table(*table, object) : from_attributes(object);
  if (tensor.data == nullptr && tensor.elements() > 0) {
    throw std::runtime_error("the tensor has no storage; kernels run on real tensors only");
  }
  return tensor;
}

FeatureMaps strided_maps(const Tensor& tensor) {
  if (tensor.dimensions != 4) {
    throw py::value_error("expected a tensor of 4 dimensions (batch, channels, height, width)");
  }
  return {tensor.data,       tensor.shape[0],   tensor.shape[1],
          tensor.shape[2],   tensor.shape[3],   tensor.strides[0],
          tensor.strides[1], tensor.strides[2], tensor.strides[3]};
}

FeatureMaps feature_maps(const Tensor& tensor) {
  FeatureMaps maps = strided_maps(tensor);
  if (tensor.elements() == 0) return maps;
  // The strides of dimensions of length 1 mean nothing; they are set to what the layout wants.
  if (maps.width == 1) {
    maps.column_stride = maps.height > 1 ? maps.row_stride : 1;
  }
  if (maps.height == 1) maps.row_stride = maps.width * maps.column_stride;
  if (maps.channels == 1) maps.channel_stride = maps.column_stride == 1 ? maps.pixels() : 1;
  const bool dense_rows = maps.row_stride == maps.width * maps.column_stride;
  if (!dense_rows || (maps.column_stride != 1 && maps.channel_stride != 1)) {
    throw py::value_error("the tensor's layout is neither planes nor channels-last");
  }
  return maps;
}

void match_layout(FeatureMaps& a, FeatureMaps& b) {
  if (a.elements() == 0 || b.elements() == 0 || a.is_planes() == b.is_planes()) return;
  FeatureMaps& planes = a.is_planes() ? a : b;
  if (planes.pixels() != 1 || planes.channel_stride != 1) {
    throw py::value_error("two tensors differ in layout");
  }
  planes.column_stride = planes.row_stride = planes.channels;
}

void* dense_data(const Tensor& tensor) {
  if (!tensor.is_dense()) throw py::value_error("expected a contiguous tensor");
  return tensor.data;
}

}  // namespace efficientad::bindings
