#!/usr/bin/env python3
"""Golden values of BLEU and chrF from sacreBLEU: tests/golden/metric.json.

Segments are made here, from sentences written for this project, with a fixed seed: words dropped, swapped and replaced,
punctuation, numbers, entities, several scripts, odd blanks, empty strings.  Run: make_metric.py > tests/golden/metric.json
"""
import json, random, sys
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

BASE = [
    "The cat sleeps on the warm chair near the window.", "She paid $1,234.56 for 3.5 kg of apples - not 4!", "Où est la gare ? Elle est à 2,5 km d'ici.",
    "Der Zug um 8:15 Uhr fährt über Köln nach Zürich.", "明天我们去海边，天气很好。", "今日は雨が降っています。", "Привет, как дела? Всё хорошо.", "مرحبا بالعالم، كيف الحال؟",
    "He said: \"Don't stop; it's 2019-20!\" (twice)", "A &amp; B &lt;tag&gt; &quot;quoted&quot; text & more.", "e-mail me at x.y@z.org or call 555-0199, ext. 7.", "U.S. v. J. Doe's … “fancy” – naïve?",
    "x.5 5.x .5 5. 1,000,000.00 -3 a-3 3-a", "👍🏽 emoji and e\u0301 combining marks 🇫🇷!", "tabs\tand\u00a0odd\u2003blanks\u3000here", "foo_bar{baz}|[qux]\\^`~@#%*+=<>/?",
    "In the middle of the night, a strange light appeared over the village.", "Yes.", "a", "!", "...", "ｆｕｌｌ ｗｉｄｔｈ，ｔｅｘｔ．", "नमस्ते दुनिया, यह एक वाक्य है।", "one-\ntwo line <skipped> break\nhere",
    "The quick brown fox jumps over the lazy dog again and again and again.", "Ελληνικά: καλημέρα σας, τι κάνετε;", "한국어 문장입니다. 잘 지내세요?", "word-, (word). 'word' \"word\" word... --word--", "3,14 3.14 3.,14 .,. 1.-2 9-", "ends with a hyphen -\n",
]
rng = random.Random(20240917)
WORDS = "the of and red blue house, 12 3.5 not very ça été 你好 мир ! ? ; - (x) it's".split()


def mutate(text, amount):
    out = []
    for w in text.split(" "):
        r = rng.random()
        if r < amount / 3:
            continue
        if r < 2 * amount / 3:
            out.append(rng.choice(WORDS))
        elif r < amount:
            w = w[: rng.randint(0, len(w))]
            out.append(w)
            continue
        out.append(w)
    if len(out) > 2 and rng.random() < amount:
        i = rng.randrange(len(out) - 1)
        out[i], out[i + 1] = out[i + 1], out[i]
    return " ".join(out)


segments = []
for amount in (0.0, 0.1, 0.2, 0.3, 0.45, 0.6, 0.9):
    for t in BASE:
        segments.append([mutate(t, amount), mutate(t, 0.0 if rng.random() < 0.6 else 0.2), mutate(t, 0.3)])
segments += [["", "Empty here", ""], ["", "", ""], ["Hello", "", "Hello"], ["   ", "blanks", "x"], ["Hello", "Hello there", "Hello"], ["a b c d", "e f g h", "i j"],
             ["aa", "ab", "aa"], ["the the the the the", "the cat", "the the"], ["x y", "x y", "y x"], ["a b c d e", "a b c d e", "a"]]
hyp, ref = [s[0] for s in segments], [s[1:] for s in segments]
METHODS = {"none": None, "floor": 0.1, "exp": None, "add-k": 1}


def corpus(lo, hi, n_refs):
    refs = [[r[k] for r in ref[lo:hi]] for k in range(n_refs)]
    row = {"from": lo, "to": hi, "n_refs": n_refs, "chrf": CHRF().corpus_score(hyp[lo:hi], refs).score, "chrf++": CHRF(word_order=2).corpus_score(hyp[lo:hi], refs).score}
    for m in METHODS:
        row["bleu-" + m] = BLEU(smooth_method=m).corpus_score(hyp[lo:hi], refs).score
    return row


rows = []
for h, r in segments and zip(hyp, ref):
    row = {"hyp": h, "refs": r, "tok": Tokenizer13a()(h.rstrip())}
    for n in (1, 2):
        row["chrf%d" % n] = CHRF().sentence_score(h, r[:n]).score
        row["chrf++%d" % n] = CHRF(word_order=2).sentence_score(h, r[:n]).score
        for m in METHODS:
            row["bleu-%s%d" % (m, n)] = BLEU(smooth_method=m, effective_order=True).sentence_score(h, r[:n]).score
    rows.append(row)
n = len(segments)
cells = [corpus(lo, hi, k) for k in (1, 2) for lo, hi in ((0, n), (0, 30), (30, 90), (90, 180), (180, n), (n - 10, n), (n - 9, n - 8), (n - 2, n - 1))]
json.dump({"made_by": "tools/golden/make_metric.py", "sacrebleu": sacrebleu.__version__, "python": sys.version.split()[0], "segments": rows, "corpora": cells},
          sys.stdout, ensure_ascii=False, indent=None, separators=(",", ":"))
print()
