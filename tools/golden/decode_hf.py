"""Whole decodings by transformers' generate() on tiny models (and, with --smollm GGUF, on SmolLM2 in float32).

Writes tests/golden/decode_tiny_{llama,qwen2}.gguf, tests/golden/decode_tiny.json, and with --smollm tests/golden/decode_smollm2.json:
for each strategy of jpt (as a SPEC) and each prompt the generated ids.  gap is the smallest difference in score between a
choice and the best one not taken, where it is known (greedy): what differs below 1e-5 is a tie.
Run: python tools/golden/decode_hf.py [--smollm model.gguf]    (needs torch, transformers 4.46, gguf)
     python tools/golden/decode_hf.py --beam                    [--more] (transformers 4.55: tests/golden/decode_tiny_beam.json, _beam_more.json)
"""
import argparse, json, os, sys
import torch, transformers
from transformers import GenerationConfig

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import logits_tiny

folder = os.path.join(here, "../../tests/golden")
EOS, PAD = 37, 262
transformers.logging.set_verbosity_error()


def correct_constraints():
    """Two things that jpt does otherwise than 4.46 on purpose: copies of a half-met alternative share one list there, so that
    one copy's progress is written into the others; and words in the prompt count.  As released, 464 of the 480 texts are the same."""
    from transformers.generation import beam_constraints as bc
    copy, reset = bc.DisjunctiveConstraint.copy, bc.ConstraintListState.reset

    def own_list(self, stateful=False):
        c = copy(self, stateful)
        c.current_seq = list(c.current_seq)
        return c
    bc.DisjunctiveConstraint.copy = own_list
    bc.ConstraintListState.reset = lambda self, ids: reset(self, ids[correct_constraints.n_prompt:])


def specs(layers):
    """jpt's SPEC and generate()'s arguments."""
    rows = [("greedy", {}), ("greedy:repetition_penalty=1.2", {"repetition_penalty": 1.2}), ("greedy:no_repeat_ngram_size=2", {"no_repeat_ngram_size": 2})]
    for b in (2, 4, 5):
        for penalty in (0.0, 1.0, 2.0):
            for early, text in ((False, "false"), (True, "true"), ("never", "never")):
                rows.append((f"beam:num_beams={b},length_penalty={penalty:g},early_stopping={text}", {"num_beams": b, "length_penalty": penalty, "early_stopping": early}))
    rows.append(("beam:num_beams=4,repetition_penalty=1.2", {"num_beams": 4, "repetition_penalty": 1.2}))
    rows.append(("beam:num_beams=4,no_repeat_ngram_size=2", {"num_beams": 4, "no_repeat_ngram_size": 2}))
    for b, g, d in ((4, 2, 1.0), (6, 3, 0.5), (4, 4, 2.0)):
        for early, text in ((False, "false"), (True, "true")):
            rows.append((f"diverse-beam:num_beams={b},num_beam_groups={g},diversity_penalty={d:g},early_stopping={text}",
                         {"num_beams": b, "num_beam_groups": g, "diversity_penalty": d, "early_stopping": early}))
    for k, a in ((4, 0.6), (5, 0.2), (5, 0.6), (10, 0.4)):
        rows.append((f"contrastive:top_k={k},penalty_alpha={a:g}", {"top_k": k, "penalty_alpha": a}))
    rows.append(("contrastive:top_k=5,penalty_alpha=0.6,repetition_penalty=1.2", {"top_k": 5, "penalty_alpha": 0.6, "repetition_penalty": 1.2}))
    for layer in ("low", "high"):
        rows.append((f"dola:dola_layers={layer},repetition_penalty=1.2", {"dola_layers": layer, "repetition_penalty": 1.2}))
    rows.append(("dola:dola_layers=low,repetition_penalty=1", {"dola_layers": "low"}))
    for scale in (1.5, 3.0):
        rows.append((f"guidance:guidance_scale={scale:g}", {"guidance_scale": scale}))
    # words of characters that no prompt holds: as they are, or after a space
    u, w, y, z = (logits_tiny.vocab.index(c) for c in "uwyz")
    both = lambda *ids: [list(ids), [logits_tiny.vocab.index("\u0120"), *ids]]
    for b, penalty, early in ((4, 1.0, False), (5, 0.0, True), (3, 2.0, False)):
        for text, words in (("z", [both(z)]), ("zuw", [both(z, u, w)]), ("zu/wy", [both(z, u), both(w, y)]), ("zu|yw", [both(z, u) + both(y, w)])):
            rows.append((f"constrained-beam:num_beams={b},force_words={text},length_penalty={penalty:g},early_stopping={str(early).lower()},push_progress=false",
                         {"num_beams": b, "length_penalty": penalty, "early_stopping": early, "force_words_ids": words}))
    some = [1, layers // 2]
    rows.append((f"dola:dola_layers={some[0]}/{some[1]},repetition_penalty=1.2", {"dola_layers": some, "repetition_penalty": 1.2}))
    return rows


def more_specs(beam):
    """The processors that are not in specs(), alone, with group beams (4.46's own scorer) and with beams; and prompt lookup.
    Left out: encoder_repetition_penalty with beams, which changes the first beam alone there.  By 4.50 and later (--beam --more): beams
    under a decaying length penalty, where 4.46 counts ends among the running beams."""
    # ids joined by / in a SPEC, sequences by +
    a, b, c, d = 3, 40, 65, 100
    ways = [("encoder_repetition_penalty=1.5", {"encoder_repetition_penalty": 1.5}), ("encoder_no_repeat_ngram_size=2", {"encoder_no_repeat_ngram_size": 2}),
            ("sequence_bias=3:4/65+100:6/100+40:6/40:-3", {"sequence_bias": {(a,): 4.0, (c, d): 6.0, (d, b): 6.0, (b,): -3.0}}),
            ("suppress_tokens=3/40/65/100/101/102", {"suppress_tokens": [3, 40, 65, 100, 101, 102]}),
            ("begin_suppress_tokens=" + "/".join(map(str, range(0, 260, 2))), {"begin_suppress_tokens": list(range(0, 260, 2))}),
            ("min_length=20", {"min_length": 20}), ("exponential_decay_length_penalty=4/1.6", {"exponential_decay_length_penalty": (4, 1.6)}),
            ("forced_eos_token_id=37", {"forced_eos_token_id": 37}), ("forced_bos_token_id=65", {"forced_bos_token_id": 65}),
            ("repetition_penalty=1.3,encoder_repetition_penalty=1.2,no_repeat_ngram_size=3,suppress_tokens=3/40,exponential_decay_length_penalty=2/1.2",
             {"repetition_penalty": 1.3, "encoder_repetition_penalty": 1.2, "no_repeat_ngram_size": 3, "suppress_tokens": [3, 40], "exponential_decay_length_penalty": (2, 1.2)})]
    rows = []
    for text, kw in ways:
        if beam:
            if "decay" in text and "encoder" not in text:
                rows += [(f"beam:num_beams={b},early_stopping={str(e).lower()},{text}", {"num_beams": b, "early_stopping": e, **kw}) for b, e in ((4, False), (3, True), (2, "never"))]
            continue
        rows.append((f"greedy:{text}", kw))
        if "encoder_repetition" in text:
            continue
        rows.append((f"diverse-beam:num_beams=4,num_beam_groups=2,diversity_penalty=1,{text}", {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, **kw}))
        if "decay" not in text:
            rows.append((f"beam:num_beams=4,early_stopping=false,{text}", {"num_beams": 4, **kw}))
    for n, m in () if beam else ((2, 2), (10, 2), (5, 3)):
        rows.append((f"prompt-lookup:prompt_lookup_num_tokens={n},max_matching_ngram_size={m}", {"prompt_lookup_num_tokens": n, "max_matching_ngram_size": m}))
    return rows


def run(model, prompts, rows, max_new, eos, pad, only=None):
    cases = []
    for spec, kw in rows:
        if only and not any(spec.startswith(o) for o in only):
            continue
        cfg = GenerationConfig(max_new_tokens=max_new, do_sample=False, eos_token_id=eos, pad_token_id=pad, **kw)
        outs = []
        for p in prompts:
            ids = torch.tensor([p])
            correct_constraints.n_prompt = len(p)
            with torch.no_grad():
                out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=cfg)[0, len(p):].tolist()[:max_new]  # 4.46's lookup may pass the limit
            outs.append(out if p[-1] not in eos or not spec.startswith("prompt-lookup") else None)  # 4.46's assisted generation ends before it begins there
        cases.append({"spec": spec, "out": outs})
        print(spec, "done", sum(len(o or ()) for o in outs), flush=True)
    return cases


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--smollm")
    args.add_argument("--more", action="store_true", help="tests/golden/decode_tiny_more.json and, with --smollm, decode_smollm2_more.json")
    args.add_argument("--beam", action="store_true", help="beam search alone, by the vectorised code of transformers 4.50 and later")
    a = args.parse_args()
    if not a.beam:
        correct_constraints()
    versions = {"made_by": "tools/golden/decode_hf.py", "transformers": transformers.__version__, "torch": torch.__version__}
    if a.smollm:
        import smollm2
        model, tok = smollm2.load(a.smollm)
        texts = ["The capital of France is", "Once upon a time, in a small village", "def fibonacci(n):\n", "The three laws of motion are", "Dear Sir or Madam,\n",
                 "Water boils at", "In 1969, the first", "To make a good cup of tea,", "The quick brown fox", "Question: What is 12 + 30?\nAnswer:"]
        prompts = [tok.encode(t).ids for t in texts]
        keep = ["greedy", "beam:num_beams=4,length_penalty=1,early_stopping=false", "diverse-beam:num_beams=4,num_beam_groups=2,diversity_penalty=1,early_stopping=false",
                "contrastive:top_k=5,penalty_alpha=0.6", "dola:dola_layers=low,repetition_penalty=1.2", "dola:dola_layers=high"]
        rows = [r for r in specs(model.config.num_hidden_layers) if any(r[0].startswith(k) for k in keep)]
        if a.more:
            rows = [("guidance:guidance_scale=1.5", {"guidance_scale": 1.5}), ("prompt-lookup:prompt_lookup_num_tokens=10", {"prompt_lookup_num_tokens": 10})]
        cases = run(model, prompts, rows, 64, [0, 2], 1)
        json.dump({**versions, "prompts": prompts, "max_new_tokens": 64, "cases": cases}, open(os.path.join(folder, f"decode_smollm2{'_more' if a.more else ''}.json"), "w"), separators=(",", ":"))
        return
    out = {**versions, "max_new_tokens": 24, "models": []}
    for name, arch, tied, seed in (("llama", "llama", False, 71), ("qwen2", "qwen2", True, 72)):
        model = logits_tiny.build(seed, arch, 6, tied, 10000.0, None)
        logits_tiny.write(os.path.join(folder, f"decode_tiny_{name}.gguf"), name, arch, 6, tied, 10000.0, None, False, model, eos=EOS)
        g = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(0, 261, (3 + i,), generator=g).tolist() for i in range(20)]
        if a.more:
            prompts += [[p[0]] for p in prompts[:3]] + [p[:6] * 3 for p in prompts[5:9]]  # of one token: forced_bos_token_id; repeats: lookup
        rows = more_specs(a.beam) if a.more else [r for r in specs(6) if r[0].startswith("beam") == a.beam]
        out["models"].append({"name": name, "prompts": prompts, "cases": run(model, prompts, rows, 24, [EOS, 261, 263], PAD)})
    json.dump(out, open(os.path.join(folder, f"decode_tiny{'_beam' if a.beam else ''}{'_more' if a.more else ''}.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
