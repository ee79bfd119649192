/* Porter 1980, "An algorithm for suffix stripping", with the deviations of NLTK's default mode: each is marked "NLTK". */
#include "porter.h"
#include <stdbool.h>
#include <string.h>

typedef struct word {
    char  *p;
    size_t n;
} word;

static bool ends_with(word w, const char *suffix) {
    size_t n = strlen(suffix);
    return w.n >= n && memcmp(w.p + w.n - n, suffix, n) == 0;
}

static void classify(word w, bool *consonant) { /* y is a vowel after a consonant */
    for (size_t i = 0; i < w.n; i++)
        consonant[i] = w.p[i] == 'y' ? i == 0 || !consonant[i - 1] : w.p[i] == '\0' || !strchr("aeiou", w.p[i]);
}

/* How often a vowel is followed by a consonant in the first n letters. */
static int measure(word w, size_t n) {
    bool c[PORTER_MAX];
    int  m = 0;
    w.n = n;
    classify(w, c);
    for (size_t i = 1; i < n; i++)
        m += c[i] && !c[i - 1];
    return m;
}

static bool has_vowel(word w, size_t n) {
    bool c[PORTER_MAX];
    w.n = n;
    classify(w, c);
    return memchr(c, false, n) != NULL;
}

static bool double_consonant(word w) {
    bool c[PORTER_MAX];
    classify(w, c);
    return w.n >= 2 && w.p[w.n - 1] == w.p[w.n - 2] && c[w.n - 1];
}

static bool consonant_vowel_consonant(word w, size_t n) { /* the last letter not w, x or y */
    bool c[PORTER_MAX];
    w.n = n;
    classify(w, c);
    if (n == 2)
        return !c[0] && c[1]; /* NLTK */
    return n >= 3 && c[n - 3] && !c[n - 2] && c[n - 1] && !strchr("wxy", w.p[n - 1]);
}

typedef struct rule {
    const char *suffix, *by;
} rule;

/* The first rule whose suffix fits decides: replaced where the stem's measure is above `above`.  True when one was replaced. */
static bool apply(word *w, const rule *rules, size_t n_rules, int above) {
    for (size_t i = 0; i < n_rules; i++)
        if (ends_with(*w, rules[i].suffix)) {
            size_t stem = w->n - strlen(rules[i].suffix), n = strlen(rules[i].by);
            if (measure(*w, stem) <= above)
                return false;
            memcpy(w->p + stem, rules[i].by, n);
            w->n = stem + n;
            return true;
        }
    return false;
}
#define APPLY(w, rules, above) apply(w, rules, sizeof(rules) / sizeof *(rules), above)

static void plural(word *w) { /* 1a */
    static const rule rules[] = {{"sses", "ss"}, {"ies", "i"}, {"ss", "ss"}, {"s", ""}};
    if (w->n == 4 && ends_with(*w, "ies"))
        w->n = 3; /* NLTK: dies, die */
    else
        APPLY(w, rules, -1);
}

static void past_and_gerund(word *w) { /* 1b */
    static const rule mend[] = {{"at", "ate"}, {"bl", "ble"}, {"iz", "ize"}};
    if (ends_with(*w, "ied")) { /* NLTK */
        w->n -= w->n == 4 ? 1 : 2;
        return;
    }
    if (ends_with(*w, "eed")) {
        w->n -= measure(*w, w->n - 3) > 0;
        return;
    }
    size_t suffix = ends_with(*w, "ed") ? 2 : ends_with(*w, "ing") ? 3 : 0;
    if (!suffix || !has_vowel(*w, w->n - suffix))
        return;
    w->n -= suffix;
    if (APPLY(w, mend, -1))
        return;
    if (double_consonant(*w))
        w->n -= !strchr("lsz", w->p[w->n - 1]);
    else if (measure(*w, w->n) == 1 && consonant_vowel_consonant(*w, w->n))
        w->p[w->n++] = 'e';
}

static void final_y(word *w) { /* 1c; NLTK: after a consonant that is not the only letter before */
    bool c[PORTER_MAX];
    classify(*w, c);
    if (w->n > 2 && w->p[w->n - 1] == 'y' && c[w->n - 2])
        w->p[w->n - 1] = 'i';
}

static void double_suffix(word *w) { /* 2 */
    static const rule rules[] = {{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"}, {"anci", "ance"}, {"izer", "ize"},
                                 {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"}, {"eli", "e"},     {"ousli", "ous"},
                                 {"ization", "ize"}, {"ation", "ate"},   {"ator", "ate"},  {"alism", "al"},  {"iveness", "ive"},
                                 {"fulness", "ful"}, {"ousness", "ous"}, {"aliti", "al"},  {"iviti", "ive"}, {"biliti", "ble"},
                                 {"fulli", "ful"}};
    while (ends_with(*w, "alli") && measure(*w, w->n - 4) > 0)
        w->n -= 2; /* NLTK: and once more */
    bool logi = ends_with(*w, "logi");
    if (logi) /* NLTK: the l counts with the stem; no other suffix ends so */
        w->n -= measure(*w, w->n - 3) > 0;
    else
        APPLY(w, rules, 0);
}

static void fullness(word *w) { /* 3 */
    static const rule rules[] = {{"icate", "ic"}, {"ative", ""}, {"alize", "al"}, {"iciti", "ic"},
                                 {"ical", "ic"},  {"ful", ""},   {"ness", ""}};
    APPLY(w, rules, 0);
}

static void bare(word *w) { /* 4 */
    static const rule before[] = {{"al", ""},   {"ance", ""}, {"ence", ""},  {"er", ""},   {"ic", ""}, {"able", ""},
                                  {"ible", ""}, {"ant", ""},  {"ement", ""}, {"ment", ""}, {"ent", ""}},
                      after[] = {{"ou", ""}, {"ism", ""}, {"ate", ""}, {"iti", ""}, {"ous", ""}, {"ive", ""}, {"ize", ""}};
    if (ends_with(*w, "ion")) { /* no rule of `before` ends so */
        if (measure(*w, w->n - 3) > 1 && strchr("st", w->p[w->n - 4]))
            w->n -= 3;
        return;
    }
    for (size_t i = 0; i < sizeof before / sizeof *before; i++)
        if (ends_with(*w, before[i].suffix)) {
            apply(w, &before[i], 1, 1);
            return;
        }
    APPLY(w, after, 1);
}

static void tidy(word *w) { /* 5 */
    if (ends_with(*w, "e")) {
        int m = measure(*w, w->n - 1);
        if (m > 1 || (m == 1 && !consonant_vowel_consonant(*w, w->n - 1)))
            w->n--;
    }
    if (ends_with(*w, "ll") && measure(*w, w->n - 1) > 1)
        w->n--;
}

size_t porter_stem(char *p, size_t n) {
    static const rule irregular[] = {
        {"sky", "sky"},        {"skies", "sky"},       {"dying", "die"},        {"lying", "lie"},
        {"tying", "tie"},      {"news", "news"},       {"innings", "inning"},   {"inning", "inning"},
        {"outings", "outing"}, {"outing", "outing"},   {"cannings", "canning"}, {"canning", "canning"},
        {"howe", "howe"},      {"proceed", "proceed"}, {"exceed", "exceed"},    {"succeed", "succeed"}};
    if (n <= 2 || n + 2 > PORTER_MAX)
        return n;
    for (size_t i = 0; i < sizeof irregular / sizeof *irregular; i++) /* NLTK */
        if (strlen(irregular[i].suffix) == n && memcmp(p, irregular[i].suffix, n) == 0) {
            n = strlen(irregular[i].by);
            memcpy(p, irregular[i].by, n);
            return n;
        }
    word w = {p, n};
    plural(&w);
    past_and_gerund(&w);
    final_y(&w);
    double_suffix(&w);
    fullness(&w);
    bare(&w);
    tidy(&w);
    return w.n;
}
