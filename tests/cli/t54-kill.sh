# kill -9 at 20 random moments of a study (several files, until that many kills met a running bench): the finished study equals an
# undisturbed one row by row, timings and joules aside.  Needs no download.  $JPT is the program.
set -u
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export JPT_HOME=$dir/home
fail() { echo "FAIL: $*"; exit 1; }
for i in 0 1 2 3 4 5; do echo "{\"prompt\":\"tell me $i\",\"reference\":\"x\"}"; done >ask.jsonl
cat >plan.yaml <<Y
name: killed
model: $model
tasks: [ask.jsonl]
strategies: [greedy, "sample:temperature={0.7,1.3}", "beam:num_beams=3", prompt-lookup]
seeds: [1, 2]
blocks: 3
batch_sizes: [1, 2]
max_new_tokens: 24
windows: {sentinel: always}
Y
start=$(date +%s%N)
"$JPT" bench plan.yaml --meter model -o whole.db -q || fail "the undisturbed study"
ms=$((($(date +%s%N) - start) / 1000000))
same() {
    python3 - whole.db "$1" <<'P'
import sqlite3, sys
AWAY = {"id", "created", "cell", "window", "study", "model", "task", "meter"}  # ids: the rows they point to are compared instead
def rows(f):
    c = sqlite3.connect(f)
    cell = "(select m.name || '/' || t.name || '/' || spec || '/' || batch || '/' || seeds from cell join model m on m.id=cell.model join task t on t.id=cell.task where cell.id=x.cell)"
    out = {}
    for table in ("study", "model", "task", "item", "meter", "cell", "plan", "request", "window"):
        columns = [r[1] for r in c.execute("pragma table_info(%s)" % table) if r[1] not in AWAY]
        columns = [k for k in columns if not k.endswith(("_s", "_j", "_w")) and not k.endswith("_energy_j")]
        key = cell if table in ("request", "window") else "''"
        out[table] = sorted(map(repr, c.execute("select %s, %s from %s x" % (key, ", ".join(columns), table))))
    out["score"] = sorted(map(repr, c.execute("select %s, block, item_index, seed, metric, value from score join request x on x.id=score.request" % cell)))
    out["cell_score"] = sorted(map(repr, c.execute("select %s, metric, value, ci_low, ci_high, n from cell_score x where id in (select max(id) from cell_score group by cell, metric)" % cell)))
    assert c.execute("pragma integrity_check").fetchone()[0] == "ok" and not c.execute("pragma foreign_key_check").fetchall()
    return out
a, b = rows(sys.argv[1]), rows(sys.argv[2])
for t in a:
    if a[t] != b[t]:
        sys.exit("%s: %d and %d rows\n  %s\n  %s" % (t, len(a[t]), len(b[t]), [r for r in a[t] if r not in b[t]][:2], [r for r in b[t] if r not in a[t]][:2]))
assert len(a["request"]) == 6 * 3 * 2 * (2 + 3 * 2) and len(a["window"]) > 100, (len(a["request"]), len(a["window"]))
P
}
kills=0 files=0
RANDOM=20
while [ $kills -lt 20 ]; do
    files=$((files + 1))
    [ $files -le 12 ] || fail "only $kills kills met a bench"
    for _ in 1 2 3 4 5 6 7; do
        "$JPT" bench plan.yaml --meter model -o "k$files.db" -q &
        pid=$!
        sleep "$(printf '%d.%03d' $((RANDOM % (ms / 2 + 1) / 1000)) $((RANDOM % (ms / 2 + 1) % 1000)))"
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
        [ $? -eq 137 ] || break # it was done before
        kills=$((kills + 1))
    done
    "$JPT" bench plan.yaml --meter model -o "k$files.db" -q || fail "resuming k$files.db"
    same "k$files.db" || fail "k$files.db after $kills kills"
done
echo "golden: $kills kills over $files studies; each ended with the rows of the undisturbed one"
exit 0
