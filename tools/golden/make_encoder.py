"""Golden values of the sentence encoder: ids and vectors of transformers' BERT and of sentence-transformers.

    python make_encoder.py MINILM_FOLDER       (what `jpt pull --path minilm` prints)

Writes into tests/golden:
  encoder_tiny/           a BERT with random weights and a small part of MiniLM's vocabulary, so that tests need no download
  encoder.json            texts (hex), their ids under both vocabularies, which of them are embedded, versions
  encoder_tiny.f32        [texts embedded, 32] vectors of the tiny model, transformers
  encoder_minilm.f32      [texts embedded, 384] vectors of MiniLM, sentence-transformers
"""
import json
import pathlib
import random
import sys
import numpy as np
import sentence_transformers
import tokenizers
import torch
import transformers

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"
MINILM = pathlib.Path(sys.argv[1])
TINY = OUT / "encoder_tiny"

texts = [bytes.fromhex(t) for t in json.load(open(OUT / "token_texts.json"))["texts"]]
texts = [t.decode() for t in texts if b"\0" not in t and t == t.decode("utf-8", "ignore").encode()]
texts += [
    "", " ", "\t\n\r", "a", "The capital of France is Paris.", "What is the capital of France?", "unaffable", "Unaffable!", "naïve café, Ünïcödé",
    "İstanbul ISTANBUL ıstanbul", "ẞß straße STRASSE", "ΑΣ ΌΔΟΣ ὀδός", "中文和English混合 text", "日本語のテキスト、カタカナ。", "한국어 텍스트", "ｆｕｌｌ ｗｉｄｔｈ",
    "[CLS] in a text [SEP] and [MASK] [PAD] [UNK] [cls] [SEP", "[[SEP]]", "##ing ##s", "don't can't it's", "3.14 1,000,000 $5 50% #tag @user", "a\u0301 e\u0327\u0301 \u1e69 s\u0323\u0307",
    "\u302e\U0001d165\u302ea \U0001d165\u302eb", "q\u0307\u0323 q\u0323\u0307", "zero\u200bwidth\u200djoin\ufeff soft\u00adhyphen", "no\u00a0break\u2003em\u3000ideographic\u2028line", "\ufffd replaced \ufffd",
    "control\u0001\u0007chars\u007f", "\u0085next\u000bvt\u000cff", "😀 emoji 👨‍👩‍👧‍👦 🏳️‍🌈", "→ ≠ ≤ ∞ ∑ √ ½ ² ³ ¹", "x\u0338=y ≮ ≯", "\u037e \u0387 \u1fef", "الْعَرَبِيَّة بِالتَّشْكِيل", "עִבְרִית עם ניקוד",
    "हिन्दी में पाठ", "ภาษาไทยไม่มีช่องว่าง", "\U00011938 \U0001e922\U0001e900", "\uf900\ufa0e\U0002f800 compat", "\U00020000\U0002b920\U0002b740\U0002ceb0", "\ue000private\U000f0000use",
    "a" * 100, "a" * 101, "b" * 300, "supercalifragilisticexpialidocious", "x" + "\u0301" * 150 + "y", "pneumonoultramicroscopicsilicovolcanoconiosis " * 3, "\u01c4\u01c5\u01c6 ǅ ﬁ ﬂ ﬀ", "Ω Å K", "\u1e9e \u0130 \u0149",
    "..........", "!?!?!?…—–-_", "`~!@#$%^&*()_+{}|:\"<>?-=[]\\;',./", "def f(x):\n    return x**2  # square\n", "<html><body>&amp;</body></html>", "https://example.com/a?b=c&d=e#f",
]
long_text = ("The quick brown fox jumps over the lazy dog, and then it rests under a tree until the rain has stopped. " * 14).strip()
texts += [long_text, long_text + " Überlänge", "word " * 255, "word " * 254, "word " * 253]
rng = random.Random(6)
pools = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x52f), (0x590, 0x6ff), (0x900, 0x97f), (0x1e00, 0x1fff), (0x2000, 0x2bff), (0x3000, 0x30ff), (0x4e00, 0x4fff), (0xac00, 0xac80), (0xfb00, 0xffff), (0x10000, 0x1ffff)]
for _ in range(120):
    a, b = rng.choice(pools)
    c, d = rng.choice(pools)
    texts.append("".join(chr(rng.randint(*rng.choice([(a, b), (c, d), (0x20, 0x20), (0x61, 0x7a)]))) for _ in range(rng.randint(1, 40))))
texts = list(dict.fromkeys(texts))

full = transformers.BertTokenizerFast(vocab_file=str(MINILM / "vocab.txt"), do_lower_case=True)
ids = [full(t)["input_ids"] for t in texts]

# every token that half of the texts use, and the letters: about 1,000 of 30,522
vocab = open(MINILM / "vocab.txt", encoding="utf-8").read().split("\n")[:-1]
used = {i for t in ids[::2] for i in t} | {0, 100, 101, 102, 103} | {i for i, t in enumerate(vocab) if len(t.removeprefix("##")) == 1 and ord(t[-1]) < 128}
small = [vocab[i] for i in sorted(used)]
TINY.mkdir(exist_ok=True)
(TINY / "vocab.txt").write_text("\n".join(small) + "\n", encoding="utf-8")
tok = transformers.BertTokenizerFast(vocab_file=str(TINY / "vocab.txt"), do_lower_case=True)
tiny_ids = [tok(t)["input_ids"] for t in texts]

torch.manual_seed(6)
config = transformers.BertConfig(vocab_size=len(small), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=72, max_position_embeddings=64, layer_norm_eps=1e-12)
model = transformers.BertModel(config, add_pooling_layer=False).eval()
with torch.no_grad():
    for name, p in model.named_parameters():
        p.copy_(torch.randn_like(p) * (0.3 if p.dim() > 1 else 0.1) + (1 if name.endswith("LayerNorm.weight") else 0))
    model.half().float()  # written as F16 below
half = {k: v.half().contiguous() if "embeddings" in k else v.contiguous() for k, v in model.state_dict().items()}
from safetensors.torch import save_file
save_file(half, str(TINY / "model.safetensors"), metadata={"format": "pt"})
keys = ["model_type", "hidden_act", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings", "layer_norm_eps", "vocab_size"]
json.dump({k: getattr(config, k) for k in keys}, open(TINY / "config.json", "w"), indent=1)

short = [i for i, t in enumerate(texts) if t in ("", " ", "a", "[[SEP]]", "..........", "word " * 255, "word " * 254, "word " * 253, long_text, long_text + " Überlänge") or "capital" in t]
embedded = sorted(set(short + list(range(len(texts) - 130, len(texts), 8)) + [i for i, t in enumerate(texts) if any(w in t for w in ("中文", "emoji", "naïve", "html", "def f", "عَرَ", "a" * 101))]))
rows = []
with torch.no_grad():
    for i in embedded:
        t = torch.tensor([(tiny_ids[i][:63] + [tok.sep_token_id]) if len(tiny_ids[i]) > 64 else tiny_ids[i]])
        h = model(t).last_hidden_state[0].mean(0)
        rows.append((h / h.norm()).numpy())
np.stack(rows).astype("<f4").tofile(OUT / "encoder_tiny.f32")
st = sentence_transformers.SentenceTransformer(str(MINILM), device="cpu")
one = np.stack([st.encode([texts[i]], normalize_embeddings=True)[0] for i in embedded])
one.astype("<f4").tofile(OUT / "encoder_minilm.f32")
json.dump({"versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "sentence-transformers": sentence_transformers.__version__, "torch": torch.__version__},
           "texts": [t.encode().hex() for t in texts], "ids_tiny": tiny_ids, "ids_minilm": ids, "embedded": embedded},
          open(OUT / "encoder.json", "w"), separators=(",", ":"))
print(len(texts), "texts,", len(embedded), "embedded,", len(small), "tokens in the tiny vocabulary")
