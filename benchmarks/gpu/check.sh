#!/usr/bin/env bash
# Checks that Precis compiles for CUDA on a machine without a GPU or the CUDA toolkit. NVIDIA's compiler and headers come
# from PyPI, into .local/cuda (or PRECIS_CUDA_DIR). Compiles candle's kernels; links and runs nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=${PRECIS_CUDA_DIR:-.local/cuda}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ ! -x "$dir/venv/bin/python" ]; then
    python3 -m venv "$dir/venv"
    "$dir/venv/bin/pip" install --quiet nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 \
        nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-curand
fi
root=$("$dir/venv/bin/python" -c 'import nvidia.cu13 as n; print(list(n.__path__)[0])')
export CUDA_HOME=$root CUDA_PATH=$root CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80} PATH=$root/bin:$PATH
export CARGO_TARGET_DIR=$dir/target
cargo check --locked -p precis-worker --features cuda
