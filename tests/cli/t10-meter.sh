# jpt meter: streams, exit status, signals, JSON.
set -u
fail() { echo "FAIL: $*"; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
out=$("$JPT" meter --meter model -o "$dir/m" -- sh -c 'echo hello; exit 7'); rc=$?
[ "$out" = hello ] || fail "the command's output came as '$out'"
[ $rc -eq 7 ] || fail "exit status $rc, not 7"
grep -q "modelled, not measured" "$dir/m" || fail "does not say modelled: $(cat "$dir/m")"
"$JPT" meter --meter model --json --repeat 3 -o "$dir/j" -- sh -c 'i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done' || fail "repeat"
python3 - "$dir/j" <<'PY' || fail "JSON"
import json, sys
j = json.load(open(sys.argv[1]))
assert j["n"] == 3 and j["modelled"] is True and j["energy_source"] == "model" and j["energy_j"] > 0 and j["energy_ci95_half_j"] is not None and j["exit_status"] == 0, j
PY
"$JPT" meter --meter none --json -o "$dir/j" -- true; grep -q '"energy_j":null' "$dir/j" || fail "an absent energy is not null: $(cat "$dir/j")"
"$JPT" meter --meter model --require-energy -- true 2>/dev/null; [ $? -eq 3 ] || fail "--require-energy"
"$JPT" meter --meter model -- /nonexistent-command 2>"$dir/e"; [ $? -eq 127 ] || fail "127"
grep -q "cannot start '/nonexistent-command'" "$dir/e" || fail "message: $(cat "$dir/e")"
"$JPT" meter --meter model -- sh -c 'kill -TERM $$' 2>/dev/null; [ $? -eq 143 ] || fail "a killed command is 128 + signal"
"$JPT" meter --meter model -- sh -c 'trap "exit 5" TERM; while :; do sleep 0.05; done' 2>/dev/null &
pid=$!
sleep 0.4
kill -TERM $pid
wait $pid; [ $? -eq 5 ] || fail "TERM is not passed on"
"$JPT" meter --meter model -- sh -c 'trap "exit 6" USR1; while :; do sleep 0.05; done' 2>/dev/null &
pid=$!
sleep 0.4
kill -USR1 $pid
wait $pid; [ $? -eq 6 ] || fail "USR1 is not passed on"
"$JPT" meter --meter model -r 5 -- sh -c 'trap "exit 0" TERM; i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 0.05; done; echo late' >"$dir/late" 2>/dev/null &
pid=$!
sleep 0.4
kill -TERM $pid
wait $pid
[ ! -s "$dir/late" ] || fail "repeats go on after a signal"
"$JPT" meter --meter model -o /nonexistent/x -- sh -c 'echo ran' >"$dir/ran" 2>"$dir/e" && fail "an output that cannot be written"
[ ! -s "$dir/ran" ] || fail "the command ran although its result cannot be written"
# a terminal's Ctrl-C reaches the command once
python3 - "$JPT" <<'PY' || fail "Ctrl-C on a terminal"
import os, pty, sys, time
try:
    pid, fd = pty.fork()
except OSError as e:  # a bare container may have none
    sys.exit(print(f"skipped: Ctrl-C on a terminal: {e}"))
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "meter", "--meter", "model", "--", "sh", "-c",
                           "n=0; trap 'n=$((n+1))' INT; echo ready; i=0; while [ $i -lt 30 ]; do sleep 0.05; i=$((i+1)); done; echo SIGINTs $n"])
out = b""
while b"ready" not in out:
    out += os.read(fd, 1000)
os.write(fd, b"\x03")
try:
    while True:
        out += os.read(fd, 1000)
except OSError:
    pass
os.waitpid(pid, 0)
assert b"SIGINTs 1" in out, out
PY
# a scripted GPU: the counter moves 1 J a call
seq 0 4000 | awk '{print "energy " 1000*$1}' >"$dir/script"
JPT_NVML_LIB=$JPT_FAKE_NVML_LIB JPT_FAKE_NVML="$dir/script" "$JPT" meter --json -o "$dir/j" -- sleep 0.3 || fail "fake NVML"
grep -q '"energy_source":"nvml_counter"' "$dir/j" || fail "auto does not take the GPU's counter: $(cat "$dir/j")"
grep -q '"modelled":false' "$dir/j" || fail "measured"
"$JPT" doctor | grep -q "sandbox" || fail "doctor"
"$JPT" doctor --json | python3 -c 'import json,sys; j=json.load(sys.stdin); assert any(m["meter"]=="model" and m["available"] for m in j["meters"])' || fail "doctor --json"
exit 0
