// The part of the DLPack interface (version 1.x) that is needed to look at a tensor without copying
// it.
//
// Declared here to the letter of DLPack's published ABI, so that building needs no tensor library.
#pragma once

#include <cstdint>

namespace efficientad::dlpack {

enum DeviceType : std::int32_t { kCpu = 1, kCuda = 2 };

struct Device {
  std::int32_t type;
  std::int32_t index;
};

enum TypeCode : std::uint8_t { kInt = 0, kUnsigned = 1, kFloat = 2, kBFloat = 4 };

struct DataType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  DataType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements
  std::uint64_t byte_offset;
};

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

// The table that a tensor class carries in its attribute `__dlpack_c_exchange_api__`, a capsule
// named "dlpack_exchange_api". Only tensor_from_python is called here; it borrows, and returns 0 or
// -1 with a Python error set.
struct ExchangeTable {
  Version version;
  ExchangeTable* previous;
  void (*allocate)();
  void (*managed_from_python)();
  void (*managed_to_python)();
  int (*tensor_from_python)(void* object, Tensor* out);
  void (*current_stream)();
};

inline constexpr const char* kCapsuleName = "dlpack_exchange_api";
inline constexpr std::uint32_t kSupportedMajorVersion = 1;

}  // namespace efficientad::dlpack
