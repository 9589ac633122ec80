# The CUDA sources compiled as host code against csrc/emulation.

foreach(source IN LISTS cuda_sources cuda_sm90_sources)
  file(RELATIVE_PATH source ${CMAKE_SOURCE_DIR}/csrc ${CMAKE_SOURCE_DIR}/${source})
  set(unit ${CMAKE_BINARY_DIR}/emulated/${source}.cpp)
  file(CONFIGURE OUTPUT ${unit} CONTENT "#include \"${source}\"\n")
  list(APPEND emulated_sources ${unit})
endforeach()

pybind11_add_module(_emulation MODULE NO_EXTRAS
  csrc/bindings/emulation_module.cpp
  csrc/emulation/block.cpp
  csrc/emulation/clocks.cpp
  csrc/emulation/fault.cpp
  csrc/emulation/fiber.cpp
  csrc/emulation/history.cpp
  csrc/emulation/launch.cpp
  csrc/emulation/matrices.cpp
  csrc/emulation/operands.cpp
  csrc/emulation/scheduler.cpp
  csrc/emulation/self_test/launches.cpp
  csrc/emulation/self_test/matrices.cpp
  csrc/emulation/self_test/messages.cpp
  csrc/emulation/self_test/self_test.cpp
  csrc/emulation/self_test/threads.cpp
  csrc/emulation/self_test/tiles.cpp
  csrc/emulation/tensor_copies.cpp
  csrc/emulation/transaction_barriers.cpp
  csrc/emulation/warpgroup.cpp
  ${emulated_sources})
target_link_libraries(_emulation PRIVATE bindings cpu_backend)
target_compile_definitions(_emulation PRIVATE EFFICIENTAD_EMULATION EFFICIENTAD_SM90)
# Loops are unrolled for a GPU's registers, by pragmas that only nvcc knows.
target_compile_options(_emulation PRIVATE -O3 -Wno-unknown-pragmas)

# The CPU's convolutions on emulated AMX tiles.
add_library(cpu_emulated_amx OBJECT ${cpu_convolution_sources})
target_link_libraries(cpu_emulated_amx PRIVATE efficientad_options OpenMP::OpenMP_CXX)
target_compile_options(cpu_emulated_amx PRIVATE -O2)
target_compile_definitions(cpu_emulated_amx PRIVATE
  EFFICIENTAD_INSTRUCTION_SET=emulated_amx EFFICIENTAD_TILES=2 EFFICIENTAD_EMULATED_TILES)
target_sources(_emulation PRIVATE
  csrc/emulation/amx_backend.cpp $<TARGET_OBJECTS:cpu_emulated_amx>)
