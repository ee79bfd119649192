#!/usr/bin/env python3
"""Golden values of MAUVE from the mauve-text package: tests/golden/mauve.json.

Histograms go through the package's own functions for curve and integral; features, made by a formula that the test repeats in C, through
compute_mauve as a whole (normalising, scikit-learn's PCA, faiss's k-means).  Equal histograms whose curve is exactly (1, 1) are left
out: there the package's sort decides between 1 and 0.75.
Needs mauve-text, faiss-cpu, scikit-learn.  Run: mauve_text.py > tests/golden/mauve.json
"""
import importlib.metadata, json, sys
import mauve, numpy as np
from mauve.compute_mauve import compute_area_under_curve, get_divergence_curve_for_multinomials, get_fronter_integral

M = (1 << 64) - 1


def mix(x):  # splitmix64
    x = (x + 0x9E3779B97F4A7C15) & M
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & M
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & M
    return x ^ x >> 31


def unit(a, i, j):
    return (mix(mix(mix(a) ^ i) ^ j) >> 11) * 2.0**-53 - 0.5


def features(seed, set_number, n, d, groups):
    """Text i belongs to a group, drawn with a lean that depends on the set; groups differ in the leading features."""
    out = np.empty((n, d))
    for i in range(n):
        u = unit(seed, 1000 + set_number, i) + 0.5
        group = int((u * u if set_number else u) * groups)
        scale = 1.0
        for j in range(d):
            out[i, j] = scale * (unit(seed, 7, group * 4096 + j) * 2 + unit(seed, 10 + set_number, i * 4096 + j))
            scale *= 0.9
    return out


def of_counts(p, q):
    p, q = np.array(p), np.array(q)
    out = []
    for add in (0, 0.5):
        hp, hq = (p + add) / (p + add).sum(), (q + add) / (q + add).sum()
        x, y = get_divergence_curve_for_multinomials(hp, hq, np.linspace(1e-6, 1 - 1e-6, 25), 5).T
        a, b = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
        out += [0.5 * float(compute_area_under_curve(x[a], y[a]) + compute_area_under_curve(y[b], x[b])), float(get_fronter_integral(hp, hq))]
    return out


rng = np.random.default_rng(3)
counts = [([5, 3, 2], [2, 3, 5]), ([6, 4, 0], [3, 5, 2]), ([9, 1], [1, 9]), ([5, 5, 0, 0], [0, 0, 5, 5]), ([4, 4, 4], [1, 1, 1])]
counts += [(rng.integers(0, 30, k).tolist(), rng.integers(0, 12, k).tolist()) for k in (8, 50, 200)]
counts = [{"p": p, "q": q, "want": of_counts(p, q)} for p, q in counts]
cases = []
for seed, n_p, n_q, d, groups, buckets in ((1, 300, 300, 24, 8, "auto"), (2, 200, 260, 40, 20, "auto"), (3, 100, 90, 260, 6, "auto"), (4, 400, 400, 12, 3, "auto"),
                                           (5, 150, 150, 16, 12, 60), (6, 300, 300, 10, 4, 2), (7, 40, 25, 8, 4, "auto")):
    r = mauve.compute_mauve(p_features=features(seed, 0, n_p, d, groups), q_features=features(seed, 1, n_q, d, groups), num_buckets=buckets)
    cases.append({"seed": seed, "n_p": n_p, "n_q": n_q, "d": d, "groups": groups, "buckets": 0 if buckets == "auto" else buckets, "used": r.num_buckets,
                  "want": [float(v) for v in (r.mauve, r.frontier_integral, r.mauve_star, r.frontier_integral_star)],
                  "p": np.rint(r.p_hist * n_p).astype(int).tolist(), "q": np.rint(r.q_hist * n_q).astype(int).tolist()})
versions = {p: importlib.metadata.version(p) for p in ("mauve-text", "faiss-cpu", "scikit-learn", "numpy")}
json.dump({"made_by": "tools/golden/mauve_text.py", "versions": versions, "counts": counts, "features": cases}, sys.stdout, separators=(",", ":"))
print()
