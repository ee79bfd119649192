#!/usr/bin/env python3
"""Golden values of BLEU, chrF and TER with every option, from sacreBLEU: tests/golden/corpus.json.

Segments are made here from sentences written for this project, with a fixed seed: words dropped, swapped, moved and replaced,
punctuation, numbers, entities, several scripts, odd blanks, empty strings.
Needs sacrebleu.  Run: corpus_sacrebleu.py > tests/golden/corpus.json
"""
import json, logging, random, sys
import sacrebleu
from sacrebleu.metrics import BLEU, CHRF, TER

logging.disable(logging.WARNING)
BASE = [
    "The cat sleeps on the warm chair near the window.", "She paid $1,234.56 for 3.5 kg of apples - not 4!", "Où est la gare ? Elle est à 2,5 km d'ici.",
    "Der Zug um 8:15 Uhr fährt über Köln nach Zürich.", "明天我们去海边，天气很好。", "今日は雨が「降って」います。カタカナ・テスト", "Привет, как дела? Всё ХОРОШО.", "مرحبا بالعالم، كيف الحال؟",
    "He said: \"Don't stop; it's 2019-20!\" (twice)", "A &amp; B &lt;tag&gt; &quot;quoted&quot; text & more.", "e-mail me at x.y@z.org or call 555-0199, ext. 7.", "U.S. v. J. Doe's … “fancy” – naïve?",
    "x.5 5.x .5 5. 1,000,000.00 -3 a-3 3-a", "👍🏽 emoji and e\u0301 combining marks 🇫🇷!", "tabs\tand\u00a0odd\u2003blanks\u3000here", "foo_bar{baz}|[qux]\\^`~@#%*+=<>/?",
    "In the middle of the night, a strange light appeared over the village.", "Yes.", "a", "!", "...", "ｆｕｌｌ ｗｉｄｔｈ，ｔｅｘｔ．（ＡＢＣ）", "नमस्ते दुनिया, यह एक वाक्य है।", "one-\ntwo line <skipped> break\n-here",
    "The quick brown fox jumps over the lazy dog again and again and again.", "ΟΔΥΣΣΕΎΣ ΚΑΛΗΜΈΡΑ ΣΑΣ, τι κάνετε; Σ ΑΣ.", "한국어 문장입니다. 잘 지내세요?", "word-, (word). 'word' \"word\" word... --word--", "3,14 3.14 3.,14 .,. 1.-2 9-", "İSTANBUL ĲSSEL ẞ K ends with a hyphen -\n",
    "½ of ² and Ⅷ ⅷ ③ £5 €7 ¥9 ± × ÷ → ∞ ° § ¶ ‰", "㈱ ㍿ ⺀ ㇀ ︰ 豈 㐀 \u2028 \u200b \ufeff zero-width", "the boys' books and the boy's book's cover's",
    "This is a much longer sentence that goes on and on, because the shifts of the edit rate have limits which only long sentences reach, and so it says the same words again: on and on, it says the same words again.",
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
    for _ in range(2):  # blocks change places, which TER calls a shift
        if len(out) > 3 and rng.random() < amount:
            i, j, n = rng.randrange(len(out)), rng.randrange(len(out)), rng.randint(1, 4)
            block = out[i : i + n]
            del out[i : i + n]
            out[j:j] = block
    return " ".join(out)


segments = []
for amount in (0.0, 0.15, 0.35, 0.6):
    for t in BASE:
        segments.append([mutate(t, amount), mutate(t, 0.0 if rng.random() < 0.6 else 0.2), mutate(t, 0.3)])
segments += [["", "Empty here", ""], ["", "", ""], ["Hello", "", "Hello"], ["   ", "blanks", "x"], ["Hello", "Hello there", "Hello"], ["a b c d", "e f g h", "i j"],
             ["aa", "ab", "aa"], ["the the the the the", "the cat", "the the"], ["d e f g h a b c", "a b c d e f g h", "y x"], ["a b c d e", "a b c d e", "a"],
             [" ".join("w%d" % rng.randrange(12) for _ in range(30)), " ".join("w%d" % rng.randrange(12) for _ in range(26)), " ".join("w%d" % i for i in range(3))],
             [" ".join("v%d" % i for i in range(70)), " ".join("v%d" % i for i in list(range(55, 70)) + list(range(55))), " ".join("v%d" % (i % 5) for i in range(12))],
             ["one word", " ".join("r%d" % (i % 9) for i in range(120)), "one"], [" ".join("r%d" % (i % 9) for i in range(120)), "r3 r4", "r5"]]
hyp, refs = [s[0] for s in segments], [[s[1] for s in segments], [s[2] for s in segments]]

CONFIGS = [("bleu", dict(tokenize=t, lowercase=lc, smooth_method=s, smooth_value=v))
           for t, lc, s, v in [("13a", False, "exp", None), ("13a", True, "exp", None), ("intl", False, "exp", None), ("zh", False, "exp", None), ("char", False, "exp", None),
                               ("none", False, "exp", None), ("intl", True, "floor", None), ("13a", False, "floor", 0.01), ("13a", False, "add-k", None), ("zh", True, "add-k", 0.5),
                               ("13a", False, "none", None)]]
CONFIGS += [("chrf", dict(word_order=w, lowercase=lc, whitespace=ws, eps_smoothing=e))
            for w, lc, ws, e in [(0, False, False, False), (2, False, False, False), (0, True, False, False), (2, True, True, False), (0, False, False, True), (2, False, True, True), (1, False, False, False)]]
CONFIGS += [("ter", dict(normalized=n, no_punct=p, asian_support=a, case_sensitive=c))
            for n, p, a, c in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (0, 1, 1, 0), (1, 1, 1, 1), (0, 0, 0, 1)]]
make = {"bleu": BLEU, "chrf": CHRF, "ter": TER}
rows = []
for name, options in CONFIGS:
    options = {k: bool(v) if v in (0, 1) and name == "ter" else v for k, v in options.items()}
    for n_refs in (1, 2):
        m = make[name](**options)
        sentence = make[name](**options, **({"effective_order": True} if name == "bleu" else {}))
        # what corpus_score and sentence_score do, with the statistics computed once
        stats = m._extract_corpus_statistics(hyp, refs[:n_refs])
        row = {"metric": name, "options": {k: v for k, v in options.items() if v is not None}, "n_refs": n_refs}
        m.num_refs = sentence.num_refs = n_refs
        row["corpus"] = m._aggregate_and_compute([list(s) for s in stats]).score
        row["ten"] = [m._aggregate_and_compute([list(s) for s in stats[i : i + 10]]).score for i in range(0, len(hyp), 10)]
        row["sentence"] = [sentence._aggregate_and_compute([list(s)]).score for s in stats]
        row["signature"], row["sentence_signature"] = str(m.get_signature()), str(sentence.get_signature())
        rows.append(row)
tokens = [{"tokenize": t, "tokens": [" ".join(BLEU(tokenize=t, lowercase=True)._preprocess_segment(h).split()) for h in BASE]} for t in ("13a", "intl", "zh", "char", "none")]
json.dump({"made_by": "tools/golden/corpus_sacrebleu.py", "sacrebleu": sacrebleu.__version__, "python": sys.version.split()[0], "segments": segments, "base": BASE,
           "tokens": tokens, "rows": rows}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
print()
