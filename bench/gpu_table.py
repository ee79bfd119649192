#!/usr/bin/env python3
"""What bench/gpu.sh's results say against their targets.    gpu_table.py RESULTS.jsonl"""
import json, sys

rows = [json.loads(l) for l in open(sys.argv[1]) if l.startswith("{")]
model, w, peer, forward = None, {}, {}, {}
part = rows and rows[0].get("command", "").startswith("SAMPLERS=only")  # what was not asked for is no gap
for r in rows:
    if "model" in r:
        model = r["model"].rsplit("/", 1)[-1].removesuffix(".gguf")
    elif "spec" in r and "tok_s" in r:
        w.setdefault((model, r["spec"], r["batch"], r["prompt"]), []).append(r)
    elif "peer" in r:
        peer[r["peer"]] = r
    elif "forward" in r:
        forward[model] = r
for r in rows:
    if "card" in r:
        print(r["card"], r["date"])
    if "check" in r:
        print(f"{r['check']}: " + ("passed" if r["exit"] == 0 else "SKIPPED" if r["exit"] == 77 else "FAILED (%d)" % r["exit"]) +
              (("" if r["exit"] == 77 else ", a part SKIPPED") + f": {r['skipped']}" if "skipped" in r else ""))
print(f"{'':44s}{'is':>10s}{'wanted':>12s}")


def line(name, value, target, at_most=False, unit=""):
    if value is None:
        if not part:
            print(f"{name:44s}{'-':>10s}{target:>12g} {unit}")
        return
    good = value <= target if at_most else value >= target
    print(f"{name:44s}{value:10.4g}{('<= ' if at_most else '>= ') + format(target, '.4g'):>12s} {unit:8s}{'' if good else '  missed'}")


def get(key, field):
    return sum(r[field] for r in w[key]) / len(w[key]) if key in w else None # of windows repeated, the mean


def ratio(a, b):
    return a / b if a is not None and b is not None else None


for name in ("copy", "gemv-8b", "gemv-1.5b", "gemv-135m"):
    if name in peer and "error" not in peer[name]:
        p = peer[name]
        print(f"{name}: {p['tb_s']:.2f} TB/s, {p['watts']:.0f} W" + (f", {p['tok_s']:.0f} tok/s, {p['j_token']:.3f} J/token" if "tok_s" in p else "") + f", idle {p['idle_w']:.0f} W")
floor = peer.get("gemv-8b", {}).get("j_token")
for m, tok_s, j in (("8b-bf16", 175, 1.04 * floor if floor else 2.8), ("8b-q8_0", 310, 1.65), ("8b-q4_0", 500, 1.0), ("1.5b-bf16", 700, 0.7), ("135m-bf16", 2500, 0.1)):
    line(f"{m} greedy", get((m, "greedy", 1, 16), "tok_s"), tok_s, unit="tok/s")
    line(f"{m} greedy", get((m, "greedy", 1, 16), "j_token"), j, True, "J/token")
b = "8b-bf16"
for spec in sorted({k[1] for k in w if k[0] == b and k[2] == 1 and k[3] == 16 and k[1] != "greedy"}):
    line(f"{spec} / greedy", ratio(get((b, spec, 1, 16), "j_token"), get((b, "greedy", 1, 16), "j_token")), 1.03, True, "J/J")
for spec in sorted({k[1] for k in w if k[0] == b and k[3] == 1024 and k[1] != "greedy"}):
    target = 1.15 if spec.startswith("dola") else 1.30 if "top_k=25" in spec else 1.12 if spec.startswith("contrastive") else 1.20 if "num_beams=10" in spec else 1.10
    line(f"{spec} / greedy, 1 K context", ratio(get((b, spec, 1, 1024), "j_token"), get((b, "greedy", 1, 1024), "j_token")), target, True, "J/J")
line("16 samples, step / step of one", ratio(16 * (get((b, "greedy", 1, 16), "tok_s") or 0) or None, get((b, "greedy", 16, 16), "tok_s")), 1.15, True)
line("16 samples together", get((b, "greedy", 16, 16), "tok_s"), 2400, unit="tok/s")
line("batch 64", get((b, "greedy", 64, 16), "j_token"), 0.12, True, "J/token")
line("prefill of 2,048 tokens", forward[b]["tok_s"] if b in forward else None, 28000, unit="tok/s")
for name, p in peer.items():
    kind, _, of = name.partition("-")
    if kind not in ("hf", "llama"):
        continue
    own = (of if kind == "llama" else of.removesuffix("-compiled") + "-bf16", "greedy", 1, 16)
    print(f"{name}: " + (p["error"] if "error" in p else f"{p['tok_s']:.1f} tok/s, {p['j_token']:.3f} J/token") +
          (f"; jpt {get(own, 'tok_s'):.1f} tok/s, {get(own, 'j_token'):.3f} J/token" if own in w and "error" not in p else ""))
