/* Negative log-likelihood of a text: windows of n_ctx positions, each scored from its second token on. */
#include <jpt/model.h>
#include <math.h>
#include <stdlib.h>

static double log_sum_exp(const float *z, int32_t n) {
    double max = -INFINITY, sum = 0;
    for (int32_t i = 0; i < n; i++)
        max = (double)z[i] > max ? (double)z[i] : max;
    for (int32_t i = 0; i < n; i++)
        sum += exp((double)z[i] - max);
    return max + log(sum);
}

jpt_status jpt_model_nll(jpt_session *s, const int32_t *tokens, int32_t n, double *nll, int32_t *count, jpt_error *err) {
    enum { STEP = 64 }; /* rows a forward; sessions for this need n_outputs >= 64 */
    int32_t    V = jpt_model_get_info(jpt_session_model(s))->n_vocab, window = jpt_session_n_ctx(s);
    float     *z = malloc((size_t)V * sizeof *z);
    jpt_seq    seq = -1;
    jpt_status st = z ? jpt_seq_new(s, &seq, err) : JPT_FAIL(err, NOMEM, "out of memory for %d logits", V);
    *nll = 0;
    *count = 0;
    for (int32_t start = 0; st == JPT_OK && start < n; start += window) {
        int32_t end = n - start < window ? n : start + window;
        st = jpt_seq_truncate(s, seq, 0, err);
        for (int32_t at = start; st == JPT_OK && at < end; at += STEP) {
            int32_t        rows = end - at < STEP ? end - at : STEP;
            if (jpt_stop_requested()) {
                st = JPT_FAIL(err, INTERRUPTED, "interrupted");
                break;
            }
            jpt_batch_item item = {.seq = seq, .tokens = tokens + at, .n_tokens = rows, .logits = JPT_ROWS_ALL};
            jpt_batch      batch = {.items = &item, .n_items = 1};
            st = jpt_session_forward(s, &batch, err);
            for (int32_t r = 0; st == JPT_OK && r < rows && at + r + 1 < end; r++) {
                st = jpt_session_logits(s, item.logits_row + r, z, err);
                *nll += log_sum_exp(z, V) - (double)z[tokens[at + r + 1]];
                (*count)++;
            }
        }
    }
    jpt_seq_free(s, seq);
    free(z);
    return st;
}
