"""Decodings by strategies that transformers does not have, as their authors' code does them: FSD and FSD-d (LHRYANG/FSD), adaptive
contrastive search (YecanLee/Adaptive-Contrastive-Search), contrastive decoding (O'Brien and Lewis 2023, Li et al. 2023), and the
distributions that mirostat (three forms), adaptive-p and GUARD draw from, step by step.  Written anew from the descriptions, for one
sequence, on transformers' logits and hidden states, in the clearest way: nothing is cached but keys and values.

Writes tests/golden/decode_tiny_authors.json and steps_tiny_authors.json.
Run: python tools/golden/decode_authors.py    (needs torch, transformers 4.46, gguf)
"""
import copy, json, math, os, sys
import torch, transformers
from transformers import DynamicCache

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import decode_hf, logits_tiny, steps_hf  # steps_hf makes torch.sort stable

folder = os.path.join(here, "../../tests/golden")


class Text:
    """A growing sequence with its keys and values, last-layer states (after the final norm) and next-token logits."""

    def __init__(self, model, ids, exit_layer=0):
        self.model, self.ids, self.exit_layer = model, list(ids), exit_layer
        self.cache, self.h = DynamicCache(), []
        self.run(self.ids)

    def run(self, ids):
        with torch.no_grad():
            o = self.model(torch.tensor([ids]), past_key_values=self.cache, use_cache=True, output_hidden_states=True)
            self.h += list(o.hidden_states[-1][0])
            self.z = o.logits[0, -1]
            if self.exit_layer:
                self.early = self.model.lm_head(self.model.model.norm(o.hidden_states[self.exit_layer][0, -1]))

    def add(self, token):
        self.ids.append(token)
        self.run([token])

    def ahead(self, tokens):
        """Last-layer states of candidates for the next token."""
        cache = copy.deepcopy(self.cache)
        cache.batch_repeat_interleave(len(tokens))
        with torch.no_grad():
            return self.model(torch.tensor([[t] for t in tokens]), past_key_values=cache, use_cache=True, output_hidden_states=True).hidden_states[-1][:, -1]


def candidates(p, k):
    """The k most likely, best first, of equal ones the lower id."""
    order = torch.sort(p, descending=True)
    return order.indices[:k].tolist()


def first_best(scores):
    return max(range(len(scores)), key=lambda i: (scores[i], -i))


def ngram_penalty(ids, n, beta, v):
    if len(ids) < n - 1:
        return 0.0
    remaining, pen = 1.0, 0.0
    for i in range(n - 1, -1, -1):
        tail = ids[len(ids) - i:]
        follow = [ids[j] for j in range(i, len(ids)) if ids[j - i:j] == tail]
        c, total = follow.count(v), len(follow)
        if c == 0:
            continue
        pen += remaining * (c / total if i == 0 else beta * c / (total + 1))
        remaining *= 1 - beta
    return pen


def state_penalty(text, n, v):
    ids, t, w = text.ids, len(text.ids), n - 1
    if t < n:
        return 0.0
    query = torch.cat(text.h[t - w:])
    best = 0.0
    for end in range(w - 1, t - 1):
        if ids[end + 1] == v:
            best = max(best, torch.cosine_similarity(query, torch.cat(text.h[end - w + 1:end + 1]), dim=0).item())
    return min(best, 1.0)


def fsd(alpha, n, k, beta=None):
    def step(text, _):
        p = torch.softmax(text.z, -1)
        c = candidates(p, k)
        return c[first_best([(1 - alpha) * p[v].item() - alpha * (state_penalty(text, n, v) if beta is None else ngram_penalty(text.ids, n, beta, v)) for v in c])]
    return step


def median(x):
    s = sorted(x)
    return s[len(s) // 2] if len(s) % 2 else (s[len(s) // 2 - 1] + s[len(s) // 2]) / 2


def squash(q, d):
    d = max(-1 + 1e-9, min(1 - 1e-9, d))
    return 1 / (1 + math.exp(-q / 2 * math.log((1 + d) / (1 - d))))


def adaptive(q):
    def step(text, memory):
        h_all, h_k = memory.setdefault("h", []), memory.setdefault("hk", [])
        p = torch.softmax(text.z.double(), -1)
        h = -(p * p.clamp_min(1e-300).log()).sum().item()
        k = round(10 * squash(q, (h - median(h_all)) / math.log(len(p)) if h_all else 0) + 5)
        c = candidates(p, k)
        top = p[c] / p[c].sum()
        hk = -(top * top.log()).sum().item()
        alpha = round(squash(q, (hk - median(h_k)) / math.log(k) if h_k else 0), 2)
        h_all.append(h), h_k.append(hk)
        past = torch.nn.functional.normalize(torch.stack(text.h), dim=-1)
        new = torch.nn.functional.normalize(text.ahead(c), dim=-1)
        similar = (new @ past.T).max(-1).values
        return c[first_best([(1 - alpha) * p[v].item() - alpha * similar[i].item() for i, v in enumerate(c)])]
    return step


def contrast(form, beta, cut, temperature=1.0):
    def step(text, memory):
        e, a = text.z, memory["amateur"].z if "amateur" in memory else text.early
        le = torch.log_softmax(e, -1)
        s = (1 + beta) * e - beta * a if form == "obrien" else le - beta * torch.log_softmax(a / temperature, -1)
        s = torch.where(le >= le.max() + math.log(cut), s, torch.tensor(-torch.inf))
        return int(s.argmax())
    return step


def decode(model, prompts, make, max_new, eos, exit_layer=0, amateur=None, ignore_prefix=False):
    outs = []
    for p in prompts:
        text, memory, out = Text(model, p, exit_layer), {}, []
        if amateur is not None:
            memory["amateur"] = Text(amateur, p[-1:] if ignore_prefix else p)
        while len(out) < max_new:
            token = make(text, memory)
            out.append(token)
            if token in eos:
                break
            text.add(token)
            if amateur is not None:
                memory["amateur"].add(token)
        outs.append(out)
    return outs


# ---- distributions ---------------------------------------------------------------------------------------------------------

def zipf_k(p, terms, guarded, N, mu):
    t = [math.log((i + 2) / (i + 1)) for i in range(terms)]
    b = [math.log(max(p[i] / (p[i + 1] + 1e-9), 1)) if guarded else math.log(p[i] / p[i + 1]) for i in range(terms)]
    s = sum(x * y for x, y in zip(t, b)) / sum(x * x for x in t)
    e = s - 1
    return ((e * 2 ** mu) / (1 - N ** -e)) ** (1 / s)


def mirostat(form, tau, eta):
    def step(z, m, ids):
        p = torch.softmax(z.double(), -1)
        order = torch.sort(p, descending=True).indices
        mu = m.setdefault("mu", 2 * tau)
        best = p[order].tolist()
        if form == "v2":
            k = max(1, sum(1 for x in best if -math.log2(x) <= mu))
        elif form == "llama.cpp":
            k = max(1, int(zipf_k(best, 99, False, len(p), mu)))
        else:
            k = round(zipf_k(best, 100, form == "shi", 50000 if form == "paper" else len(p), mu)) + 1
        q = torch.zeros_like(p)
        q[order[:k]] = p[order[:k]] / p[order[:k]].sum()

        def learn(v):
            seen = p[v] if form in ("paper", "shi") else q[v]
            m["mu"] -= eta * (-math.log2(seen) - tau)
        return q, learn
    return step


def adaptive_p(target, decay):
    def step(z, m, ids):
        p = torch.softmax(z.double(), -1)
        S, W = m.setdefault("S", target / (1 - decay)), m.setdefault("W", 1 / (1 - decay))
        aim = max(0.0, min(1.0, 2 * target - S / W))
        x = (p - aim).abs() / 0.3
        q = torch.softmax(5 - 10 * x * x / (1 + x), -1)

        def learn(v):
            m["S"], m["W"] = p[v].item() + decay * S, 1 + decay * W
        return q, learn
    return step


def guard(w):
    lower = lambda x: sorted(x)[(len(x) - 1) // 2]
    unit = lambda x: max(0.0, min(1.0, x))

    def step(z, m, ids):
        p = torch.softmax(z.double(), -1)
        H = m.setdefault("H", [])
        H.append(-(p * (p + 1e-5).log()).sum().item())
        t = len(H)
        G = sum(0.95 ** (t - 1 - i) * h for i, h in enumerate(H)) / sum(0.95 ** i for i in range(t))
        local, far, q = (H[-1] - lower(H), 0.0, 0.0) if t < w else (H[-1] - lower(H[-w:]), lower(H[-(w - 1):]) - G, unit(abs(lower(H[-(w - 1):]) - G) / (lower(H[-(w - 1):]) + 1e-4)))
        q += unit(abs(H[-1] - H[-2]) / (H[-2] + 1e-4)) if t > 1 else 0
        q = 0.9 + 0.1 * (1 + q)

        def value(scale):
            l, g = (q * math.atanh(max(-1 + 1e-4, min(1 - 1e-4, x / scale))) for x in (local, far))
            share = abs(l) / (abs(g) + abs(l) + 1e-4)
            return 1 / (1 + math.exp(-(share * l + (1 - share) * g)))
        k = 10 * value(math.log(len(p))) + 5
        alpha = unit(value(math.log(k + 1e-4)))
        top = torch.sort(p, descending=True).indices[:int(k)]
        out = torch.zeros_like(p)
        for v in top.tolist():
            out[v] = p[v] * alpha ** ids.count(v)
        return out / out.sum(), lambda v: None
    return step


def draw_steps(model, prompts, make, temperature, steps, g):
    notes, forced = [], []
    for prompt in prompts:
        text, memory, row, tokens = Text(model, prompt), {}, [], []
        for _ in range(steps):
            q, learn = make(text.z / temperature, memory, text.ids)
            row.append(steps_hf.fingerprint(q))
            left = q.clone()
            left[[decode_hf.EOS, 261, 263]] = 0
            token = int(torch.multinomial(left, 1, generator=g)) if left.sum() > 0 else int(q.argmax())
            learn(token)
            tokens.append(token)
            if token in (decode_hf.EOS, 261, 263):
                break
            text.add(token)
        notes.append(row), forced.append(tokens)
    return notes, forced


def main():
    versions = {"made_by": "tools/golden/decode_authors.py", "transformers": transformers.__version__, "torch": torch.__version__, "by": "the authors' rules"}
    fsds = [(f"fsd:penalty_alpha={al:g},ngram={n},top_k={k}", fsd(al, n, k)) for al, n, k in ((0.4, 2, 5), (0.6, 3, 5), (0.2, 2, 3))]
    fsds += [(f"fsd-d:penalty_alpha={al:g},ngram={n},beta=0.9,top_k={k}", fsd(al, n, k, 0.9)) for al, n, k in ((0.6, 3, 5), (0.4, 2, 5), (0.2, 3, 3))]
    acs = [("adaptive-contrastive:q=1", adaptive(1)), ("adaptive-contrastive:q=8", adaptive(8))]
    out, steps = {**versions, "max_new_tokens": 24, "models": []}, {**versions, "models": []}
    models = {name: logits_tiny.build(seed, arch, 6, tied, 10000.0, None) for name, arch, tied, seed in (("llama", "llama", False, 71), ("qwen2", "qwen2", True, 72))}
    eos = [decode_hf.EOS, 261, 263]
    for name, seed in (("llama", 71), ("qwen2", 72)):
        model, rival = models[name], "qwen2" if name == "llama" else "llama"
        g = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(0, 261, (3 + i,), generator=g).tolist() for i in range(20)]
        prompts = [p if i % 2 else (p * 4)[:16] for i, p in enumerate(prompts)]  # every other one repeats itself
        cases = [{"spec": spec, "out": decode(model, prompts, make, 24, eos)} for spec, make in fsds + acs]
        for form in ("obrien", "li"):
            for beta, layer in ((0.5, 3), (1.0, 1)):
                cases.append({"spec": f"cd:form={form},beta={beta:g},amateur_layer={layer}", "out": decode(model, prompts, contrast(form, beta, 0.1), 24, eos, layer)})
            cases.append({"spec": f"cd:form={form},beta=0.5", "assistant": rival, "out": decode(model, prompts, contrast(form, 0.5, 0.1), 24, eos, 0, models[rival])})
            cases.append({"spec": f"cd:form={form},beta=0.8,ignore_prefix=true,relative_top=0.2", "assistant": rival,
                          "out": decode(model, prompts, contrast(form, 0.8, 0.2), 24, eos, 0, models[rival], True)})
        cases.append({"spec": "cd:form=li,beta=0.5,amateur_temperature=0.5", "assistant": rival, "out": decode(model, prompts, contrast("li", 0.5, 0.1, 0.5), 24, eos, 0, models[rival])})
        out["models"].append({"name": name, "prompts": prompts, "cases": cases})
        print(name, len(cases), "decodings", flush=True)
        draws = []
        for spec, make, t in (("mirostat:tau=3,eta=1,form=paper", mirostat("paper", 3, 1), 1), ("mirostat:tau=3,eta=1,form=shi", mirostat("shi", 3, 1), 1), ("mirostat", mirostat("llama.cpp", 5, 0.1), 1),
                              ("mirostat:tau=2,temperature=1.5", mirostat("llama.cpp", 2, 0.1), 1.5), ("mirostat-v2", mirostat("v2", 5, 0.1), 1),
                              ("mirostat-v2:tau=2,eta=0.5,temperature=1.3", mirostat("v2", 2, 0.5), 1.3), ("adaptive-p", adaptive_p(0.5, 0.9), 1),
                              ("adaptive-p:target=0.2,decay=0.5", adaptive_p(0.2, 0.5), 1), ("guard", guard(4), 1), ("guard:window=7,temperature=0.8", guard(7), 0.8)):
            notes, forced = draw_steps(model, prompts, make, t, 12, g)
            draws.append({"spec": spec, "steps": notes, "forced": forced})
        steps["models"].append({"name": name, "prompts": prompts, "cases": draws})
        print(name, len(draws), "distributions", flush=True)
    json.dump(out, open(os.path.join(folder, "decode_tiny_authors.json"), "w"), separators=(",", ":"))
    json.dump(steps, open(os.path.join(folder, "steps_tiny_authors.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
