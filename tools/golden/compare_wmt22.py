#!/usr/bin/env python3
"""BLEU, chrF, chrF++, TER and ROUGE of `jpt score` against sacreBLEU and rouge-score on WMT22: four directions, system-like outputs
(system_like.py), every corpus and every sentence; prints a table of the largest differences and exits 1 above 1e-6.

Needs sacrebleu, rouge-score.  Run: compare_wmt22.py JPT DATA [SEGMENTS_OF_TER [SEGMENTS]]     DATA holds wmt22/; 400 segments of TER, all of the others
"""
import json, logging, os, subprocess, sys, tempfile
import rouge_score.rouge_scorer, sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from system_like import system_like

logging.disable(logging.WARNING)
jpt, data = sys.argv[1:3]
ter_segments, segments = (int(v) for v in (sys.argv[3:] + ["400", "100000"][len(sys.argv) - 3 :])[:2])
make = {"bleu": BLEU, "chrf": CHRF, "chrf++": CHRF, "ter": TER}


def read(name):
    return [line.rstrip() for line in open(os.path.join(data, "wmt22", "generaltest2022." + name), encoding="utf-8", newline="\n")][:segments]


def configs(target):
    for t in ("13a", "intl", "zh", "char", "none"):
        yield "bleu", {"tokenize": t}, ["--tokenize", t]
    yield "bleu", {"lowercase": True, "smooth_method": "floor"}, ["--lowercase", "--smooth", "floor"]
    yield "bleu", {"smooth_method": "add-k"}, ["--smooth", "add-k"]
    yield "bleu", {"smooth_method": "none"}, ["--smooth", "none"]
    yield "chrf", {}, []
    yield "chrf++", {"word_order": 2}, []
    yield "chrf++", {"word_order": 2, "lowercase": True, "whitespace": True, "eps_smoothing": True}, ["--lowercase", "--chrf-whitespace", "--chrf-eps-smoothing"]
    yield "ter", {}, []
    yield "ter", {"normalized": True, "asian_support": True}, ["--ter-normalized", "--ter-asian-support"]
    yield "ter", {"no_punct": True, "case_sensitive": True}, ["--ter-no-punct", "--ter-case-sensitive"]


def score(*args):
    return [json.loads(line) for line in subprocess.run([jpt, "score", *args, "--json"], check=True, capture_output=True, text=True).stdout.splitlines()]


worst, cases = {}, {}


def note(metric, difference, n=1):
    worst[metric] = max(worst.get(metric, 0), difference)
    cases[metric] = cases.get(metric, 0) + n


with tempfile.TemporaryDirectory() as tmp:
    def save(name, lines):
        path = os.path.join(tmp, name)
        open(path, "w", encoding="utf-8", newline="\n").write("".join(line + "\n" for line in lines))
        return path

    for pair, refs in (("de-en", ["ref.A.en", "ref.B.en"]), ("en-de", ["ref.A.de", "ref.B.de"]), ("zh-en", ["ref.A.en", "ref.B.en"]), ("en-zh", ["ref.A.zh"])):
        texts = [read("%s.%s" % (pair, r)) for r in refs]
        for source, amount in ((0, 0.25), (len(texts) - 1, 0.5)):
            hyp = system_like(texts[source], 2022 + source, amount, pair == "en-zh")
            for metric, options, flags in configs(pair):
                n = ter_segments if metric == "ter" else len(hyp)
                for use in {1, len(texts)}:
                    h, r = hyp[:n], [t[:n] for t in texts[:use]]
                    files = ["--hyp", save("hyp", h), "--ref", *[save("ref%d" % i, t) for i, t in enumerate(r)], *flags]
                    m = make[metric](**options)
                    stats = m._extract_corpus_statistics(h, r)
                    got = score(metric, *files)[0]
                    assert got["signature"] == str(m.get_signature()), (got["signature"], str(m.get_signature()))
                    note(metric, abs(got["score"] - m._aggregate_and_compute([list(s) for s in stats]).score))
                    sentence = make[metric](**options, **({"effective_order": True} if metric == "bleu" else {}))
                    got = score(metric, *files, "--sentence")
                    assert len(got) == len(h)
                    for g, s in zip(got, stats):
                        note(metric, abs(g["score"] - sentence._aggregate_and_compute([list(s)]).score))
            if pair.endswith("en"):
                for stem in (False, True):
                    scorer = rouge_score.rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"], use_stemmer=stem)
                    got = score("rouge", "--hyp", save("hyp", hyp), "--ref", save("ref0", texts[0]), *(["--stem"] if stem else []))[0]
                    want = [scorer.score(t, h) for t, h in zip(texts[0], hyp)]
                    for key in want[0]:
                        note("rouge", abs(got[key] - sum(w[key].fmeasure for w in want) / len(want)))
            print(pair, "output", 1 + (source > 0), "done", file=sys.stderr)
print("sacreBLEU %s" % sacrebleu.__version__)
for metric in worst:
    print("%-8s %7d scores, largest difference %.1e" % (metric, cases[metric], worst[metric]))
sys.exit(max(worst.values()) > 1e-6)
