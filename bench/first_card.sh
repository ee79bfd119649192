#!/usr/bin/env bash
# A first study on a card in one go: jpt calibrate, plans/first-card.yaml, then report, audit and export, in at most nine minutes.
# usage: bench/first_card.sh MODEL [FOLDER]     MODEL: a GGUF file or a name; FOLDER (default studies/first-card) gets everything
# The same command again resumes (results.db and calibration.jsonl in FOLDER); time that runs out, Ctrl-C or TERM end the study early,
# and what there is by then is reported, audited and exported.  Needs jpt, bash and coreutils.
#   JPT=jpt             the program; JPT_LIBS=DIR: its shared libraries, where the machine has none (ldd names them)
#   MINUTES=9           for everything       CALIBRATE=60  seconds of jpt calibrate, 0: none
#   CALIBRATE_MODEL=FILE  another model to calibrate with: one that the card is meant for, where MODEL is small for it
#   PLAN=FILE           another plan         DEVICE=cuda METER=auto ARGS="--limit 8"  further options of jpt bench
set -uo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
model=$1 out=${2:-$top/studies/first-card} jpt=${JPT:-jpt} plan=${PLAN:-$top/plans/first-card.yaml} device=${DEVICE:-cuda}
end=$((SECONDS + $(printf '%.0f' "$(echo "${MINUTES:-9}" | awk '{print $1 * 60}')")))
[ -z "${JPT_LIBS:-}" ] || export LD_LIBRARY_PATH=$JPT_LIBS${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export JPT_TASKS=${JPT_TASKS:-$top/tasks}
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
[ ! -f "$model" ] || export JPT_HOME=$out # keeps calibration.jsonl; a name is looked up in the usual folder
say() { echo "first_card: $(date +%T) $*" >&2; }
common=(-m "$model" --device "$device" --meter "${METER:-auto}")
[ "${METER:-auto}" = model ] || common+=(--require-energy) # no study of a card without its joules
rc=0 child=
stop() { say "told to stop"; rc=130; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null; }
trap stop INT TERM HUP
run() { # SECONDS COMMAND...: TERM after so long, KILL when that does not help; waits through signals
    timeout -k 10 "$1" "${@:2}" &
    child=$!
    local r
    while :; do
        wait "$child"
        r=$?
        kill -0 "$child" 2>/dev/null || break
    done
    child=
    return $r
}

"$jpt" doctor >"$out/doctor.txt" 2>&1
tail=20 # seconds kept for the report, which takes ten, and for jpt to end
if [ "${CALIBRATE:-60}" != 0 ] && [ ! -s "$out/calibrate.txt" ]; then
    say "calibrating"
    left=$((end - SECONDS - tail > 1 ? end - SECONDS - tail : 1)) # 0 would be no limit
    if run $left "$jpt" calibrate "${common[@]}" ${CALIBRATE_MODEL:+-m "$CALIBRATE_MODEL"} --seconds "${CALIBRATE:-60}" >"$out/calibrate.part"; then
        mv "$out/calibrate.part" "$out/calibrate.txt"
        cat "$out/calibrate.txt"
    else
        say "no calibration: cells will show no floor" # the study is worth its joules without
    fi
fi
if [ $rc -eq 0 ]; then
    left=$((end - SECONDS - tail > 1 ? end - SECONDS - tail : 1))
    say "the study, $left s at most"
    # shellcheck disable=SC2086
    run "$left" "$jpt" bench "$plan" "${common[@]}" ${ARGS:-} -o "$out/results.db"
    r=$?
    [ $rc -ne 0 ] || rc=$r
    [ $r -ne 124 ] && [ $r -ne 130 ] && [ $rc -ne 130 ] || say "cut short: what is finished is reported; the same command goes on from there"
fi
trap '' INT TERM HUP
[ -f "$out/results.db" ] || { say "no study came of it"; exit $((rc ? rc : 1)); }
"$jpt" status "$out/results.db" | tee "$out/status.txt"
"$jpt" audit "$out/results.db" >"$out/audit.txt"
say "audit: exit $?, $(grep -c ' holds, [1-9]' "$out/audit.txt") rules hold, $(grep -c '^FAILED' "$out/audit.txt") failures"
"$jpt" report "$out/results.db" -o "$out/report" >/dev/null || rc=1
"$jpt" export "$out/results.db" -o "$out/export" >/dev/null || rc=1
"$jpt" compare "$out/results.db" greedy | tee "$out/compare.txt"
say "done after $SECONDS s, exit $rc: $out"
exit $rc
