"""Golden cases for logits processors and warpers: transformers' own classes on given logits.

Writes tests/golden/select.json: for each case the chain, the logits (as float32 written exactly), the history, and what is
left: ids kept and their scores.  Run: python tools/golden/select_hf.py   (needs torch, transformers 4.46)
"""
import json, os, random, struct
import torch, transformers
from transformers.generation.logits_process import (RepetitionPenaltyLogitsProcessor, NoRepeatNGramLogitsProcessor,
    MinNewTokensLengthLogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper,
    TypicalLogitsWarper, EpsilonLogitsWarper, EtaLogitsWarper)

# torch.sort leaves the order of equal values open (introsort on CPU); stable is the order that jpt defines: of equal scores
# the lower id is the first to go from the nucleus.
_sort = torch.sort
torch.sort = lambda x, **kw: _sort(x, stable=True, **kw)
rng = random.Random(20261123)
KINDS = ["repetition_penalty", "no_repeat_ngram", "min_new_tokens", "temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta"]


def make(kind, value, keep, n_prompt):
    return {"repetition_penalty": lambda: RepetitionPenaltyLogitsProcessor(value), "no_repeat_ngram": lambda: NoRepeatNGramLogitsProcessor(int(value)),
            "min_new_tokens": lambda: MinNewTokensLengthLogitsProcessor(n_prompt, int(value), [0, 1], device="cpu"),
            "temperature": lambda: TemperatureLogitsWarper(float(value)), "top_k": lambda: TopKLogitsWarper(int(value), min_tokens_to_keep=keep),
            "top_p": lambda: TopPLogitsWarper(float(value), min_tokens_to_keep=keep), "min_p": lambda: MinPLogitsWarper(float(value), min_tokens_to_keep=keep),
            "typical": lambda: TypicalLogitsWarper(float(value), min_tokens_to_keep=keep), "epsilon": lambda: EpsilonLogitsWarper(float(value), min_tokens_to_keep=keep),
            "eta": lambda: EtaLogitsWarper(float(value), min_tokens_to_keep=keep, device="cpu")}[kind]()


def logits(shape, n):
    if shape == "gauss": z = [rng.gauss(0, 3) for _ in range(n)]
    elif shape == "peaked": z = [rng.gauss(0, 1) for _ in range(n)]; z[rng.randrange(n)] = 30.0
    elif shape == "flat": z = [1.5] * n
    elif shape == "ties": z = [float(rng.randrange(-3, 4)) for _ in range(n)]
    elif shape == "holes": z = [rng.gauss(0, 3) if rng.random() < 0.6 else float("-inf") for _ in range(n)]; z[n // 2] = 1.0
    elif shape == "extreme": z = [rng.choice([-80.0, -10.0, 0.0, 60.0, 80.0]) + rng.random() for _ in range(n)]
    elif shape == "one": z = [float("-inf")] * n; z[rng.randrange(n)] = 2.0
    return torch.tensor([z], dtype=torch.float32)


def value(kind):
    return {"repetition_penalty": [1.2, 2.0, 0.7], "no_repeat_ngram": [1, 2, 3], "min_new_tokens": [2, 50], "temperature": [0.1, 0.7, 1.3, 2.0],
            "top_k": [1, 3, 50, 100000], "top_p": [0.0, 0.1, 0.5, 0.8, 0.95, 0.999, 1.0], "min_p": [0.02, 0.1, 0.5, 1.0], "typical": [0.2, 0.5, 0.9, 0.95],
            "epsilon": [3e-4, 0.01, 0.2], "eta": [3e-4, 2e-3, 0.1]}[kind]


def hexes(t): return "".join(struct.pack("<f", x).hex() for x in t.tolist())


cases = []


def case(chain, z, history, n_prompt, keep, seed_name):
    ids = torch.tensor([history], dtype=torch.long)
    s = z.clone()
    for kind, v in chain:
        s = make(kind, v, keep, n_prompt)(ids, s)
    cases.append({"name": seed_name, "chain": [[k, v] for k, v in chain], "keep": keep, "n_prompt": n_prompt, "history": history,
                  "logits": hexes(z[0]), "out": hexes(s[0])})


sizes = [1, 2, 5, 17, 64, 200, 500]
for kind in KINDS:
    for shape in ["gauss", "peaked", "flat", "ties", "holes", "extreme", "one"]:
        for v in value(kind):
            n = rng.choice(sizes[2:6])
            h = [rng.randrange(min(n, 6)) for _ in range(rng.randrange(4, 12))]
            keep = rng.choice([1, 1, 2]) if kind in KINDS[4:] else 1
            if shape == "one" and keep == 2: keep = 1
            case([(kind, v)], logits(shape, n), h, 3, keep, f"{kind}={v} {shape}")
for i in range(60):  # whole chains in transformers' order
    n = rng.choice(sizes)
    chain = [(k, rng.choice(value(k))) for k in KINDS if rng.random() < 0.4 and k not in ("no_repeat_ngram", "min_new_tokens")]
    if not chain: chain = [("top_p", 0.9)]
    case(chain, logits(rng.choice(["gauss", "ties", "peaked"]), n), [rng.randrange(n) for _ in range(8)], 3, 1, f"chain {i}")
for n in (1, 2):
    for k in KINDS[3:]:
        case([(k, value(k)[0])], logits("gauss", n), [0], 1, 1, f"{k} V={n}")
here = os.path.dirname(os.path.abspath(__file__))
json.dump({"made_by": "tools/golden/select_hf.py", "torch": torch.__version__, "transformers": transformers.__version__, "cases": cases},
          open(os.path.join(here, "../../tests/golden/select.json"), "w"), separators=(",", ":"))
print(len(cases), "cases")
