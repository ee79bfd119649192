"""Golden logits and perplexity of the default model: transformers' LlamaForCausalLM in float32 on the weights of the GGUF file,
dequantised by the gguf package.

Writes tests/golden/logits_smollm2.json: 5 prompts x 64 positions; for each position logsumexp, the 4 largest logits and 12
fixed places; and the perplexity of tests/golden/ppl_text.txt.
Run: python tools/golden/logits_smollm2.py MODEL.gguf    (needs torch, transformers 4.46, gguf)
"""
import json, math, os, sys
import torch, transformers

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import smollm2

model, tok = smollm2.load(sys.argv[1])
cfg = model.config
text = open(os.path.join(here, "../../tests/golden/ppl_text.txt"), encoding="utf-8").read()
starts = [text[0:1200], text[900:2100], "def fibonacci(n):\n    if n < 2:\n        return n\n" * 8, "Le chat est assis sur la table. 12 + 30 = 42. " * 8, "The quick brown fox jumps over the lazy dog! " * 9]
places = [(7919 * i + 13) % cfg.vocab_size for i in range(12)]
prompts = []
with torch.no_grad():
    for s in starts:
        ids = tok.encode(s).ids[:64]
        assert len(ids) == 64
        z = model(torch.tensor([ids])).logits[0]
        lse = torch.logsumexp(z.double(), -1)
        top, idx = torch.topk(z, 4)
        prompts.append({"ids": ids, "lse": [round(v, 5) for v in lse.tolist()], "top": idx.tolist(), "top_z": [[round(v, 5) for v in r] for r in top.tolist()],
                        "z": [[round(v, 5) for v in r] for r in z[:, places].tolist()]})
    ids = tok.encode(text).ids
    z = model(torch.tensor([ids])).logits[0].double()
    nll = -torch.log_softmax(z[:-1], -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
out = {"made_by": "tools/golden/logits_smollm2.py", "transformers": transformers.__version__, "torch": torch.__version__, "places": places, "prompts": prompts,
       "ppl_tokens": len(ids) - 1, "ppl": math.exp(nll.mean().item())}
json.dump(out, open(os.path.join(here, "../../tests/golden/logits_smollm2.json"), "w"), separators=(",", ":"))
print("perplexity", out["ppl"], "over", out["ppl_tokens"])
