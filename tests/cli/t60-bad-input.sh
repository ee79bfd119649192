# Every kind of bad input that a bench can meet, on a tiny model that needs no download: one clear line, non-zero exit, nothing
# lost.  $JPT is the program.
set -u
model=$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
refuse() { # STATUS TEXT COMMAND...: the meter's line and progress aside, one line on stderr that holds TEXT
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    lines=$(grep -vcE '^(meter|bench): ' <<<"$out")
    if [ $got -ne "$want" ] || ! grep -qF -- "$text" <<<"$out" || [ "$lines" -ne 1 ]; then
        bad "$* -> exit $got (want $want), $lines lines: $out"
    fi
}
bench() { "$JPT" bench -m "$model" "$@" 2>log; }
count() { "$JPT" report "$1" -o "$1.out" --format csv >/dev/null 2>&1 && python3 -c 'import csv,sys; print(sum(1 for _ in csv.DictReader(open(sys.argv[1]))))' "$1.out/requests.csv"; }

# a user's own data
printf '{"prompt":"a b","reference":"3"}\n{"prompt":"c"}\n' >ok.jsonl
bench -t ok.jsonl -s greedy -n 8 -o ok.db || bad "bench: $(cat log)"
[ "$(count ok.db)" = 2 ] || bad "rows of a user's JSONL"
printf '{"prompt":"a","reference":"x"}\n{"prompt":"b"\n' >broken.jsonl
refuse 1 "broken.jsonl:2" "$JPT" bench -m "$model" -t broken.jsonl -s greedy -o x.db
printf '{"prompt":"a\xff"}\n' >utf.jsonl
refuse 1 "utf.jsonl:1" "$JPT" bench -m "$model" -t utf.jsonl -s greedy -o x.db
printf '{"prompt":""}\n' >empty.jsonl
refuse 1 "empty.jsonl:1: the prompt is empty" "$JPT" bench -m "$model" -t empty.jsonl -s greedy -o x.db
printf '{"promt":"a"}\n' >key.jsonl
refuse 1 'needs the field "prompt"' "$JPT" bench -m "$model" -t key.jsonl -s greedy -o x.db
: >none.jsonl
refuse 1 "none.jsonl: holds no item" "$JPT" bench -m "$model" -t none.jsonl -s greedy -o x.db
printf '{"prompt":"a"}\n{"id":"big","prompt":"%s"}\n' "$(printf 'word %.0s' {1..400})" >long.jsonl
refuse 1 "task 'long', item 'big': the prompt has 2000 tokens, but the context holds 256" "$JPT" bench -m "$model" -t long.jsonl -s greedy -o long.db
refuse 1 "no finished request yet" "$JPT" report long.db -o out # noticed before anything ran
refuse 1 "the context holds 64" "$JPT" generate -m "$model" -p "$(printf 'word %.0s' {1..400})" --ctx 64
refuse 1 "/nonexistent.jsonl: cannot read" "$JPT" bench -m "$model" -t /nonexistent.jsonl -s greedy -o x.db

# outputs
refuse 1 "/nonexistent/a.db" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o /nonexistent/a.db
refuse 1 "/dev/full: not a regular file" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o /dev/full
refuse 1 "not a regular file" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o "$dir"
refuse 1 "ok.jsonl" "$JPT" report ok.db -o ok.jsonl/out
refuse 1 "standard output: writing failed" bash -c '"$0" generate -m "$1" -p a -n 8 -q >/dev/full' "$JPT" "$model"
refuse 1 "standard output: writing failed" bash -c '"$0" inspect "$1" >/dev/full' "$JPT" "$model"

refuse 2 "-o needs a file's name" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o ""
bench -t ok.jsonl -s greedy -n 8 -o :memory: && [ -s ./:memory: ] || bad "a file named :memory: is a file"
refuse 2 "'--bogus' is no option here" "$JPT" generate --bogus
refuse 2 "'-m' is no option here, or its value is missing" "$JPT" generate -m
refuse 2 "'--ctxx' is no option" "$JPT" bench --ctxx 3
refuse 1 "the context holds 1024" "$JPT" bench -m "$model" -t long.jsonl -s greedy -o x2.db --ctx 1024
"$JPT" compare ok.db greedy greedy >/dev/null 2>&1 && bad "a strategy compared with itself"
bench -t ok.jsonl -s top-p:top_p=0.90 -s sample:temperature=1.0 -n 8 -o specs.db
"$JPT" compare specs.db top-p:top_p=0.9000 sample >cmp.txt 2>&1 || bad "compare takes specs as the user wrote them: $(cat cmp.txt)"
printf '\xef\xbb\xbf{"prompt":"a","reference":null}\r\n{"prompt":"b"}\r\n' >bom.jsonl
bench -t bom.jsonl -s greedy -n 4 -o bom.db || bad "a byte order mark: $(cat log)"
# a killed run leaves no score of a shorter one beside fresh joules
printf '{"prompt":"a","reference":"b"}\n{"prompt":"c","reference":"d"}\n{"prompt":"e","reference":"f"}\n' >mt.jsonl
printf 'name: mt\ndescription: d\nlicense: none\nchat: false\nitems: mt.jsonl\nprompt: "{prompt}"\nmetrics: [chrf]\nmax_new_tokens: 4\n' >mt.yaml
bench -t mt.yaml -s greedy -o part.db --limit 1 || bad "yaml: $(cat log)"
python3 - <<'PY'
import sqlite3
c = sqlite3.connect("part.db")
row = c.execute("select * from request").fetchone()
names = [d[1] for d in c.execute("pragma table_info(request)")]
row = dict(zip(names, row)); row["id"] = 99; row["item_index"] = 1
c.execute("insert into request (%s) values (%s)" % (",".join(row), ",".join("?" * len(row))), list(row.values()))
c.commit()
PY
"$JPT" report part.db -o part --format md >/dev/null && grep -q "The run is not finished" part/report.md || bad "a stale corpus score is shown"

# another file, another schema
printf 'not a database, but long enough to look like something else entirely' >text.db
refuse 1 "text.db" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o text.db
[ "$(wc -c <text.db)" = 68 ] || bad "a foreign file was changed"
python3 - <<'PY'
import shutil, sqlite3
for name, version in ("newer.db", 99), ("older.db", 0):
    shutil.copy("ok.db", name)
    c = sqlite3.connect(name)
    c.execute("pragma user_version = %d" % version)
    c.execute("update meta set value = ? where key = 'schema_version'", (str(version),))
    c.commit()
c = sqlite3.connect("foreign.db")
c.execute("create table t (a)")
c.commit()
PY
refuse 1 "newer.db: made by a newer jpt (schema 99" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o newer.db
refuse 1 "newer.db: made by a newer jpt (schema 99" "$JPT" report newer.db -o out
refuse 1 "foreign.db" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -o foreign.db
refuse 1 "foreign.db" "$JPT" report foreign.db -o out

# values
refuse 2 "-n 0" "$JPT" bench -m "$model" -t ok.jsonl -s greedy -n 0 -o x.db
refuse 2 "--blocks -1" "$JPT" bench -m "$model" -t ok.jsonl -s greedy --blocks -1 -o x.db
refuse 2 "--seed -1" "$JPT" generate -m "$model" -p x --seed -1
refuse 2 "did you mean 'top_p'?" "$JPT" bench -m "$model" -t ok.jsonl -s top-p:top_q=0.9 -o x.db
refuse 2 "out of range" "$JPT" bench -m "$model" -t ok.jsonl -s 'sample:temperature={0.5,-1}' -o x.db
refuse 2 "nonsense" "$JPT" bench -m "$model" -t ok.jsonl -s sample:temperature=nonsense -o x.db
refuse 2 "top_p={0.8" "$JPT" bench -m "$model" -t ok.jsonl -s 'top-p:top_p={0.8' -o x.db
[ ! -e x.db ] || bad "a refused bench left a file"

# Ctrl-C in the middle, a second process meanwhile, kill -9, and on to the end
python3 -c 'for i in range(1500): print("{\"prompt\": \"tell me %d\"}" % i)' >many.jsonl
bench -t many.jsonl -s sample -n 200 -o many.db &
pid=$!
for _ in $(seq 100); do [ -s many.db ] && grep -q '^bench: ' log && break; sleep 0.1; done
refuse 1 "many.db" "$JPT" bench -m "$model" -t many.jsonl -s sample -n 200 -o many.db
jpt=$(pgrep -P $pid -x jpt || echo $pid)
kill -INT "$jpt"
wait $pid
[ $? -eq 130 ] || bad "Ctrl-C: $(cat log)"
grep -q "what is finished is kept" log || bad "Ctrl-C: $(cat log)"
first=$(count many.db)
[ "$first" -gt 0 ] && [ "$first" -lt 1500 ] || bad "after Ctrl-C: $first rows"
bench -t many.jsonl -s sample -n 200 -o many.db &
pid=$!
sleep 0.5
kill -9 "$(pgrep -P $pid -x jpt || echo $pid)" 2>/dev/null
wait $pid 2>/dev/null
second=$(count many.db)
[ "$second" -ge "$first" ] || bad "kill -9 lost rows: $first, then $second"
bench -t many.jsonl -s sample -n 200 -o many.db || bad "to the end: $(cat log)"
[ "$(count many.db)" = 1500 ] || bad "rows at the end: $(count many.db)"
bench -t many.jsonl -s sample -n 200 -o whole.db || bad "whole: $(cat log)"
python3 - <<'PY' || bad "a killed bench ends with other rows"
import sqlite3
rows = [sqlite3.connect(f).execute("select item_index, seed, token_ids_json, text, stop_reason from request order by item_index").fetchall() for f in ("many.db", "whole.db")]
assert len(rows[0]) == 1500 and rows[0] == rows[1]
PY
[ $fails -eq 0 ]
