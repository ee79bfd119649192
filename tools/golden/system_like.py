"""Outputs as a translation system might give them, made from references by a fixed seed: words or characters dropped, doubled, replaced by
others of the text, blocks moved, punctuation and case changed.  The texts stay outside the repository."""
import random


def system_like(lines, seed, amount, characters=False):
    rng = random.Random(seed)
    split = (lambda t: list(t)) if characters else (lambda t: t.split(" "))
    join = "".join if characters else " ".join
    pool = [w for t in lines[:400] for w in split(t)]
    out = []
    for t in lines:
        a, words = amount * rng.choice((0.2, 0.6, 1.0, 1.6)), []
        for w in split(t):
            r = rng.random()
            if r < a * 0.25:
                continue
            if r < a * 0.6:
                w = rng.choice(pool)
            elif r < a * 0.7:
                words.append(w)
            elif r < a * 0.8:
                w = w.swapcase() if rng.random() < 0.5 else w + rng.choice((",", ".", "!", "’s", "-"))
            words.append(w)
        if len(words) > 4 and rng.random() < 2 * a:
            i, n = rng.randrange(len(words)), rng.randint(1, 4)
            block = words[i : i + n]
            del words[i : i + n]
            j = rng.randrange(len(words) + 1)
            words[j:j] = block
        out.append(join(words).rstrip())  # as lines are read
    return out
