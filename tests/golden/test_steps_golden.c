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
    notes[n_notes++] = m;
    free(z);
    free(scratch);
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

static void distributions_equal_transformers(void **unused) {
    (void)unused;
    if (getenv("JPT_DEVICE") && *getenv("JPT_DEVICE")) {
        printf("steps: skipped, the logits of JPT_DEVICE are not in the host's memory\n");
        skip();
    }
    json_t *all = json_load_file(JPT_SOURCE_DIR "/tests/golden/steps_tiny.json", 0, NULL), *model, *c, *prompt;
    size_t  i, k, p, steps = 0, same = 0;
    double  worst = 0;
    assert_non_null(all);
    json_array_foreach(json_object_get(all, "models"), i, model) {
        char              path[512];
        jpt_error         err = {0};
        jpt_model_options o = {.dtype = "f32", .n_threads = 2};
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
                json_t *tokens = json_array_get(json_object_get(model, "forced"), p), *want = json_array_get(json_object_get(c, "steps"), p);
                int32_t list[64], n = (int32_t)json_array_size(tokens);
                for (int32_t t = 0; t < n; t++)
                    list[t] = (int32_t)json_integer_value(json_array_get(tokens, (size_t)t));
                forced = list;
                run(m, spec, prompt, n);
                for (int32_t t = 0; t < n; t++, steps++) {
                    json_t *w = json_array_get(want, (size_t)t);
                    double  off = fabs(notes[t].weighed - json_number_value(json_array_get(w, 2)));
                    bool    ok = notes[t].n_kept == json_integer_value(json_array_get(w, 0)) && notes[t].hash == (uint32_t)json_integer_value(json_array_get(w, 1)) && off < 1e-5;
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
    printf("golden: distributions drawn from, tokens forced, against transformers %s: %zu of %zu steps identical, weighed sums at most %.1e apart\n",
           json_string_value(json_object_get(all, "transformers")), same, steps, worst);
    json_decref(all);
    assert_int_equal(same, steps);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(distributions_equal_transformers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
