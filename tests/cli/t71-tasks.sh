# Tasks on public data from the command line: what is asked when the data is absent; plans of two studies; --compat; own items; each task on
# a tiny model.  The second half needs JPT_DATA.
set -u
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
data=${JPT_DATA:-}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export JPT_HOME=$dir/home JPT_TASKS=$JPT_SOURCE_DIR/tasks
unset JPT_DATA
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
refuse() { # STATUS TEXT COMMAND...: one line
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    [ $got -eq "$want" ] && grep -qF -- "$text" <<<"$out" && [ "$(grep -c . <<<"$out")" -eq 1 ] || bad "$* -> exit $got (want $want): $out"
}
"$JPT" list tasks >"$dir/list" 2>&1 || bad "list tasks without data"
grep -q "^gsm8k .*jpt pull gsm8k$" "$dir/list" || bad "list tasks does not say what to pull"
for plan in paper-grid shi2024; do
    refuse 1 "is not here" "$JPT" bench "$JPT_SOURCE_DIR/plans/$plan.yaml" -m "$model" --dry-run
    refuse 1 "jpt pull " "$JPT" bench "$JPT_SOURCE_DIR/plans/$plan.yaml" -m "$model" --dry-run
done
refuse 2 "--compat book: only 'paper' is known" "$JPT" bench -m "$model" -t demo-math -s greedy -o "$dir/x.db" --compat book
refuse 2 "leave --chat and --system away" "$JPT" generate -m "$model" -p x --chat --compat paper
refuse 1 "has no items of its own: name yours, -t summarization=FILE.jsonl" "$JPT" bench -m "$model" -t summarization -s greedy -o "$dir/x.db"
"$JPT" generate -m "$model" -p x --compat paper --ignore-eos --json -q >"$dir/g.json" || bad "generate --compat paper"
python3 -c 'import json,sys; j=json.load(open(sys.argv[1])); assert j["prompt_tokens"] + j["output_tokens"] <= 256 and j["output_tokens"] > 200, j["output_tokens"]' "$dir/g.json" ||
    bad "--compat paper: 256 tokens at most (the tiny model's context ends before)"
printf '{"document":"A long text.","reference":"Short."}\n' >"$dir/docs.jsonl"
"$JPT" bench -m "$model" -t "summarization=$dir/docs.jsonl" -s greedy -n 4 -o "$dir/own.db" -q || bad "own items"
printf 'a\nb\n' >"$dir/lines.txt"
refuse 1 'lines.txt:1: the task needs the field "document"' "$JPT" bench -m "$model" -t "summarization=$dir/lines.txt" -s greedy -o "$dir/x.db"

if [ -n "$data" ]; then
    export JPT_DATA=$data
    "$JPT" bench "$JPT_SOURCE_DIR/plans/paper-grid.yaml" -m "$model" --dry-run --limit 5 >"$dir/dry" 2>"$dir/log" || bad "paper-grid: $(cat "$dir/log")"
    grep -q "60 configurations x 6 tasks x 1 block: .*1800 requests" "$dir/dry" || bad "paper-grid: $(tail -3 "$dir/dry")"
    "$JPT" bench "$JPT_SOURCE_DIR/plans/shi2024.yaml" -m "$model" --dry-run --limit 5 >"$dir/dry" 2>"$dir/log" || bad "shi2024: $(cat "$dir/log")"
    # --compat paper takes the study's form: its name, its licence with what to cite
    "$JPT" bench -m "$model" -t wmt16-de-en -s greedy --compat paper --limit 2 -n 4 --ctx 1024 -o "$dir/paper.db" -q || bad "--compat paper"
    python3 - "$dir/paper.db" <<'PY' || bad "what a bench keeps of a task"
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
name, licence, cite = c.execute("select name, license, citation from task").fetchone()
assert name == "wmt16-de-en-paper" and licence == "WMT terms: research use" and cite.startswith("Bojar et al. 2016"), (name, licence, cite)
assert c.execute("select prompt from item where item_index = 0").fetchone()[0] == "German phrase: Obama empf\u00e4ngt Netanyahu\nEnglish phrase:"
PY
else
    echo "without JPT_DATA the public tasks are left out"
fi
[ $fails -eq 0 ]
