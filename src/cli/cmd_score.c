/* jpt score: metrics from files, a segment a line. */
#include "score.h"
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum kind { CORPUS, ROUGE, CODE_BLEU, GSM8K, EXACT, SELF_BLEU, DIVERSITY, PASS, MAUVE };
static const struct metric {
    const char *name;
    enum kind   kind;
    int         refs;    /* how many reference files: 0, 1, or 2 for one or more */
    const char *options; /* those that mean something for it, beside --hyp, --ref and --json */
} metrics[] = {
#define FIELDS " hyp-field ref-field "
#define RESAMPLED " sentence confidence paired-bs paired-ar seed "
    {"bleu", CORPUS, 2, FIELDS RESAMPLED "tokenize smooth lowercase "},
    {"chrf", CORPUS, 2, FIELDS RESAMPLED "lowercase chrf-whitespace chrf-eps-smoothing "},
    {"chrf++", CORPUS, 2, FIELDS RESAMPLED "lowercase chrf-whitespace chrf-eps-smoothing "},
    {"ter", CORPUS, 2, FIELDS RESAMPLED "ter-normalized ter-no-punct ter-asian-support ter-case-sensitive "},
    {"rouge", ROUGE, 2, FIELDS "stem confidence seed "},
    {"gsm8k", GSM8K, 1, FIELDS "confidence seed "},
    {"exact-match", EXACT, 2, FIELDS "confidence seed "},
    {"code-bleu", CODE_BLEU, 2, FIELDS "confidence seed "},
    {"selfbleu", SELF_BLEU, 0, " hyp-field tokenize lowercase "},
    {"diversity", DIVERSITY, 0, " hyp-field cap "},
    {"passk", PASS, 0, " k "},
    {"mauve", MAUVE, 1, " buckets seed "},
};
enum { N_METRICS = sizeof metrics / sizeof *metrics };

static const char help[] =
    "usage: jpt score METRIC --hyp FILE [--ref FILE...] [options]\n\n"
    "Metrics of texts, a segment a line (UTF-8), or of a .jsonl file: a string, an object with the field \"text\" (\"reference\" "
    "or\n"
    "\"answer\" in reference files), or a list of strings, a line.\n\n"
    "  bleu chrf chrf++ ter   sacreBLEU's numbers and signatures; several with commas: bleu,chrf,ter\n"
    "  rouge                  ROUGE-1, -2, -L, -Lsum with rouge-score's numbers (lines of a segment are sentences: use .jsonl)\n"
    "  code-bleu              smoothed BLEU-4 of code summaries (CodeXGLUE)\n"
    "  gsm8k                  strict and flexible match as lm-evaluation-harness, numeric match, share without an answer; with\n"
    "                         lists of answers also the majority's\n"
    "  exact-match            equal last numbers\n"
    "  selfbleu diversity     of the texts among themselves: no --ref\n"
    "  passk                  lines 'n c' (samples, passed) or lists of true and false (1 and 0); --k 1,10\n"
    "  mauve                  features, a row a text: .npy or text\n\n"
    "      --hyp FILE...          texts to score; several files are several systems, the first is the baseline\n"
    "      --ref FILE...          references; several files are several references a segment\n"
    "      --hyp-field, --ref-field NAME   field of .jsonl objects\n"
    "      --tokenize NAME        13a, intl, zh, char, none (bleu, selfbleu)\n"
    "      --smooth NAME[=VALUE]  exp, floor (0.1), add-k (1), none (bleu)\n"
    "      --lowercase            bleu, chrf\n"
    "      --chrf-whitespace, --chrf-eps-smoothing\n"
    "      --ter-normalized, --ter-no-punct, --ter-asian-support, --ter-case-sensitive\n"
    "      --stem                 Porter's stemmer (rouge)\n"
    "      --sentence             a score a line (bleu, chrf, ter)\n"
    "      --confidence[=N]       95 % bootstrap interval of N resamples (1000)\n"
    "      --paired-bs[=N]        each further --hyp against the first: paired bootstrap (1000)\n"
    "      --paired-ar[=N]        paired approximate randomisation (10000)\n"
    "      --seed N               12345, as sacreBLEU; mauve: 25\n"
    "      --k LIST               of passk (1)\n"
    "      --cap N                of diversity: share of texts with N words or more\n"
    "      --buckets N            of mauve (a tenth of the smaller number of texts)\n"
    "      --json                 one object a result\n";

enum {
    O_REF = 0x200,
    O_HYP,
    O_HYP_FIELD,
    O_REF_FIELD,
    O_TOKENIZE,
    O_SMOOTH,
    O_LOWERCASE,
    O_WHITESPACE,
    O_EPS,
    O_NORMALIZED,
    O_NO_PUNCT,
    O_ASIAN,
    O_CASE,
    O_STEM,
    O_SENTENCE,
    O_CONFIDENCE,
    O_PAIRED_BS,
    O_PAIRED_AR,
    O_SEED,
    O_K,
    O_CAP,
    O_BUCKETS,
    O_JSON
};
static const struct option longs[] = {{"ref", required_argument, NULL, O_REF},
                                      {"hyp", required_argument, NULL, O_HYP},
                                      {"hyp-field", required_argument, NULL, O_HYP_FIELD},
                                      {"ref-field", required_argument, NULL, O_REF_FIELD},
                                      {"tokenize", required_argument, NULL, O_TOKENIZE},
                                      {"smooth", required_argument, NULL, O_SMOOTH},
                                      {"lowercase", no_argument, NULL, O_LOWERCASE},
                                      {"chrf-whitespace", no_argument, NULL, O_WHITESPACE},
                                      {"chrf-eps-smoothing", no_argument, NULL, O_EPS},
                                      {"ter-normalized", no_argument, NULL, O_NORMALIZED},
                                      {"ter-no-punct", no_argument, NULL, O_NO_PUNCT},
                                      {"ter-asian-support", no_argument, NULL, O_ASIAN},
                                      {"ter-case-sensitive", no_argument, NULL, O_CASE},
                                      {"stem", no_argument, NULL, O_STEM},
                                      {"sentence", no_argument, NULL, O_SENTENCE},
                                      {"confidence", optional_argument, NULL, O_CONFIDENCE},
                                      {"paired-bs", optional_argument, NULL, O_PAIRED_BS},
                                      {"paired-ar", optional_argument, NULL, O_PAIRED_AR},
                                      {"seed", required_argument, NULL, O_SEED},
                                      {"k", required_argument, NULL, O_K},
                                      {"cap", required_argument, NULL, O_CAP},
                                      {"buckets", required_argument, NULL, O_BUCKETS},
                                      {"json", no_argument, NULL, O_JSON},
                                      {"help", no_argument, NULL, 'h'},
                                      {0}};

static int among(const char *word, const char *const *names, int n) {
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0)
            return i;
    return -1;
}

typedef struct files {
    const char *path[SCORE_FILES_MAX];
    size_t      n;
} files;

/* --ref a b c: what follows belongs to the option, unless it is the metric, which stands first. */
static bool collect(files *f, int argc, char **argv, bool metric_seen) {
    if (f->n == SCORE_FILES_MAX)
        return false;
    f->path[f->n++] = optarg;
    while (metric_seen && optind < argc && argv[optind][0] != '-') {
        if (f->n == SCORE_FILES_MAX)
            return false;
        f->path[f->n++] = argv[optind++];
    }
    return true;
}

static bool parse_count(const char *text, int32_t fallback, int32_t *out) {
    long long n = fallback;
    if (text && !cli_parse_int(text, 1, 10000000, &n))
        return false;
    *out = (int32_t)n;
    return true;
}

/* exp, none, floor[=V], add-k[=V] */
static bool parse_smooth(const char *text, jpt_corpus_metric *m) {
    static const char *const names[] = {"none", "floor", "exp", "add-k"};
    const char              *eq = strchr(text, '=');
    char                     name[16];
    snprintf(name, sizeof name, "%.*s", (int)(eq && eq - text < 15 ? eq - text : 15), text);
    int i = among(name, names, 4);
    if (i < 0 || (eq && i != JPT_BLEU_FLOOR && i != JPT_BLEU_ADD_K))
        return false;
    m->smoothing = (jpt_bleu_smoothing)i;
    m->smooth_value = i == JPT_BLEU_FLOOR ? 0.1 : 1;
    return !eq || (cli_parse_double(eq + 1, 0, 1e6, &m->smooth_value) && m->smooth_value > 0);
}

static bool parse_k(const char *text, score_options *o) {
    char copy[256], *save = NULL;
    o->n_k = 0;
    if (snprintf(copy, sizeof copy, "%s", text) >= (int)sizeof copy)
        return false;
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
        if (o->n_k == 16 || !cli_parse_int(w, 1, 1000000, &o->k[o->n_k++]))
            return false;
    return o->n_k > 0;
}

typedef struct command {
    score_options     o;
    jpt_corpus_metric corpus[8];
    jpt_corpus_metric base; /* the options, before the metric's kind is put in */
    files             hyp, ref;
    const char       *hyp_field, *ref_field;
    uint32_t          used; /* bit O - O_REF: option O was given */
    uint32_t          takes; /* the same: it means something for one of the metrics */
} command;

/* 0, or an exit status + 1. */
static int take_option(command *c, int option, int argc, char **argv, bool metric_seen) {
    static const char *const tokenizers[] = {"13a", "intl", "zh", "char", "none"};
    long long                n;
    int                      i;
    switch (option) {
    case O_REF:
    case O_HYP:
        if (!collect(option == O_REF ? &c->ref : &c->hyp, argc, argv, metric_seen))
            return 1 + cli_usage("score: at most %d files", SCORE_FILES_MAX);
        return 0;
    case O_HYP_FIELD: c->hyp_field = optarg; return 0;
    case O_REF_FIELD: c->ref_field = optarg; return 0;
    case O_TOKENIZE:
        if ((i = among(optarg, tokenizers, 5)) < 0)
            return 1 + cli_usage("score: --tokenize %s: expected 13a, intl, zh, char or none", optarg);
        c->base.bleu.tokenizer = (jpt_bleu_tokenizer)i;
        return 0;
    case O_SMOOTH:
        if (!parse_smooth(optarg, &c->base))
            return 1 + cli_usage("score: --smooth %s: expected exp, none, floor[=VALUE] or add-k[=VALUE]", optarg);
        return 0;
    case O_LOWERCASE: c->base.bleu.lowercase = c->base.chrf.lowercase = true; return 0;
    case O_WHITESPACE: c->base.chrf.whitespace = true; return 0;
    case O_EPS: c->base.chrf.eps_smoothing = true; return 0;
    case O_NORMALIZED: c->base.ter.normalized = true; return 0;
    case O_NO_PUNCT: c->base.ter.no_punct = true; return 0;
    case O_ASIAN: c->base.ter.asian_support = true; return 0;
    case O_CASE: c->base.ter.case_sensitive = true; return 0;
    case O_STEM: c->o.stem = true; return 0;
    case O_SENTENCE: c->o.sentence = true; return 0;
    case O_CONFIDENCE:
        return parse_count(optarg, 1000, &c->o.n_confidence)
                   ? 0
                   : 1 + cli_usage("score: --confidence=%s: expected a number of resamples", optarg);
    case O_PAIRED_BS:
        return parse_count(optarg, 1000, &c->o.n_paired_bs)
                   ? 0
                   : 1 + cli_usage("score: --paired-bs=%s: expected a number of resamples", optarg);
    case O_PAIRED_AR:
        return parse_count(optarg, 10000, &c->o.n_paired_ar)
                   ? 0
                   : 1 + cli_usage("score: --paired-ar=%s: expected a number of shuffles", optarg);
    case O_SEED:
        if (!cli_parse_int(optarg, 0, INT32_MAX, &n))
            return 1 + cli_usage("score: --seed %s: expected a whole number from 0", optarg);
        c->o.seed = (uint64_t)n;
        return 0;
    case O_K: return parse_k(optarg, &c->o) ? 0 : 1 + cli_usage("score: --k %s: expected numbers like 1,10,100", optarg);
    case O_CAP:
        return cli_parse_int(optarg, 1, INT32_MAX, &c->o.cap)
                   ? 0
                   : 1 + cli_usage("score: --cap %s: expected a number of words", optarg);
    case O_BUCKETS:
        return cli_parse_int(optarg, 2, INT32_MAX, &c->o.buckets)
                   ? 0
                   : 1 + cli_usage("score: --buckets %s: expected a number from 2", optarg);
    case O_JSON: c->o.json = true; return 0;
    default: return 1 + cli_bad_option("score", argv);
    }
}

/* The options of a metric, as bits. */
static uint32_t options_of(const struct metric *m) {
    uint32_t bits = 1u << (O_REF - O_REF) | 1u << (O_HYP - O_REF) | 1u << (O_JSON - O_REF);
    char     name[40];
    for (int i = 0; longs[i].name; i++) {
        snprintf(name, sizeof name, " %s ", longs[i].name);
        if (strstr(m->options, name))
            bits |= 1u << (longs[i].val - O_REF);
    }
    return bits;
}

/* The metric, or several of bleu, chrf, chrf++, ter with commas; NULL after a message. */
static const struct metric *find_metric(command *c, const char *names) {
    const struct metric *found = NULL;
    const char          *all[N_METRICS];
    char                 copy[128], *save = NULL;
    uint32_t             seen = 0;
    for (int i = 0; i < N_METRICS; i++)
        all[i] = metrics[i].name;
    snprintf(copy, sizeof copy, "%s", names);
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        int i = among(w, all, N_METRICS);
        if (i < 0) {
            const char *near = jpt_nearest(w, all, N_METRICS);
            cli_usage("score: unknown metric '%s'%s%s%s", w, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
            return NULL;
        }
        if ((found && (found->kind != CORPUS || metrics[i].kind != CORPUS)) || c->o.n_corpus == 8) {
            cli_usage("score: only bleu, chrf, chrf++ and ter can be asked for together");
            return NULL;
        }
        if (seen >> i & 1) {
            cli_usage("score: %s is there twice", w);
            return NULL;
        }
        seen |= 1u << i;
        found = &metrics[i];
        c->takes |= options_of(found);
        jpt_corpus_metric m, one = c->base;
        if (jpt_corpus_metric_named(w, &m)) {
            one.kind = m.kind;
            one.chrf.word_order = m.chrf.word_order;
            c->corpus[c->o.n_corpus++] = one;
        }
    }
    if (!found)
        cli_usage("score: give a metric: bleu, chrf, chrf++, ter, rouge, ...");
    return found;
}

static int check(const command *c, const struct metric *m, const char *name) {
    if (c->hyp.n == 0 || (m->refs && c->ref.n == 0))
        return cli_usage("score: %s needs --hyp FILE%s", name, m->refs ? " and --ref FILE" : "");
    if (!m->refs && c->ref.n)
        return cli_usage("score: %s takes no --ref", name);
    if (m->refs == 1 && c->ref.n > 1)
        return cli_usage("score: %s takes one --ref file", name);
    for (int i = 0; longs[i].name; i++)
        if (longs[i].val >= O_REF && (c->used & ~c->takes) >> (longs[i].val - O_REF) & 1)
            return cli_usage("score: --%s means nothing for %s", longs[i].name, name);
    if (c->o.sentence && c->o.n_confidence)
        return cli_usage("score: --sentence prints scores of segments, --confidence is of the whole: give one of them");
    if (c->o.n_paired_bs && c->o.n_paired_ar)
        return cli_usage("score: --paired-bs and --paired-ar exclude each other");
    if ((c->o.n_paired_bs || c->o.n_paired_ar) && c->hyp.n < 2)
        return cli_usage("score: a paired test compares systems: give two or more files to --hyp");
    if (c->hyp.n > 1 && (m->kind != CORPUS || c->o.sentence || c->o.n_confidence))
        return cli_usage("score: several --hyp files are for a paired test or plain scores of bleu, chrf, chrf++ and ter");
    return 0;
}

static jpt_status run(const command *c, enum kind kind, const score_file *hyp, const score_file *ref, jpt_error *err) {
    switch (kind) {
    case CORPUS: return score_corpus(&c->o, hyp, c->hyp.n, ref, c->ref.n, err);
    case ROUGE: return score_rouge(&c->o, hyp, ref, c->ref.n, err);
    case CODE_BLEU: return score_code_bleu(&c->o, hyp, ref, c->ref.n, err);
    case GSM8K: return score_gsm8k(&c->o, hyp, ref, err);
    case EXACT: return score_exact(&c->o, hyp, ref, c->ref.n, err);
    case SELF_BLEU: return score_self_bleu(&c->o, hyp, err);
    case DIVERSITY: return score_diversity(&c->o, hyp, err);
    case PASS: return score_pass(&c->o, c->hyp.path[0], err);
    case MAUVE: return score_mauve(&c->o, c->hyp.path[0], c->ref.path[0], err);
    }
    return JPT_OK;
}

static jpt_status read_all(const command *c, enum kind kind, score_file *hyp, score_file *ref, jpt_error *err) {
    bool lists = kind == GSM8K || kind == SELF_BLEU || kind == DIVERSITY;
    for (size_t i = 0; i < c->hyp.n; i++)
        JPT_TRY(score_file_read(c->hyp.path[i], c->hyp_field, SCORE_HYP, &hyp[i], err));
    for (size_t i = 0; i < c->ref.n; i++)
        JPT_TRY(score_file_read(c->ref.path[i], c->ref_field, kind == GSM8K || kind == EXACT ? SCORE_NUMBERS : SCORE_REF, &ref[i], err));
    for (size_t i = 0; i < c->hyp.n + c->ref.n; i++) {
        const score_file *f = i < c->hyp.n ? &hyp[i] : &ref[i - c->hyp.n];
        if (f->n != hyp[0].n)
            return JPT_FAIL(err, FORMAT, "%s has %zu lines, %s has %zu: they must belong together line by line", f->path, f->n,
                            hyp[0].path, hyp[0].n);
        if (f->n_segments != f->n && (!lists || i >= c->hyp.n))
            return JPT_FAIL(err, FORMAT, "%s: lists of texts are for gsm8k, selfbleu and diversity, in --hyp", f->path);
    }
    return JPT_OK;
}

int cmd_score(int argc, char **argv) {
    command     c = {.o = {.seed = 12345, .k = {1}, .n_k = 1}, .base = {.smoothing = JPT_BLEU_EXP, .smooth_value = 1}};
    const char *name = NULL;
    if (argc > 1 && argv[1][0] != '-') { /* the metric stands first; else it stands last */
        name = argv[1];
        optind = 2;
    }
    for (int option; (option = getopt_long(argc, argv, name ? "+h" : "h", longs, NULL)) != -1;) {
        if (option == 'h') {
            fputs(help, stdout);
            return CLI_OK;
        }
        int status = take_option(&c, option, argc, argv, name != NULL);
        if (status)
            return status - 1;
        c.used |= 1u << (option - O_REF);
    }
    if (!name && optind < argc)
        name = argv[optind++];
    if (!name)
        return cli_usage("score: give a metric: bleu, chrf, chrf++, ter, rouge, gsm8k, exact-match, code-bleu, selfbleu, "
                         "diversity, passk or mauve");
    if (optind < argc)
        return cli_usage("score: what is '%s'? Files belong after --hyp or --ref", argv[optind]);
    const struct metric *m = find_metric(&c, name);
    int                  status = m ? check(&c, m, name) : CLI_USAGE;
    if (status)
        return status;
    if (m->kind == MAUVE && !(c.used >> (O_SEED - O_REF) & 1))
        c.o.seed = 25;
    c.o.metric = name;
    if (m->kind != CORPUS) {
        c.corpus[0] = c.base;
        c.o.n_corpus = 1;
    }
    c.o.corpus = c.corpus;
    signal(SIGINT, SIG_DFL); /* nothing to keep: end at once, wherever the arithmetic is */
    signal(SIGTERM, SIG_DFL);
    score_file hyp[SCORE_FILES_MAX] = {0}, ref[SCORE_FILES_MAX] = {0};
    jpt_error  err = {0};
    jpt_status st = m->kind == PASS || m->kind == MAUVE ? JPT_OK : read_all(&c, m->kind, hyp, ref, &err);
    if (st == JPT_OK)
        st = run(&c, m->kind, hyp, ref, &err);
    for (size_t i = 0; i < SCORE_FILES_MAX; i++) {
        score_file_free(&hyp[i]);
        score_file_free(&ref[i]);
    }
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
