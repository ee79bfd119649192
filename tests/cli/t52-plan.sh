# Plans: models, batch sizes, seeds, exclusions; errors with their line and the nearest key; a budget and a stop rule; calibration.
# tests/unit/test_run.c has windows on a counter.  Needs no download.  $JPT is the program.
set -u
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export JPT_HOME=$dir/home
fail() { echo "FAIL: $*"; exit 1; }
for i in 0 1 2; do echo "{\"prompt\":\"tell me $i\",\"reference\":\"x\"}"; done >ask.jsonl
cp "$model" other.gguf
cat >plan.yaml <<Y
name: small
models: [$model, other.gguf]
tasks: [ask.jsonl]
strategies: [greedy, sample, "beam:num_beams={2,3}"]
seeds: [3, 9]
blocks: 2
batch_sizes: [1, 2]
max_new_tokens: 6
exclude:
  - {strategy: "beam*", batch_size: 2}
  - {model: other, strategy: sample}
Y
"$JPT" bench plan.yaml --meter none --dry-run >dry || fail "dry run"
grep -q "2 blocks: 10 cells, 72 requests" dry || fail "dry run: $(cat dry)"
"$JPT" bench plan.yaml --meter model -o a.db -q || fail "bench of a plan"
python3 - <<'P' || fail "rows of a plan"
import sqlite3
c = sqlite3.connect("a.db")
cells = c.execute("select m.name, cell.spec, batch, seeds, count(*) from cell join model m on m.id=cell.model join request r on r.cell=cell.id group by cell.id").fetchall()
assert len(cells) == 2 * 4 + 2 * 2 - 2, cells
for name, spec, batch, seeds, n in cells:
    assert not (spec.startswith("beam") and batch == 2) and not (name == "other" and spec.startswith("sample")), (name, spec, batch)
    assert (seeds, n) == (("3,9", 12) if spec.startswith("sample") else ("3", 6)), (spec, seeds, n)
assert {r[0] for r in c.execute("select seed from request r join cell on cell.id=r.cell where spec like 'sample%'")} == {3, 9, 10, 16}
# texts depend neither on the batch nor on the copy of the model
texts = {}
for spec, block, item, seed, ids in c.execute("select spec, block, item_index, seed, token_ids_json from request r join cell on cell.id=r.cell"):
    assert texts.setdefault((spec, block, item, seed), ids) == ids
assert c.execute("select blocks, n_cells, n_requests from plan").fetchall() == [(2, 10, 72)]
# books: of a window, and of its requests
for w, e, parts, share, n in c.execute("""select w.id, w.energy_j, prefill_energy_j+decode_energy_j+draft_energy_j+verify_energy_j+select_energy_j+kv_energy_j+host_energy_j+residual_energy_j,
        (select sum(energy_j) from request where window=w.id), n_requests from window w"""):
    assert abs(e - parts) < 1e-9 and abs(e - share) < 1e-9 and n >= 1
assert c.execute("select count(*) from request where abs(kept_energy_j+rejected_energy_j+pruned_energy_j+past_stop_energy_j-energy_j) > 1e-9").fetchone()[0] == 0
assert c.execute("select min(pruned_energy_j) > 0 from request r join cell on cell.id=r.cell where spec like 'beam%'").fetchone()[0] == 1
P
"$JPT" audit a.db >audit || fail "audit: $(cat audit)"
# scores are taken again from the texts: of the texts, and of the cells with their intervals; a task that is not here is told
grep -q "texts of task ask are not scored again" audit || fail "not told: $(cat audit)"
"$JPT" bench -m "$model" -t demo-translation -s greedy -s sample --limit 3 -n 8 --meter model -o scored.db -q || fail "bench of a task"
"$JPT" audit scored.db >audit || fail "audit: $(cat audit)"
grep -q "a text's scores are those of the text *holds, [1-9]" audit && grep -q "a cell's scores and intervals are those of its texts *holds, [1-9]" audit || fail "not scored again: $(cat audit)"
# a NUL in a text cuts nothing off: token 0 of the tiny model is one
"$JPT" bench -m "$model" -t demo-translation -s greedy:logit_bias=0:30 --limit 2 -n 5 --meter model -o nul.db -q && "$JPT" audit nul.db >audit || fail "a NUL: $(cat audit)"
[ "$(python3 -c 'import sqlite3; print(sqlite3.connect("nul.db").execute("select text from request").fetchone()[0])')" = "�����" ] || fail "a NUL is not kept"
for change in "update cell_score set value=value+1, ci_low=ci_low+1, ci_high=ci_high+1 where metric='chrf' and cell=2" "update cell_score set ci_high=ci_high+1 where metric='chrf' and cell=1" \
    "update score set value=value+1 where metric='chrf' and request=5"; do
    cp scored.db touched.db
    python3 -c "import sqlite3, sys; c = sqlite3.connect('touched.db'); assert c.execute(sys.argv[1]).rowcount > 0; c.commit()" "$change" || fail "$change"
    "$JPT" audit touched.db >audit && fail "not found: $change"
    grep -q "FAILED a .* scores .*: chrf is" audit || fail "not named: $change: $(cat audit)"
done
refuse() { # SED TEXT
    sed "$1" plan.yaml >bad.yaml
    "$JPT" bench bad.yaml --meter none -o x.db >out 2>&1
    [ $? -ne 0 ] && grep -qF -- "$2" out && [ "$(wc -l <out)" = 1 ] && [ ! -e x.db ] || fail "$1: $(cat out)"
}
refuse 's/^blocks/bloks/' "bad.yaml: line 6: unknown key 'bloks'; did you mean 'blocks'?"
refuse 's/batch_size: 2/batch: 2/' "line 10: unknown key 'batch'; did you mean 'batch_size"
refuse 's/greedy/gredy/' "line 4: unknown strategy 'gredy'; did you mean 'greedy'?"
refuse 's/^blocks: 2/blocks: -2/' "line 6: blocks: -2, expected none below 0"
refuse 's/^blocks: 2/blocks: two/' "line 6: blocks: 'two', expected a whole number"
refuse 's/^blocks: 2/blocks: 1e1/' "line 6: blocks: '1e1', expected a whole number"
refuse 's/^blocks: 2/blocks: 010/' "expected a whole number"
refuse 's/^blocks: 2/blocks: 1000000/' "line 6: blocks: 1000000, expected at most 100000"
refuse 's/^blocks: 2/budget: {hours: 3h}/' "line 6: hours: '3h', expected a number"
refuse 's/^blocks: 2/budget: {hours: 0}/' "line 6: budget: expected joules or hours above 0"
refuse 's/^seeds: .*/seeds: [3, -9]/' "line 5: seeds: '-9', expected none below 0"
refuse 's/^models: .*//' "expected either model or models"
refuse 's/^blocks: 2/windows: {seconds: 1}/' "line 6: seconds: 1, but a window shorter than 2 s tells nothing"
refuse 's/^blocks: 2/stop: {compare: [greedy, sample:temperature=3], width: 0.1}/' "is none of the strategies"
refuse 's/^blocks: 2/stop: {compare: [greedy, sample], width: 10}/' "expected a share between 0 and 1"

"$JPT" bench plan.yaml -t ask.jsonl,ask.jsonl --meter none -o x.db >out 2>&1 && fail "a task twice"
grep -q "task 'ask' stands twice" out || fail "a task twice: $(cat out)"
sed 's/{model: other, strategy: sample}/{model: others}/' plan.yaml >bad.yaml
"$JPT" bench bad.yaml --meter none --dry-run >out 2>&1 && fail "an exclusion of nothing"
grep -q "exclusion 2 ('others') matches no cell; a model is called" out || fail "an exclusion of nothing: $(cat out)"

# a budget: whole blocks, and a larger one goes on
one() { "$JPT" bench -m "$model" -t ask.jsonl -s greedy -s sample -n 6 --meter model -o b.db --blocks 200 "$@"; }
one --max-joules-total 0.3 2>log || fail "budget: $(cat log)"
grep -q "budget is spent after" log || fail "budget: $(cat log)"
spent=$(python3 -c 'import sqlite3; print(sqlite3.connect("b.db").execute("select sum(energy_j) < 0.45, count(*) % 6, count(*) from request").fetchone())')
case $spent in "(1, 0, "*) ;; *) fail "a budget of 0.3 J: $spent" ;; esac

# a stop rule on a difference that is plain: a few blocks do
sed 's/^blocks: 2/blocks: 2\nstop: {compare: [greedy, "beam:num_beams=3"], width: 0.95, blocks: 40}/; s/^models.*/model: other.gguf/' plan.yaml >stop.yaml
"$JPT" bench stop.yaml --meter model -o s.db 2>log || fail "stop: $(cat log)"
grep -q "beam:num_beams=3 against greedy: +" log || fail "stop: $(cat log)"
python3 - <<'P' || fail "looks"
import sqlite3
rows = sqlite3.connect("s.db").execute("select blocks, ci_high - ci_low, wanted_width, decision from look").fetchall()
assert [r[0] for r in rows] == list(range(1, len(rows) + 1)), rows
for n, width, wanted, decision in rows[:-1]:
    assert decision == "go on" and (width is None or width >= wanted or n < 2), rows
assert rows[-1][3] == "narrow enough" and rows[-1][1] < 0.95 or len(rows) == 40, rows
P

# calibration: kept, found again, a floor for each cell
"$JPT" calibrate -m "$model" --meter model --seconds 14 --json >cal.json || fail "calibrate"
python3 -c 'import json; c = json.load(open("cal.json")); assert c["modelled"] and c["idle_w"] is None and c["launch_w"] > 0 and c["bytes_per_s"] > 0' || fail "calibration: $(cat cal.json)"
[ "$(wc -l <home/calibration.jsonl)" = 1 ] || fail "calibration is not kept"
# a fit that explains too little is told of, and gives no floor
sed -E 's/"residual": ?[0-9.e-]+/"residual": 0.3/' home/calibration.jsonl >poor.jsonl && mv poor.jsonl home/calibration.jsonl
"$JPT" bench -m "$model" -t ask.jsonl -s greedy -n 4 --meter model -o poor.db 2>log || fail "bench with a poor fit"
grep -q "leaves 30 % of the joules unexplained: no cell gets a floor" log || fail "a poor fit is not told of: $(cat log)"
"$JPT" calibrate -m "$model" --meter none 2>log && fail "calibrated without a meter"
grep -q "no meter to calibrate with" log || fail "calibrate: $(cat log)"
exit 0
