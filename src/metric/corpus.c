/* BLEU, chrF and TER as one kind of thing: a segment's statistics as numbers that add up. */
#include <jpt/metric.h>
#include <string.h>

bool jpt_corpus_metric_named(const char *name, jpt_corpus_metric *out) {
    jpt_corpus_metric m = {.smoothing = JPT_BLEU_EXP};
    if (strcmp(name, "bleu") == 0)
        m.kind = JPT_CORPUS_BLEU;
    else if (strcmp(name, "chrf") == 0 || strcmp(name, "chrf++") == 0)
        m.kind = JPT_CORPUS_CHRF;
    else if (strcmp(name, "ter") == 0)
        m.kind = JPT_CORPUS_TER;
    else
        return false;
    m.chrf.word_order = strcmp(name, "chrf++") == 0 ? 2 : 0;
    *out = m;
    return true;
}

const char *jpt_corpus_name(const jpt_corpus_metric *m) {
    static const char *const chrf[] = {"chrF2", "chrF2+", "chrF2++"};
    return m->kind == JPT_CORPUS_BLEU ? "BLEU" : m->kind == JPT_CORPUS_TER ? "TER" : chrf[m->chrf.word_order];
}

bool jpt_corpus_higher_is_better(const jpt_corpus_metric *m) { return m->kind != JPT_CORPUS_TER; }

int jpt_corpus_n_stats(const jpt_corpus_metric *m) {
    return m->kind == JPT_CORPUS_BLEU ? 10 : m->kind == JPT_CORPUS_TER ? 2 : 3 * (JPT_CHRF_ORDER + m->chrf.word_order);
}

jpt_status jpt_corpus_segment(const jpt_corpus_metric *m, jpt_str hyp, const jpt_str *refs, size_t n_refs, double *stats,
                              jpt_error *err) {
    if (m->kind == JPT_CORPUS_BLEU) {
        jpt_bleu_stats s;
        JPT_TRY(jpt_bleu_segment_as(&m->bleu, hyp, refs, n_refs, &s, err));
        stats[0] = (double)s.hyp_len;
        stats[1] = (double)s.ref_len;
        for (int i = 0; i < 4; i++) {
            stats[2 + i] = (double)s.match[i];
            stats[6 + i] = (double)s.total[i];
        }
    } else if (m->kind == JPT_CORPUS_CHRF) {
        jpt_chrf_stats s;
        JPT_TRY(jpt_chrf_segment_as(&m->chrf, hyp, refs, n_refs, &s, err));
        for (int i = 0; i < JPT_CHRF_ORDER + m->chrf.word_order; i++) {
            stats[3 * i] = (double)s.hyp[i];
            stats[3 * i + 1] = (double)s.ref[i];
            stats[3 * i + 2] = (double)s.match[i];
        }
    } else {
        jpt_ter_stats s;
        JPT_TRY(jpt_ter_segment(&m->ter, hyp, refs, n_refs, &s, err));
        stats[0] = (double)s.edits;
        stats[1] = s.ref_len;
    }
    return JPT_OK;
}

double jpt_corpus_score(const jpt_corpus_metric *m, const double *sum) {
    if (m->kind == JPT_CORPUS_BLEU) {
        jpt_bleu_stats s = {.hyp_len = (int64_t)sum[0], .ref_len = (int64_t)sum[1]};
        for (int i = 0; i < 4; i++) {
            s.match[i] = (int64_t)sum[2 + i];
            s.total[i] = (int64_t)sum[6 + i];
        }
        return jpt_bleu_score_smoothed(&s, m->effective_order, m->smoothing, m->smooth_value);
    }
    if (m->kind == JPT_CORPUS_CHRF) {
        jpt_chrf_stats s = {0};
        for (int i = 0; i < JPT_CHRF_ORDER + m->chrf.word_order; i++) {
            s.hyp[i] = (int64_t)sum[3 * i];
            s.ref[i] = (int64_t)sum[3 * i + 1];
            s.match[i] = (int64_t)sum[3 * i + 2];
        }
        return jpt_chrf_score_as(&m->chrf, &s);
    }
    return jpt_ter_score(&(jpt_ter_stats){(int64_t)sum[0], sum[1]});
}

static const char *yes(bool v) { return v ? "yes" : "no"; }

void jpt_corpus_signature(const jpt_corpus_metric *m, size_t n_refs, int32_t n_bootstrap, int32_t n_shuffles, uint64_t seed,
                          jpt_buf *out) {
    static const char *const tokenizer[] = {[JPT_BLEU_TOK_13A] = "13a",
                                            [JPT_BLEU_TOK_INTL] = "intl",
                                            [JPT_BLEU_TOK_ZH] = "zh",
                                            [JPT_BLEU_TOK_CHAR] = "char",
                                            [JPT_BLEU_TOK_NONE] = "none"};
    static const char *const smoothing[] = {
        [JPT_BLEU_NONE] = "none", [JPT_BLEU_FLOOR] = "floor", [JPT_BLEU_EXP] = "exp", [JPT_BLEU_ADD_K] = "add-k"};
    jpt_buf_printf(out, "nrefs:%zu|", n_refs);
    if (n_bootstrap)
        jpt_buf_printf(out, "bs:%d|", n_bootstrap);
    if (n_shuffles)
        jpt_buf_printf(out, "ar:%d|", n_shuffles);
    if (n_bootstrap || n_shuffles)
        jpt_buf_printf(out, "seed:%llu|", (unsigned long long)seed);
    if (m->kind == JPT_CORPUS_BLEU) {
        jpt_buf_printf(out, "case:%s|eff:%s|tok:%s|smooth:%s", m->bleu.lowercase ? "lc" : "mixed", yes(m->effective_order),
                       tokenizer[m->bleu.tokenizer], smoothing[m->smoothing]);
        if (m->smoothing == JPT_BLEU_FLOOR || m->smoothing == JPT_BLEU_ADD_K)
            jpt_buf_printf(out, "[%.2f]", m->smooth_value);
    } else if (m->kind == JPT_CORPUS_CHRF) {
        jpt_buf_printf(out, "case:%s|eff:%s|nc:%d|nw:%d|space:%s", m->chrf.lowercase ? "lc" : "mixed",
                       yes(!m->chrf.eps_smoothing), JPT_CHRF_ORDER, m->chrf.word_order, yes(m->chrf.whitespace));
    } else {
        jpt_buf_printf(out, "case:%s|tok:tercom|norm:%s|punct:%s|asian:%s", m->ter.case_sensitive ? "mixed" : "lc",
                       yes(m->ter.normalized), yes(!m->ter.no_punct), yes(m->ter.asian_support));
    }
    jpt_buf_addz(out, "|version:" JPT_SACREBLEU_VERSION);
}
