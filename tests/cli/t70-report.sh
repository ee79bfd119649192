# The report's files, audit, export, compare and advise on a made-up study; every table that is tampered with is found.
set -u
fail() { echo "FAIL: $*"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
"$JPT_BENCH_STUDY" s.db 30 3 2 6 2 || fail "bench-study"
"$JPT" report s.db -o out >paths || fail "report"
[ "$(wc -l <paths)" -eq 7 ] || fail "seven files: $(cat paths)"
cp -r out first && "$JPT" report s.db -o out >/dev/null && diff -r first out >/dev/null || fail "the same store gives the same bytes"
grep -q '\\toprule' out/report.tex && grep -q 'num\\_beams=5' out/report.tex || fail "LaTeX"
grep -q "modelled, not measured" out/report.md && grep -q "Holm over 29" out/report.md || fail "Markdown: $(head -20 out/report.md)"
grep -qE 'src="http|href="http|@import|url\(http' out/report.html && fail "the page asks a network"
for word in 'id="verdict"' 'id="heat"' 'id="power"' 'id="validity"' 'id="cost"' 'id="method"' 'class="ledger"' 'class="curves"' '<ellipse class="both"' 'Sentinel drift' 'on the front in'; do
    grep -q -- "$word" out/report.html || fail "the page has no $word"
done
python3 - out/results.json <<'PY' || fail "results.json"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["schema_version"] >= 2 and len(j["cells"]) == 30 * 3 * 2 and len(j["comparisons"]) == 29 * 3 * 2, (len(j["cells"]), len(j["comparisons"]))
c = j["cells"][0]
assert c["modelled"] is True and c["joules_per_request"]["ci_low"] < c["joules_per_request"]["mean"] < c["joules_per_request"]["ci_high"]
assert c["ttft_s"]["n"] == 6 and 0 <= c["p_front_request"] <= 1
PY

# the verdicts and the price
"$JPT" compare s.db sample:temperature=0.50 beam:num_beams=5 greedy >cmp || fail "compare"
grep -q "Holm over 4" cmp && grep -qE "not separable|equivalent" cmp && grep -q "higher" cmp || fail "compare: $(cat cmp)"
[ "$("$JPT" compare s.db greedy | grep -c ' minus greedy')" -eq $((29 * 3 * 2)) ] || fail "everything against one"
"$JPT" advise s.db --task maths --min-quality 90% | grep -q "take " || fail "advise"

# audit: sound, then each table touched
"$JPT" audit s.db >audit.txt || fail "audit: $(grep FAILED audit.txt)"
"$JPT_BENCH_STUDY" small.db 8 2 2 3 || fail "bench-study"
"$JPT" audit small.db >audit.txt || fail "audit: $(grep FAILED audit.txt)"
mark=$(sed -n 's/^fingerprint of all rows //p' audit.txt)
"$JPT" audit small.db --fingerprint "$mark" >/dev/null || fail "its own fingerprint"
"$JPT" audit small.db --fingerprint "${mark//[0-9]/0}" >/dev/null && fail "another fingerprint is accepted"
# the newest floor stands, and warnings are told once
cp small.db said-twice.db
python3 - <<'PY' || fail "rows said twice"
import sqlite3
c = sqlite3.connect("said-twice.db")
names = [r[1] for r in c.execute("PRAGMA table_info(floor)") if r[1] not in ("id", "floor_j")]
c.execute(f"INSERT INTO floor ({','.join(names)}, floor_j) SELECT {','.join(names)}, 2 * floor_j FROM floor")
c.execute("UPDATE window SET reasons='warning: window of 2.2 s is shorter than 10 s' WHERE id=1")
c.commit()
PY
"$JPT" report said-twice.db -o twice >/dev/null || fail "report of rows said twice"
python3 - <<'PY' || fail "newest floors"
import csv, json, sqlite3
c = sqlite3.connect("said-twice.db")
want = sorted(round(v, 6) for v, in c.execute("SELECT floor_j FROM floor WHERE id IN (SELECT max(id) FROM floor GROUP BY cell)"))
rows = list(csv.DictReader(open("twice/report.csv", newline="")))
got = sorted(round(float(r["floor_j_per_request"]), 6) for r in rows if r["floor_j_per_request"])
assert want and got == want, (got, want)
share = {f"{100 * float(r['j_per_request']) / float(r['floor_j_per_request']):.0f} % of {float(r['floor_j_per_request']):.4g} J" for r in rows if r["floor_j_per_request"]}
assert all(f"| {s} |" in open("twice/report.md").read() for s in share), share
assert any(x["floor_joules_per_request"] for x in json.load(open("twice/results.json"))["cells"])
page = open("twice/report.html").read()
assert "warning: window of #" in page and "warning: warning" not in page
PY
tamper() { # rule's words, SQL
    cp small.db t.db
    python3 -c 'import sqlite3,sys; c=sqlite3.connect("t.db"); n=c.execute(sys.argv[1]).rowcount; c.commit(); sys.exit(n < 1)' "$2" || fail "no row for: $2"
    "$JPT" audit t.db --fingerprint "$mark" >t.txt && fail "not found: $2"
    grep -q "^FAILED $1" t.txt || fail "$2: expected '$1': $(grep FAILED t.txt)"
    grep -q "another one was expected" t.txt || fail "fingerprint of $2"
}
tamper "joules of the phases" "UPDATE request SET energy_j=energy_j*1.01 WHERE id=7"
tamper "joules kept, rejected" "UPDATE request SET kept_energy_j=kept_energy_j-1 WHERE id=7"
tamper "as many token ids" "UPDATE request SET output_tokens=output_tokens-1 WHERE id=9"
tamper "requests' shares" "UPDATE request SET energy_j=energy_j+1, decode_energy_j=decode_energy_j+1, kept_energy_j=kept_energy_j+1 WHERE id=9"
tamper "a request has its window's verdict" "UPDATE request SET energy_valid=0, energy_reasons='x' WHERE id=5"
tamper "positions computed" "UPDATE request SET positions_discarded=positions_discarded+2 WHERE id=5"
tamper "phases + idle" "UPDATE window SET decode_energy_j=decode_energy_j*2 WHERE id=3"
tamper "residual is" "UPDATE window SET integral_j=integral_j*1.5 WHERE id=3"
tamper "a window counts" "UPDATE window SET output_tokens=output_tokens+1 WHERE id=3"
tamper "net joules of a window" "UPDATE window SET idle_before_w=25 WHERE id=3"
tamper "integrated power" "UPDATE power SET power_w=power_w*1.3 WHERE window=3"
tamper "samples of power" "UPDATE power SET t_s=t_s+1000 WHERE id=20"
tamper "a cell's score" "UPDATE cell_score SET value=value*2 WHERE id=1"
tamper "a floor is" "UPDATE floor SET floor_j=1 WHERE id=1"
tamper "a calibration has" "UPDATE calibration SET pj_per_flop=-1 WHERE id=1"
tamper "a second opinion" "UPDATE ledger SET value=-5 WHERE id=1"
tamper "a floor is" "UPDATE floor SET seconds=2*seconds WHERE id=1"
columns=$(python3 -c 'import sqlite3; print(",".join(r[1] for r in sqlite3.connect("small.db").execute("PRAGMA table_info(window)")))')
again=${columns/#id,/1000,}
tamper "no window stands" "INSERT INTO window SELECT $again FROM window WHERE id=3"
idle=${again/,kind,/,\'idle\',} idle=${idle/,mean_w,/,0.25 * mean_w,} idle=${idle/,cell,/,NULL,}
tamper "a window's idle watts" "INSERT INTO window SELECT $idle FROM window WHERE id=3"
tamper "a look's difference" "UPDATE look SET difference=9 WHERE id=1"
# a measured study, all of whose samples are in the file: one per cent of one window's power is enough
made_up=$mark
mv small.db made-up.db
cp "$JPT_SOURCE_DIR/studies/first-h100/results.db" small.db
"$JPT" audit small.db >audit.txt || fail "studies/first-h100: $(grep FAILED audit.txt)"
mark=$(sed -n 's/^fingerprint of all rows //p' audit.txt)
tamper "integrated power" "UPDATE power SET power_w=power_w*1.01 WHERE window=31"
tamper "a window's idle watts" "UPDATE window SET mean_w=mean_w*1.06, energy_j=energy_j*1.06, integral_j=integral_j*1.06 WHERE kind='idle'"
mv made-up.db small.db
mark=$made_up
tamper "a plan has" "UPDATE plan SET n_cells=5000 WHERE id=1"
tamper "joules come from" "UPDATE meter SET modelled=0 WHERE id=1"
tamper "a request's item" "UPDATE item SET item_id='other' WHERE id=1"
tamper "a request's item" "UPDATE task SET n_items=1 WHERE id=1"
tamper "block b has" "UPDATE cell SET seeds='77' WHERE id=1"
tamper "study, model" "UPDATE model SET id=99 WHERE id=1"
tamper "study, model" "UPDATE study SET id=99 WHERE id=1"
for sql in "UPDATE request SET text='nicer' WHERE id=3" "UPDATE study SET cpu='faster'" "UPDATE model SET name='x' WHERE id=1" "UPDATE score SET value=value+1 WHERE request=4"; do # what no rule can know
    cp small.db t.db
    python3 -c 'import sqlite3,sys; c=sqlite3.connect("t.db"); c.execute(sys.argv[1]); c.commit()' "$sql"
    "$JPT" audit t.db --fingerprint "$mark" >t.txt && fail "the fingerprint does not see: $sql"
done

# export
"$JPT" export s.db -o ex >/dev/null || fail "export"
python3 - ex <<'PY' || fail "export"
import csv, json, sys
d = sys.argv[1]
runs = list(csv.DictReader(open(d + "/runs.csv", newline="")))
lines = [json.loads(l) for l in open(d + "/requests.jsonl")]
power = list(csv.DictReader(open(d + "/power.csv", newline="")))
want = """schema_version run_id block order strategy params_json seed model dtype batch prompt_tokens output_tokens forward_tokens accepted_tokens requests_ok requests_failed
t_start_mono_s duration_s ttft_ms_mean tpot_ms_mean e2el_ms_mean output_throughput energy_source gpu_energy_j gpu_energy_integral_j residual_frac edge_correction_j
idle_w net_energy_j avg_power_w peak_power_w mem_energy_j cpu_energy_j dram_energy_j prefill_energy_j decode_energy_j draft_energy_j verify_energy_j sampler_energy_j other_energy_j
joules_per_output_token joules_per_total_token joules_per_request joules_per_successful_query edp_js quality_metric quality_value temp_start_c temp_end_c sm_mhz_mean throttle_bits
n_samples max_gap_s power_valid power_invalid_reasons""".split()
assert not set(want) - set(runs[0]), set(want) - set(runs[0])
assert "t_mono_s,gpu,source,power_w,energy_mj,temp_c,sm_mhz,mem_mhz,throttle_bits".split(",") == list(power[0])[:9]
of = [r for r in runs if r["kind"] == "requests"]
assert len(of) == 30 * 3 * 2 * 2 and len(lines) == 30 * 3 * 2 * 2 * 6, (len(of), len(lines))
w = of[0]
assert w["gpu_energy_j"] == "" and w["modelled"] == "1" and w["mem_energy_j"] == ""  # absent is empty, never 0
assert abs(float(w["energy_j"]) / 6 - float(w["joules_per_request"])) < 1e-6 * float(w["energy_j"])
mine = [l for l in lines if l["spec"] == w["spec"] and l["task"] == w["task"] and l["block"] == int(w["block"]) and l["model"] == w["model"]]
assert len(mine) == 6 and abs(sum(l["energy_j"] for l in mine) - float(w["energy_j"])) < 1e-6 * float(w["energy_j"])
PY
echo ok
