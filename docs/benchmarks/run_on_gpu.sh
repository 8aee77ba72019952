#!/usr/bin/env bash
# Tests and times eseg_ros on this machine's NVIDIA GPU, and writes the results to docs/benchmarks/gpu/.
#
#   docs/benchmarks/run_on_gpu.sh [FOLDER]     FOLDER: for the results, docs/benchmarks/gpu by default
#
# Needs the NVIDIA driver, Python 3.10 or newer, g++ (it builds the kernels' reference), and PyTorch for CUDA. Everything
# else is installed, only where it is missing, into .venv-gpu, which sees the packages of the Python that makes it.
# TensorRT is used if it is installed. Without an index, give pip a folder of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=...
#
#   PYTHON    the Python that has PyTorch, python3 by default
#   SOAK      frames of the soak test, 10000 by default
#   REPEAT    rounds of the benchmark, 20 by default
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
results=${1:-docs/benchmarks/gpu}
bin=.venv-gpu/bin

if [ ! -x "$bin/python" ]; then
    "$python" -m venv --system-site-packages .venv-gpu
    # A Python that is itself in a virtual environment does not hand its packages on by the option above.
    "$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
        >"$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/packages_of_its_maker.pth"
fi

# install MODULE REQUIREMENT: unless it can be imported.
install() {
    "$bin/python" -c "import $1" 2>/dev/null || "$bin/python" -m pip install --quiet "$2"
}
install numpy 'numpy>=1.21'
install cv2 'opencv-python-headless>=4.5.4,<5'
install tqdm 'tqdm>=4.57'
install onnx 'onnx>=1.16'
install onnxruntime 'onnxruntime>=1.17'
install pytest 'pytest>=8'
install cuda.bindings.driver cuda-bindings
if ! install pycuda.driver pycuda; then
    echo "pycuda could not be built here (it needs nvcc in PATH and g++); cuda-bindings alone is tested and timed" >&2
fi
"$bin/python" -c 'import torch; assert torch.cuda.is_available()' ||
    echo "this Python has no PyTorch for CUDA; what needs it is left out" >&2

mkdir -p "$results"
if command -v nvidia-smi >/dev/null; then
    nvidia-smi -q >"$results/nvidia-smi.txt" || true
fi
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
status=0

echo "== tests"
"$bin/python" -m pytest test/gpu --soak-frames "${SOAK:-10000}" --results "$results/tests.json" || status=1

# bench NAME OPTION...
bench() {
    local name=$1
    shift
    echo "== bench $name"
    "$bin/python" -m eseg_ros.cli bench --gpu --repeat "${REPEAT:-20}" --json "$results/$name.json" "$@" || status=1
}
if "$bin/python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    peers=(eseg_lite_m eseg_lite_l fast_scnn mfaranet)
    bench torch_block --network torch --engine engines/eseg_lite_s_street.json --model "${peers[@]}"
    bench torch_spin --network torch --engine engines/eseg_lite_s_street.json --wait spin
    bench torch_1080p --network torch --engine engines/eseg_lite_s_street.json --camera 1920x1080
fi
if "$bin/python" -c 'import tensorrt' 2>/dev/null; then
    bench tensorrt --engine engines/eseg_lite_s_street.json
    bench tensorrt_480x360 --engine engines/*.json --size 480x360
fi
echo "results: $results"
exit $status
