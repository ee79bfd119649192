"""Blocks of every quantised type with random bits and sane scales, and the weights that the gguf package reads from them.

Writes tests/golden/tensor.json: per type the blocks (hex) and the float32 bits (hex, little-endian).
Run: python tools/golden/tensor_gguf.py    (needs numpy, gguf)
"""
import json, os
import numpy as np, gguf
from gguf.quants import dequantize
from gguf.constants import GGMLQuantizationType as T, GGML_QUANT_SIZES

here = os.path.dirname(os.path.abspath(__file__))
rng = np.random.default_rng(20261124)
# where a block's float16 scales stand, in halves
scales = {T.Q4_0: [0], T.Q4_1: [0, 1], T.Q5_0: [0], T.Q5_1: [0, 1], T.Q8_0: [0], T.Q4_K: [0, 1], T.Q5_K: [0, 1], T.Q6_K: [104], T.F16: None, T.BF16: None}
out = {"source": "gguf " + __import__("importlib.metadata", fromlist=["version"]).version("gguf"), "cases": []}
for t, at in scales.items():
    block, size = GGML_QUANT_SIZES[t]
    n = max(2, 512 // block)
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    if at is None:
        values = (rng.standard_normal(n * block) * 3).astype(np.float32)
        values[:6] = [0, -0.0, 1, -65504 if t == T.F16 else -3e38, 6e-8 if t == T.F16 else 1e-40, 0.333333]
        raw = values.astype(np.float16).view(np.uint8) if t == T.F16 else (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    else:
        halves = raw.view(np.uint16)
        for k in at:
            halves[:, k] = (rng.standard_normal(n) * 0.05).astype(np.float16).view(np.uint16)
        halves[0, at[0]] = np.float16(6e-6).view(np.uint16)  # subnormal
        halves[1, at[0]] = np.float16(-1.5).view(np.uint16)
    want = dequantize(raw.reshape(1, -1), t).astype(np.float32).reshape(-1)
    assert want.size == n * block and np.isfinite(want).all()
    out["cases"].append({"type": int(t), "name": t.name, "n": int(want.size), "blocks": raw.tobytes().hex(), "f32": want.tobytes().hex()})
with open(os.path.join(here, "../../tests/golden/tensor.json"), "w") as f:
    json.dump(out, f, indent=0)
