/* Metrics: pure functions, text in, numbers out; nothing is kept between calls, and any thread may call any of them.
 *
 * Each follows a reference implementation to the digit, quirks included, and says which.  Texts are UTF-8; an invalid byte counts
 * as a character of its own.  A metric of a segment (hypothesis, references) gives statistics; those are added up over a corpus
 * and scored once.  Scores of BLEU, chrF and TER are on sacreBLEU's scale 0..100 (TER can be more), all others 0..1 unless said.
 * Intervals and tests are in jpt/stats.h, MAUVE in jpt/mauve.h.
 *
 *   what                               needs                                      function
 *   bleu chrf chrf++ ter               text, references                           jpt_corpus_* (one interface), or each one's own
 *   smoothed BLEU-4 (code summaries)   text, references                           jpt_bleu_code_summary, mean over items
 *   rouge-1 -2 -L -Lsum                text, references                           jpt_rouge_segment, mean over items
 *   gsm8k strict, flexible, numeric    text, the data set's answer ("... #### 5") jpt_answer_match, jpt_answer_same_number
 *   majority vote                      several extracted answers                  jpt_majority_vote
 *   pass@k                             n programs run, c passed                   jpt_pass_at_k, mean over tasks
 *   rep-n, distinct-n, diversity       one text, or all of a cell                 jpt_repetition_of, jpt_corpus_repetition_of
 *   self-BLEU                          all texts of a cell (of one prompt)        jpt_self_bleu
 *   perplexities, bits per byte        sum of negative log-likelihoods            jpt_perplexity, jpt_bits_per_byte           */
#ifndef JPT_METRIC_H
#define JPT_METRIC_H

#include <jpt/base.h>
#include <jpt/stats.h>

/* ---- BLEU (Papineni et al. 2002; Post 2018), equal to sacreBLEU 2.x --------------------------------------- */

typedef enum jpt_bleu_tokenizer {
    JPT_BLEU_TOK_13A,
    JPT_BLEU_TOK_INTL,
    JPT_BLEU_TOK_ZH,
    JPT_BLEU_TOK_CHAR,
    JPT_BLEU_TOK_NONE
} jpt_bleu_tokenizer;
typedef enum jpt_bleu_smoothing { JPT_BLEU_NONE, JPT_BLEU_FLOOR, JPT_BLEU_EXP, JPT_BLEU_ADD_K } jpt_bleu_smoothing;
/* Of the text; zero: 13a, as it is written. */
typedef struct jpt_bleu_options {
    jpt_bleu_tokenizer tokenizer;
    bool               lowercase;
} jpt_bleu_options;

/* Sufficient statistics of one segment: add them up for a corpus (and for a cheap bootstrap). */
typedef struct jpt_bleu_stats {
    int64_t match[4], total[4], hyp_len, ref_len;
} jpt_bleu_stats;

/* n-gram counts of a hypothesis against its references (clipped by the largest count in one reference; closest reference length,
 * the shorter on a tie).  opt NULL: the defaults.  JPT_ARG (no reference), JPT_NOMEM. */
jpt_status jpt_bleu_segment_as(const jpt_bleu_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out,
                               jpt_error *err);
/* The same with the defaults; sums of segments are a corpus. */
jpt_status jpt_bleu_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_bleu_stats *out, jpt_error *err);
void       jpt_bleu_add(jpt_bleu_stats *sum, const jpt_bleu_stats *s);
/* 0..100, smoothing "exp" as sacreBLEU's default; effective_order true for sentences. */
double jpt_bleu_score(const jpt_bleu_stats *s, bool effective_order);
/* The same with another smoothing of orders without a match: none, floor (value n-grams, sacreBLEU 0.1), exp, or
 * add-k (value added to matches and totals of orders above 1, sacreBLEU 1).  `value` counts for floor and add-k alone. */
double jpt_bleu_score_smoothed(const jpt_bleu_stats *s, bool effective_order, jpt_bleu_smoothing smoothing, double value);
/* The tokens, separated by single blanks, appended to *out (out->oom when memory ran out). */
void jpt_bleu_tokenize(jpt_str text, const jpt_bleu_options *opt, jpt_buf *out);

/* CodeXGLUE's smoothed BLEU-4 of one code summary, 0..100; the corpus's score is the mean (lm-evaluation-harness, code2text).  An
 * empty hypothesis scores above a wrong one: a quirk of the reference.  JPT_ARG (no reference), JPT_NOMEM. */
jpt_status jpt_bleu_code_summary(jpt_str hyp, const jpt_str *refs, size_t n_refs, double *out, jpt_error *err);

/* Self-BLEU (Zhu et al. 2018): score[i] = sentence BLEU (effective order, exp) of text i against all others, out [n]; their mean
 * is the metric, lower is more diverse.  Equal to sacreBLEU's sentence_score with n - 1 references, in time linear in the words.
 * JPT_ARG (fewer than 2 texts), JPT_NOMEM. */
jpt_status jpt_self_bleu(const jpt_bleu_options *opt, const jpt_str *text, size_t n, double *score, jpt_error *err);

/* ---- chrF, chrF++ (Popović 2015, 2017), equal to sacreBLEU 2.x -------------------------------------------- */

enum { JPT_CHRF_ORDER = 6, JPT_CHRF_WORDS = 2, JPT_CHRF_ALL = JPT_CHRF_ORDER + JPT_CHRF_WORDS };
typedef struct jpt_chrf_stats {
    int64_t hyp[JPT_CHRF_ALL], ref[JPT_CHRF_ALL], match[JPT_CHRF_ALL]; /* character orders, then word orders */
} jpt_chrf_stats;
/* Zero: chrF.  word_order 2: chrF++.  eps_smoothing: as chrF++.py, instead of the effective order. */
typedef struct jpt_chrf_options {
    int  word_order; /* 0..JPT_CHRF_WORDS */
    bool lowercase, whitespace, eps_smoothing;
} jpt_chrf_options;

/* Of several references the one with the best segment score counts.  JPT_ARG, JPT_NOMEM. */
jpt_status jpt_chrf_segment_as(const jpt_chrf_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_chrf_stats *out,
                               jpt_error *err);
/* The same with the defaults; word_order 0 is chrF, 2 chrF++.  Sums of segments are a corpus, 0..100. */
jpt_status jpt_chrf_segment(jpt_str hyp, const jpt_str *refs, size_t n_refs, int word_order, jpt_chrf_stats *out, jpt_error *err);
void       jpt_chrf_add(jpt_chrf_stats *sum, const jpt_chrf_stats *s);
double     jpt_chrf_score_as(const jpt_chrf_options *opt, const jpt_chrf_stats *s); /* 0..100, beta = 2 */
double     jpt_chrf_score(const jpt_chrf_stats *s, int word_order);

/* ---- TER (Snover et al. 2006), equal to sacreBLEU 2.x ----------------------------------------------------- */

/* Zero: tercom's defaults.  normalized: tercom's tokenisation; asian_support has an effect with it or with no_punct. */
typedef struct jpt_ter_options {
    bool normalized, no_punct, asian_support, case_sensitive;
} jpt_ter_options;
typedef struct jpt_ter_stats {
    int64_t edits;   /* against the reference that needs fewest */
    double  ref_len; /* mean over the references */
} jpt_ter_stats;
enum { JPT_TER_WORDS_MAX = 10000 };

/* JPT_ARG: no reference, or more words than JPT_TER_WORDS_MAX (memory grows with the product of the lengths). */
jpt_status jpt_ter_segment(const jpt_ter_options *opt, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_ter_stats *out,
                           jpt_error *err);
void       jpt_ter_add(jpt_ter_stats *sum, const jpt_ter_stats *s);
double     jpt_ter_score(const jpt_ter_stats *s); /* 100 is one edit a reference word */

/* ---- the three above as one kind of thing ------------------------------------------------------------------ */

typedef enum jpt_corpus_kind { JPT_CORPUS_BLEU, JPT_CORPUS_CHRF, JPT_CORPUS_TER } jpt_corpus_kind;
typedef struct jpt_corpus_metric {
    jpt_corpus_kind    kind;
    jpt_bleu_options   bleu;
    jpt_bleu_smoothing smoothing;
    double             smooth_value;
    bool               effective_order; /* BLEU of sentences */
    jpt_chrf_options   chrf;
    jpt_ter_options    ter;
} jpt_corpus_metric;
enum { JPT_CORPUS_STATS_MAX = 3 * JPT_CHRF_ALL };

/* "bleu", "chrf", "chrf++" or "ter" with sacreBLEU's defaults; false for another name. */
bool        jpt_corpus_metric_named(const char *name, jpt_corpus_metric *out);
const char *jpt_corpus_name(const jpt_corpus_metric *m); /* sacreBLEU's: BLEU, chrF2, chrF2++, TER */
bool        jpt_corpus_higher_is_better(const jpt_corpus_metric *m);
/* Statistics of a segment: jpt_corpus_n_stats numbers, to be added up; whole numbers but TER's mean reference length.  Errors
 * are the metric's own: JPT_ARG, JPT_NOMEM. */
int        jpt_corpus_n_stats(const jpt_corpus_metric *m);
jpt_status jpt_corpus_segment(const jpt_corpus_metric *m, jpt_str hyp, const jpt_str *refs, size_t n_refs, double *stats,
                              jpt_error *err);
double     jpt_corpus_score(const jpt_corpus_metric *m, const double *sum);
/* sacreBLEU's signature, appended; n_bootstrap and n_shuffles 0 where there are none.  Its version field names the release whose
 * numbers these are (JPT_SACREBLEU_VERSION). */
void jpt_corpus_signature(const jpt_corpus_metric *m, size_t n_refs, int32_t n_bootstrap, int32_t n_shuffles, uint64_t seed,
                          jpt_buf *out);
#define JPT_SACREBLEU_VERSION "2.6.0"

/* ---- ROUGE (Lin 2004), equal to rouge-score --------------------------------------------------------------- */

typedef struct jpt_prf {
    double precision, recall, f;
} jpt_prf;
enum { JPT_ROUGE_1, JPT_ROUGE_2, JPT_ROUGE_L, JPT_ROUGE_LSUM, JPT_ROUGE_COUNT };
typedef struct jpt_rouge {
    jpt_prf of[JPT_ROUGE_COUNT]; /* Lsum takes lines as sentences */
} jpt_rouge;

/* stem: Porter's stemmer (with NLTK's extensions) on words of more than three letters.  Of several references the best F counts,
 * for each kind by itself.  Only a-z and 0-9 are letters: other scripts vanish.  JPT_ARG, JPT_NOMEM. */
jpt_status jpt_rouge_segment(bool stem, jpt_str hyp, const jpt_str *refs, size_t n_refs, jpt_rouge *out, jpt_error *err);

/* ---- answers ------------------------------------------------------------------------------------------------ */

/* The last number of a text, as lm-evaluation-harness's flexible GSM8K extraction sees it: "$1,234.50" gives 1234.5;
 * false when there is none. */
bool jpt_last_number(jpt_str text, double *out);

/* lm-evaluation-harness's extractions, each one regular expression:
 *   STRICT    #### (\-?[0-9\.\,]+)                          first match
 *   FLEXIBLE  (-?[$0-9.,]{2,})|(-?[0-9]+)                   last
 *   COT       The answer is (\-?[0-9\.\,]+).                first (gsm8k_cot)
 *   VOTE      The answer is (\-?[0-9\.\,]*[0-9]+)           first (self-consistency)
 *   LLAMA     The final answer is ((-?[$0-9.,]{2,})|(-?[0-9]+))   last                                              */
typedef enum jpt_answer_filter {
    JPT_ANSWER_STRICT,
    JPT_ANSWER_FLEXIBLE,
    JPT_ANSWER_COT,
    JPT_ANSWER_VOTE,
    JPT_ANSWER_LLAMA
} jpt_answer_filter;
/* *out points into text; false (and "[invalid]") when nothing matches. */
bool jpt_answer_extract(jpt_answer_filter filter, jpt_str text, jpt_str *out);
/* As the harness's exact_match for gsm8k sees answer and reference: without commas, dollar signs, what stands before the last
 * "#### ", and a final full stop; lower case.  Appended. */
void jpt_answer_normalize(jpt_str answer, jpt_buf *out);
/* Extract, normalise, compare with the data set's answer.  JPT_NOMEM. */
jpt_status jpt_answer_match(jpt_answer_filter filter, jpt_str text, jpt_str reference, bool *right, jpt_error *err);
/* jpt's own, more lenient comparison of two extracted answers: equal as decimal numbers ("18" and "$18.00"); false where one is
 * none. */
bool jpt_answer_same_number(jpt_str a, jpt_str b);
/* Index of the most frequent of n >= 1 answers (compared as they are), the first seen on a tie; *votes how many, NULL accepted. */
size_t jpt_majority_vote(const jpt_str *answer, size_t n, size_t *votes);

/* Unbiased estimate (Chen et al. 2021) from n samples of which c passed: 1 - C(n-c, k)/C(n, k), computed as human_eval does.
 * NAN for fewer samples than k. */
double jpt_pass_at_k(int64_t n, int64_t c, int64_t k);

/* ---- repetition and diversity -------------------------------------------------------------------- */

/* rep[n-2] for n = 2, 3, 4: 1 - distinct n-grams / n-grams (Welleck et al. 2020); diversity = prod(1 - rep_n)
 * (Su et al. 2022); distinct[n-1] for n = 1, 2, 3: distinct n-grams / n-grams (Li et al. 2016).  Units are
 * whitespace-separated words.  Values of an order with no n-gram are NAN; diversity needs all three. */
typedef struct jpt_repetition {
    double  rep[3], diversity, distinct[3];
    int64_t n_words;
} jpt_repetition;
/* JPT_NOMEM, all three. */
jpt_status jpt_repetition_of(jpt_str text, jpt_repetition *out, jpt_error *err);
/* The same over n token ids; n_words counts ids. */
jpt_status jpt_repetition_of_ids(const int32_t *id, size_t n, jpt_repetition *out, jpt_error *err);

/* Of a corpus.  rep: distinct within each text, pooled over texts.  rep_simctg and diversity_simctg: SimCTG's, whose loop misses
 * each text's last n-gram and which rounds rep to four decimals.  distinct[n-1], n = 1..4: distinct over the whole corpus. 
 * zipf: minus the slope of log frequency over log rank of the 5,000 most frequent words (Holtzman et al. 2020).  NAN where
 * undefined. */
typedef struct jpt_corpus_repetition {
    double  rep[3], diversity, rep_simctg[3], diversity_simctg, distinct[4], zipf, mean_words;
    int64_t n_texts, n_empty, n_words, n_distinct_words;
} jpt_corpus_repetition;
jpt_status jpt_corpus_repetition_of(const jpt_str *text, size_t n, jpt_corpus_repetition *out, jpt_error *err);

/* Share of texts whose length (tokens, words) reaches the cap: cut off, not ended.  NAN for n = 0. */
double jpt_truncation_rate(const int64_t *length, size_t n, int64_t cap);

/* ---- likelihood ---------------------------------------------------------------------------------------------- */

/* From a corpus's sum of negative log-likelihoods in nats: exp(nll / n), n tokens, words or bytes; nll / (n_bytes ln 2).  NAN for
 * nothing. */
double jpt_perplexity(double nll, int64_t n);
double jpt_bits_per_byte(double nll, int64_t n_bytes);

#endif
