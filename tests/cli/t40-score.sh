# jpt score: every metric from files, every refusal in one line.  $JPT is the program.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
says() { # TEXT COMMAND...: succeeds, and a line of its output is TEXT
    want=$1
    shift
    out=$("$@" 2>&1) || bad "$* -> exit $?: $out"
    grep -qxF -- "$want" <<<"$out" || bad "$*: no line '$want' in: $out"
}
refuse() { # STATUS TEXT COMMAND...: one line on stderr that holds TEXT
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    if [ $got -ne "$want" ] || ! grep -qF -- "$text" <<<"$out" || [ "$(wc -l <<<"$out")" -ne 1 ]; then
        bad "$* -> exit $got (want $want): $out"
    fi
}
printf '%s\n' 'The cat sat on the mat.' 'There is a dog, in the garden!' 'It costs 3.50 euros - not 4.' '' 'Hello' >hyp
printf '%s\n' 'The cat is sitting on the mat.' 'A dog is in the garden.' 'It costs 3.50 euros, not 4.' 'Empty here' 'Hello there' >a
printf '%s\n' 'A cat sat on the mat.' "There's a dog in the garden!" 'The price is 3.50 euros - not 4.' 'Nothing' 'Hello' >b
printf '%s\n' 'The cat sits on the mat.' 'A dog is in the garden!' 'It costs 3.50 euros, not 4!' 'Empty' 'Hello there' >s2

# sacreBLEU 2.6.0's values of these texts
says 'BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 33.67' "$JPT" score bleu --ref a --hyp hyp
says 'BLEU|nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 71.74' "$JPT" score bleu --ref a b --hyp hyp
says 'BLEU|nrefs:2|case:mixed|eff:no|tok:intl|smooth:exp|version:2.6.0 = 67.69' "$JPT" score --ref a --ref b --hyp hyp --tokenize intl bleu
says 'BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:add-k[1.00]|version:2.6.0 = 37.97' "$JPT" score bleu --ref a --hyp hyp --smooth add-k
says 'BLEU|nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:2.6.0 = 34.85' "$JPT" score bleu --ref a --hyp hyp --lowercase
says 'BLEU|nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 33.67 (μ = 31.65 ± 15.42)' "$JPT" score bleu --ref a --hyp hyp --confidence
says 'BLEU|nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.6.0 = 36.79' "$JPT" score bleu --ref a --hyp hyp --sentence
says 'chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0 = 55.56' "$JPT" score bleu,chrf,ter --ref a --hyp hyp
says 'TER|nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:2.6.0 = 47.83' "$JPT" score bleu,chrf,ter --ref a --hyp hyp
says 'TER|nrefs:1|case:lc|tok:tercom|norm:yes|punct:yes|asian:no|version:2.6.0 = 37.04' "$JPT" score ter --ref a --hyp hyp --ter-normalized
says 'chrF2++|nrefs:2|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0 = 72.92' "$JPT" score chrf++ --ref a b --hyp hyp
says 's2: BLEU|nrefs:1|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0 = 68.20 (μ = 66.54 ± 23.51) (p = 0.0010)*' "$JPT" score bleu --ref a --hyp hyp s2 --paired-bs
says 's2: chrF2|nrefs:1|ar:10000|seed:12345|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0 = 77.96 (p = 0.0001)*' "$JPT" score chrf --ref a --hyp hyp s2 --paired-ar
"$JPT" score bleu --ref a --hyp hyp s2 --paired-bs --json >j || bad "json"
python3 - <<'PY' || bad "paired JSON: $(cat j)"
import json
base, s2 = map(json.loads, open("j"))
assert base["baseline"] and abs(base["score"] - 33.66724330941169) < 1e-9 and base["hyp_len"] == 25 and base["matches"] == [19, 11, 6, 2]
assert abs(s2["score"] - 68.19529941745053) < 1e-9 and abs(s2["p"] - 1 / 1001) < 1e-12 and s2["system"] == "s2" and s2["segments"] == 5
PY

# rouge-score 0.1.2, CodeXGLUE, lm-evaluation-harness, human_eval, mauve-text
printf 'A quick brown dog jumps over the fox, lazily.\n' >rh
printf 'The quick brown fox jumps over the lazy dog.\n' >rr
says 'rouge1 0.7778' "$JPT" score rouge --ref rr --hyp rh
says 'rougeL 0.5556' "$JPT" score rouge --ref rr --hyp rh
says 'rouge2 0.3750' "$JPT" score rouge --ref rr --hyp rh
printf '"w1 w2 w6 w7 w8\\nw1 w3 w8 w9 w5"\n' >h.jsonl
printf '{"reference":"w1 w2 w3 w4 w5"}\n' >r.jsonl
says 'rougeLsum 0.5333' "$JPT" score rouge --ref r.jsonl --hyp h.jsonl
printf 'Returns the sum of two numbers\nOpens the file for reading, if it exists.\n' >ch
printf 'Return the sum of two numbers .\nOpens a file\n' >cr
says 'smoothed_bleu_4 41.2787' "$JPT" score code-bleu --ref cr --hyp ch
printf '%s\n' '{"text":"so 3*5=15.\n#### 15"}' '{"text":["The answer is $1,234.00.","#### 1234","it is 1234"]}' '{"text":"none"}' >g.jsonl
printf '%s\n' '{"answer":"x\n#### 15"}' '{"answer":"y #### 1,234"}' '{"answer":"#### 7"}' >ga.jsonl
says 'strict_match 0.4444' "$JPT" score gsm8k --hyp g.jsonl --ref ga.jsonl
says 'flexible_extract 0.5556' "$JPT" score gsm8k --hyp g.jsonl --ref ga.jsonl
says 'numeric 0.6667' "$JPT" score gsm8k --hyp g.jsonl --ref ga.jsonl
says 'majority 0.6667' "$JPT" score gsm8k --hyp g.jsonl --ref ga.jsonl
says 'invalid_flexible 0.3333' "$JPT" score gsm8k --hyp g.jsonl --ref ga.jsonl
printf '10 3\n[true,false,false,true,false,false,true,false,false,false]\n' >p
says 'pass@5 0.9167' "$JPT" score passk --hyp p --k 1,5
says 'pass@1 0.3000' "$JPT" score passk --hyp p --k 1,5
printf '%s\n' 'the cat sat on the mat' 'the cat sat on the hat' 'a dog ran in the park' >sb
says 'self_bleu 53.3613' "$JPT" score selfbleu --hyp sb
printf '%s\n' 'a b c a b c a b c d' 'the cat sat on the mat and the cat sat on the hat' >dv
says 'diversity_simctg 0.2064' "$JPT" score diversity --hyp dv
says 'diversity 0.2548' "$JPT" score diversity --hyp dv
says 'truncated 0.5000' "$JPT" score diversity --hyp dv --cap 11
printf '1 2\n1 3\n-1 2\n' >m1
printf '1,2\n1,3\n-1,2' >m2
says 'mauve 1.0000' "$JPT" score mauve --ref m1 --hyp m2
python3 - <<'PY'
import struct
head = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"
head += " " * (63 - len(head) - 10 - 0) + "\n"
open("m.npy", "wb").write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + struct.pack("<6f", 1, 2, 1, 3, -1, 2))
PY
says 'mauve 1.0000' "$JPT" score mauve --ref m.npy --hyp m2

# refusals
head -4 a >short
refuse 1 'short has 4 lines, hyp has 5: they must belong together line by line' "$JPT" score bleu --ref a short --hyp hyp
refuse 1 '/nonexistent: cannot read' "$JPT" score ter --ref a --hyp /nonexistent
printf 'ok\nbad \xff\n' >utf
refuse 1 'utf:2: not valid UTF-8' "$JPT" score bleu --ref utf --hyp utf
: >empty
refuse 1 'empty: holds no line' "$JPT" score bleu --ref empty --hyp empty
printf '{"txt":"a"}\n' >f.jsonl
refuse 1 "f.jsonl:1: has no field 'text'; --hyp-field names another" "$JPT" score bleu --ref f.jsonl --hyp f.jsonl
says 'BLEU|nrefs:1|case:mixed|eff:no|tok:none|smooth:none|version:2.6.0 = 0.00' "$JPT" score bleu --ref f.jsonl --hyp f.jsonl --hyp-field txt --ref-field txt --tokenize none --smooth none
printf '{"text":\n' >g2.jsonl
refuse 1 'g2.jsonl:1: no JSON' "$JPT" score bleu --ref g2.jsonl --hyp g2.jsonl
printf '["a","b"]\n' >l.jsonl
refuse 1 'lists of texts are for gsm8k' "$JPT" score bleu --ref l.jsonl --hyp l.jsonl
refuse 2 "--tokenize moses: expected 13a" "$JPT" score bleu --ref a --hyp hyp --tokenize moses
refuse 2 "--smooth exp=3: expected" "$JPT" score bleu --ref a --hyp hyp --smooth exp=3
refuse 2 "a paired test compares systems" "$JPT" score bleu --ref a --hyp hyp --paired-bs
refuse 2 "exclude each other" "$JPT" score bleu --ref a --hyp hyp s2 --paired-bs --paired-ar
refuse 2 "needs --hyp FILE and --ref FILE" "$JPT" score rouge --hyp hyp
refuse 2 "selfbleu takes no --ref" "$JPT" score selfbleu --hyp hyp --ref a
refuse 2 "can be asked for together" "$JPT" score bleu,rouge --hyp hyp --ref a
refuse 2 "did you mean 'chrf'?" "$JPT" score bleu,chrfs --hyp hyp --ref a
refuse 2 "--k 0: expected numbers" "$JPT" score passk --hyp p --k 0
refuse 1 "p:1: 10 samples of which 3 passed give no pass@11" "$JPT" score passk --hyp p --k 11
printf '3 x\n' >px
refuse 1 "px:1: expected 'n c'" "$JPT" score passk --hyp px
printf '[1,0,1]\n[true,false]\n' >p10
says 'pass@1 0.5833' "$JPT" score passk --hyp p10
printf '["true"]\n' >ps
refuse 1 "ps:1: expected 'n c' (samples, passed) or a list" "$JPT" score passk --hyp ps
printf '99999999999999999999 3\n' >pl
refuse 1 "pl:1: expected 'n c'" "$JPT" score passk --hyp pl
refuse 1 "a:1: the reference holds no number" "$JPT" score gsm8k --hyp hyp --ref a
refuse 1 "a:1: the reference holds no number" "$JPT" score exact-match --hyp hyp --ref a
printf 'it is 18\n' >eh
printf '{"answer":18}\n' >en.jsonl
says 'exact-match 1.0000' "$JPT" score exact-match --hyp eh --ref en.jsonl
says 'flexible_extract 1.0000' "$JPT" score gsm8k --hyp eh --ref en.jsonl
refuse 1 "en.jsonl:1: expected a string" "$JPT" score bleu --hyp eh --ref en.jsonl
refuse 2 "--tokenize means nothing for chrf" "$JPT" score chrf --ref a --hyp hyp --tokenize zh
refuse 2 "--smooth means nothing for selfbleu" "$JPT" score selfbleu --hyp sb --smooth none
refuse 2 "--confidence means nothing for mauve" "$JPT" score mauve --ref m1 --hyp m2 --confidence
says 'BLEU|nrefs:1|case:mixed|eff:no|tok:char|smooth:exp|version:2.6.0 = 58.21' "$JPT" score bleu,chrf --ref a --hyp hyp --tokenize char
refuse 2 "bleu is there twice" "$JPT" score bleu,bleu --ref a --hyp hyp
refuse 2 "--confidence is of the whole" "$JPT" score bleu --ref a --hyp hyp --sentence --confidence=10
printf '999999999999 5\n' >pm
refuse 1 "pm:1: 999999999999 samples of a task" "$JPT" score passk --hyp pm
# ends of lines as Python strips them: Unicode white space goes, NUL stays (values: sacreBLEU 2.6.0)
printf 'a b c\nd e g\n' >ends
printf 'a\0\nc\0\n' >nul
printf 'ab c\302\240\nd e f\n' >nbsp
says 'chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0 = 8.93' "$JPT" score chrf --hyp nul --ref ends
says 'chrF2|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:yes|version:2.6.0 = 44.78' "$JPT" score chrf --chrf-whitespace --hyp nbsp --ref ends
# Ctrl-C ends it wherever the arithmetic is
"$JPT" score bleu --ref a --hyp hyp --confidence=10000000 >/dev/null & pid=$!
sleep 0.2; kill -INT $pid; sleep 0.2
kill -0 $pid 2>/dev/null && kill -KILL $pid && bad "score goes on after SIGINT"
refuse 1 "takes at least 2, not 1" "$JPT" score selfbleu --hyp rh
printf '1 2\n1\n' >ragged
refuse 1 "ragged:2: 1 values, 2 in the rows before" "$JPT" score mauve --ref ragged --hyp m1
printf '1 2 3\n1 2 3\n' >wide
refuse 1 "m1 has 2 features a row, wide has 3" "$JPT" score mauve --ref m1 --hyp wide
printf '1 2\n1 two\n' >word
refuse 1 "word:2: 'two" "$JPT" score mauve --ref word --hyp m1
head -c 70 m.npy >cut.npy
refuse 1 "cut.npy: " "$JPT" score mauve --ref cut.npy --hyp m1
[ $fails -eq 0 ]
