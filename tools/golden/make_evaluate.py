"""Golden values of what a model says about texts: transformers' LlamaForCausalLM in float32 on the weights of the GGUF file.

Writes tests/golden/evaluate_smollm2.json: for each pair the sum of -ln p of the text's tokens after start token and prompt, and after
the start token alone; for each text the last hidden state of its last token (mauve-text's features).
Run: python tools/golden/make_evaluate.py MODEL.gguf    (needs torch, transformers 4.46, gguf)
"""
import json, os, sys
import torch, transformers
from gguf import GGUFReader

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import smollm2

model, tok = smollm2.load(sys.argv[1])
start = int(GGUFReader(sys.argv[1]).fields["tokenizer.ggml.bos_token_id"].contents())
pairs = [("The capital of France is", " Paris, and the river that runs through it is the Seine."),
         ("The capital of France is", " banana banana banana banana."),
         ("Question: what is 12 + 30?\nAnswer:", " 42"),
         ("", "Once upon a time, in a small village by the sea, there lived an old fisherman."),
         ("Schreibe einen Satz über Regen. ", "Der Regen fällt leise auf die grünen Felder; niemand hört es. 東京 🌧"),
         ("def add(a, b):\n", "    return a + b\n\n\ndef test_add():\n    assert add(2, 3) == 5\n" * 4)]


def nll(prompt, text):
    before, after = [start] + tok.encode(prompt).ids, tok.encode(text).ids
    with torch.no_grad():
        p = torch.log_softmax(model(torch.tensor([before + after])).logits[0].double(), -1)
    return -sum(p[len(before) + i - 1, t].item() for i, t in enumerate(after)), len(after)


def feature(text):
    with torch.no_grad():
        h = model(torch.tensor([tok.encode(text).ids]), output_hidden_states=True).hidden_states[-1][0, -1]
    return [round(x, 6) for x in h.tolist()]


out = {"made_by": "tools/golden/make_evaluate.py", "transformers": transformers.__version__, "torch": torch.__version__, "pairs": []}
for p, t in pairs:
    a, n = nll(p, t)
    b, _ = nll("", t)
    out["pairs"].append({"prompt": p, "text": t, "tokens": n, "prompted_nll": a, "nll": b, "feature": feature(t)})
    print(n, a / n, b / n)
json.dump(out, open(os.path.join(here, "../../tests/golden/evaluate_smollm2.json"), "w"), separators=(",", ":"))
