# jpt embed and jpt evaluate on a tiny evaluator and a tiny sentence encoder, from the files of the golden tests.  $JPT is the program.
set -u
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
encoder=$JPT_SOURCE_DIR/tests/golden/encoder_tiny
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
refuse() { # STATUS TEXT COMMAND...: one line on stderr that holds TEXT
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    if [ $got -ne "$want" ] || ! grep -qF -- "$text" <<<"$out" || [ "$(wc -l <<<"$out")" -ne 1 ]; then
        bad "$* -> exit $got (want $want): $out"
    fi
}
query() { python3 -c 'import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' "$@"; }

# vectors: as JSON lines, as NumPy's format, of an encoder and of a language model
printf 'a cat\n\nPARIS\r\n' >texts.txt
"$JPT" embed -m "$encoder" -f texts.txt --json -q >vectors.jsonl || bad "embed --json"
"$JPT" embed -m "$encoder" -f texts.txt -o vectors.npy -q || bad "embed -o"
"$JPT" embed -m "$model" -f texts.txt -o features.npy --max-tokens 8 -q || bad "embed with a language model"
python3 - <<'EOF' || bad "vectors"
import ast, json, struct
def npy(path):
    b = open(path, "rb").read()
    assert b[:8] == b"\x93NUMPY\x01\x00"
    n = struct.unpack("<H", b[8:10])[0]
    assert (10 + n) % 64 == 0
    h = ast.literal_eval(b[10:10 + n].decode())
    assert h["descr"] == "<f4" and not h["fortran_order"]
    rows, cols = h["shape"]
    v = struct.unpack(f"<{rows * cols}f", b[10 + n:])
    return [v[i * cols:(i + 1) * cols] for i in range(rows)]
lines = [json.loads(x) for x in open("vectors.jsonl")]
a, f = npy("vectors.npy"), npy("features.npy")
assert [x["index"] for x in lines] == [0, 1, 2] and len(a) == 3 and len(a[0]) == 32 and len(f) == 3
for x, y in zip(lines, a):
    assert all(abs(p - q) < 1e-7 for p, q in zip(x["vector"], y))
    assert abs(sum(p * p for p in y) - 1) < 1e-5
EOF
[ "$(printf 'a cat\n' | "$JPT" embed -m "$encoder" -q | wc -w)" = 32 ] || bad "embed from standard input"

# files of texts
printf '{"text":"a b","prompt":"p","reference":["c","A B"]}\n\n{"text":""}\n"plain"\n' >texts.jsonl
"$JPT" evaluate --hyp texts.jsonl --evaluator "$model" --embedder "$encoder" --each --json -q >each || bad "evaluate --hyp"
python3 - <<'EOF' || bad "evaluate --each"
import json, math
rows = [json.loads(x) for x in open("each")]
assert len(rows) == 4 and rows[3]["texts"] == 3 and rows[3]["evaluator"] == "logits_tiny_llama" and rows[3]["embedder"] == "encoder_tiny"
assert abs(rows[0]["cos_reference"] - 1) < 1e-6 and rows[0]["coherence"] < 0 and rows[0]["ppl"] > 1
assert rows[1]["coherence"] is None and rows[1]["cos_prompt"] is None
assert abs(rows[3]["coherence"] - (rows[0]["coherence"] + rows[2]["coherence"]) / 2) < 1e-7
EOF
printf 'p\nq\nr\n' >three.txt
"$JPT" evaluate --hyp texts.txt --prompt three.txt --ref three.txt --embedder "$encoder" -q | grep -q 'cos_prompt.*cos_reference' || bad "evaluate --prompt --ref"

# a results file: rows are added once, interrupted work goes on, the audit still holds
printf '{"prompt":"a b","reference":"3"}\n{"prompt":"c"}\n' >task.jsonl
"$JPT" bench -m "$model" -t task.jsonl -s greedy -s sample -n 8 --blocks 2 -o r.db -q 2>log || bad "bench: $(cat log)"
"$JPT" evaluate r.db --embedder "$encoder" -q | grep -q '8 scored, 0 had' || bad "first pass"
[ "$(query r.db "SELECT count(*) FROM score WHERE metric LIKE '%@%'")" = 8 ] || bad "cos_prompt alone: the task is not found by name"
"$JPT" evaluate r.db --embedder "$encoder" -t task.jsonl -q | grep -q '4 scored, 4 had' || bad "references of a given task"
"$JPT" evaluate r.db --embedder "$encoder" -t task.jsonl --evaluator "$model" --json -q | grep -qF '"scored":8' || bad "evaluator"
"$JPT" evaluate r.db --embedder "$encoder" -t task.jsonl --evaluator "$model" -q | grep -q '0 scored, 8 had' || bad "again"
[ "$(query r.db "SELECT count(*) FROM score WHERE metric LIKE '%@%'")" = $((8 + 4 + 24)) ] || bad "rows"
[ "$(query r.db "SELECT count(DISTINCT metric) FROM cell_score WHERE metric LIKE '%@%'")" = 5 ] || bad "rows of cells"
python3 - <<'EOF' || bad "scores of cells"
import math, sqlite3
db = sqlite3.connect("r.db")
for cell, in db.execute("SELECT id FROM cell").fetchall():
    rows = db.execute("SELECT text, max(CASE WHEN metric LIKE 'ppl@%' THEN value END), max(CASE WHEN metric LIKE 'bits%@%' THEN value END), max(CASE WHEN metric LIKE 'coherence@%' THEN value END)"
                      " FROM score JOIN request ON request.id = request WHERE cell = ? AND text <> '' GROUP BY request", (cell,)).fetchall()
    got = lambda m: db.execute("SELECT value FROM cell_score WHERE cell = ? AND metric LIKE ? ORDER BY id DESC LIMIT 1", (cell, m + "@%")).fetchone()[0]
    nll = sum(b * math.log(2) * len(t.encode()) for t, p, b, c in rows)
    assert abs(got("bits_per_byte") - nll / math.log(2) / sum(len(t.encode()) for t, *_ in rows)) < 1e-9
    tokens = sum(b * math.log(2) * len(t.encode()) / math.log(p) for t, p, b, c in rows)
    assert abs(tokens - round(tokens)) < 1e-6 and abs(got("ppl") - math.exp(nll / tokens)) < 1e-6 * got("ppl")
    assert abs(got("coherence") - sum(c for *_, c in rows) / len(rows)) < 1e-9
EOF
"$JPT" evaluate r.db --embedder "$encoder" -q | grep -qE 'cos_prompt@encoder_tiny +-?[0-9.]+  \[.*\]  4 texts' || bad "the table of cells"
"$JPT" audit r.db >/dev/null || bad "audit after evaluate"

# MAUVE of an open-ended task: jpt embed and jpt score give the same of the same texts, the first of each item with its prompt before it
python3 -c 'for i in range(8): print("{\"q\":\"say %d\",\"reference\":\" the %d of us\"}" % (i * i, i))' >open.jsonl
printf 'name: open\ndescription: d\nlicense: CC0-1.0\ncitation: "Nobody 2026"\nitems: open.jsonl\nprompt: "{q}"\nchat: false\nmax_new_tokens: 6\nmetrics: [diversity, words]\n' >open.yaml
"$JPT" bench -m "$model" -t open.yaml -s greedy -s sample --blocks 2 -o m.db -q 2>log || bad "bench: $(cat log)"
"$JPT" evaluate m.db -t open.yaml --evaluator "$model" --no-mauve -q | grep -q mauve && bad "--no-mauve"
"$JPT" evaluate m.db -t open.yaml --evaluator "$model" -q | grep -qE 'mauve@logits_tiny_llama +[0-9.]+(e-[0-9]+)?  \[.*\]  8 texts' || bad "MAUVE of a cell"
"$JPT" evaluate m.db -t open.yaml --evaluator "$model" -q >/dev/null
[ "$(query m.db "SELECT count(*) FROM cell_score WHERE metric = 'truncated' AND value = (SELECT avg(stop_reason = 'length') FROM request WHERE cell = cell_score.cell) AND n = 16")" = 2 ] || bad "truncation rate"
[ "$(query m.db "SELECT count(*) FROM cell_score WHERE metric LIKE 'mauve@%'")" = 2 ] || bad "MAUVE is computed once a cell"
python3 - <<'EOF'
import json, sqlite3
db = sqlite3.connect("m.db")
cell = db.execute("SELECT id FROM cell WHERE spec LIKE 'sample%'").fetchone()[0]
rows = db.execute("SELECT prompt || text FROM request JOIN item ON item.item_index = request.item_index WHERE cell = ? GROUP BY request.item_index HAVING request.id = min(request.id) ORDER BY request.item_index", (cell,))
open("q.jsonl", "w").write("".join(json.dumps(t) + "\n" for t, in rows))
open("p.jsonl", "w").write("".join(json.dumps("say %d the %d of us" % (i * i, i)) + "\n" for i in range(8)))
EOF
for f in p q; do "$JPT" embed -m "$model" -f $f.jsonl -o $f.npy -q; done
want=$("$JPT" score mauve --ref p.npy --hyp q.npy --json | python3 -c 'import json,sys; print("%.12g" % json.load(sys.stdin)["mauve"])')
got=$(query m.db "SELECT value FROM cell_score JOIN cell ON cell.id = cell WHERE metric LIKE 'mauve@%' AND spec LIKE 'sample%'" | python3 -c 'print("%.12g" % float(input()))')
[ "$got" = "$want" ] || bad "MAUVE: $got, from files $want"
"$JPT" audit m.db >/dev/null || bad "audit after MAUVE"

# the report has them, with intervals, and what to cite
"$JPT" report m.db -o out >/dev/null || bad "report after MAUVE"
python3 - <<'EOF' || bad "scores of a model in a report"
import csv, json, re, sqlite3
want = {(s, m): (v, lo, hi) for s, m, v, lo, hi in sqlite3.connect("m.db").execute("SELECT spec, metric, value, ci_low, ci_high FROM cell_score JOIN cell ON cell.id = cell WHERE value IS NOT NULL")}
model = [k for k in want if "@" in k[1]]
assert len(model) == 2 * 4 and all(want[k][1] is not None for k in model), want
page, md = open("out/report.html").read(), open("out/report.md").read()
heads = re.findall(r"<th[^>]*>(?:(?!</th>).)*</th>", page[page.index("<h3>Other scores</h3>"):].split("</thead>")[0])
for spec, metric in model:
    v, lo, hi = want[spec, metric]
    text = "%.4g [%.3g, %.3g]" % (v, lo, hi)
    assert text in md and metric in md, (metric, text)
    assert "%.4g <i>[%.3g, %.3g]</i>" % (v, lo, hi) in page, (metric, text)
    assert any(metric.split("@")[0] in h and metric.split("@")[1] in h for h in heads), (metric, heads)
assert "- open: licence CC0-1.0; cite Nobody 2026" in md and "%   open: licence CC0-1.0; cite Nobody 2026" in open("out/report.tex").read() and "Nobody 2026" in page
rows = {(r["strategy"], r["metric"]): r for r in csv.DictReader(open("out/scores.csv", newline=""))}
cells = {c["spec"]: c["scores"] for c in json.load(open("out/results.json"))["cells"]}
for spec, metric in want:
    v, lo, hi = want[spec, metric]
    assert abs(cells[spec][metric]["mean"] - v) <= 1e-9 * abs(v) and (lo is None) == (cells[spec][metric]["ci_low"] is None)
    assert abs(float(rows[spec, metric]["value"]) - v) <= 1e-8 * abs(v)
EOF
"$JPT" report r.db -o out --format csv,md >/dev/null || bad "report after evaluate"

# bad input
refuse 2 "needs -m MODEL" "$JPT" embed
refuse 1 "/nonexistent" "$JPT" embed -m "$encoder" -f /nonexistent
refuse 1 "is for language models" "$JPT" embed -m "$encoder" -f texts.txt --max-tokens 9
refuse 1 "did you mean 'smollm2-135m'" "$JPT" embed -m smollm2-135 -f texts.txt
refuse 1 "run jpt pull minilm" env JPT_HOME=/nonexistent "$JPT" embed -m minilm -f texts.txt
mkdir empty
refuse 1 "empty/config.json" "$JPT" embed -m empty -f texts.txt
: >nothing.txt
refuse 1 "nothing.txt: has no text" "$JPT" embed -m "$encoder" -f nothing.txt
printf 'a\nb\xff\n' >latin.txt
refuse 1 "latin.txt: line 2: not valid UTF-8" "$JPT" evaluate --hyp latin.txt --embedder "$encoder"
printf '{"text":"a"}\n{"txt":"b"}\n' >bad.jsonl
refuse 1 'bad.jsonl: line 2: expected a string, or an object with "text"' "$JPT" embed -m "$encoder" -f bad.jsonl
printf '"a"\n{"text":\n' >cut.jsonl
refuse 1 "cut.jsonl: line 2" "$JPT" evaluate --hyp cut.jsonl --embedder "$encoder"
refuse 2 "give --evaluator MODEL" "$JPT" evaluate r.db
refuse 2 "one results file, or --hyp" "$JPT" evaluate --embedder "$encoder"
refuse 2 "go with --hyp" "$JPT" evaluate r.db --embedder "$encoder" --each
printf 'a\n' >one.txt
refuse 1 "texts.txt has 3 texts, one.txt has 1" "$JPT" evaluate --hyp texts.txt --ref one.txt --embedder "$encoder"
refuse 1 "is no folder" "$JPT" evaluate r.db --embedder "$model"
refuse 1 "missing.db: no such file" "$JPT" evaluate missing.db --embedder "$encoder"
refuse 1 "config.json" "$JPT" evaluate r.db --embedder "$dir"
refuse 1 "model.safetensors" bash -c "mkdir -p half && cp '$encoder'/* half && head -c 5000 '$encoder/model.safetensors' >half/model.safetensors && exec '$JPT' embed -m half -f texts.txt"
[ $fails -eq 0 ]
