"""Distributions that transformers' generate(do_sample=True) draws from, step by step with the drawn tokens forced, on the tiny
models of decode_hf.py.

torch.multinomial is replaced by one that notes the probabilities and returns the token that is written down.  For each step
tests/golden/steps_tiny.json holds how many tokens are left, a hash of their ids, and the sum of p(id) * weight(id) with weights
spread over [0, 1): two distributions with the same three are the same.
Run: python tools/golden/steps_hf.py [--beam]    (needs torch, transformers 4.46, gguf)
With --beam tests/golden/steps_tiny_beam.json: what beam sampling draws its candidates from, over all beams (id = beam * V + token),
with the candidates forced.
"""
import json, os, sys
import torch, transformers
from transformers import GenerationConfig

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import decode_hf, logits_tiny

STEPS, PROMPTS = 12, 20
specs = [("sample:temperature=0.7", {"temperature": 0.7}), ("sample:temperature=1.5", {"temperature": 1.5}), ("top-k:top_k=5", {"top_k": 5}),
         ("top-k:top_k=50,temperature=0.7", {"top_k": 50, "temperature": 0.7}), ("top-p:top_p=0.8", {"top_p": 0.8}), ("top-p:top_p=0.95,temperature=0.5", {"top_p": 0.95, "temperature": 0.5}),
         ("min-p:min_p=0.05", {"min_p": 0.05}), ("min-p:min_p=0.1,temperature=2", {"min_p": 0.1, "temperature": 2.0}), ("typical:typical_p=0.2", {"typical_p": 0.2}),
         ("typical:typical_p=0.95", {"typical_p": 0.95}), ("epsilon:epsilon_cutoff=0.002", {"epsilon_cutoff": 0.002}), ("eta:eta_cutoff=0.002", {"eta_cutoff": 0.002}),
         ("top-p:top_p=0.9,repetition_penalty=1.3,no_repeat_ngram_size=2", {"top_p": 0.9, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2}),
         ("sample:temperature=0.8,top_k=40,top_p=0.9,min_p=0.02,typical_p=0.9", {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.9}),
         ("dola-sample:dola_layers=low,repetition_penalty=1.2,top_p=0.9", {"dola_layers": "low", "repetition_penalty": 1.2, "top_p": 0.9}),
         ("guidance:guidance_scale=1.5,do_sample=true,top_p=0.9", {"guidance_scale": 1.5, "top_p": 0.9})]
# the order of equal values is the library's in torch.sort; stable is what jpt defines
_sort = torch.sort
torch.sort = lambda x, **kw: _sort(x, stable=True, **kw)


def fingerprint(p):
    ids = (p > 0).nonzero().flatten().tolist()
    h = 2166136261
    for i in ids:
        h = ((h ^ i) * 16777619) & 0xffffffff
    w = sum(float(p[i]) * ((i * 2654435761 & 0xffffffff) / 2**32) for i in ids)
    return [len(ids), h, round(w, 8)]


beam_specs = [("beam-sample:num_beams=2", {"num_beams": 2}), ("beam-sample:num_beams=4,temperature=0.7,top_k=20", {"num_beams": 4, "temperature": 0.7, "top_k": 20}),
              ("beam-sample:num_beams=3,top_p=0.9,length_penalty=0", {"num_beams": 3, "top_p": 0.9, "length_penalty": 0.0}),
              ("beam-sample:num_beams=3,top_k=50,repetition_penalty=1.3,early_stopping=true", {"num_beams": 3, "top_k": 50, "repetition_penalty": 1.3, "early_stopping": True})]


def beams():
    out = {"made_by": "tools/golden/steps_hf.py --beam", "transformers": transformers.__version__, "torch": torch.__version__, "models": []}
    for name, arch, tied, seed in (("llama", "llama", False, 71), ("qwen2", "qwen2", True, 72)):
        model = logits_tiny.build(seed, arch, 6, tied, 10000.0, None)
        g = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(0, 261, (3 + i,), generator=g).tolist() for i in range(PROMPTS)]
        cases = []
        for spec, kw in beam_specs:
            rows, picks, outs = [], [], []
            for prompt in prompts:
                notes, taken = [], []
                real = torch.multinomial

                def multinomial(p, num_samples=1, **_):
                    notes.append(fingerprint(p[0]))
                    pick = real(p, num_samples=num_samples, generator=g)
                    taken.append(pick[0].tolist())
                    return pick
                torch.multinomial = multinomial
                cfg = GenerationConfig(**{"max_new_tokens": STEPS, "do_sample": True, "top_k": 0, "eos_token_id": [decode_hf.EOS, 261, 263], "pad_token_id": decode_hf.PAD, **kw})
                ids = torch.tensor([prompt])
                with torch.no_grad():
                    text = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=cfg)[0, len(prompt):].tolist()
                torch.multinomial = real
                rows.append(notes), picks.append(taken), outs.append(text)
            cases.append({"spec": spec, "steps": rows, "picks": picks, "out": outs})
            print(name, spec, "done", flush=True)
        out["models"].append({"name": name, "prompts": prompts, "cases": cases})
    json.dump(out, open(os.path.join(here, "../../tests/golden/steps_tiny_beam.json"), "w"), separators=(",", ":"))


def main():
    if "--beam" in sys.argv:
        return beams()
    out = {"made_by": "tools/golden/steps_hf.py", "transformers": transformers.__version__, "torch": torch.__version__, "models": []}
    for name, arch, tied, seed in (("llama", "llama", False, 71), ("qwen2", "qwen2", True, 72)):
        model = logits_tiny.build(seed, arch, 6, tied, 10000.0, None)
        g = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(0, 261, (3 + i,), generator=g).tolist() for i in range(PROMPTS)]
        forced = [torch.randint(0, 261, (STEPS,), generator=g).tolist() for _ in range(PROMPTS)]
        for f in forced:
            f[:] = [t if t != decode_hf.EOS else 1 for t in f]
        cases = []
        for spec, kw in specs:
            rows = []
            for prompt, tokens in zip(prompts, forced):
                notes, left = [], list(tokens)

                def multinomial(p, num_samples=1, **_):
                    notes.append(fingerprint(p[0]))
                    return torch.tensor([[left.pop(0)]])
                real, torch.multinomial = torch.multinomial, multinomial
                cfg = GenerationConfig(**{"max_new_tokens": STEPS, "do_sample": True, "top_k": 0, "eos_token_id": [decode_hf.EOS, 261, 263], "pad_token_id": decode_hf.PAD, **kw})
                ids = torch.tensor([prompt])
                with torch.no_grad():
                    model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=cfg)
                torch.multinomial = real
                rows.append(notes)
            cases.append({"spec": spec, "steps": rows})
            print(name, spec, "done", flush=True)
        out["models"].append({"name": name, "prompts": prompts, "forced": forced, "cases": cases})
    json.dump(out, open(os.path.join(here, "../../tests/golden/steps_tiny.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
