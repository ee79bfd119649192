"""Golden BLEU and chrF: sacreBLEU on made-up segments.  Writes tests/golden/metric.json.  Run: python tools/golden/metric_sacrebleu.py"""
import json, os, random
import sacrebleu

rng = random.Random(7)
words = ("the a cat dog house old small red runs eats sleeps on in under quickly and but 3.14 1,000 U.S. don't it's e-mail state-of-the-art "
         "München größer naïve 東京 こんにちは 🙂 👩‍💻 \"quoted\" (aside) 50% $5 C++ a/b x=y <tag> & &amp; &quot; ... -- l'eau où 12-15 end. why? yes!").split(" ")
segments = []
for i in range(240):
    ref = [rng.choice(words) for _ in range(rng.randrange(0 if i % 20 == 0 else 1, 22))]
    hyp = [w for w in ref if rng.random() > 0.2]
    for _ in range(rng.randrange(0, 4)):
        hyp.insert(rng.randrange(len(hyp) + 1), rng.choice(words))
    if i % 30 == 1: hyp = []
    second = [rng.choice(words) if rng.random() < 0.3 else w for w in ref]
    sep = "  " if i % 7 == 0 else " "
    segments.append([sep.join(hyp), sep.join(ref) + (" ." if i % 5 == 0 else ""), " ".join(second)])
out = {"made_by": "tools/golden/metric_sacrebleu.py", "sacrebleu": sacrebleu.__version__, "segments": []}
for h, r1, r2 in segments:
    out["segments"].append({"hyp": h, "refs": [r1, r2], "bleu": sacrebleu.sentence_bleu(h, [r1, r2]).score, "chrf": sacrebleu.sentence_chrf(h, [r1, r2]).score,
                            "chrf++": sacrebleu.sentence_chrf(h, [r1, r2], word_order=2).score})
H, R = [s[0] for s in segments], [[s[1] for s in segments], [s[2] for s in segments]]
out["bleu"], out["chrf"], out["chrf++"] = (sacrebleu.corpus_bleu(H, R).score, sacrebleu.corpus_chrf(H, R).score, sacrebleu.corpus_chrf(H, R, word_order=2).score)
here = os.path.dirname(os.path.abspath(__file__))
json.dump(out, open(os.path.join(here, "../../tests/golden/metric.json"), "w"), ensure_ascii=False, indent=0)
print(len(segments), out["bleu"], out["chrf"], out["chrf++"])
