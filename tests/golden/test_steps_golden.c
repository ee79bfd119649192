/* What sampling strategies draw from, step by step against transformers' generate() (tools/golden/steps_hf.py): the back-end's
 * selection is replaced by one that notes the distribution and gives the token that is written down. */
#include "model/model_priv.h"
#include <jansson.h>
#include <jpt/decode.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the above first
#include <cmocka.h>

typedef struct note {
    int32_t  n_kept;
    uint32_t hash;
    double   weighed;
} note;

static note           notes[64];
static int            n_notes;
static const int32_t *forced;

/* ln p of a token in what the chain's last link sees, and that row's entropy, for links that tell (NAN: not this one). */
static void what_is_seen(const jpt_select_item *it, const float *logits, int32_t V, int32_t token, float *z, void *scratch, jpt_selected *out) {
    jpt_chain     before = *it->chain;
    jpt_link_kind last = before.link[--before.n_links].kind;
    out->seen_logprob = out->seen_entropy = NAN;
    if (last != JPT_LINK_ZIPF && last != JPT_LINK_AIM && last != JPT_LINK_GUARD)
        return;
    memcpy(z, logits, (size_t)V * sizeof *z);
    assert_int_equal(jpt_chain_apply(&before, it, z, V, scratch, NULL), JPT_OK);
    assert_true(jpt_log_softmax(z, V, z));
    out->seen_logprob = z[token];
    if (last == JPT_LINK_GUARD)
        out->seen_entropy = (float)jpt_entropy_eps(z, V, 1e-5f);
}

static jpt_status noting_select(jpt_backend *be, const float *logits, int32_t V, const jpt_select_item *items, int32_t n, jpt_selected *out, jpt_error *err) {
    (void)be;
    assert_int_equal(n, 1);
    assert_true(items[0].sample && n_notes < 64);
    float *z = malloc((size_t)V * sizeof *z);
    void  *scratch = malloc(jpt_select_scratch_bytes(V));
    memcpy(z, logits + (size_t)items[0].row * (size_t)V, (size_t)V * sizeof *z);
    if (items[0].chain && jpt_chain_apply(items[0].chain, &items[0], z, V, scratch, err) != JPT_OK)
        fail_msg("%s", err->msg);
    assert_true(jpt_log_softmax(z, V, z));
    note m = {.hash = 2166136261u};
    for (int32_t v = 0; v < V; v++)
        if (z[v] > -INFINITY) {
            m.n_kept++;
            m.hash = (m.hash ^ (uint32_t)v) * 16777619u;
            m.weighed += exp((double)z[v]) * ((double)((uint32_t)v * 2654435761u) / 4294967296.0);
        }
    *out = (jpt_selected){.token = forced[n_notes], .n_kept = m.n_kept, .kept_prob = expf(z[forced[n_notes]])};
    if (items[0].chain && items[0].chain->n_links > 0)
        what_is_seen(&items[0], logits + (size_t)items[0].row * (size_t)V, V, forced[n_notes], z, scratch, out);
    notes[n_notes++] = m;
    free(z);
    free(scratch);
    return JPT_OK;
}

/* ---- beam sampling: the candidates of all beams ------------------------------------------------------------------------ */

static json_t *picks; /* [step][k]: ids beam * V + token that are drawn */

static int by_score(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (x[1] < y[1]) - (x[1] > y[1]);
}

static jpt_status noting_topk(jpt_backend *be, const float *logits, int32_t V, const jpt_score_item *items, int32_t n, int32_t k, int32_t *out_index, int32_t *out_token, float *out_score,
                              int32_t *n_out, jpt_error *err) {
    (void)be;
    json_t *step = json_array_get(picks, (size_t)n_notes);
    size_t  all = (size_t)n * (size_t)V;
    float  *z = malloc(all * sizeof *z), *p = malloc(all * sizeof *p);
    void   *scratch = malloc(jpt_select_scratch_bytes(V));
    assert_true(n_notes < 64 && json_array_size(step) == (size_t)k);
    for (int32_t i = 0; i < n; i++) {
        float *row = z + (size_t)i * (size_t)V;
        assert_true(items[i].perturb && items[i].log_first);
        assert_true(jpt_log_softmax(logits + (size_t)items[i].from.row * (size_t)V, V, row));
        if (items[i].from.chain && jpt_chain_apply(items[i].from.chain, &items[i].from, row, V, scratch, err) != JPT_OK)
            fail_msg("%s", err->msg);
        for (int32_t v = 0; v < V; v++)
            row[v] += items[i].bias;
    }
    assert_true(jpt_log_softmax(z, (int32_t)all, p));
    note m = {.hash = 2166136261u};
    for (size_t v = 0; v < all; v++)
        if (expf(p[v]) > 0) {
            m.n_kept++;
            m.hash = (m.hash ^ (uint32_t)v) * 16777619u;
            m.weighed += exp((double)p[v]) * ((double)((uint32_t)v * 2654435761u) / 4294967296.0);
        }
    notes[n_notes++] = m;
    double drawn[64][2];
    assert_true(k <= 64);
    for (int32_t c = 0; c < k; c++) {
        drawn[c][0] = (double)json_integer_value(json_array_get(step, (size_t)c));
        assert_true((size_t)drawn[c][0] < all);
        drawn[c][1] = (double)z[(size_t)drawn[c][0]];
    }
    qsort(drawn, (size_t)k, sizeof drawn[0], by_score);
    for (int32_t c = 0; c < k; c++) {
        out_index[c] = (int32_t)drawn[c][0] / V;
        out_token[c] = (int32_t)drawn[c][0] % V;
        out_score[c] = (float)drawn[c][1];
    }
    *n_out = k;
    free(z), free(p), free(scratch);
    return JPT_OK;
}

static void run(jpt_model *m, const char *text, json_t *prompt, int32_t n_steps) {
    int32_t             ids[64], n = (int32_t)json_array_size(prompt);
    jpt_error           err = {0};
    jpt_spec_list       l = {0};
    jpt_session_options so = {.n_ctx = 64};
    jpt_session        *s;
    jpt_generation      g = {0};
    for (int32_t k = 0; k < n; k++)
        ids[k] = (int32_t)json_integer_value(json_array_get(prompt, (size_t)k));
    if (jpt_spec_parse(text, &l, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    const jpt_spec *spec = &l.spec[0];
    jpt_spec_session_options(&spec, 1, 1, &so);
    assert_int_equal(jpt_session_open(m, &so, &s, &err), JPT_OK);
    jpt_request r = {.spec = spec, .prompt = ids, .n_prompt = n, .max_new_tokens = n_steps};
    n_notes = 0;
    if (jpt_generate(s, &r, 1, 1, &g, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s: %s", text, err.msg);
    assert_int_equal(n_notes, n_steps);
    jpt_generation_fini(&g);
    jpt_session_close(s);
    jpt_spec_list_fini(&l);
}

static void distributions(const char *file, double within) {
    if (getenv("JPT_DEVICE") && *getenv("JPT_DEVICE")) {
        printf("steps: skipped, the logits of JPT_DEVICE are not in the host's memory\n");
        skip();
    }
    json_t *all = json_load_file(file, 0, NULL), *model, *c, *prompt;
    size_t  i, k, p, steps = 0, same = 0;
    double  worst = 0;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "models"), i, model) {
        char              path[512];
        jpt_error         err = {0};
        jpt_model_options o = {.dtype = "f32", .n_threads = 1};
        jpt_model        *m;
        snprintf(path, sizeof path, "%s/tests/golden/decode_tiny_%s.gguf", JPT_SOURCE_DIR, json_string_value(json_object_get(model, "name")));
        if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
            fail_msg("%s", err.msg);
        jpt_backend_ops noting = *m->be->ops;
        const jpt_backend_ops *real = m->be->ops;
        noting.select = noting_select;
        m->be->ops = &noting;
        json_array_foreach(json_object_get(model, "cases"), k, c) {
            const char *spec = json_string_value(json_object_get(c, "spec"));
            json_array_foreach(json_object_get(model, "prompts"), p, prompt) {
                json_t *own = json_object_get(c, "forced"), *tokens = json_array_get(own ? own : json_object_get(model, "forced"), p), *want = json_array_get(json_object_get(c, "steps"), p);
                int32_t list[64], n = (int32_t)json_array_size(tokens);
                for (int32_t t = 0; t < n; t++)
                    list[t] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)t));
                forced = list;
                run(m, spec, prompt, n);
                for (int32_t t = 0; t < n; t++, steps++) {
                    json_t *w = json_array_get(want, (size_t)t);
                    double  off = fabs(notes[t].weighed - json_number_value(json_array_get(w, 2)));
                    bool    ok = notes[t].n_kept == json_integer_value(json_array_get(w, 0)) && notes[t].hash == (uint32_t)json_integer_value(json_array_get(w, 1)) && off < within;
                    worst = off > worst ? off : worst;
                    same += ok;
                    if (!ok)
                        printf("%s %s, prompt %zu, step %d: %d kept against %d, weighed sums %.1e apart\n", json_string_value(json_object_get(model, "name")), spec, p, t,
                               notes[t].n_kept, (int)json_integer_value(json_array_get(w, 0)), off);
                }
            }
        }
        m->be->ops = real;
        jpt_model_close(m);
    }
    printf("golden: distributions drawn from, tokens forced, against %s%s: %zu of %zu steps identical, weighed sums at most %.1e apart\n",
           json_object_get(all, "by") ? "the authors' rules on transformers " : "transformers ", json_string_value(json_object_get(all, "transformers")), same, steps, worst);
    json_decref(all);
    assert_int_equal(same, steps);
}

static void distributions_equal_transformers(void **unused) {
    (void)unused;
    distributions(JPT_SOURCE_DIR "/tests/golden/steps_tiny.json", 1e-5);
}

/* Mirostat in its three forms, adaptive-p, GUARD: states that each draw feeds (tools/golden/decode_authors.py).  Adaptive-p multiplies the
 * rounding of a probability by up to 30. */
static void distributions_of_feedback(void **unused) {
    (void)unused;
    distributions(JPT_SOURCE_DIR "/tests/golden/steps_tiny_authors.json", 5e-5);
}

static void beams_draw_as_transformers(void **unused) {
    (void)unused;
    if (getenv("JPT_DEVICE") && *getenv("JPT_DEVICE"))
        skip();
    json_t *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/steps_tiny_beam.json", 0, NULL), *model, *c, *prompt;
    size_t  i, k, p, steps = 0, same = 0, texts = 0, same_texts = 0;
    double  worst = 0;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "models"), i, model) {
        char              path[512];
        jpt_error         err = {0};
        jpt_model_options o = {.dtype = "f32", .n_threads = 1};
        jpt_model        *m;
        snprintf(path, sizeof path, "%s/tests/golden/decode_tiny_%s.gguf", JPT_SOURCE_DIR, json_string_value(json_object_get(model, "name")));
        if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
            fail_msg("%s", err.msg);
        jpt_backend_ops        noting = *m->be->ops;
        const jpt_backend_ops *real = m->be->ops;
        noting.topk = noting_topk;
        m->be->ops = &noting;
        json_array_foreach(json_object_get(model, "cases"), k, c) {
            const char         *text = json_string_value(json_object_get(c, "spec"));
            jpt_spec_list       l = {0};
            jpt_session_options so = {.n_ctx = 64};
            jpt_session        *s;
            if (jpt_spec_parse(text, &l, &err) != JPT_OK)
                fail_msg("%s", err.msg);
            const jpt_spec *spec = &l.spec[0];
            jpt_spec_session_options(&spec, 1, 1, &so);
            assert_int_equal(jpt_session_open(m, &so, &s, &err), JPT_OK);
            json_array_foreach(json_object_get(model, "prompts"), p, prompt) {
                int32_t        ids[64], n = (int32_t)json_array_size(prompt);
                json_t        *want = json_array_get(json_object_get(c, "steps"), p), *out = json_array_get(json_object_get(c, "out"), p);
                jpt_generation g = {0};
                for (int32_t t = 0; t < n; t++)
                    ids[t] = (int32_t)json_integer_value(json_array_get(prompt, (size_t)t));
                jpt_request r = {.spec = spec, .prompt = ids, .n_prompt = n, .max_new_tokens = 12};
                n_notes = 0;
                picks = json_array_get(json_object_get(c, "picks"), p);
                if (jpt_generate(s, &r, 1, 1, &g, NULL, NULL, &err) != JPT_OK)
                    fail_msg("%s: %s", text, err.msg);
                assert_int_equal(n_notes, json_array_size(want));
                for (int t = 0; t < n_notes; t++, steps++) {
                    json_t *w = json_array_get(want, (size_t)t);
                    double  off = fabs(notes[t].weighed - json_number_value(json_array_get(w, 2)));
                    bool    ok = notes[t].n_kept == json_integer_value(json_array_get(w, 0)) && notes[t].hash == (uint32_t)json_integer_value(json_array_get(w, 1)) && off < 1e-5;
                    worst = off > worst ? off : worst;
                    same += ok;
                    if (!ok)
                        printf("%s, prompt %zu, step %d: %d kept against %d, weighed sums %.1e apart\n", text, p, t, notes[t].n_kept, (int)json_integer_value(json_array_get(w, 0)), off);
                }
                bool equal = (size_t)g.n_tokens == json_array_size(out);
                for (int32_t t = 0; equal && t < g.n_tokens; t++) { /* 4.46 writes the first end id whichever was met */
                    int32_t w = (int32_t)json_integer_value(json_array_get(out, (size_t)t));
                    equal = g.tokens[t] == w || (jpt_tokenizer_is_eog(jpt_model_tokenizer(m), w) && jpt_tokenizer_is_eog(jpt_model_tokenizer(m), g.tokens[t]));
                }
                texts++;
                same_texts += equal;
                if (!equal)
                    printf("%s, prompt %zu: another text\n", text, p);
                jpt_generation_fini(&g);
            }
            jpt_session_close(s);
            jpt_spec_list_fini(&l);
        }
        m->be->ops = real;
        jpt_model_close(m);
    }
    printf("golden: candidates of beam sampling, drawn ones forced, against transformers %s: %zu of %zu steps identical, weighed sums at most %.1e apart; %zu of %zu texts identical\n",
           json_string_value(json_object_get(all, "transformers")), same, steps, worst, same_texts, texts);
    json_decref(all);
    assert_int_equal(same, steps);
    assert_int_equal(same_texts, texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(distributions_equal_transformers), cmocka_unit_test(distributions_of_feedback), cmocka_unit_test(beams_draw_as_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
