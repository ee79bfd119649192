#!/usr/bin/env bash
# A whole study on a tiny model: 60 configurations x 4 tasks x 3 blocks, run, reported and audited, with the time of each.
# usage: bench/study.sh [FOLDER]   ($JPT: the program, default build/jpt)
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
jpt=${JPT:-$top/build/jpt}
out=${1:-$(mktemp -d)}
mkdir -p "$out"
plan=$out/study.yaml
{
    cat <<Y
name: tiny-grid
description: 60 configurations x 4 tasks x 3 blocks on a tiny model, a test of the instrument
model: $top/tests/golden/logits_tiny_llama.gguf
tasks: [demo-translation, demo-math, demo-coding, demo-open]
blocks: 3
limit: 4
max_new_tokens: 16
ctx: 1024
Y
    sed -n '/^strategies:/,$p' "$top/plans/paper-grid.yaml"
} >"$plan"
seconds() { # WHAT COMMAND...
    local what=$1 start
    shift
    start=$(date +%s.%N)
    "$@"
    printf '%-8s %6.1f s\n' "$what" "$(echo "$(date +%s.%N) - $start" | bc)" >&2
}
export JPT_HOME=${JPT_HOME:-$out/home}
seconds bench "$jpt" bench "$plan" --meter model -o "$out/results.db" -q
seconds report "$jpt" report "$out/results.db" -o "$out/report" >/dev/null
seconds audit "$jpt" audit "$out/results.db" >"$out/audit.txt"
tail -3 "$out/audit.txt"
printf '%s requests, %s windows, report.html %s bytes\n' "$(sqlite3 "$out/results.db" 'select count(*) from request')" \
    "$(sqlite3 "$out/results.db" 'select count(*) from window')" "$(wc -c <"$out/report/report.html")"
