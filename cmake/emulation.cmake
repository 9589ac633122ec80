# The CUDA sources compiled as host code against csrc/emulation.

foreach(source IN LISTS cuda_sources)
  get_filename_component(stem ${source} NAME_WE)
  set(unit ${CMAKE_BINARY_DIR}/emulated/${stem}.cpp)
  file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"cuda/${stem}.cu\"\n")
  list(APPEND emulated_sources ${unit})
endforeach()

pybind11_add_module(_emulation MODULE NO_EXTRAS
  csrc/bindings/emulation_module.cpp
  csrc/emulation/block.cpp
  csrc/emulation/fault.cpp
  csrc/emulation/fiber.cpp
  csrc/emulation/launch.cpp
  csrc/emulation/self_test.cpp
  csrc/emulation/shared_memory.cpp
  ${emulated_sources})
target_link_libraries(_emulation PRIVATE bindings)
target_compile_definitions(_emulation PRIVATE EFFICIENTAD_EMULATION)
target_compile_options(_emulation PRIVATE -O2)
