#!/usr/bin/env bash
# jpt score against the Python tools it can stand in for: CPU seconds for the same scores of the same texts.  Of jpt the whole process
# counts (start, reading, scoring; median of 5), of Python the scoring alone, not its start and imports (once).
#   JPT_REFERENCE_PYTHON=... JPT_DATA=... bench/metrics.sh [JPT]      default build/jpt
# The Python needs sacrebleu and rouge-score; JPT_DATA holds wmt22/.
set -euo pipefail
here=$(dirname "$0") jpt=${1:-build/jpt}
: "${JPT_REFERENCE_PYTHON:?a Python with sacrebleu and rouge-score}" "${JPT_DATA:?the folder that holds wmt22/}"
echo "date    $(date -u +%F), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
echo "machine $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1), $(nproc) processors"
echo "command bench/metrics.sh"
PYTHONPATH=$here/../tools/golden "$JPT_REFERENCE_PYTHON" - "$jpt" "$JPT_DATA" <<'PY'
import importlib.metadata, itertools, json, logging, os, resource, statistics, subprocess, sys, tempfile, time
import rouge_score.rouge_scorer
from sacrebleu.metrics import BLEU, CHRF, TER
from system_like import system_like

logging.disable(logging.WARNING)
jpt, data = sys.argv[1:]
N, SELF = 2000, 150
read = lambda name: [line.rstrip() for line in open(os.path.join(data, "wmt22", "generaltest2022." + name), encoding="utf-8", newline="\n")]
refs = list(itertools.islice(itertools.cycle(read("de-en.ref.A.en")), N))
hyp = system_like(refs, 2022, 0.4)
print("texts   %d segments of WMT22 de-en (repeated from 1984 on), %d words; outputs changed by tools/golden/system_like.py" % (N, sum(len(t.split()) for t in hyp)))
print("against sacrebleu %s, rouge-score %s, Python %s\n" % (importlib.metadata.version("sacrebleu"), importlib.metadata.version("rouge-score"), sys.version.split()[0]))


def cpu_of(args):
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        out = subprocess.run([jpt, "score", *args, "--json"], check=True, capture_output=True, text=True).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(times), [json.loads(line) for line in out.splitlines()]


def once(f):
    start = time.process_time()
    value = f()
    return time.process_time() - start, value


total = [0, 0]


def line(what, theirs, ours, difference):
    print("%-34s %9.3f s %9.4f s %7.0f x   difference %.1e" % (what, theirs, ours, theirs / ours, difference))


print("%-34s %11s %11s" % ("", "Python", "jpt"))
with tempfile.TemporaryDirectory() as tmp:
    files = []
    for flag, lines in ("hyp", hyp), ("ref", refs), ("self", hyp[:SELF]):
        path = os.path.join(tmp, flag)
        open(path, "w", encoding="utf-8", newline="\n").write("".join(t + "\n" for t in lines))
        files += ["--" + flag, path]
    pair = files[:4]
    together = 0
    for name, make in ("bleu", BLEU), ("chrf", CHRF), ("chrf++", lambda: CHRF(word_order=2)), ("ter", TER):
        theirs, want = once(lambda: make().corpus_score(hyp, [refs]).score)
        ours, got = cpu_of([name, *pair])
        line(name, theirs, ours, abs(got[0]["score"] - want))
        together += theirs if name != "chrf++" else 0
    ours, _ = cpu_of(["bleu,chrf,ter", *pair])
    line("bleu + chrf + ter", together, ours, 0)
    for stem in (False, True):
        scorer = rouge_score.rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stem)
        theirs, want = once(lambda: [scorer.score(r, h) for r, h in zip(refs, hyp)])
        ours, got = cpu_of(["rouge", *pair, *(["--stem"] if stem else [])])
        line("rouge-1, -2, -L, -Lsum%s" % (", stemmed" if stem else ""), theirs, ours,
             max(abs(got[0][k] - statistics.fmean(w[k].fmeasure for w in want)) for k in want[0]))
    texts, m = hyp[:SELF], BLEU(effective_order=True)
    theirs, want = once(lambda: statistics.fmean(m.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)))
    ours, got = cpu_of(["selfbleu", "--hyp", files[5]])
    line("self-BLEU of %d texts" % SELF, theirs, ours, abs(got[0]["self_bleu"] - want))
    ours, _ = cpu_of(["selfbleu", "--hyp", files[1]])
    print("%-34s %11s %9.4f s" % ("self-BLEU of %d texts" % N, "-", ours))
PY
