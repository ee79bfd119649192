/* What a model says about given texts: negative log-likelihoods, in windows of n_ctx positions, and last hidden states. */
#include <jpt/model.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double log_sum_exp(const float *z, int32_t n) {
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        max = (double)z[i] > max ? (double)z[i] : max;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)z[i] - max);
    return max + log(sum);
}

/* One window: adds -ln p of tokens[first..n) to *nll, n <= n_ctx.  z [V] is room. */
static jpt_status score_window(jpt_session *s, jpt_seq seq, const int32_t *tokens, int32_t n, int32_t first, float *z, double *nll, int32_t *count, jpt_error *err) {
    enum { STEP = 64 }; /* rows a forward; sessions for this need n_outputs >= 64 */
    int32_t V = jpt_model_get_info(jpt_session_model(s))->n_vocab;
    JPT_TRY(jpt_seq_truncate(s, seq, 0, err));
    for (int32_t at = 0, rows; at < n; at += rows) {
        bool scored = at + STEP >= first; /* the row before `first` is the first that is looked at */
        rows = n - at < STEP ? n - at : STEP;
        if (jpt_stop_requested())
            return JPT_FAIL(err, INTERRUPTED, "interrupted");
        jpt_batch_item item = {.seq = seq, .tokens = tokens + at, .n_tokens = rows, .logits = scored ? JPT_ROWS_ALL : JPT_ROWS_NONE};
        jpt_batch      batch = {.items = &item, .n_items = 1};
        JPT_TRY(jpt_session_forward(s, &batch, err));
        for (int32_t r = 0; scored && r < rows && at + r + 1 < n; r++) {
            if (at + r + 1 < first)
                continue;
            JPT_TRY(jpt_session_logits(s, item.logits_row + r, z, err));
            *nll += log_sum_exp(z, V) - (double)z[tokens[at + r + 1]];
            (*count)++;
        }
    }
    return JPT_OK;
}

jpt_status jpt_model_nll_from(jpt_session *s, const int32_t *tokens, int32_t n, int32_t first, double *nll, int32_t *count, jpt_error *err) {
    int32_t    V = jpt_model_get_info(jpt_session_model(s))->n_vocab, window = jpt_session_n_ctx(s);
    float     *z = malloc((size_t)V * sizeof *z);
    jpt_seq    seq = -1;
    jpt_status st = z ? jpt_seq_new(s, &seq, err) : JPT_FAIL(err, NOMEM, "out of memory for %d logits", V);
    *nll = 0;
    *count = 0;
    int32_t start = n > window && first > window / 2 ? first - window / 2 : 0;
    for (; st == JPT_OK && start < n; start += window) {
        int32_t end = n - start < window ? n : start + window;
        st = score_window(s, seq, tokens + start, end - start, first > start + 1 ? first - start : 1, z, nll, count, err);
    }
    jpt_seq_free(s, seq);
    free(z);
    return st;
}

jpt_status jpt_model_nll(jpt_session *s, const int32_t *tokens, int32_t n, double *nll, int32_t *count, jpt_error *err) {
    return jpt_model_nll_from(s, tokens, n, 1, nll, count, err);
}

static int32_t start_token(const jpt_tokenizer *tok) { return jpt_tokenizer_bos(tok) >= 0 ? jpt_tokenizer_bos(tok) : jpt_tokenizer_eos(tok); }

jpt_status jpt_model_text_nll(jpt_session *s, jpt_str prompt, jpt_str text, double *nll, int32_t *count, jpt_error *err) {
    const jpt_tokenizer *tok = jpt_model_tokenizer(jpt_session_model(s));
    jpt_ids              ids = {0};
    jpt_status           st = JPT_OK;
    *nll = 0;
    *count = 0;
    if (start_token(tok) >= 0 && !jpt_ids_push(&ids, start_token(tok)))
        st = JPT_FAIL(err, NOMEM, "out of memory for a text");
    if (st == JPT_OK)
        st = jpt_tokenizer_encode(tok, prompt.p, prompt.n, 0, &ids, err);
    size_t first = ids.n ? ids.n : 1;
    if (st == JPT_OK)
        st = jpt_tokenizer_encode(tok, text.p, text.n, 0, &ids, err);
    if (st == JPT_OK && ids.n > INT32_MAX)
        st = JPT_FAIL(err, ARG, "a text of %zu tokens is too long", ids.n);
    if (st == JPT_OK && ids.n > first)
        st = jpt_model_nll_from(s, ids.p, (int32_t)ids.n, (int32_t)first, nll, count, err);
    jpt_ids_fini(&ids);
    return st;
}

/* Features of texts[0..n), n <= the session's sequences. */
static jpt_status features_of(jpt_session *s, const jpt_str *texts, int32_t n, size_t most, jpt_batch_item *item, jpt_ids *ids, float *out, int32_t *n_tokens, jpt_error *err) {
    const jpt_model     *m = jpt_session_model(s);
    const jpt_tokenizer *tok = jpt_model_tokenizer(m);
    size_t               D = (size_t)jpt_model_get_info(m)->n_embd;
    for (int32_t i = 0; i < n; i++) {
        ids[i].n = 0;
        JPT_TRY(jpt_tokenizer_encode(tok, texts[i].p, texts[i].n, JPT_ENCODE_ADD_SPECIAL, &ids[i], err));
        if (ids[i].n == 0 && (start_token(tok) < 0 || !jpt_ids_push(&ids[i], start_token(tok))))
            return JPT_FAIL(err, ARG, "an empty text has no last token, and this model no token to start with");
        ids[i].n = ids[i].n < most ? ids[i].n : most;
        JPT_TRY(jpt_seq_new(s, &item[i].seq, err));
        item[i].tokens = ids[i].p;
        item[i].n_tokens = (int32_t)ids[i].n;
        item[i].logits = JPT_ROWS_NONE;
        item[i].hidden = JPT_ROWS_LAST;
        if (n_tokens)
            n_tokens[i] = item[i].n_tokens;
    }
    jpt_batch batch = {.items = item, .n_items = n};
    JPT_TRY(jpt_session_forward(s, &batch, err));
    for (int32_t i = 0; i < n; i++)
        JPT_TRY(jpt_session_hidden(s, item[i].hidden_row, out + (size_t)i * D, err));
    return JPT_OK;
}

jpt_status jpt_model_features(jpt_session *s, const jpt_str *texts, int32_t n, int32_t n_batch, int32_t max_tokens, float *out, int32_t *n_tokens, jpt_error *err) {
    size_t          most = max_tokens > 0 ? (size_t)max_tokens : 1024, D = (size_t)jpt_model_get_info(jpt_session_model(s))->n_embd;
    jpt_batch_item *item = calloc((size_t)n_batch, sizeof *item);
    jpt_ids        *ids = calloc((size_t)n_batch, sizeof *ids);
    jpt_status      st = item && ids ? JPT_OK : JPT_FAIL(err, NOMEM, "out of memory for %d texts", n_batch);
    most = most < (size_t)jpt_session_n_ctx(s) ? most : (size_t)jpt_session_n_ctx(s);
    for (int32_t at = 0; st == JPT_OK && at < n; at += n_batch) {
        int32_t part = n - at < n_batch ? n - at : n_batch;
        for (int32_t i = 0; i < part; i++)
            item[i] = (jpt_batch_item){.seq = -1};
        st = features_of(s, texts + at, part, most, item, ids, out + (size_t)at * D, n_tokens ? n_tokens + at : NULL, err);
        for (int32_t i = 0; i < part; i++)
            if (item[i].seq >= 0)
                jpt_seq_free(s, item[i].seq);
    }
    for (int32_t i = 0; ids && i < n_batch; i++)
        jpt_ids_fini(&ids[i]);
    free(ids);
    free(item);
    return st;
}
