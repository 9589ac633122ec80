# Builds the CUDA kernels where a working nvcc is found, and says aloud what it did.
#
# Sets built_cuda_compiler (empty without CUDA) and built_cuda_architectures.

set(built_cuda_compiler "")
set(built_cuda_architectures "")

if(EFFICIENTAD_CUDA STREQUAL "OFF")
  message(WARNING "efficientad: building WITHOUT CUDA kernels, as asked for (EFFICIENTAD_CUDA=OFF).")
  return()
endif()

# CMake takes a broken nvcc for none at all. Compiling a kernel by hand first tells the two apart.
find_program(EFFICIENTAD_NVCC nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin
             PATHS /usr/local/cuda/bin)
set(reason "no nvcc was found")
if(EFFICIENTAD_NVCC)
  file(WRITE ${CMAKE_BINARY_DIR}/probe.cu "__global__ void probe() {}\nint main() { return 0; }\n")
  execute_process(
    COMMAND ${EFFICIENTAD_NVCC} -std=c++17 -c ${CMAKE_BINARY_DIR}/probe.cu
            -o ${CMAKE_BINARY_DIR}/probe.o
    RESULT_VARIABLE probe_result OUTPUT_VARIABLE probe_output ERROR_VARIABLE probe_output)
  if(probe_result EQUAL 0)
    set(reason "")
  else()
    set(reason "${EFFICIENTAD_NVCC} does not compile an empty kernel:\n${probe_output}")
  endif()
endif()

if(reason)
  if(EFFICIENTAD_CUDA STREQUAL "ON")
    message(FATAL_ERROR "efficientad: EFFICIENTAD_CUDA=ON, but ${reason}.")
  endif()
  message(WARNING "efficientad: building WITHOUT CUDA kernels: ${reason}.")
  return()
endif()

set(CMAKE_CUDA_COMPILER ${EFFICIENTAD_NVCC})
set(CMAKE_CUDA_ARCHITECTURES ${EFFICIENTAD_CUDA_ARCHITECTURES})
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
find_package(CUDAToolkit REQUIRED)

add_library(cuda_backend STATIC ${cuda_sources})
target_link_libraries(cuda_backend PUBLIC efficientad_options CUDA::cudart_static)
set(cuda_options
  $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --expt-relaxed-constexpr -Xcompiler=-Wall,-Wextra>)
if(EFFICIENTAD_WARNINGS_AS_ERRORS)
  list(APPEND cuda_options
    $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings -Xcompiler=-Werror>)
endif()
target_compile_options(cuda_backend PRIVATE ${cuda_options})

# The tensor map copies and warpgroup instructions of 9.0a exist in no other architecture: their
# kernels are compiled for it alone, and chosen at run time.
if("${EFFICIENTAD_CUDA_ARCHITECTURES}" MATCHES "90a")
  add_library(cuda_sm90 OBJECT ${cuda_sm90_sources})
  set_target_properties(cuda_sm90 PROPERTIES CUDA_ARCHITECTURES 90a-real)
  target_link_libraries(cuda_sm90 PRIVATE efficientad_options CUDA::cudart_static)
  target_compile_options(cuda_sm90 PRIVATE ${cuda_options})
  target_sources(cuda_backend PRIVATE $<TARGET_OBJECTS:cuda_sm90>)
  target_compile_definitions(cuda_backend PRIVATE EFFICIENTAD_SM90)
endif()

set(built_cuda_compiler "${CMAKE_CUDA_COMPILER_VERSION}")
string(REPLACE ";" " " built_cuda_architectures "${EFFICIENTAD_CUDA_ARCHITECTURES}")
message(STATUS "efficientad: building WITH CUDA kernels for ${built_cuda_architectures} "
               "(nvcc ${built_cuda_compiler}).")
