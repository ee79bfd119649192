# jpt pull of data sets: offline, from a folder, from a mirror (a local server), half downloads, wrong files: one clear line each.
# The part with real data sets needs JPT_DATA.
set -u
dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$dir"' EXIT
export JPT_HOME=$dir/home
data=${JPT_DATA:-}
unset JPT_DATA JPT_MIRROR
fails=0
bad() { echo "FAIL: $*"; fails=$((fails + 1)); }
refuse() { # STATUS TEXT COMMAND...: one line on stderr that holds TEXT, what pull says about the data set aside
    want=$1 text=$2
    shift 2
    out=$("$@" 2>&1 >/dev/null </dev/null)
    got=$?
    lines=$(grep -vc '^pull: ' <<<"$out")
    [ $got -eq "$want" ] && grep -qF -- "$text" <<<"$out" && [ "$lines" -eq 1 ] || bad "$* -> exit $got (want $want), $lines lines: $out"
}
refuse 1 "cannot reach 127.0.0.1:1" "$JPT" pull wikinews --mirror http://127.0.0.1:1
refuse 1 "--from DIR" env JPT_MIRROR=http://127.0.0.1:1/ "$JPT" pull wikinews
refuse 2 "did you mean 'wikinews'?" "$JPT" pull wikinew
refuse 2 "did you mean 'wikinews'?" "$JPT" list datasets wikinew
refuse 2 "did you mean 'datasets'?" "$JPT" list datsets
refuse 1 "holds neither wikinews/prompts500.jsonl nor prompts500.jsonl" "$JPT" pull wikinews --from "$dir"
refuse 1 "/nonexistent: no such folder" "$JPT" pull wikinews --from /nonexistent
refuse 1 "jpt pull wikinews" "$JPT" pull --path wikinews
refuse 1 "(gsm8k/train.jsonl; JPT_DATA is $dir): jpt pull gsm8k-train" env JPT_DATA="$dir" "$JPT" bench -m "$JPT_SOURCE_DIR/tests/golden/logits_tiny_llama.gguf" -t gsm8k-5shot-harness -s greedy -o "$dir/x.db"
mkdir "$dir/mine"
echo '{"instructions": "a", "gold_ref": "b"}' >"$dir/mine/prompts500.jsonl"
refuse 1 "half a file" "$JPT" pull wikinews --from "$dir/mine"
"$JPT" list datasets | grep -q "licence: MIT" || bad "list datasets: no licence"
"$JPT" list datasets | grep -q "cite Cobbe et al. 2021" || bad "list datasets: no citation"
"$JPT" list datasets gsm8k | grep -q "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14" || bad "list datasets NAME: no hash"

if [ -n "$data" ]; then
    ln -s "$data" "$dir/served"
    mkfifo "$dir/port"
    python3 "$JPT_SOURCE_DIR/tests/support/range_server.py" "$dir" >"$dir/port" &
    server=$!
    read -r port <"$dir/port"
    url=http://127.0.0.1:$port/served
    "$JPT" pull wikinews gsm8k --mirror "$url" -q || bad "pull from a mirror"
    cmp -s "$data/gsm8k/test.jsonl" "$JPT_HOME/data/gsm8k/test.jsonl" || bad "what a mirror gave"
    mkdir -p "$dir/halves/gsm8k" && head -c 1000 "$data/gsm8k/test.jsonl" >"$dir/halves/gsm8k/test.jsonl"
    JPT_DATA=$dir/halves "$JPT" pull --path gsm8k >/dev/null || bad "half a file under JPT_DATA hides a whole one in the cache"
    [ "$("$JPT" pull --path wikinews)" = "$JPT_HOME/data/wikinews/prompts500.jsonl" ] || bad "--path"
    "$JPT" list datasets | grep -q "^wikinews .*, here" || bad "list datasets does not say here"
    refuse 1 "cut off after 2000 bytes" "$JPT" pull wikinews -f --mirror "http://127.0.0.1:$port/cut/2000/served"
    [ "$(wc -c <"$JPT_HOME/data/wikinews/prompts500.jsonl.part")" = 2000 ] || bad "a partial file is kept"
    "$JPT" pull wikinews -f --mirror "$url" -q || bad "resume"
    grep -q "bytes=2000-" "$dir/.log" || bad "resume did not ask for the rest: $(tail -1 "$dir/.log")"
    "$JPT" pull wikinews --mirror http://127.0.0.1:1 -q || bad "what is here needs no network"
    "$JPT" pull multi30k humaneval mbpp wmt16 wmt22 code2text wikitext wikitext-2-raw --from "$data" -q || bad "pull --from"
    printf x | dd of="$JPT_HOME/data/gsm8k/test.jsonl" bs=1 seek=9 conv=notrunc status=none
    refuse 1 "jpt pull gsm8k --force" "$JPT" pull --path gsm8k
    "$JPT" pull gsm8k --from "$data" -q && "$JPT" pull --path gsm8k >/dev/null || bad "a damaged file is fetched again"
else
    echo "without JPT_DATA the real data sets are left out"
fi
[ $fails -eq 0 ]
