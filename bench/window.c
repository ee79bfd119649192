/* One loaded model and the machine's meter: what bench/gpu.py drives, a line at a time.
 *   bench-window MODEL [DTYPE [DRAFT]]           the device is $JPT_DEVICE, else the CPU
 *   window SPEC B N STEPS SECONDS   B requests at once, each the strategy after a prompt of N tokens, EOS ignored, for STEPS new
 *                                   tokens, again and again for SECONDS in one metered window; before it a third as long with one
 *                                   new token each, whose joules and seconds are the prompt's and are taken off.  Prints, as JSON:
 *                                   tokens a second and joules a token (gross, net) of decoding, the same of the prompt,
 *                                   watts, the second instrument's residual, the verdict
 *   idle SECONDS                    watts of doing nothing with the model resident; later windows are net of it
 *   forward N REPEATS               seconds of one forward of a prompt of N tokens, the best of REPEATS (no selection) */
#include <jpt/decode.h>
#include <jpt/meter.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double idle_w = NAN;

static void must(jpt_status st, const jpt_error *err) {
    if (st != JPT_OK) {
        fprintf(stderr, "bench-window: %s\n", err->msg);
        exit(1);
    }
}

typedef struct work {
    jpt_session     *s;
    jpt_request     *r;
    jpt_generation  *g;
    int32_t          n_batch;
    double           seconds;
    int64_t          calls, tokens;
} work;

static void call(work *w, int32_t steps) {
    jpt_error err = {0};
    double    t0 = jpt_now_s();
    for (int32_t i = 0; i < w->n_batch; i++) {
        w->r[i].max_new_tokens = steps;
        w->g[i] = (jpt_generation){0};
    }
    must(jpt_generate(w->s, w->r, w->n_batch, w->n_batch, w->g, NULL, NULL, &err), &err);
    w->seconds += jpt_now_s() - t0;
    w->calls++;
    for (int32_t i = 0; i < w->n_batch; i++) {
        w->tokens += w->g[i].n_tokens;
        for (int32_t k = 0; k < w->g[i].n_alternatives; k++)
            w->tokens += w->g[i].n_alternatives > 1 && k > 0 ? steps : 0; /* parallel answers */
        jpt_generation_fini(&w->g[i]);
    }
}

static jpt_energy measure(work *w, jpt_meter *meter, int32_t steps, double seconds) {
    jpt_window win;
    jpt_energy e;
    call(w, steps); /* graphs, caches, clocks */
    w->seconds = 0, w->calls = w->tokens = 0;
    jpt_window_begin_aligned(&win, meter);
    do
        call(w, steps);
    while (w->seconds < seconds);
    jpt_window_end(&win, idle_w, &e);
    return e;
}

static void window(jpt_model *m, jpt_model *draft, jpt_meter *meter, const char *text, int32_t n_batch, int32_t n, int32_t steps, double seconds) {
    jpt_spec_list       list = {0};
    jpt_error           err = {0};
    jpt_session_options o = {.n_ctx = n + steps + 80}, d = {.n_ctx = n + steps + 80, .n_seqs = 2 * n_batch, .n_outputs = 2 * n_batch};
    jpt_session        *s = NULL, *ds = NULL;
    if (jpt_spec_parse(text, &list, &err) != JPT_OK) {
        printf("{\"spec\": \"%s\", \"error\": \"%s\"}\n", text, err.msg);
        return;
    }
    const jpt_spec *one = &list.spec[0];
    jpt_spec_session_options(&one, 1, n_batch, &o);
    must(jpt_session_open(m, &o, &s, &err), &err);
    if (draft) {
        must(jpt_session_open(draft, &d, &ds, &err), &err);
        must(jpt_session_set_assistant(s, ds, &err), &err);
    }
    int32_t *t = malloc((size_t)n * sizeof *t);
    work     w = {.s = s, .n_batch = n_batch, .r = calloc((size_t)n_batch, sizeof *w.r), .g = calloc((size_t)n_batch, sizeof *w.g)};
    for (int32_t i = 0; i < n; i++)
        t[i] = 300 + i * 37 % 8000;
    for (int32_t i = 0; i < n_batch; i++)
        w.r[i] = (jpt_request){.spec = one, .prompt = t, .n_prompt = n, .ignore_eos = true, .seed = 1, .prompt_index = (uint32_t)i};
    jpt_energy a = measure(&w, meter, 1, seconds / 3);
    double     ta = w.seconds / (double)w.calls, ja = a.energy_j / (double)w.calls;
    jpt_energy b = measure(&w, meter, steps, seconds);
    double     tb = w.seconds / (double)w.calls, jb = b.energy_j / (double)w.calls, tokens = (double)w.tokens / (double)w.calls - n_batch;
    double     tok_s = tokens / (tb - ta), j = (jb - ja) / tokens, net = j - idle_w / tok_s;
    printf("{\"spec\": \"%s\", \"batch\": %d, \"prompt\": %d, \"steps\": %d, \"tok_s\": %.2f, \"j_token\": %.5f, \"net_j_token\": %.5f, \"prompt_tok_s\": %.1f, \"prompt_j_token\": %.6f, "
           "\"watts\": %.1f, \"window_s\": %.2f, \"residual\": %.4f, \"valid\": %s, \"reasons\": \"%s\"}\n",
           one->text, n_batch, n, steps, tok_s, j, net, n_batch * n / ta, ja / n / n_batch, b.mean_w, b.duration_s, b.residual, a.valid && b.valid ? "true" : "false", b.reasons);
    jpt_session_close(s);
    jpt_session_close(ds);
    jpt_spec_list_fini(&list);
    free(t);
    free(w.r);
    free(w.g);
}

static double forward(jpt_model *m, int32_t n, int32_t repeats) {
    jpt_session_options o = {.n_ctx = n + 1, .n_batch = n};
    jpt_session        *s = NULL;
    jpt_error           err = {0};
    int32_t            *t = malloc((size_t)n * sizeof *t);
    double              best = INFINITY;
    must(jpt_session_open(m, &o, &s, &err), &err);
    for (int32_t i = 0; i < n; i++)
        t[i] = 300 + i * 37 % 8000;
    for (int32_t k = 0; k < repeats + 1; k++) {
        jpt_batch_item  item = {.tokens = t, .n_tokens = n, .logits = JPT_ROWS_LAST};
        jpt_batch       b = {.items = &item, .n_items = 1};
        jpt_select_item pick = {0};
        jpt_selected    got;
        must(jpt_seq_new(s, &item.seq, &err), &err);
        double t0 = jpt_now_s();
        must(jpt_session_forward(s, &b, &err), &err);
        must(jpt_session_select(s, &pick, 1, &got, &err), &err); /* waits */
        t0 = jpt_now_s() - t0;
        best = k > 0 && t0 < best ? t0 : best;
        jpt_seq_free(s, item.seq);
    }
    jpt_session_close(s);
    free(t);
    return best;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: bench-window MODEL [DTYPE [DRAFT]]\n");
        return 2;
    }
    jpt_model_options o = {.dtype = argc > 2 ? argv[2] : NULL};
    jpt_model        *m = NULL, *draft = NULL;
    jpt_meter        *meter = NULL;
    jpt_error         err = {0};
    char              line[4096], text[4000];
    int               x, y, z;
    double            seconds;
    must(jpt_model_open(argv[1], &o, &m, &err), &err);
    if (argc > 3)
        must(jpt_model_open(argv[3], &o, &draft, &err), &err);
    const jpt_model_info *info = jpt_model_get_info(m);
    jpt_meter_options     mo = {.prefer_gpu = info->gpu_uuid[0] != '\0', .gpu_uuid = info->gpu_uuid};
    must(jpt_meter_open("auto", &mo, &meter, &err), &err);
    printf("{\"model\": \"%s\", \"backend\": \"%s\", \"quantization\": \"%s\", \"load_s\": %.2f, \"weight_gb\": %.3f, \"meter\": \"%s\"}\n", argv[1], info->backend, info->quantization, info->load_s,
           (double)info->weight_bytes * 1e-9, jpt_meter_get_limits(meter)->name);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "window %3999s %d %d %d %lf", text, &z, &x, &y, &seconds) == 5)
            window(m, draft, meter, text, z, x, y, seconds);
        else if (sscanf(line, "idle %lf", &seconds) == 1) {
            must(jpt_meter_idle(meter, seconds, &idle_w, &err), &err);
            printf("{\"idle_w\": %.2f}\n", idle_w);
        } else if (sscanf(line, "forward %d %d", &x, &y) == 2) {
            seconds = forward(m, x, y);
            printf("{\"forward\": %d, \"seconds\": %.6f, \"tok_s\": %.1f}\n", x, seconds, x / seconds);
        } else
            printf("{\"error\": \"unknown: %.*s\"}\n", (int)strcspn(line, "\n"), line);
        fflush(stdout);
    }
    jpt_meter_close(meter);
    jpt_model_close(draft);
    jpt_model_close(m);
    return 0;
}
