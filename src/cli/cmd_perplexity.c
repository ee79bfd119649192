/* jpt perplexity: exp of the mean negative log-likelihood of a text. */
#include "cli.h"
#include <getopt.h>
#include <jansson.h>
#include <math.h>

/* Bytes of the tokens that are scored: all but the first of each window. */
static size_t scored_bytes(const jpt_tokenizer *tok, const jpt_ids *ids, int32_t window) {
    size_t bytes = 0;
    for (size_t i = 0; i < ids->n; i++) {
        jpt_buf b = {0};
        if (i % (size_t)window != 0 && jpt_tokenizer_decode(tok, &ids->p[i], 1, JPT_DECODE_CONTINUE, &b, NULL) == JPT_OK)
            bytes += b.n;
        jpt_buf_fini(&b);
    }
    return bytes;
}

int cmd_perplexity(int argc, char **argv) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"file", required_argument, NULL, 'f'}, {"ctx", required_argument, NULL, 'C'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    cli_engine  e = {0};
    const char *file = NULL;
    long long   n_ctx = 2048;
    bool        json = false;
    jpt_error   err = {0};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "f:h", longs, NULL)) != -1;) {
        int engine = cli_engine_option(&e, c, optarg);
        if (engine < 0)
            return -engine;
        if (engine && (e.meter || e.watts > 0 || e.require_energy))
            return cli_usage("perplexity: takes no meter");
        if (engine)
            continue;
        switch (c) {
        case 'f': file = optarg; break;
        case 'C':
            if (!cli_parse_int(optarg, 2, 1 << 20, &n_ctx))
                return cli_usage("--ctx %s: expected a number from 2 to 1048576", optarg);
            break;
        case 'j': json = true; break;
        case 'h': puts("usage: jpt perplexity -m MODEL -f FILE [--ctx N] [--dtype f32] [--json]\n\n" CLI_MODEL_HELP); return CLI_OK;
        default: return cli_bad_option("perplexity", argv);
        }
    }
    if (!e.model || !file || optind < argc)
        return cli_usage("perplexity: needs -m MODEL and -f FILE");
    jpt_model   *m = NULL;
    jpt_session *s = NULL;
    jpt_buf      text = {0};
    jpt_ids      ids = {0};
    double       nll = 0, t0 = 0;
    int32_t      n = 0;
    const char  *path;
    jpt_status   st = jpt_text_read(file, &text, &err);
    if (st == JPT_OK)
        st = (path = cli_model_path(e.model, &err)) ? jpt_model_open(path, &e.opt, &m, &err) : err.code;
    if (st == JPT_OK)
        st = jpt_tokenizer_encode(jpt_model_tokenizer(m), text.p ? text.p : "", text.n, JPT_ENCODE_ADD_SPECIAL, &ids, &err);
    if (st == JPT_OK && ids.n < 2)
        st = JPT_FAIL(&err, ARG, "%s: has %zu tokens; perplexity needs at least 2", file, ids.n);
    if (st == JPT_OK) {
        int32_t             train = jpt_model_get_info(m)->n_ctx_train;
        jpt_session_options so = {.n_ctx = n_ctx < train ? (int32_t)n_ctx : train, .n_outputs = 64};
        st = jpt_session_open(m, &so, &s, &err);
    }
    if (st == JPT_OK) {
        t0 = jpt_now_s();
        st = jpt_model_nll(s, ids.p, (int32_t)ids.n, &nll, &n, &err);
    }
    if (st == JPT_OK) {
        double seconds = jpt_now_s() - t0, bits = NAN;
        size_t bytes = scored_bytes(jpt_model_tokenizer(m), &ids, jpt_session_n_ctx(s));
        if (bytes > 0)
            bits = nll / log(2) / (double)bytes;
        if (json)
            printf("{\"perplexity\":%.6f,\"tokens\":%d,\"bits_per_byte\":%.6f,\"seconds\":%.3f}\n", exp(nll / n), n, bits, seconds);
        else
            printf("perplexity %.4f over %d tokens, %.4f bits per byte, %.2f s\n", exp(nll / n), n, bits, seconds);
    }
    jpt_session_close(s);
    jpt_model_close(m);
    jpt_ids_fini(&ids);
    jpt_buf_fini(&text);
    return st == JPT_OK ? CLI_OK : cli_fail(&err);
}
