# Usage errors: one clear line, exit 2, nearest names.  $JPT is the program.
set -u
fails=0
expect() { # STATUS TEXT COMMAND...
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    if [ $got -ne "$want" ] || ! grep -qF -- "$text" <<<"$out" || [ "$(grep -c . <<<"$out")" -gt 2 ]; then
        echo "FAIL: $* -> exit $got (want $want): $out"
        fails=$((fails + 1))
    fi
}
expect 2 "did you mean 'generate'?" "$JPT" genrate
expect 2 "give -m MODEL" "$JPT" generate -p x
expect 2 "give one prompt" "$JPT" generate -m nothing
expect 2 "did you mean 'greedy'?" "$JPT" generate -m nothing -p x -s gredy
expect 2 "did you mean 'temperature'?" "$JPT" generate -m nothing -p x -s sample:temprature=1
expect 2 "out of range" "$JPT" generate -m nothing -p x -s top-p:top_p=2
expect 2 "--threads 0" "$JPT" generate -m nothing -p x --threads 0
expect 1 "no such model file" "$JPT" generate -m /nonexistent.gguf -p x
expect 1 "did you mean 'smollm2-135m'?" env JPT_HOME=/nonexistent "$JPT" generate -m smolm2-135m -p x
expect 1 "run jpt pull smollm2-135m" env JPT_HOME=/nonexistent "$JPT" generate -m smollm2-135m -p x
expect 1 "the prompt is empty" "$JPT" generate -m nothing -p ""
expect 1 "not valid UTF-8 at byte 1" "$JPT" generate -m nothing -p $'a\xff'
expect 2 "needs -m MODEL" "$JPT" bench
expect 1 "did you mean 'demo-math'?" "$JPT" bench -m nothing -t demo-mth -s greedy -o /tmp/never.db
expect 2 "did you mean 'bleu'?" "$JPT" score blue --hyp a --ref b
expect 1 "cannot read" "$JPT" score bleu --hyp /nonexistent --ref /nonexistent
expect 1 "missing.db" "$JPT" report /tmp/missing.db
expect 2 "no command" "$JPT" meter
expect 1 "unknown meter" "$JPT" meter --meter rappl -- true
expect 2 "did you mean 'strategies'?" "$JPT" list strategis
[ "$("$JPT" --version)" = "jpt 0.1.0" ] || { echo "FAIL: --version"; fails=$((fails + 1)); }
"$JPT" --help | grep -q "jpt COMMAND" || { echo "FAIL: --help"; fails=$((fails + 1)); }
for c in generate bench calibrate report compare advise audit status score evaluate embed meter doctor inspect perplexity pull list; do
    "$JPT" $c --help >/dev/null 2>&1 || { echo "FAIL: $c --help"; fails=$((fails + 1)); }
done
"$JPT" --help >/dev/full 2>/dev/null && { echo "FAIL: a full standard output is not noticed"; fails=$((fails + 1)); }
expect 2 "did you mean 'beam'?" "$JPT" list strategies beem
"$JPT" list strategies --md | cmp -s - "$JPT_SOURCE_DIR/docs/strategies.md" || { echo "FAIL: docs/strategies.md is not what jpt list strategies --md prints"; fails=$((fails + 1)); }
for s in $("$JPT" list strategies | sed -n 's/^  \([a-z0-9-]*\) .*/\1/p'); do
    "$JPT" list strategies "$s" | grep -A1 "^    cost " | grep -q "^    device " || { echo "FAIL: list strategies $s"; fails=$((fails + 1)); }
done
[ $fails -eq 0 ]
