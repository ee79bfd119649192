# Plans: models, batch sizes, seeds, exclusions; errors with their line and the nearest key; a budget and a stop rule; windows on a counter
# (a simulated card).  Needs no download.  $JPT is the program.
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
refuse() { # SED TEXT
    sed "$1" plan.yaml >bad.yaml
    "$JPT" bench bad.yaml --meter none -o x.db >out 2>&1
    [ $? -ne 0 ] && grep -qF -- "$2" out && [ "$(wc -l <out)" = 1 ] && [ ! -e x.db ] || fail "$1: $(cat out)"
}
refuse 's/^blocks/bloks/' "bad.yaml: line 6: unknown key 'bloks'; did you mean 'blocks'?"
refuse 's/batch_size: 2/batch: 2/' "line 10: unknown key 'batch'; did you mean 'batch_size"
refuse 's/greedy/gredy/' "line 4: unknown strategy 'gredy'; did you mean 'greedy'?"
refuse 's/^blocks: 2/blocks: -2/' "line 6: blocks: -2, expected none below 0"
refuse 's/^blocks: 2/blocks: two/' "Invalid INT value: 'two'"
refuse 's/^models: .*//' "expected either model or models"
refuse 's/^blocks: 2/windows: {seconds: 1}/' "line 6: seconds: 1, but a window shorter than 2 s tells nothing"
refuse 's/^blocks: 2/stop: {compare: [greedy, sample:temperature=3], width: 0.1}/' "is none of the strategies"
refuse 's/^blocks: 2/stop: {compare: [greedy, sample], width: 10}/' "expected a share between 0 and 1"

# a budget: whole blocks, and a larger one goes on
one() { "$JPT" bench -m "$model" -t ask.jsonl -s greedy -s sample -n 6 --meter model -o b.db --blocks 50 "$@"; }
one --max-joules-total 0.6 2>log || fail "budget: $(cat log)"
grep -q "budget is spent after" log || fail "budget: $(cat log)"
spent=$(python3 -c 'import sqlite3; print(sqlite3.connect("b.db").execute("select sum(energy_j) < 0.75, count(*) % 6, count(*) from request").fetchone())')
case $spent in "(1, 0, "*) ;; *) fail "a budget of 0.6 J: $spent" ;; esac

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

# windows on a counter: filled by replication, idle between, sentinels, books closed with idle
echo "sim 100" >card
cat >counter.yaml <<Y
name: counter
model: $model
tasks: [ask.jsonl]
strategies: [greedy]
max_new_tokens: 6
windows: {seconds: 2.2, idle_seconds: 2.1, warm_up_seconds: 0.5}
Y
JPT_NVML_LIB=$JPT_FAKE_NVML_LIB JPT_FAKE_NVML=$dir/card "$JPT" bench counter.yaml --meter nvml_counter -o c.db 2>log || fail "counter: $(cat log)"
python3 - <<'P' || fail "windows on a counter"
import sqlite3
c = sqlite3.connect("c.db")
kinds = c.execute("select kind, count(*), sum(valid) from window group by kind order by kind").fetchall()
assert kinds == [("idle", 4, 4), ("requests", 1, 1), ("sentinel_after", 1, 1), ("sentinel_before", 1, 1)], kinds
for e, d, r, n, before, after, parts, res in c.execute("""select energy_j, duration_s, replications, n_requests, idle_before_w, idle_after_w, prefill_energy_j+decode_energy_j+draft_energy_j
        +verify_energy_j+select_energy_j+kv_energy_j+host_energy_j+idle_energy_j+residual_energy_j, residual_energy_j from window where kind != 'idle'"""):
    assert d >= 2.2 and r > 1 and n == 3 and abs(before - 70) < 2 and abs(after - 70) < 2 and abs(e / d - 70) < 2, (e, d, r, n, before, after)
    assert abs(parts - e) < 1e-6 and abs(res) < 0.02 * e, (e, res)
e, r, share = c.execute("select w.energy_j, replications, (select sum(energy_j) from request where window=w.id) from window w where kind='requests'").fetchone()
assert abs(e / r - share) < 1e-9
assert c.execute("select count(*) > 80 from power").fetchone()[0] == 1
assert c.execute("select count(*) from request where share_rule is null or window is null or energy_valid != 1").fetchone()[0] == 0
P
"$JPT" audit c.db >audit || fail "audit of windows: $(cat audit)"
# another process on the card: repeated twice, kept, and no request counts
printf 'sim 100\nothers 1\n' >card
JPT_NVML_LIB=$JPT_FAKE_NVML_LIB JPT_FAKE_NVML=$dir/card "$JPT" bench counter.yaml --meter nvml_counter -o o.db 2>log || fail "others: $(cat log)"
grep -q "1 other process used the card" log || fail "others: $(cat log)"
python3 - <<'P' || fail "invalid windows"
import sqlite3
c = sqlite3.connect("o.db")
assert c.execute("select attempt, valid from window where kind='requests' order by attempt").fetchall() == [(0, 0), (1, 0), (2, 0)]
assert c.execute("select count(*), sum(energy_valid) from request").fetchone() == (3, 0)
assert all("other process" in r[0] for r in c.execute("select energy_reasons from request"))
P
# the driver goes in the middle: the bench ends, no number comes of it, and the same command goes on with a driver
printf 'sim 100\nlost_at 9\n' >card
JPT_NVML_LIB=$JPT_FAKE_NVML_LIB JPT_FAKE_NVML=$dir/card "$JPT" bench counter.yaml --meter nvml_counter -o l.db 2>log && fail "a bench without a driver"
grep -q "the meter gives no reading any more (NVML energy counter" log || fail "driver lost: $(cat log)"
python3 -c 'import sqlite3; c = sqlite3.connect("l.db"); assert c.execute("select count(*) from request where energy_j is not null").fetchone()[0] % 3 == 0 and c.execute("select count(*) from window where valid=0 and energy_j is null").fetchone()[0] >= 3' ||
    fail "rows of a lost driver"
echo "sim 100" >card
JPT_NVML_LIB=$JPT_FAKE_NVML_LIB JPT_FAKE_NVML=$dir/card "$JPT" bench counter.yaml --meter nvml_counter -o l.db 2>log || fail "with a driver again: $(cat log)"
python3 -c 'import sqlite3; assert sqlite3.connect("l.db").execute("select count(*), sum(energy_valid) from request").fetchone() == (3, 3)' || fail "with a driver again"

# calibration: kept, found again, a floor for each cell
"$JPT" calibrate -m "$model" --meter model --seconds 14 --json >cal.json || fail "calibrate"
python3 -c 'import json; c = json.load(open("cal.json")); assert c["modelled"] and c["idle_w"] is None and c["launch_w"] > 0 and c["bytes_per_s"] > 0' || fail "calibration: $(cat cal.json)"
[ "$(wc -l <home/calibration.jsonl)" = 1 ] || fail "calibration is not kept"
"$JPT" calibrate -m "$model" --meter none 2>log && fail "calibrated without a meter"
grep -q "no meter to calibrate with" log || fail "calibrate: $(cat log)"
exit 0
