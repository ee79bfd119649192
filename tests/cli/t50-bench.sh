# generate and bench on the default model: sensible answer, JSON, resume after kill gives the same rows, Ctrl-C keeps what is
# finished, one writer, foreign database.  Needs JPT_MODEL.
set -u
[ -n "${JPT_MODEL:-}" ] || { echo "skipped: JPT_MODEL is not set"; exit 77; }
fail() { echo "FAIL: $*"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
answer=$("$JPT" generate -m "$JPT_MODEL" --chat -p "What is the capital of France?" -s greedy -q) || fail "generate"
grep -q Paris <<<"$answer" || fail "capital of France: $answer"
"$JPT" generate -m "$JPT_MODEL" --chat -p "What is the capital of France?" -s greedy --json >"$dir/g.json" || fail "generate --json"
python3 - "$dir/g.json" <<'PY' || fail "JSON: $(cat "$dir/g.json")"
import json, sys
j = json.load(open(sys.argv[1]))
w, e = j["work"], j["energy"]
assert "Paris" in j["text"] and len(j["tokens"]) == j["output_tokens"] and j["stop_reason"] == "eos"
assert w["positions_computed"] == j["prompt_tokens"] + j["output_tokens"] - 1 and w["forwards"] == j["output_tokens"]
assert e["energy_j"] > 0 and e["energy_source"] and abs(sum(v for v in e["phases"].values()) - e["energy_j"]) < 1e-6
PY
"$JPT" generate -m "$JPT_MODEL" -p x --require-energy --meter model -n 2 >/dev/null 2>&1; [ $? -eq 3 ] || fail "--require-energy"
"$JPT" generate -m "$JPT_MODEL" -p "$(printf 'word %.0s' {1..400})" --ctx 64 >/dev/null 2>"$dir/e" && fail "long prompt"
grep -q "the context holds 64" "$dir/e" || fail "long prompt: $(cat "$dir/e")"

bench() { "$JPT" bench -m "$JPT_MODEL" -t demo-math,demo-open -s greedy -s 'sample:temperature={0.7,1.0}' -s 'top-p:top_p={0.8,0.95}' --limit 3 -n 12 --seed 3 -o "$1" 2>"$dir/log"; }
rows() { "$JPT" report "$1" -o "$1.out" --format csv >/dev/null 2>"$dir/log" || fail "report: $(cat "$dir/log")"
    python3 - "$1.out/requests.csv" <<'PY'
import csv, sys
csv.field_size_limit(10**7)
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
keys = [k for k in rows[0] if k in ("task", "spec", "strategy", "block", "item_index", "seed", "text", "token_ids_json", "output_tokens", "stop_reason", "prompt_tokens")]
assert len(rows) == 30 and "text" in keys, (len(rows), list(rows[0]))
print("\n".join(sorted(repr([r[k] for k in keys]) for r in rows)))
PY
}
bench "$dir/whole.db" || fail "bench: $(cat "$dir/log")"
bench "$dir/killed.db" &
pid=$!
sleep 1.2
child=$(pgrep -P $pid -f "jpt bench" | head -1)
kill -9 ${child:-$pid} 2>/dev/null
wait $pid 2>/dev/null
bench "$dir/killed.db" || fail "resume: $(cat "$dir/log")"
rows "$dir/whole.db" >"$dir/a" || fail "rows"
rows "$dir/killed.db" >"$dir/b" || fail "rows"
cmp -s "$dir/a" "$dir/b" || fail "a killed and resumed bench gives other rows: $(diff "$dir/a" "$dir/b" | head -5)"
bench "$dir/killed.db"
grep -q "30 of 30 requests, 30 of them from an earlier run" "$dir/log" || fail "resume ran again: $(cat "$dir/log")"

# Ctrl-C
"$JPT" bench -m "$JPT_MODEL" -t demo-open -s sample --limit 12 -o "$dir/int.db" 2>"$dir/log" &
pid=$!
sleep 1
kill -INT $pid
wait $pid; [ $? -eq 130 ] || fail "Ctrl-C: $(cat "$dir/log")"
grep -q "what is finished is kept" "$dir/log" || fail "Ctrl-C: $(cat "$dir/log")"

# two processes
"$JPT" bench -m "$JPT_MODEL" -t demo-open -s sample --limit 12 -o "$dir/two.db" 2>/dev/null &
pid=$!
sleep 0.7
"$JPT" bench -m "$JPT_MODEL" -t demo-open -s sample --limit 1 -o "$dir/two.db" 2>"$dir/log" && fail "a second writer"
grep -q "two.db" "$dir/log" || fail "second writer: $(cat "$dir/log")"
kill -INT $pid
wait $pid
echo "not a database, but long enough to look like something else entirely" >"$dir/x.db"
"$JPT" bench -m "$JPT_MODEL" -t demo-open -s greedy --limit 1 -o "$dir/x.db" 2>"$dir/log" && fail "foreign file"
grep -q "x.db" "$dir/log" || fail "foreign file: $(cat "$dir/log")"
head -c 50000000 "$JPT_MODEL" >"$dir/cut.gguf"
"$JPT" inspect "$dir/cut.gguf" 2>"$dir/log" && fail "truncated model"
grep -q "download may be incomplete" "$dir/log" || fail "truncated model: $(cat "$dir/log")"
exit 0
