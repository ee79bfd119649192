#!/usr/bin/env bash
# On a machine with an NVIDIA card: builds jpt (or takes $JPT_BIN, a folder with jpt's programs), checks the CUDA back-end against the
# plain C one and against transformers' texts, then times and meters decoding beside the card's ceilings and Hugging Face transformers.
# One JSON object a line goes to bench/results/<card>.jsonl (or $OUT); the table that the results are judged by is printed last.
#   SECONDS_A_WINDOW=10   joules by NVML's counter over windows of this length
#   JPT_BENCH_DIR=/tmp    where random-weight models are made (16 + 9 + 5 + 3 + 0.3 GB)
#   PYTHON=python3        with numpy; the peers need torch, transformers and nvidia-ml-py too
#   SAMPLERS=only         instead of all that: the tests of selection, and every sampler (but guidance, which is two rows) beside greedy (<card>-samplers.jsonl), six minutes; PEERS=0: no peers
#   LLAMA_BENCH=...       llama.cpp's llama-bench, to be timed and metered beside (the peers' Python packages, too)
#   JPT_MODEL=...         a model for the checks of whole models, else smollm2-135m.gguf in jpt's cache for test_cuda_model
set -euo pipefail
cd "$(dirname "$0")/.."
case ${SAMPLERS:-} in '') only= ;; only) only=-samplers ;; *) echo "bench/gpu.sh: SAMPLERS=$SAMPLERS: only, or nothing" >&2; exit 2 ;; esac
command -v nvidia-smi >/dev/null || { echo "bench/gpu.sh: no nvidia-smi here: this needs a machine with an NVIDIA card and its driver" >&2; exit 1; }
python=${PYTHON:-python3} dir=${JPT_BENCH_DIR:-/tmp} seconds=${SECONDS_A_WINDOW:-10}
bin=${JPT_BIN:-}
if [ -z "$bin" ]; then
    tools/setup check
    cmake -S . -B build-gpu -G Ninja -DCMAKE_BUILD_TYPE=Release >/dev/null
    ninja -C build-gpu
    bin=build-gpu
    mkdir -p build-gpu/bin && cp -u build-gpu/jpt build-gpu/bench-window build-gpu/tests/test_cuda_ops build-gpu/tests/test_cuda_choose build-gpu/tests/test_cuda_prefill build-gpu/tests/test_cuda_model build-gpu/tests/test_decode_golden build-gpu/bin/
    bin=build-gpu/bin
fi
card=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1 | tr ' ' '-')
out=${OUT:-bench/results}/$card$only.jsonl
export JPT_DEVICE=cuda JPT_BENCH_DIR=$dir
mkdir -p "$(dirname "$out")"
"$python" - >"$out" <<P
import datetime, json, subprocess
q = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,power.limit,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
print(json.dumps({"card": q, "date": datetime.date.today().isoformat(), "command": "${only:+SAMPLERS=only }bench/gpu.sh", "seconds_a_window": $seconds}))
P
models=(8b:bf16 8b:q8_0 8b:q4_0 1.5b:bf16 135m:bf16)
[ -z "$only" ] || models=(8b:bf16)
for m in "${models[@]}"; do
    [ -f "$dir/${m%:*}-${m#*:}.gguf" ] || "$python" bench/random_model.py "${m%:*}" "${m#*:}" "$dir/${m%:*}-${m#*:}.gguf" >/dev/null &
done
check() { # a test's verdict is a line of the results; what was skipped, whole or in part, is told
    local rc=0 log=${OUT:-build-gpu}/$1.log why
    mkdir -p "${log%/*}"
    "$bin/$1" >"$log" 2>&1 || rc=$?
    why=$(grep -m1 -oE 'skipped[:,] .*' "$log" | tr -d '"\\' || true)
    echo "{\"check\": \"$1\", \"exit\": $rc${why:+, \"skipped\": \"${why#skipped? }\"}}" | tee -a "$out"
}
check test_cuda_ops
check test_cuda_choose
[ -n "$only" ] || { check test_cuda_prefill; check test_cuda_model; check test_decode_golden; }
wait
peers() { "$python" bench/gpu_peers.py "$seconds" "$@" 2>/dev/null | tee -a "$out"; }
windows() { # model, dtype, lines for bench-window
    { echo "idle 3"; printf '%s\n' "${@:3}"; } | sed "s/\$/ /; s/SECS/$seconds/" | "$bin/bench-window" "$dir/$1.gguf" "$2" | tee -a "$out"
}
one="window greedy 1 16 256 SECS"
if [ -n "$only" ]; then
    lines=() n=0 # greedy before, between and after
    for s in sample:temperature=0.8 top-k:top_k=50 top-p:top_p=0.9 typical:typical_p=0.9 min-p:min_p=0.05 epsilon:epsilon_cutoff=0.0003 eta:eta_cutoff=0.0003 top-h top-n-sigma top-a p-less xtc dry dynatemp smoothing \
        mirostat mirostat-v2 adaptive-p guard guard:window=64; do
        ((n++ % 6 != 0)) || lines+=("$one")
        lines+=("window $s 1 16 256 SECS")
    done
    windows 8b-bf16 auto "${lines[@]}" "$one"
    "$python" bench/gpu_table.py "$out"
    exit
fi
peers copy gemv-8b
windows 8b-bf16 auto "$one" "window greedy 16 16 128 SECS" "window greedy 64 16 128 SECS" "forward 2048 3" \
    "window sample:temperature=0.8 1 16 256 SECS" "window top-k:top_k=50 1 16 256 SECS" "window top-p:top_p=0.9 1 16 256 SECS" "window typical:typical_p=0.9 1 16 256 SECS" \
    "window greedy 1 1024 128 SECS" "window beam:num_beams=4 1 1024 128 SECS" "window beam:num_beams=10 1 1024 128 SECS" "window diverse-beam:num_beams=4,num_beam_groups=2 1 1024 128 SECS" \
    "window contrastive:penalty_alpha=0.6,top_k=5 1 1024 128 SECS" "window contrastive:penalty_alpha=0.6,top_k=25 1 1024 128 SECS" "window dola:dola_layers=high 1 1024 128 SECS"
windows 8b-q8_0 auto "$one"
windows 8b-q4_0 auto "$one"
peers gemv-1.5b
windows 1.5b-bf16 auto "$one"
peers gemv-135m
windows 135m-bf16 auto "$one"
[ "${PEERS:-1}" = 0 ] || peers hf-8b hf-135m hf-8b-compiled hf-1.5b hf-1.5b-compiled hf-135m-compiled
[ -z "${LLAMA_BENCH:-}" ] || peers llama-8b-bf16 llama-8b-q8_0 llama-8b-q4_0 llama-1.5b-bf16 llama-135m-bf16
"$python" bench/gpu_table.py "$out"
