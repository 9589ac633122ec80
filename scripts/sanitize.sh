#!/usr/bin/env bash
# Builds the compiled modules with AddressSanitizer and UndefinedBehaviorSanitizer and runs the tests of the kernels
# and of the plan on them: for every instruction set that this processor has, for emulated AMX, and for those kernels
# on the emulated GPU that the same tests run. Its fibers make AddressSanitizer warn of false findings; none has been
# seen. The first finding ends a run.
#
# Usage: scripts/sanitize.sh [pytest's arguments]
#   PYTHON  the interpreter, 3.11 or newer, python by default, with the project's test requirements, pybind11, cmake
#           and ninja
#   JOBS    compilers at a time, 1 by default
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(command -v "${PYTHON:-python}")
build=build/sanitize
tools=$(dirname "$python")
PATH=$tools:$PATH

mkdir -p "$build"
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DEFFICIENTAD_SANITIZE=ON -DEFFICIENTAD_CUDA=OFF \
  -DPython_EXECUTABLE="$python" -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" > "$build/configure.log" 2>&1 \
  || { cat "$build/configure.log"; exit 1; }
cmake --build "$build" -j "${JOBS:-1}"

# The sources beside the modules that were just built, in front of any installed package.
package=$build/site/efficientad_ext
mkdir -p "$package"
cp -r efficientad_ext/*.py efficientad_ext/ops efficientad_ext/reference "$package"
ln -sf "$PWD/$build"/_C.*.so "$PWD/$build"/_emulation.*.so "$package"

# Findings go to files of this name and a number: pytest keeps what a test says, and loses it with the process.
findings=$PWD/$build/finding
rm -f "$findings".*

library() { "${CXX:-c++}" -print-file-name="$1"; }
sanitized() {
  # Memory that nobody wrote holds NaN in every floating type.
  PYTHONPATH=$build/site:python \
    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:log_path=$findings:max_malloc_fill_size=2147483647:malloc_fill_byte=255 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$findings \
    LD_PRELOAD="$(library libasan.so) $(library libstdc++.so.6)" "$python" -P "$@"
}

# Memory behind the end of a tensor that was cut short: a check that finds nothing here checks nothing.
if sanitized - <<'PYTHON'
import torch

from efficientad_ext import ops

a = torch.zeros(1, 64, 64, 64)
a.untyped_storage().resize_(64)
ops.squared_difference_map(a, a)
PYTHON
then
  echo "a planted fault was not found: is another efficientad_ext in front of the one in $package?" >&2
  exit 1
fi
grep -q "AddressSanitizer: heap-buffer-overflow" "$findings".* || { cat "$findings".* >&2; exit 1; }
rm "$findings".*

tests=(bfloat16_convolution conv_relu_pool hard_feature_loss image_conv_relu_pool image_convolution linear
  normalize_and_combine quantiles relu_pool resize_normalize segment_convolution squared_difference_map upsample_bilinear window_means
  winograd_convolution winograd_segments plan)
files=("${tests[@]/#/tests/test_}")
files=("${files[@]/%/.py}")
sanitized -m pytest -q -p no:cacheprovider -k "not emulation and not cuda" "${files[@]}" "$@" \
  || { cat "$findings".* 2> /dev/null >&2; exit 1; }
