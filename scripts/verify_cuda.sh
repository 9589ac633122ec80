#!/usr/bin/env bash
# On a machine with a CUDA GPU: build, run the tests, check the kernel tests with compute-sanitizer, and run the
# benchmarks. One command, some ten minutes; the short table comes last. Needs Python 3.11 or newer with
# torch for CUDA, the project's other requirements and those of its extra [test], the build tools (scikit-build-core,
# pybind11, cmake, ninja), the CUDA toolkit with compute-sanitizer, and nothing from a network.
#
# Usage: scripts/verify_cuda.sh [folder for logs, default build/verify_cuda]
set -uo pipefail
cd "$(dirname "$0")/.."
logs=$(realpath -m "${1:-build/verify_cuda}")
mkdir -p "$logs"
export OMP_WAIT_POLICY=passive
summary=()

step() {
  local name=$1 started=$SECONDS status=0 verdict
  shift
  "$@" >"$logs/$name.log" 2>&1 || status=$?
  case $status in
    0) verdict=ok ;;
    124) verdict="TOO LONG" ;; # says timeout
    *) verdict=FAILED ;;
  esac
  summary+=("$(printf '%-24s %-8s %4s s' "$name" "$verdict" $((SECONDS - started)))")
  if [ "$status" -ne 0 ]; then
    summary[-1]+="  see $logs/$name.log"
    failed=1
    tail -n 25 "$logs/$name.log"
  fi
}
failed=0

# Machine code for this GPU alone: the whole list is CI's business.
architecture=$(python3 -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || exit 1
if [ "$architecture" = 90 ]; then architecture=90a; fi

step build python3 -m pip install --no-build-isolation --no-deps --no-index --force-reinstall . \
  --target "$logs/site" --upgrade \
  -C cmake.define.EFFICIENTAD_CUDA=ON \
  -C cmake.define.EFFICIENTAD_CUDA_ARCHITECTURES="$architecture-real"
export PYTHONPATH="$logs/site"

kernel_tests=(tests/test_conv_relu_pool.py tests/test_hard_feature_loss.py
  tests/test_image_convolution.py tests/test_linear.py tests/test_normalize_and_combine.py
  tests/test_quantiles.py tests/test_relu_pool.py tests/test_resize_normalize.py
  tests/test_segment_convolution.py tests/test_squared_difference_map.py
  tests/test_upsample_bilinear.py tests/test_window_means.py)
pytest=(python3 -P -m pytest -q -p no:cacheprovider)
step tests "${pytest[@]}" "${kernel_tests[@]}" tests/test_plan.py tests/test_engine.py \
  tests/test_detector.py -k "cuda"
step binary "${pytest[@]}" tests/test_cuda_binary.py

# Every twentieth case, of the project's own kernels: the sanitizer is slow, and the same code runs for the others. Calls
# of the CUDA API that fail are none of memcheck's business: torch asks for what a driver may not have.
mapfile -t sample < <("${pytest[@]}" --collect-only "${kernel_tests[@]}" -k cuda | grep :: | awk 'NR % 20 == 1')
sanitize() {
  timeout 150 compute-sanitizer "$@" --kernel-regex kns=efficientad --error-exitcode 1 \
    "${pytest[@]}" "${sample[@]}" --maxfail=1
}
step memcheck sanitize --tool memcheck --report-api-errors no
step racecheck sanitize --tool racecheck

step benchmarks "${pytest[@]}" benchmarks -k cuda --benchmark-disable-gc \
  --benchmark-columns=median,iqr,rounds
grep -E '^cuda ' "$logs/benchmarks.log"

name=$(python3 -c 'import torch; print(torch.cuda.get_device_name().lower().replace(" ", "-"))')
step bandwidth python3 benchmarks/cuda_bandwidth.py --output "benchmarks/results/$name-bandwidth.json"
step engine python3 benchmarks/cuda_engine.py --without-compile --output "benchmarks/results/$name-engine.json"
# torch.compile tries what it generates for minutes.
step compiled timeout 240 python3 benchmarks/cuda_engine.py --output "benchmarks/results/$name-compiled-engine.json"
cat "$logs/bandwidth.log" "$logs/engine.log" "$logs/compiled.log"

python3 -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
printf '%s\n' "${summary[@]}"
exit "$failed"
