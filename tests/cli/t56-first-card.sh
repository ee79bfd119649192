# bench/first_card.sh, the study of a card in one go, on the modelled meter and a tiny model: it makes the report, it is cut by its
# time and by TERM and still makes it, it resumes, and it says so when nothing comes of it.  Needs no download.  $JPT is the program.
set -u
fail() { echo "FAIL: $*"; cat log 2>/dev/null; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
grep -v '^devices\|^model\|^windows' "$JPT_SOURCE_DIR/plans/first-card.yaml" | sed -e "1i model: x" -e "s/^blocks: 5/blocks: 10/" >plan.yaml # long enough to be cut on a fast machine that looks seldom
export METER=model DEVICE=cpu CALIBRATE=0 PLAN=$dir/plan.yaml
first_card() { bash "$JPT_SOURCE_DIR/bench/first_card.sh" "$@" >log 2>&1; }
requests() { sed -n 's/^\([0-9]*\) requests in .*/\1/p' "$1/status.txt"; }
whole=$((4 * 10 * 16))

# TERM in the middle, then its time in the middle, then to the end
bash "$JPT_SOURCE_DIR/bench/first_card.sh" "$model" cut >log 2>&1 &
pid=$!
until [ "$(python3 -c 'import sqlite3; print(sqlite3.connect("file:cut/results.db?mode=ro", uri=True).execute("select count(*) from request").fetchone()[0])' 2>/dev/null || echo 0)" -gt 50 ]; do
    kill -0 $pid 2>/dev/null || fail "it ended before it could be cut"
    sleep 0.05
done
kill -TERM $pid
wait $pid
rc=$?
[ $rc -eq 130 ] && grep -q "cut short" log || fail "TERM: exit $rc"
n=$(requests cut)
[ "$n" -gt 50 ] && [ "$n" -lt $whole ] || fail "$n requests after TERM"
for file in report/report.html report/report.tex export/runs.csv export/requests.jsonl audit.txt compare.txt doctor.txt; do
    [ -s "cut/$file" ] || fail "no $file of what there was"
done
MINUTES=$(echo 21 | awk '{print $1 / 60}') first_card "$model" cut
rc=$?
[ $rc -eq 124 ] || [ $rc -eq 130 ] || [ $rc -eq 0 ] || fail "its time: exit $rc"
[ "$(requests cut)" -ge "$n" ] || fail "$(requests cut) requests after its time"
first_card "$model" cut || fail "the rest"
[ "$(requests cut)" -eq $whole ] && ! grep -q FAILED cut/audit.txt && grep -q "beam:num_beams=4 minus greedy" cut/compare.txt || fail "the whole: $(requests cut) requests"
first_card nosuch.gguf none && fail "no model"
grep -q "no study came of it" log || fail "no model"
METER=nvml_counter JPT_NVML_LIB=/nonexistent first_card "$model" unmetered && fail "no card"
grep -q "NVML" log || fail "no card"
exit 0
