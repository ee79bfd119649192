"""A GGUF file of a known shape with random weights: right for speed and energy, never for quality.

Run: python bench/random_model.py SHAPE TYPE FILE    SHAPE: 8b (Llama 3.1), 1.5b (Qwen2.5), 135m (SmolLM2)    TYPE: bf16, f16, q8_0, q4_0
(needs numpy).  The weights of a large matrix repeat a block of 32 MB at odd offsets: no cache is that large.
"""
import struct, sys
import numpy as np

SHAPES = {"8b": ("llama", 32, 4096, 14336, 32, 8, 128256, False, 500000.0), "1.5b": ("qwen2", 28, 1536, 8960, 12, 2, 151936, True, 1000000.0),
          "135m": ("llama", 30, 576, 1536, 9, 3, 49152, True, 100000.0)}
TYPES = {"f32": (0, 1, 4), "f16": (1, 1, 2), "q4_0": (2, 32, 18), "q8_0": (8, 32, 34), "bf16": (30, 1, 2)}
shape, kind, path = sys.argv[1:4]
arch, L, D, F, H, K, V, tied, theta = SHAPES[shape]
E = D // H
rng = np.random.default_rng(1)


def blocks(n_bytes, std):
    """Random weights of about this standard deviation, as bytes of the type."""
    t, per, size = TYPES[kind]
    n = n_bytes // size
    if kind == "bf16":
        return (rng.standard_normal(n, dtype=np.float32) * std).view(np.uint32).__rshift__(16).astype(np.uint16).tobytes()
    if kind == "f16":
        return (rng.standard_normal(n, dtype=np.float32) * std).astype(np.float16).tobytes()
    b = rng.integers(0, 256, (n, size), dtype=np.uint8)
    scale = np.float16(std / (4.6 if kind == "q4_0" else 74)) * (1 + 0.1 * rng.standard_normal(n)).astype(np.float16)
    b[:, :2] = scale.astype(np.float16).view(np.uint8).reshape(n, 2)
    return b.tobytes()


def string(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def kv(key, t, v):
    fmt = {4: "<I", 6: "<f", 7: "<?"}
    return string(key) + struct.pack("<I", t) + (string(v) if t == 8 else struct.pack(fmt[t], v))


def strings(key, values):
    return string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))


own = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
letters, extra = [], 0
for b in range(256):
    letters.append(chr(b) if b in own else chr(256 + extra))
    extra += b not in own
meta = [kv("general.architecture", 8, arch), kv("general.name", 8, f"random {shape}"), kv(f"{arch}.block_count", 4, L), kv(f"{arch}.embedding_length", 4, D),
        kv(f"{arch}.feed_forward_length", 4, F), kv(f"{arch}.attention.head_count", 4, H), kv(f"{arch}.attention.head_count_kv", 4, K), kv(f"{arch}.context_length", 4, 8192),
        kv(f"{arch}.attention.layer_norm_rms_epsilon", 6, 1e-5), kv(f"{arch}.rope.freq_base", 6, theta), kv(f"{arch}.rope.dimension_count", 4, E),
        kv("tokenizer.ggml.model", 8, "gpt2"), kv("tokenizer.ggml.pre", 8, "qwen2" if arch == "qwen2" else "smollm"),
        strings("tokenizer.ggml.tokens", letters + [f"t{i}" for i in range(V - 256)]), strings("tokenizer.ggml.merges", ["t 0"]),
        kv("tokenizer.ggml.eos_token_id", 4, V - 1), kv("tokenizer.ggml.bos_token_id", 4, V - 2)]
tensors = [("token_embd.weight", (D, V), kind), ("output_norm.weight", (D,), "f32")] + ([] if tied else [("output.weight", (D, V), kind)])
for l in range(L):
    tensors += [(f"blk.{l}.attn_norm.weight", (D,), "f32"), (f"blk.{l}.ffn_norm.weight", (D,), "f32"), (f"blk.{l}.attn_q.weight", (D, H * E), kind),
                (f"blk.{l}.attn_k.weight", (D, K * E), kind), (f"blk.{l}.attn_v.weight", (D, K * E), kind), (f"blk.{l}.attn_output.weight", (H * E, D), kind),
                (f"blk.{l}.ffn_gate.weight", (D, F), kind), (f"blk.{l}.ffn_up.weight", (D, F), kind), (f"blk.{l}.ffn_down.weight", (F, D), kind)]
    if arch == "qwen2":
        tensors += [(f"blk.{l}.attn_{x}.bias", (n,), "f32") for x, n in (("q", H * E), ("k", K * E), ("v", K * E))]
infos, at = b"", 0
sizes = []
for name, ne, t in tensors:
    code, per, size = TYPES[t]
    n = int(np.prod(ne)) // per * size
    infos += string(name) + struct.pack("<I", len(ne)) + struct.pack(f"<{len(ne)}Q", *ne) + struct.pack("<IQ", code, at)
    sizes.append(n)
    at += (n + 31) // 32 * 32
head = struct.pack("<IIQQ", 0x46554747, 3, len(tensors), len(meta)) + b"".join(meta) + infos
unit = TYPES[kind][2] * 16
pool = memoryview(blocks(32 << 20, 0.02))
start = 0
with open(path, "wb") as f:
    f.write(head + b"\0" * (-len(head) % 32))
    for (name, ne, t), n in zip(tensors, sizes):
        if t == "f32":
            f.write((np.ones(ne[0], np.float32) if "norm" in name else 0.1 * rng.standard_normal(ne[0])).astype(np.float32).tobytes())
        else:
            left = n
            while left:
                start = (start + 7919 * unit) % (len(pool) // unit * unit // 2) // unit * unit
                part = min(left, len(pool) // unit * unit - start)
                f.write(pool[start:start + part])
                left -= part
        f.write(b"\0" * (-n % 32))
print(path, f"{at / 1e9:.2f} GB")
