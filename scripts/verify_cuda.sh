#!/usr/bin/env bash
# On a machine with a CUDA GPU: build, run the tests, check the kernel tests with compute-sanitizer, and run the
# benchmarks. One command, under ten minutes; the short table comes last. Needs python3 with torch for CUDA and
# the build tools (scikit-build-core, pybind11, cmake, ninja), and nothing from a network.
#
# Usage: scripts/verify_cuda.sh [folder for logs, default build/verify_cuda]
set -uo pipefail
cd "$(dirname "$0")/.."
logs=$(realpath -m "${1:-build/verify_cuda}")
mkdir -p "$logs"
export OMP_WAIT_POLICY=passive
summary=()

step() {
  local name=$1 started=$SECONDS
  shift
  if "$@" >"$logs/$name.log" 2>&1; then
    summary+=("$(printf '%-24s ok     %4s s' "$name" $((SECONDS - started)))")
  else
    summary+=("$(printf '%-24s FAILED %4s s  see %s' "$name" $((SECONDS - started)) "$logs/$name.log")")
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

# A few cases of every kernel: the sanitizer is slow, and the same code runs for the others.
sample="cuda and (matches_reference or gradient_matches or many_elements) and (float32 or float16)"
for tool in memcheck racecheck; do
  step "$tool" timeout 150 compute-sanitizer --tool "$tool" --error-exitcode 1 \
    "${pytest[@]}" "${kernel_tests[@]}" -k "$sample" --maxfail=1
done

step benchmarks "${pytest[@]}" benchmarks -k cuda --benchmark-disable-gc \
  --benchmark-columns=median,iqr,rounds
grep -E '^cuda ' "$logs/benchmarks.log"

name=$(python3 -c 'import torch; print(torch.cuda.get_device_name().lower().replace(" ", "-"))')
step bandwidth python3 benchmarks/cuda_bandwidth.py --output "benchmarks/results/$name-bandwidth.json"
step engine python3 benchmarks/cuda_engine.py --output "benchmarks/results/$name-engine.json"
cat "$logs/bandwidth.log" "$logs/engine.log"

python3 -c 'import torch; print(torch.cuda.get_device_name(), "torch", torch.__version__)'
printf '%s\n' "${summary[@]}"
exit "$failed"
