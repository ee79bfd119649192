#!/usr/bin/env python3
"""llama.cpp's side of bench/cpu.py: the commands prefill, decode and batch of bench/step.c through llama-cpp-python's
low-level API, logits of the last row only, no selection.      llama_step.py MODEL THREADS"""
import ctypes, sys, time
import llama_cpp as L
import numpy as np

path, threads = sys.argv[1], int(sys.argv[2])
L.llama_backend_init()
quiet = L.llama_log_callback(lambda level, text, ud: None)
L.llama_log_set(quiet, ctypes.c_void_p(0))
mp = L.llama_model_default_params()
mp.n_gpu_layers = 0
model = L.llama_model_load_from_file(path.encode(), mp)
if not model:
    sys.exit("llama_step.py: cannot load " + path)


def now():
    return np.array([time.perf_counter(), time.process_time()])


def token(i):
    return 100 + i * 37 % 8000


def context(n_ctx, n_seqs):
    cp = L.llama_context_default_params()
    cp.n_ctx = n_ctx
    cp.n_batch = cp.n_ubatch = 512
    cp.n_seq_max = n_seqs
    cp.n_threads = cp.n_threads_batch = threads
    cp.kv_unified = True
    return L.llama_init_from_model(model, cp)


def fill(batch, rows):
    """rows: (token, position, sequence, wants logits)"""
    batch.n_tokens = len(rows)
    for i, (t, pos, seq, logits) in enumerate(rows):
        batch.token[i] = t
        batch.pos[i] = pos
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = seq
        batch.logits[i] = logits


def decode(ctx, batch):
    if L.llama_decode(ctx, batch) != 0:
        sys.exit("llama_step.py: decode failed")
    L.llama_get_logits(ctx)  # waits


def prefill(n):
    ctx, batch = context(n + 64, 1), L.llama_batch_init(512, 0, 1)
    fill(batch, [(token(i), i, 0, i == n - 1) for i in range(n)])
    t0 = now()
    decode(ctx, batch)
    dt = now() - t0
    L.llama_batch_free(batch)
    L.llama_free(ctx)
    return dt


def several(n_seqs, n, steps):
    ctx, batch = context(n + n_seqs * steps + 64, n_seqs), L.llama_batch_init(512, 0, 1)
    fill(batch, [(token(i), i, 0, i == n - 1) for i in range(n)])
    decode(ctx, batch)
    memory = L.llama_get_memory(ctx)
    for s in range(1, n_seqs):
        L.llama_memory_seq_cp(memory, 0, s, -1, -1)
    dt = np.zeros(2)
    for k in range(steps):
        fill(batch, [(token(k * n_seqs + s), n + k, s, 1) for s in range(n_seqs)])
        t0 = now()
        decode(ctx, batch)
        dt += now() - t0
    L.llama_batch_free(batch)
    L.llama_free(ctx)
    return dt


print("ready", L.llama_print_system_info().decode(), flush=True)
for line in sys.stdin:
    w = line.split()
    if w[0] == "prefill":
        print("%.9f %.9f" % tuple(prefill(int(w[1]))), flush=True)
    elif w[0] == "decode":
        print("%.9f %.9f" % tuple(several(1, int(w[1]), int(w[2]))), flush=True)
    elif w[0] == "batch":
        print("%.9f %.9f" % tuple(several(int(w[1]), int(w[2]), int(w[3]))), flush=True)
