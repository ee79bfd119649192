#!/usr/bin/env bash
# Decode and prefill speed of one model at batch 1, seven runs each, with the machine's description.  Absolute times vary
# between machines and hours: compare with a peer or the previous commit in the same run.
#   bench/decode.sh [MODEL] [JPT]        default smollm2-135m, build/jpt
set -euo pipefail
model=${1:-smollm2-135m} jpt=${2:-build/jpt}
echo "date    $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo "machine $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(nproc) processors; $(grep -o -w -m1 -e avx512f /proc/cpuinfo || grep -o -w -m1 -e avx2 /proc/cpuinfo || echo 'no avx2')"
echo "command bench/decode.sh $model"
prompt=$(printf 'The quick brown fox jumps over the lazy dog near the old river bank. %.0s' {1..32})
one() { "$jpt" generate -m "$model" -s greedy --ignore-eos --meter none --json -q "$@" 2>/dev/null; }
for run in 1 2 3 4 5 6 7; do
    one -p "Once upon a time" -n 128
    one -p "$prompt" -n 1
done | python3 -c '
import json, statistics, sys
decode, prefill, text = [], [], sys.stdin.read()
at, n = 0, 0
decoder = json.JSONDecoder()
while text[at:].strip():
    at += len(text[at:]) - len(text[at:].lstrip())
    j, end = decoder.raw_decode(text, at)
    at = end
    if j["output_tokens"] == 1:
        n = j["prompt_tokens"]
        prefill.append(n / j["prefill_s"])
    else:
        decode.append((j["output_tokens"] - 1) / j["decode_s"])
        backend = j["backend"]
line = lambda what, v: print("%-28s median %.1f tok/s  (min %.1f, max %.1f, %d runs)" % (what, statistics.median(v), min(v), max(v), len(v)))
print("engine ", backend)
line("decode, 128 tokens", decode)
line("prefill, %d tokens" % n, prefill)'
