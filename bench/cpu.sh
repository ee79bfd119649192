#!/usr/bin/env bash
# CPU decoding against llama.cpp, each target of the CPU back-end as a ratio from interleaved rounds of one run.
#   bench/cpu.sh [MODEL.gguf] [-- options of bench/cpu.py]
# PYTHON      an interpreter with llama-cpp-python (compiled for this machine), gguf and numpy; default python3
# BENCH_DIR   where the models it makes are kept; default $XDG_CACHE_HOME/jpt/bench (2 GB, 1 GB more while they are made)
# BUILD       build folder; default build
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} build=${BUILD:-build} dir=${BENCH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/jpt/bench}
model=${JPT_MODEL:-$HOME/.cache/jpt/models/smollm2-135m.gguf}
if [ $# -gt 0 ] && [ "$1" != -- ]; then model=$1; shift; fi
[ "${1:-}" != -- ] || shift
[ -f "$model" ] || { echo "bench/cpu.sh: no model $model; get one with: jpt pull smollm2-135m" >&2; exit 1; }
"$python" -c 'import llama_cpp, gguf, numpy' || { echo "bench/cpu.sh: $python lacks llama-cpp-python, gguf or numpy; set PYTHON" >&2; exit 1; }
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build" --target jpt-cli bench-step >/dev/null
"$python" bench/make_model.py "$model" "$dir"
"$python" bench/cpu.py --build "$build" --model "$model" --dir "$dir" "$@"
