/* jpt embed: a vector a text.  A sentence encoder gives unit vectors for cosines, a language model the last hidden state of the last
 * token, which are MAUVE's features. */
#include "cli.h"
#include "texts.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/encoder.h>
#include <jpt/format.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PART = 16, LM_BATCH = 4 };

typedef struct embedding {
    jpt_encoder *encoder; /* or */
    jpt_model   *model;
    jpt_session *session;
    int32_t      D, max_tokens;
} embedding;

/* A folder, or the known name of one. */
static bool is_encoder(const char *name) {
    struct stat sb;
    if (stat(name, &sb) == 0)
        return S_ISDIR(sb.st_mode);
    for (size_t i = 0; i < jpt_catalog_count(); i++)
        if (jpt_catalog_at(i)->encoder && strcmp(name, jpt_catalog_at(i)->name) == 0)
            return true;
    return false;
}

static jpt_status open_embedding(const cli_engine *e, int32_t max_tokens, embedding *x, jpt_error *err) {
    char path[4096];
    x->max_tokens = max_tokens;
    if (is_encoder(e->model)) {
        JPT_TRY(jpt_encoder_resolve(e->model, path, sizeof path, err));
        JPT_TRY(jpt_encoder_open(path, NULL, e->opt.n_threads, &x->encoder, err));
        x->D = jpt_encoder_get_info(x->encoder)->n_embd;
        return JPT_OK;
    }
    JPT_TRY(jpt_model_resolve(e->model, path, sizeof path, err));
    JPT_TRY(jpt_model_open(path, &e->opt, &x->model, err));
    const jpt_model_info *i = jpt_model_get_info(x->model);
    x->D = i->n_embd;
    int32_t             n_ctx = max_tokens < i->n_ctx_train ? max_tokens : i->n_ctx_train;
    jpt_session_options so = {.n_ctx = n_ctx, .n_seqs = LM_BATCH, .n_outputs = 1, .n_hidden = LM_BATCH};
    return jpt_session_open(x->model, &so, &x->session, err);
}

static void close_embedding(embedding *x) {
    jpt_encoder_close(x->encoder);
    jpt_session_close(x->session);
    jpt_model_close(x->model);
}

static jpt_status embed(embedding *x, const cli_texts *t, float *out, int32_t *tokens, jpt_error *err) {
    cli_progress progress;
    jpt_str      text[PART];
    jpt_status   st = JPT_OK;
    cli_progress_start(&progress, "embed", (long long)t->n);
    for (size_t at = 0; st == JPT_OK && at < t->n; at += PART) {
        size_t n = t->n - at < PART ? t->n - at : PART;
        for (size_t i = 0; i < n; i++)
            text[i] = t->item[at + i].text;
        float *to = out + at * (size_t)x->D;
        st = x->encoder ? jpt_encoder_embed(x->encoder, text, (int32_t)n, to, tokens + at, err)
                        : jpt_model_features(x->session, text, (int32_t)n, LM_BATCH, x->max_tokens, to, tokens + at, err);
        cli_progress_step(&progress, (long long)(at + n), NULL);
    }
    cli_progress_end(&progress);
    return st;
}

/* NumPy's format, version 1.0: magic, header length, a Python dictionary padded to 64 bytes, then the rows (little-endian). */
static jpt_status write_npy(const char *path, const float *v, size_t n, size_t D, jpt_error *err) {
    jpt_buf b = {0};
    char    header[118 + 1];
    int     len = snprintf(header, sizeof header, "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %zu), }", n, D);
    memset(header + len, ' ', sizeof header - 1 - (size_t)len);
    header[117] = '\n';
    jpt_buf_add(&b, "\x93NUMPY\x01\x00\x76\x00", 10);
    jpt_buf_add(&b, header, 118);
    jpt_buf_add(&b, v, n * D * sizeof *v);
    jpt_status st = b.oom ? JPT_FAIL(err, NOMEM, "%s: out of memory", path) : jpt_file_write(path, b.p, b.n, err);
    jpt_buf_fini(&b);
    return st;
}

static void print(const float *v, size_t D, size_t i, int32_t tokens, bool json) {
    if (json)
        printf("{\"index\":%zu,\"tokens\":%d,\"vector\":[", i, tokens);
    for (size_t d = 0; d < D; d++)
        printf("%s%.9g", d ? json ? "," : " " : "", (double)v[d]);
    puts(json ? "]}" : "");
}

int cmd_embed(int argc, char **argv) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"file", required_argument, NULL, 'f'}, {"out", required_argument, NULL, 'o'}, {"max-tokens", required_argument, NULL, 'M'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    cli_engine  e = {0};
    const char *file = "-", *out = NULL;
    long long   max_tokens = 1024;
    bool        json = false, given = false;
    jpt_error   err = {0};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "f:o:h", longs, NULL)) != -1;) {
        int engine = cli_engine_option(&e, c, optarg);
        if (engine < 0)
            return -engine;
        if (engine && (e.meter || e.watts > 0 || e.require_energy || e.draft))
            return cli_usage("embed: takes no meter and no second model");
        if (engine)
            continue;
        switch (c) {
        case 'f': file = optarg; break;
        case 'o': out = optarg; break;
        case 'M':
            given = true;
            if (!cli_parse_int(optarg, 2, 1 << 20, &max_tokens))
                return cli_usage("--max-tokens %s: expected a number from 2 to 1048576", optarg);
            break;
        case 'j': json = true; break;
        case 'h':
            puts("usage: jpt embed -m MODEL [-f FILE] [-o FILE.npy] [--max-tokens N] [--json]\n\n"
                 "A vector a text.  MODEL a sentence encoder (minilm, or a folder with config.json, vocab.txt and\n"
                 "model.safetensors): of length 1, for cosines.  MODEL a language model: the last hidden state of the text's\n"
                 "last token, cut at N tokens (1024): MAUVE's features.\n"
                 "FILE: a text a line, or .jsonl with strings or {\"text\": ...}; standard input without -f.\n"
                 "-o writes NumPy's format (float32, a row a text); else a line of numbers a text, or JSON.\n\n" CLI_MODEL_HELP);
            return CLI_OK;
        default: return cli_bad_option("embed", argv);
        }
    }
    if (!e.model || optind < argc)
        return cli_usage("embed: needs -m MODEL and takes texts from -f FILE");
    embedding  x = {0};
    cli_texts  t = {0};
    float     *v = NULL;
    int32_t   *tokens = NULL;
    jpt_status st = cli_texts_read(file, &t, &err);
    if (st == JPT_OK)
        st = open_embedding(&e, (int32_t)max_tokens, &x, &err);
    if (st == JPT_OK && x.encoder && given)
        st = JPT_FAIL(&err, ARG, "--max-tokens is for language models; this encoder reads %d tokens of a text", jpt_encoder_get_info(x.encoder)->max_tokens);
    if (st == JPT_OK) {
        v = calloc(t.n * (size_t)x.D, sizeof *v);
        tokens = calloc(t.n, sizeof *tokens);
        st = v && tokens ? embed(&x, &t, v, tokens, &err) : JPT_FAIL(&err, NOMEM, "out of memory for %zu vectors", t.n);
    }
    if (st == JPT_OK && out)
        st = write_npy(out, v, t.n, (size_t)x.D, &err);
    for (size_t i = 0; st == JPT_OK && !out && i < t.n; i++)
        print(v + i * (size_t)x.D, (size_t)x.D, i, tokens[i], json);
    free(v);
    free(tokens);
    cli_texts_fini(&t);
    close_embedding(&x);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
