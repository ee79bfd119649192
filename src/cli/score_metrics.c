/* jpt score: from segments to printed numbers. */
#include "score.h"
#include <jpt/mauve.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- printing ------------------------------------------------------------------------------------------- */

void score_put(json_t *j, const char *key, double v) { json_object_set_new(j, key, isfinite(v) ? json_real(v) : json_null()); }

void score_print(const score_options *o, json_t *out) {
    const char *key;
    json_t     *v;
    if (o->json) {
        json_dumpf(out, stdout, JSON_COMPACT | JSON_REAL_PRECISION(17));
        putchar('\n');
    } else {
        json_object_foreach(out, key, v) {
            if (json_is_real(v))
                printf("%s %.4f\n", key, json_real_value(v));
            else if (json_is_integer(v))
                printf("%s %lld\n", key, (long long)json_integer_value(v));
            else if (json_is_string(v))
                printf("%s %s\n", key, json_string_value(v));
            else if (json_is_null(v))
                printf("%s n/a\n", key);
        }
    }
    json_decref(out);
}

/* ---- BLEU, chrF, TER ------------------------------------------------------------------------------------ */

static double score_sum(void *ud, const double *sum) { return jpt_corpus_score(ud, sum); }

/* [n, k] statistics of a system. */
static jpt_status stats_of(const jpt_corpus_metric *m, const score_file *hyp, const score_file *ref, size_t n_refs, double *stats,
                           jpt_error *err) {
    jpt_str r[SCORE_FILES_MAX];
    size_t  k = (size_t)jpt_corpus_n_stats(m);
    for (size_t i = 0; i < hyp->n; i++) {
        for (size_t j = 0; j < n_refs; j++)
            r[j] = ref[j].segment[i];
        jpt_error why = {0};
        if (jpt_corpus_segment(m, hyp->segment[i], r, n_refs, stats + i * k, &why) != JPT_OK)
            return why.code == JPT_NOMEM ? JPT_FAIL(err, NOMEM, "%s:%zu: %s", hyp->path, i + 1, why.msg)
                                         : JPT_FAIL(err, ARG, "%s:%zu: %s", hyp->path, i + 1, why.msg);
    }
    return JPT_OK;
}

static void print_sentences(const score_options *o, const jpt_corpus_metric *m, const score_file *hyp, const double *stats,
                            size_t n_refs) {
    jpt_corpus_metric single = *m;
    jpt_buf           sig = {0};
    single.effective_order = true;
    jpt_corpus_signature(&single, n_refs, 0, 0, 0, &sig);
    for (size_t i = 0; i < hyp->n; i++) {
        double v = jpt_corpus_score(&single, stats + i * (size_t)jpt_corpus_n_stats(m));
        if (o->json) {
            json_t *out = json_pack("{s:s, s:I, s:f, s:s}", "metric", jpt_corpus_name(m), "segment", (json_int_t)i + 1, "score",
                                    v, "signature", sig.p ? sig.p : "");
            score_print(o, out);
        } else {
            printf("%s|%s = %.2f\n", jpt_corpus_name(m), sig.p, v);
        }
    }
    jpt_buf_fini(&sig);
}

/* One line as sacreBLEU writes it: NAME|SIGNATURE = SCORE (μ = MEAN ± WIDTH) (p = P). */
static void print_corpus(const score_options *o, const jpt_corpus_metric *m, const score_file *hyp, const double *sum,
                         const char *sig, const jpt_confidence *c, const jpt_paired *p, bool baseline) {
    double score = jpt_corpus_score(m, sum);
    if (o->json) {
        json_t *out = json_object();
        json_object_set_new(out, "metric", json_string(jpt_corpus_name(m)));
        json_object_set_new(out, "system", json_string(hyp->path));
        score_put(out, "score", score);
        json_object_set_new(out, "signature", json_string(sig));
        json_object_set_new(out, "segments", json_integer((json_int_t)hyp->n));
        if (m->kind == JPT_CORPUS_BLEU) {
            json_object_set_new(out, "hyp_len", json_integer((json_int_t)sum[0]));
            json_object_set_new(out, "ref_len", json_integer((json_int_t)sum[1]));
            json_object_set_new(
                out, "matches",
                json_pack("[I,I,I,I]", (json_int_t)sum[2], (json_int_t)sum[3], (json_int_t)sum[4], (json_int_t)sum[5]));
            json_object_set_new(
                out, "totals",
                json_pack("[I,I,I,I]", (json_int_t)sum[6], (json_int_t)sum[7], (json_int_t)sum[8], (json_int_t)sum[9]));
        }
        if (c) {
            score_put(out, "confidence_mean", c->mean);
            score_put(out, "confidence_half_width", c->half_width);
        }
        if (baseline)
            json_object_set_new(out, "baseline", json_true());
        if (p)
            score_put(out, "p", p->p);
        score_print(o, out);
        return;
    }
    if (o->n_paired_bs || o->n_paired_ar)
        printf("%s%s: ", baseline ? "baseline " : "", hyp->path);
    printf("%s|%s = %.2f", jpt_corpus_name(m), sig, score);
    if (c)
        printf(" (μ = %.2f ± %.2f)", c->mean, c->half_width);
    if (p)
        printf(" (p = %.4f)%s", p->p, p->p <= 0.05 ? "*" : "");
    putchar('\n');
}

static void add_up(const double *stats, size_t n, size_t k, double *sum) {
    memset(sum, 0, k * sizeof *sum);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < k; j++)
            sum[j] += stats[i * k + j];
}

static jpt_status score_one(const score_options *o, jpt_corpus_metric *m, const score_file *hyp, size_t n_hyp,
                            const score_file *ref, size_t n_refs, jpt_error *err) {
    size_t         n = hyp[0].n, k = (size_t)jpt_corpus_n_stats(m), cells = n * k;
    double        *stats = calloc(2 * cells, sizeof *stats), *other = stats + cells, sum[JPT_CORPUS_STATS_MAX];
    int32_t        bs = o->n_paired_bs ? o->n_paired_bs : o->n_confidence;
    jpt_buf        sig = {0};
    jpt_confidence c;
    jpt_status     st =
        stats ? stats_of(m, &hyp[0], ref, n_refs, stats, err) : JPT_FAIL(err, NOMEM, "out of memory for %zu segments", n);
    jpt_corpus_signature(m, n_refs, bs, o->n_paired_ar, o->seed, &sig);
    if (st == JPT_OK && o->sentence) {
        print_sentences(o, m, &hyp[0], stats, n_refs);
    } else if (st == JPT_OK) {
        if (bs)
            st = jpt_bootstrap_confidence(score_sum, m, stats, (int32_t)n, (int32_t)k, bs, o->seed, &c, err);
        add_up(stats, n, k, sum);
        if (st == JPT_OK)
            print_corpus(o, m, &hyp[0], sum, sig.p, bs ? &c : NULL, NULL, o->n_paired_bs || o->n_paired_ar);
    }
    for (size_t s = 1; st == JPT_OK && s < n_hyp; s++) {
        jpt_paired p;
        st = stats_of(m, &hyp[s], ref, n_refs, other, err);
        if (st == JPT_OK && o->n_paired_bs)
            st = jpt_paired_bootstrap(score_sum, m, stats, other, (int32_t)n, (int32_t)k, o->n_paired_bs, o->seed, &p, err);
        else if (st == JPT_OK && o->n_paired_ar)
            st = jpt_paired_randomization(score_sum, m, stats, other, (int32_t)n, (int32_t)k, o->n_paired_ar, o->seed, &p, err);
        add_up(other, n, k, sum);
        if (st == JPT_OK)
            print_corpus(o, m, &hyp[s], sum, sig.p, o->n_paired_bs ? &p.of_system : NULL,
                         o->n_paired_bs || o->n_paired_ar ? &p : NULL, false);
    }
    free(stats);
    jpt_buf_fini(&sig);
    return st;
}

jpt_status score_corpus(const score_options *o, const score_file *hyp, size_t n_hyp, const score_file *ref, size_t n_refs,
                        jpt_error *err) {
    for (int i = 0; i < o->n_corpus; i++)
        JPT_TRY(score_one(o, &o->corpus[i], hyp, n_hyp, ref, n_refs, err));
    return JPT_OK;
}

/* ---- means over items ----------------------------------------------------------------------------------- */

static double mean(const double *v, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += v[i];
    return n ? sum / (double)n : NAN;
}

/* Puts the mean, and its bootstrap bounds where asked for. */
static jpt_status put_mean(const score_options *o, json_t *out, const char *key, const double *v, size_t n, jpt_error *err) {
    score_put(out, key, mean(v, n));
    if (!o->n_confidence)
        return JPT_OK;
    double low, high;
    char   name[64];
    JPT_TRY(jpt_bootstrap_mean(v, (int32_t)n, o->n_confidence, o->seed, &low, &high, err));
    snprintf(name, sizeof name, "%s_low", key);
    score_put(out, name, low);
    snprintf(name, sizeof name, "%s_high", key);
    score_put(out, name, high);
    return JPT_OK;
}

jpt_status score_rouge(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err) {
    static const char *const names[] = {"rouge1", "rouge2", "rougeL", "rougeLsum"};
    double                  *v = malloc(12 * hyp->n * sizeof *v);
    jpt_status               st = v ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu segments", hyp->n);
    jpt_str                  r[SCORE_FILES_MAX];
    for (size_t i = 0; st == JPT_OK && i < hyp->n; i++) {
        jpt_rouge s = {0};
        for (size_t j = 0; j < n_refs; j++)
            r[j] = ref[j].segment[i];
        st = jpt_rouge_segment(o->stem, hyp->segment[i], r, n_refs, &s, err);
        for (size_t k = 0; k < 4; k++) {
            v[k * hyp->n + i] = s.of[k].f;
            v[(4 + k) * hyp->n + i] = s.of[k].precision;
            v[(8 + k) * hyp->n + i] = s.of[k].recall;
        }
    }
    json_t *out = json_object();
    for (size_t k = 0; st == JPT_OK && k < 4; k++) {
        char name[32];
        st = put_mean(o, out, names[k], v + k * hyp->n, hyp->n, err);
        snprintf(name, sizeof name, "%s_precision", names[k]);
        score_put(out, name, mean(v + (4 + k) * hyp->n, hyp->n));
        snprintf(name, sizeof name, "%s_recall", names[k]);
        score_put(out, name, mean(v + (8 + k) * hyp->n, hyp->n));
    }
    char signature[96];
    snprintf(signature, sizeof signature, "nrefs:%zu|stem:%s|rouge-score:0.1.2", n_refs, o->stem ? "yes" : "no");
    json_object_set_new(out, "signature", json_string(signature));
    json_object_set_new(out, "segments", json_integer((json_int_t)hyp->n));
    if (st == JPT_OK)
        score_print(o, out);
    else
        json_decref(out);
    free(v);
    return st;
}

jpt_status score_code_bleu(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err) {
    double    *v = malloc(hyp->n * sizeof *v);
    jpt_status st = v ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu segments", hyp->n);
    jpt_str    r[SCORE_FILES_MAX];
    for (size_t i = 0; st == JPT_OK && i < hyp->n; i++) {
        for (size_t j = 0; j < n_refs; j++)
            r[j] = ref[j].segment[i];
        st = jpt_bleu_code_summary(hyp->segment[i], r, n_refs, &v[i], err);
    }
    json_t *out = json_object();
    if (st == JPT_OK)
        st = put_mean(o, out, "smoothed_bleu_4", v, hyp->n, err);
    json_object_set_new(out, "segments", json_integer((json_int_t)hyp->n));
    if (st == JPT_OK)
        score_print(o, out);
    else
        json_decref(out);
    free(v);
    return st;
}

/* A reference that no answer can match is a wrong file or field, not a score of 0. */
static bool has_digit(jpt_str s) {
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] >= '0' && s.p[i] <= '9')
            return true;
    return false;
}

/* ---- answers -------------------------------------------------------------------------------------------- */

jpt_status score_gsm8k(const score_options *o, const score_file *hyp, const score_file *ref, jpt_error *err) {
    enum { STRICT, FLEXIBLE, NUMERIC, INVALID_STRICT, INVALID_FLEXIBLE, MAJORITY, COLUMNS };
    static const char *const names[] = {"strict_match",   "flexible_extract", "numeric",
                                        "invalid_strict", "invalid_flexible", "majority"};
    double                  *v = calloc(COLUMNS * hyp->n, sizeof *v);
    jpt_str                 *answer = malloc(hyp->n_segments * sizeof *answer);
    jpt_status               st = v && answer ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %zu answers", hyp->n_segments);
    bool                     several = hyp->n_segments > hyp->n;
    for (size_t i = 0; st == JPT_OK && i < hyp->n; i++) {
        size_t  from = hyp->first[i], n = hyp->first[i + 1] - from;
        jpt_str want = ref->segment[ref->first[i]], number = want, got;
        double  part = 1.0 / (double)n;
        if (!jpt_answer_extract(JPT_ANSWER_STRICT, want, &number))
            number = want;
        if (!has_digit(want))
            st = JPT_FAIL(err, FORMAT, "%s:%zu: the reference holds no number: no answer could be right", ref->path, i + 1);
        for (size_t s = 0; st == JPT_OK && s < n; s++) {
            jpt_str text = hyp->segment[from + s];
            bool    right[2] = {false, false};
            st = jpt_answer_match(JPT_ANSWER_STRICT, text, want, &right[0], err);
            if (st == JPT_OK)
                st = jpt_answer_match(JPT_ANSWER_FLEXIBLE, text, want, &right[1], err);
            v[STRICT * hyp->n + i] += part * right[0];
            v[FLEXIBLE * hyp->n + i] += part * right[1];
            v[INVALID_STRICT * hyp->n + i] += part * !jpt_answer_extract(JPT_ANSWER_STRICT, text, &got);
            bool found = jpt_answer_extract(JPT_ANSWER_FLEXIBLE, text, &got);
            v[INVALID_FLEXIBLE * hyp->n + i] += part * !found;
            answer[s] = found ? got : jpt_str_z("[invalid]");
            v[NUMERIC * hyp->n + i] += part * (found && jpt_answer_same_number(got, number));
        }
        if (st == JPT_OK)
            v[MAJORITY * hyp->n + i] = jpt_answer_same_number(answer[jpt_majority_vote(answer, n, NULL)], number);
    }
    json_t *out = json_object();
    for (size_t c = 0; st == JPT_OK && c < (several ? COLUMNS : MAJORITY); c++)
        st = put_mean(o, out, names[c], v + c * hyp->n, hyp->n, err);
    json_object_set_new(out, "items", json_integer((json_int_t)hyp->n));
    json_object_set_new(out, "answers", json_integer((json_int_t)hyp->n_segments));
    if (st == JPT_OK)
        score_print(o, out);
    else
        json_decref(out);
    free(v);
    free(answer);
    return st;
}

jpt_status score_exact(const score_options *o, const score_file *hyp, const score_file *ref, size_t n_refs, jpt_error *err) {
    double *v = calloc(hyp->n, sizeof *v);
    if (!v)
        return JPT_FAIL(err, NOMEM, "out of memory for %zu answers", hyp->n);
    jpt_status st = JPT_OK;
    for (size_t i = 0; i < hyp->n; i++) {
        double a, b;
        bool   number = false;
        for (size_t k = 0; k < n_refs; k++) {
            if (!jpt_last_number(ref[k].segment[i], &b))
                continue;
            number = true;
            v[i] = v[i] != 0 || (jpt_last_number(hyp->segment[i], &a) && a == b);
        }
        if (!number && st == JPT_OK)
            st = JPT_FAIL(err, FORMAT, "%s:%zu: the reference holds no number: no answer could be right", ref[0].path, i + 1);
    }
    json_t *out = json_object();
    if (st == JPT_OK)
        st = put_mean(o, out, "exact-match", v, hyp->n, err);
    json_object_set_new(out, "segments", json_integer((json_int_t)hyp->n));
    if (st == JPT_OK)
        score_print(o, out);
    else
        json_decref(out);
    free(v);
    return st;
}

enum { SAMPLES_MOST = 10000000 };

jpt_status score_pass(const score_options *o, const char *path, jpt_error *err) {
    jpt_buf    b = {0};
    double     sum[16] = {0};
    size_t     tasks = 0, number = 1;
    jpt_status st = jpt_text_read(path, &b, err);
    for (size_t at = 0; st == JPT_OK && at < b.n; number++) {
        const char *eol = memchr(b.p + at, '\n', b.n - at);
        size_t      length = eol ? (size_t)(eol - b.p) - at : b.n - at;
        char        line[256];
        long long   n = 0, c = 0;
        int         end = 0;
        json_t     *list = b.p[at] == '[' ? json_loadb(b.p + at, length, 0, NULL) : NULL, *v;
        size_t      i;
        snprintf(line, sizeof line, "%.*s", (int)(length < 255 ? length : 255), b.p + at);
        bool        known = true;
        json_array_foreach(list, i, v) {
            n++;
            c += json_is_true(v) || (json_is_integer(v) && json_integer_value(v) == 1);
            known = known && (json_is_boolean(v) || (json_is_integer(v) && (json_integer_value(v) | 1) == 1));
        }
        if (list ? !known : sscanf(line, "%12lld %12lld %n", &n, &c, &end) < 2 || line[end])
            st = JPT_FAIL(err, FORMAT, "%s:%zu: expected 'n c' (samples, passed) or a list of true and false (1 and 0), not '%.40s'", path,
                          number, line);
        json_decref(list);
        if (st == JPT_OK && n > SAMPLES_MOST)
            st = JPT_FAIL(err, FORMAT, "%s:%zu: %lld samples of a task, at most %d make sense", path, number, n, SAMPLES_MOST);
        for (int k = 0; st == JPT_OK && k < o->n_k; k++) {
            double p = jpt_pass_at_k(n, c, o->k[k]);
            if (isnan(p))
                st = JPT_FAIL(err, ARG, "%s:%zu: %lld samples of which %lld passed give no pass@%lld", path, number, n, c,
                              o->k[k]);
            sum[k] += p;
        }
        tasks++;
        at += length + 1;
    }
    if (st == JPT_OK && tasks == 0)
        st = JPT_FAIL(err, FORMAT, "%s: holds no line", path);
    if (st == JPT_OK) {
        json_t *out = json_object();
        for (int k = 0; k < o->n_k; k++) {
            char name[32];
            snprintf(name, sizeof name, "pass@%lld", o->k[k]);
            score_put(out, name, sum[k] / (double)tasks);
        }
        json_object_set_new(out, "tasks", json_integer((json_int_t)tasks));
        score_print(o, out);
    }
    jpt_buf_fini(&b);
    return st;
}

/* ---- texts among themselves ----------------------------------------------------------------------------- */

jpt_status score_self_bleu(const score_options *o, const score_file *hyp, jpt_error *err) {
    double    *v = malloc(hyp->n_segments * sizeof *v);
    json_t    *out = json_object();
    jpt_status st = v ? jpt_self_bleu(&o->corpus[0].bleu, hyp->segment, hyp->n_segments, v, err)
                      : JPT_FAIL(err, NOMEM, "out of memory for %zu texts", hyp->n_segments);
    if (st == JPT_OK) {
        jpt_buf           sig = {0};
        jpt_corpus_metric m = o->corpus[0];
        m.effective_order = true;
        jpt_corpus_signature(&m, hyp->n_segments - 1, 0, 0, 0, &sig);
        score_put(out, "self_bleu", mean(v, hyp->n_segments));
        json_object_set_new(out, "signature", json_string(sig.p ? sig.p : ""));
        json_object_set_new(out, "texts", json_integer((json_int_t)hyp->n_segments));
        score_print(o, out);
        jpt_buf_fini(&sig);
    } else {
        json_decref(out);
    }
    free(v);
    return st;
}

jpt_status score_diversity(const score_options *o, const score_file *hyp, jpt_error *err) {
    jpt_corpus_repetition r;
    JPT_TRY(jpt_corpus_repetition_of(hyp->segment, hyp->n_segments, &r, err));
    json_t *out = json_object();
    char    name[32];
    score_put(out, "diversity", r.diversity);
    for (int n = 2; n <= 4; n++) {
        snprintf(name, sizeof name, "rep-%d", n);
        score_put(out, name, r.rep[n - 2]);
    }
    for (int n = 1; n <= 4; n++) {
        snprintf(name, sizeof name, "distinct-%d", n);
        score_put(out, name, r.distinct[n - 1]);
    }
    score_put(out, "diversity_simctg", r.diversity_simctg);
    for (int n = 2; n <= 4; n++) {
        snprintf(name, sizeof name, "rep-%d_simctg", n);
        score_put(out, name, r.rep_simctg[n - 2]);
    }
    score_put(out, "zipf", r.zipf);
    score_put(out, "mean_words", r.mean_words);
    if (o->cap > 0) {
        int64_t *words = malloc(hyp->n_segments * sizeof *words);
        for (size_t i = 0; words && i < hyp->n_segments; i++) {
            jpt_repetition one = {0};
            words[i] = jpt_repetition_of(hyp->segment[i], &one, NULL) == JPT_OK ? one.n_words : 0;
        }
        score_put(out, "truncated", words ? jpt_truncation_rate(words, hyp->n_segments, o->cap) : NAN);
        free(words);
    }
    json_object_set_new(out, "texts", json_integer(r.n_texts));
    json_object_set_new(out, "empty", json_integer(r.n_empty));
    json_object_set_new(out, "words", json_integer(r.n_words));
    json_object_set_new(out, "distinct_words", json_integer(r.n_distinct_words));
    score_print(o, out);
    return JPT_OK;
}

jpt_status score_mauve(const score_options *o, const char *hyp, const char *ref, jpt_error *err) {
    double    *p = NULL, *q = NULL;
    int32_t    n_p = 0, n_q = 0, d = 0, d_q = 0;
    jpt_mauve  m;
    jpt_status st = score_features_read(ref, &p, &n_p, &d, err);
    if (st == JPT_OK)
        st = score_features_read(hyp, &q, &n_q, &d_q, err);
    if (st == JPT_OK && d != d_q)
        st = JPT_FAIL(err, FORMAT, "%s has %d features a row, %s has %d: they must come from one model", ref, d, hyp, d_q);
    jpt_mauve_options opt = {.n_buckets = (int32_t)o->buckets, .seed = (int32_t)o->seed};
    if (st == JPT_OK)
        st = jpt_mauve_of_features(p, n_p, q, n_q, d, &opt, &m, NULL, NULL, err);
    if (st == JPT_OK) {
        json_t *out = json_object();
        score_put(out, "mauve", m.mauve);
        score_put(out, "frontier_integral", m.frontier_integral);
        score_put(out, "mauve_star", m.mauve_star);
        score_put(out, "frontier_integral_star", m.frontier_integral_star);
        json_object_set_new(out, "buckets", json_integer(m.n_buckets));
        json_object_set_new(out, "components", json_integer(m.n_components));
        json_object_set_new(out, "ref_texts", json_integer(n_p));
        json_object_set_new(out, "hyp_texts", json_integer(n_q));
        score_print(o, out);
    }
    free(p);
    free(q);
    return st;
}
