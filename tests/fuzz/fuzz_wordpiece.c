/* libFuzzer target of WordPiece: the input is a vocabulary up to a zero byte, then a text.  What is accepted encodes, within the
 * limit, to ids of the vocabulary; a longer limit only adds to what a shorter one gives.  The text also goes through a fixed vocabulary. */
#include <jpt/token.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void through(const jpt_wordpiece *w, const char *text, size_t n) {
    jpt_ids all = {0}, cut = {0};
    JPT_ASSERT(jpt_wordpiece_encode(w, text, n, 0, &all, NULL) == JPT_OK);
    JPT_ASSERT(jpt_wordpiece_encode(w, text, n, 7, &cut, NULL) == JPT_OK);
    JPT_ASSERT(all.n >= 2 && cut.n <= 7 && cut.n <= all.n);
    for (size_t i = 0; i < all.n; i++)
        JPT_ASSERT(all.p[i] >= 0 && all.p[i] < jpt_wordpiece_n_vocab(w));
    JPT_ASSERT(memcmp(all.p, cut.p, (cut.n - 1) * sizeof *cut.p) == 0);
    jpt_ids_fini(&all);
    jpt_ids_fini(&cut);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static jpt_wordpiece *fixed;
    static const char     vocab[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##a\naa\nthe\n##the\n.\n\xc3\x9f\n\xe4\xb8\xad\n##b\n";
    if (!fixed)
        JPT_ASSERT(jpt_wordpiece_new("fixed", vocab, sizeof vocab - 1, true, &fixed, NULL) == JPT_OK);
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    size_t         n_vocab = zero ? (size_t)(zero - data) : 0;
    const char    *text = (const char *)data + (zero ? n_vocab + 1 : 0);
    n -= zero ? n_vocab + 1 : 0;
    through(fixed, text, n);
    for (int lower = 0; lower < 2; lower++) {
        jpt_wordpiece *w;
        if (jpt_wordpiece_new("fuzz", (const char *)data, n_vocab, lower, &w, NULL) != JPT_OK)
            continue;
        through(w, text, n);
        jpt_wordpiece_free(w);
    }
    return 0;
}
