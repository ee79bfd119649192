#!/usr/bin/env python3
"""Golden values of sacreBLEU's bootstrap intervals and paired tests: tests/golden/paired.json.

The segments are those of tests/golden/corpus.json: the second column is the reference; systems are the first column, the third, and
mixtures of both, so that p-values from tiny to large occur.  Also C5, five small segments with two systems.
NumPy 1 computes most of a resample's score in double precision as jpt does (chrF's and TER's quotients are single: 1e-7); NumPy 2 would
leave all in single (1e-5).
Needs sacrebleu, numpy < 2.  Run in the repository: paired_sacrebleu.py > tests/golden/paired.json
"""
import json, logging, sys
import numpy, sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, _bootstrap_resample, estimate_ci

assert numpy.__version__ < "2"
logging.disable(logging.WARNING)
segments = json.load(open("tests/golden/corpus.json"))["segments"]
n = len(segments)
first, ref, third = ([s[i] for s in segments] for i in range(3))
mixed = {"third": third, "every-4th": [third[i] if i % 4 == 0 else first[i] for i in range(n)], "every-9th": [third[i] if i % 9 == 0 else first[i] for i in range(n)],
         "swapped": [third[i] if i % 4 == 1 else first[i - 1] if i % 12 == 2 else first[i] for i in range(n)], "last": first[:-20] + third[-20:], "same": first}
C5 = [["The cat sat on the mat.", "There is a dog, in the garden!", "It costs 3.50 euros - not 4.", "", "Hello"],
      ["The cat is sitting on the mat.", "A dog is in the garden.", "It costs 3.50 euros, not 4.", "Empty here", "Hello there"],
      ["The cat sits on the mat.", "A dog is in the garden!", "It costs 3.50 euros, not 4!", "Empty", "Hello there"]]
METRICS = {"bleu": lambda: BLEU(), "chrf": lambda: CHRF(), "chrf++": lambda: CHRF(word_order=2), "ter": lambda: TER()}
rows = []
for corpus, base, reference, systems in (("corpus", first, ref, mixed), ("c5", C5[0], C5[1], {"s2": C5[2]})):
    for name in METRICS:
        result = {}
        for kind, count in (("bs", 1000), ("ar", 2000)):
            metric = METRICS[name]()
            metric.num_refs = 1
            metric._ref_cache = metric._cache_references([reference])
            test = PairedTest([("base", base), *systems.items()], {name: metric}, references=None, test_type=kind, n_samples=count)
            signatures, scores = test()
            key = next(k for k in scores if k != "System")
            result[kind] = {"n": count, "signature": str(signatures[key]), "p": [r.p_value for r in scores[key][1:]], "score": [r.score for r in scores[key]]}
            if kind == "bs":
                result[kind] |= {"mean": [float(r.mean) for r in scores[key]], "half_width": [float(r.ci) for r in scores[key]]}
        m = METRICS[name]()
        s = m.corpus_score(base, [reference], n_bootstrap=500)
        rows.append({"corpus": corpus, "metric": name, "systems": list(systems), **result, "confidence": {"n": 500, "mean": s._mean, "half_width": s._ci, "signature": str(m.get_signature())}})
rng = numpy.random.default_rng(12345)
draws = {"seed": 12345, "raw": [hex(int(x)) for x in rng.bit_generator.random_raw(3)], "choice500": numpy.random.default_rng(12345).choice(500, 40).tolist(),
         "choice3": numpy.random.default_rng(7 << 40).choice(3, 40).tolist(), "coins": [int(x) for x in numpy.random.default_rng(12345).integers(2, size=80, dtype=bool)]}
json.dump({"made_by": "tools/golden/paired_sacrebleu.py", "sacrebleu": sacrebleu.__version__, "numpy": numpy.__version__, "c5": C5, "draws": draws, "rows": rows}, sys.stdout,
          ensure_ascii=False, separators=(",", ":"))
print()
