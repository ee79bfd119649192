/* What holds for every strategy of the registry, so that a new one cannot be left out: its accounts add up, and its text does not
 * depend on the batch, on the number of threads or on what else runs in the session; stop strings, minimal lengths, processors, draft
 * models of another tokenizer. */
#include "tiny_model.h"
#include <jpt/decode.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the above first
#include <cmocka.h>

enum { N_PROMPTS = 3, N_NEW = 20, SPECS_MAX = 64 };
static jpt_model *model, *threads, *other, *foreign;

static jpt_model *open_tiny(tiny_model t, int32_t n_threads) {
    char             *path = tiny_model_file(&t);
    jpt_error         err = {0};
    jpt_model_options o = {.n_threads = n_threads};
    jpt_model        *m;
    if (jpt_model_open(path, &o, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    unlink(path);
    free(path);
    return m;
}

static int set_up(void **state) {
    (void)state;
    model = open_tiny((tiny_model){.seed = 5, .n_layers = 3}, 1);
    threads = open_tiny((tiny_model){.seed = 5, .n_layers = 3}, 3);
    other = open_tiny((tiny_model){.seed = 6, .n_layers = 1}, 1);
    foreign = open_tiny((tiny_model){.seed = 5, .n_layers = 3, .other_tokens = true}, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    jpt_model_close(model);
    jpt_model_close(threads);
    jpt_model_close(other);
    jpt_model_close(foreign);
    return 0;
}

/* A SPEC for each strategy: its defaults, but for what must be given and what would take long. */
static const char *spec_of(size_t i) {
    static const char *const given[][2] = {{"constrained-beam", "constrained-beam:force_words=zq"}, {"samples", "samples:n=3"}, {"best-of-n", "best-of-n:n=3"},
                                           {"self-consistency", "self-consistency:n=4"}, {"mbr", "mbr:n=4"}, {"lookahead", "lookahead:window=4,ngram=3,guess_set=4"},
                                           {"dola", "dola:dola_layers=1/2"}};
    const char *name = jpt_strategy_at(i)->name;
    for (size_t k = 0; k < sizeof given / sizeof *given; k++)
        if (strcmp(given[k][0], name) == 0)
            return given[k][1];
    return name;
}

typedef struct job {
    const char *spec;
    jpt_model  *model, *assistant;
    int32_t     n_batch, min_new;
    const char *stop;
    bool        ends;
} job;

static int32_t prompt_of(int32_t i, int32_t p[16]) {
    int32_t n = 4 + 4 * i;
    for (int32_t k = 0; k < n; k++)
        p[k] = 97 + (i * 7 + (k % (3 + i)) * 5) % 26; /* letters, with repeats */
    return n;
}

static jpt_session *open_session(const job *j, const jpt_spec *const *specs, size_t n, jpt_session **assistant) {
    jpt_session        *s;
    jpt_error           err = {0};
    jpt_session_options so = {.n_ctx = 64}, ao = {.n_ctx = 64, .n_seqs = 5 * j->n_batch, .n_outputs = 5 * j->n_batch, .page_size = 1};
    jpt_spec_session_options(specs, n, j->n_batch, &so);
    *assistant = NULL;
    if (jpt_session_open(j->model, &so, &s, &err) != JPT_OK)
        fail_msg("%s: %s", j->spec, err.msg);
    if (j->assistant) {
        assert_int_equal(jpt_session_open(j->assistant, &ao, assistant, &err), JPT_OK);
        assert_int_equal(jpt_session_set_assistant(s, *assistant, &err), JPT_OK);
        assert_int_equal(jpt_session_assistant_shares_tokens(s), j->assistant != foreign);
    }
    return s;
}

static void check_accounts(const char *spec, const jpt_request *r, const jpt_generation *g) {
    uint64_t kept = g->work.positions_computed - g->work.positions_discarded, most = (uint64_t)(r->n_prompt + g->n_tokens);
    if (kept != most && kept != most - 1)
        fail_msg("%s: %llu computed, %llu thrown away, %d + %d kept", spec, (unsigned long long)g->work.positions_computed, (unsigned long long)g->work.positions_discarded,
                 r->n_prompt, g->n_tokens);
    assert_true(g->work.logits_rows > 0 && g->work.forwards > 0 && g->work.positions_computed >= g->work.forwards);
}

static void run(job j, jpt_generation out[N_PROMPTS]) {
    static int32_t prompt[N_PROMPTS][16];
    jpt_spec_list  l = {0};
    jpt_error      err = {0};
    jpt_request    r[N_PROMPTS];
    jpt_session   *a;
    if (jpt_spec_parse(j.spec, &l, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    const jpt_spec *spec = &l.spec[0];
    j.model = j.model ? j.model : model;
    j.n_batch = j.n_batch ? j.n_batch : 1;
    jpt_session *s = open_session(&j, &spec, 1, &a);
    for (int32_t i = 0; i < N_PROMPTS; i++) {
        r[i] = (jpt_request){.spec = spec, .prompt = prompt[i], .n_prompt = prompt_of(i, prompt[i]), .max_new_tokens = N_NEW, .min_new_tokens = j.min_new, .seed = 7,
                             .prompt_index = (uint32_t)i, .ignore_eos = !j.ends, .stop = &j.stop, .n_stop = j.stop != NULL};
        out[i] = (jpt_generation){0};
    }
    if (jpt_generate(s, r, N_PROMPTS, j.n_batch, out, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s: %s", j.spec, err.msg);
    for (int32_t i = 0; i < N_PROMPTS; i++)
        check_accounts(j.spec, &r[i], &out[i]);
    jpt_session_close(s);
    jpt_session_close(a);
    jpt_spec_list_fini(&l);
}

static void fini(jpt_generation g[N_PROMPTS]) {
    for (int i = 0; i < N_PROMPTS; i++)
        jpt_generation_fini(&g[i]);
}

static bool same_text(const jpt_generation *x, const jpt_generation *y) {
    return x->n_tokens == y->n_tokens && memcmp(x->tokens, y->tokens, (size_t)x->n_tokens * sizeof *x->tokens) == 0 && x->text.n == y->text.n &&
           (x->text.n == 0 || memcmp(x->text.p, y->text.p, x->text.n) == 0);
}

static void same(job a, job b) {
    jpt_generation x[N_PROMPTS], y[N_PROMPTS];
    run(a, x);
    run(b, y);
    for (int i = 0; i < N_PROMPTS; i++)
        if (!same_text(&x[i], &y[i]))
            fail_msg("'%s' and '%s' (batch %d, stop '%s'): prompt %d differs", a.spec, b.spec, b.n_batch, b.stop ? b.stop : "", i);
    fini(x);
    fini(y);
}

static void batch_and_threads(void **state) {
    (void)state;
    for (size_t i = 0; i < jpt_strategy_count(); i++)
        for (int ends = 0; ends < 2; ends++) {
            job j = {.spec = spec_of(i), .assistant = other, .ends = ends}, k = j;
            k.n_batch = 3;
            same(j, k);
            if (ends)
                continue;
            k.n_batch = 1;
            k.model = threads;
            same(j, k);
        }
}

/* All strategies side by side in one session write what each writes alone. */
static void neighbours(void **state) {
    (void)state;
    enum { SOME = 6 };
    job             j = {.spec = "all", .model = model, .assistant = other, .n_batch = SOME};
    jpt_spec_list   l = {0};
    jpt_error       err = {0};
    const jpt_spec *spec[SPECS_MAX];
    jpt_request     r[SPECS_MAX];
    jpt_generation  together[SPECS_MAX] = {0}, alone;
    int32_t         prompt[16], n = prompt_of(1, prompt), count = (int32_t)jpt_strategy_count();
    jpt_session    *a;
    for (int32_t i = 0; i < count; i++)
        assert_int_equal(jpt_spec_parse(spec_of((size_t)i), &l, &err), JPT_OK);
    assert_int_equal(l.n, count);
    for (int32_t i = 0; i < count; i++) {
        spec[i] = &l.spec[i];
        r[i] = (jpt_request){.spec = spec[i], .prompt = prompt, .n_prompt = n, .max_new_tokens = N_NEW, .seed = 3, .prompt_index = (uint32_t)i};
    }
    jpt_session *s = open_session(&j, spec, (size_t)count, &a);
    if (jpt_generate(s, r, count, SOME, together, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    for (int32_t i = 0; i < count; i++) {
        alone = (jpt_generation){0};
        assert_int_equal(jpt_generate(s, &r[i], 1, 1, &alone, NULL, NULL, &err), JPT_OK);
        check_accounts(spec[i]->text, &r[i], &together[i]);
        if (!same_text(&alone, &together[i]))
            fail_msg("%s: another text among neighbours", spec[i]->text);
        assert_int_equal(alone.work.positions_computed, together[i].work.positions_computed);
        assert_int_equal(alone.work.positions_discarded, together[i].work.positions_discarded);
        assert_int_equal(alone.work.logits_rows, together[i].work.logits_rows);
        jpt_generation_fini(&alone);
        jpt_generation_fini(&together[i]);
    }
    jpt_session_close(s);
    jpt_session_close(a);
    jpt_spec_list_fini(&l);
}

/* No text holds the stop string or ends before its minimum, whatever the strategy. */
static void stops_and_minimum(void **state) {
    (void)state;
    static const char *const stops[] = {"e", "a", "th", " "};
    for (size_t i = 0; i < jpt_strategy_count(); i++)
        for (size_t k = 0; k < sizeof stops / sizeof *stops; k++) {
            jpt_generation g[N_PROMPTS];
            run((job){.spec = spec_of(i), .assistant = other, .stop = stops[k], .ends = true}, g);
            for (int p = 0; p < N_PROMPTS; p++) {
                if (g[p].text.n && memmem(g[p].text.p, g[p].text.n, stops[k], strlen(stops[k])))
                    fail_msg("%s: the text holds the stop string '%s'", spec_of(i), stops[k]);
                assert_true(g[p].stop == JPT_STOP_STRING || g[p].stop == JPT_STOP_EOS || g[p].stop == JPT_STOP_LENGTH);
                for (int a = 0; a < g[p].n_alternatives; a++)
                    assert_true(!g[p].alternatives[a].text.n || !memmem(g[p].alternatives[a].text.p, g[p].alternatives[a].text.n, stops[k], strlen(stops[k])));
            }
            fini(g);
        }
    for (size_t i = 0; i < jpt_strategy_count(); i++) {
        jpt_generation g[N_PROMPTS];
        run((job){.spec = spec_of(i), .assistant = other, .min_new = N_NEW, .ends = true}, g);
        for (int p = 0; p < N_PROMPTS; p++)
            if (g[p].n_tokens != N_NEW)
                fail_msg("%s: %d tokens, at least %d were asked for", spec_of(i), g[p].n_tokens, N_NEW);
        fini(g);
    }
}

/* A rejected guess may hold a stop string: the text goes on as without speculation. */
static void stop_strings_of_rejected_guesses(void **state) {
    (void)state;
    static const char *const specs[] = {"assisted:num_assistant_tokens=8", "self-speculation:exit_layer=1,num_assistant_tokens=8", "prompt-lookup", "lookahead:window=4,ngram=4,guess_set=4"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (char c = 'a'; c <= 'z'; c++) {
            char stop[2] = {c, 0};
            same((job){.spec = "greedy", .stop = stop, .ends = true}, (job){.spec = specs[i], .assistant = other, .stop = stop, .ends = true});
        }
}

static void processors_on_every_strategy(void **state) {
    (void)state;
    static const char *const more[] = {"repetition_penalty=1.5,no_repeat_ngram_size=2,encoder_repetition_penalty=1.2", "suppress_tokens=101/97/116,begin_suppress_tokens=98/99,min_length=18",
                                       "sequence_bias=97+98:3/101:-2,exponential_decay_length_penalty=3/1.5,renormalize_logits=true",
                                       "penalty_last_n=5,frequency_penalty=0.5,presence_penalty=0.4,dry_multiplier=0.8,dry_allowed_length=1"};
    for (size_t i = 0; i < jpt_strategy_count(); i++)
        for (size_t k = 0; k < sizeof more / sizeof *more; k++) {
            char           spec[512];
            jpt_generation g[N_PROMPTS];
            snprintf(spec, sizeof spec, "%s%c%s", spec_of(i), strchr(spec_of(i), ':') ? ',' : ':', more[k]);
            if (strstr(spec, "dry:") == spec && k == 3)
                continue; /* dry_multiplier is its own */
            run((job){.spec = spec, .assistant = other, .ends = true}, g);
            for (int p = 0; p < N_PROMPTS && k == 1; p++) {
                for (int t = 0; t < g[p].n_tokens; t++)
                    if (g[p].tokens[t] == 101 || g[p].tokens[t] == 97 || g[p].tokens[t] == 116)
                        fail_msg("%s: a suppressed token was chosen", spec);
                assert_true(g[p].tokens[0] != 98 && g[p].tokens[0] != 99);
                assert_true(g[p].n_tokens == N_NEW || 4 + 4 * p + g[p].n_tokens >= 18);
            }
            fini(g);
        }
}

/* Speculation with a draft model of another tokenizer: the same text; a draft of the same weights guesses right where both write the
 * text in the same tokens. */
static void another_tokenizer(void **state) {
    (void)state;
    static const char *const specs[][2] = {{"greedy", "assisted"}, {"greedy:repetition_penalty=1.3", "assisted:repetition_penalty=1.3,num_assistant_tokens=3"},
                                           {"sample:temperature=0.7", "assisted:do_sample=true,temperature=0.7"},
                                           {"greedy", "assisted:num_assistant_tokens_schedule=heuristic,assistant_confidence_threshold=0.1"}};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (int32_t batch = 1; batch <= 3; batch += 2)
            same((job){.spec = specs[i][0], .ends = true}, (job){.spec = specs[i][1], .assistant = foreign, .n_batch = batch, .ends = true});
    jpt_generation g[N_PROMPTS];
    run((job){.spec = "assisted", .assistant = foreign}, g);
    for (int i = 0; i < N_PROMPTS; i++) {
        assert_true(g[i].work.draft_forwards > 0);
        printf("registry: draft of another tokenizer: %d tokens in %d forwards\n", g[i].n_tokens, (int)g[i].work.forwards);
    }
    fini(g);
    /* contrasting needs ids that mean the same */
    static const char *const refused[] = {"cd", "cd-beam", "assisted:do_sample=true,acceptance=ratio"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        jpt_spec_list  l = {0};
        jpt_error      err = {0};
        jpt_generation one = {0};
        jpt_session   *a;
        job            j = {.spec = refused[i], .model = model, .assistant = foreign, .n_batch = 1};
        int32_t        prompt[16];
        assert_int_equal(jpt_spec_parse(refused[i], &l, &err), JPT_OK);
        const jpt_spec *spec = &l.spec[0];
        jpt_session    *s = open_session(&j, &spec, 1, &a);
        jpt_request     r = {.spec = spec, .prompt = prompt, .n_prompt = prompt_of(0, prompt), .max_new_tokens = 4};
        assert_int_equal(jpt_generate(s, &r, 1, 1, &one, NULL, NULL, &err), JPT_ARG);
        assert_non_null(strstr(err.msg, "own tokenizer"));
        jpt_generation_fini(&one);
        jpt_session_close(s);
        jpt_session_close(a);
        jpt_spec_list_fini(&l);
    }
}

/* DoLa with as many layers as a forward has exits, and with one more. */
static void most_layers(void **state) {
    (void)state;
    char spec[256] = "dola:dola_layers=1";
    for (int i = 1; i < JPT_EXIT_MAX; i++)
        strcat(spec, i % 2 ? "/2" : "/1");
    same((job){.spec = "dola:dola_layers=1/2"}, (job){.spec = spec}); /* the same two, again and again */
    strcat(spec, "/1");
    jpt_spec_list l = {0};
    jpt_error     err = {0};
    assert_int_equal(jpt_spec_parse(spec, &l, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "at most 64 layers"));
}

/* Fewer at a time, or an end once the vote cannot change, choose the same answer. */
static void votes(void **state) {
    (void)state;
    jpt_generation all[N_PROMPTS], less[N_PROMPTS];
    static const char *const kinds[] = {"number", "string", "choice", "boolean", "text"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int parallel = 0; parallel < 3; parallel++) {
            char a[128], b[160], c[160];
            snprintf(a, sizeof a, "self-consistency:n=7,answer=%s,temperature=0.5", kinds[k]);
            snprintf(b, sizeof b, "%s,parallel=%d", a, parallel);
            snprintf(c, sizeof c, "%s,early_stop=decided", b);
            run((job){.spec = a, .ends = true}, all);
            run((job){.spec = b, .ends = true}, less);
            for (int i = 0; i < N_PROMPTS; i++) {
                assert_true(same_text(&all[i], &less[i]));
                assert_int_equal(all[i].work.positions_computed, less[i].work.positions_computed);
                assert_int_equal(less[i].n_alternatives, 7);
            }
            fini(less);
            run((job){.spec = c, .ends = true}, less);
            for (int i = 0; i < N_PROMPTS; i++) {
                double votes = 0;
                for (int s = 0; s < all[i].n_alternatives; s++) /* another sample may speak for the same answer */
                    votes = same_text(&all[i], &less[i]) ? all[i].alternatives[0].score : fmax(votes, all[i].alternatives[s].score);
                assert_true(votes >= all[i].alternatives[0].score - 1e-9);
                assert_true(less[i].work.positions_computed <= all[i].work.positions_computed);
                assert_true(less[i].n_alternatives >= 1 && less[i].n_alternatives <= 7);
            }
            fini(less);
            fini(all);
        }
    /* no letter stands alone: four samples without an answer settle the vote of seven, one after the other */
    run((job){.spec = "self-consistency:n=7,answer=boolean,parallel=1,early_stop=decided"}, less);
    for (int i = 0; i < N_PROMPTS; i++)
        assert_int_equal(less[i].n_alternatives, 4);
    fini(less);
    run((job){.spec = "self-consistency:n=40,answer=boolean,parallel=1,early_stop=likely,certainty=0.9"}, less);
    for (int i = 0; i < N_PROMPTS; i++)
        assert_int_equal(less[i].n_alternatives, 3); /* 1 - 2^-(n + 1) >= 0.9 */
    fini(less);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(batch_and_threads), cmocka_unit_test(neighbours), cmocka_unit_test(stops_and_minimum),
                                       cmocka_unit_test(stop_strings_of_rejected_guesses), cmocka_unit_test(processors_on_every_strategy), cmocka_unit_test(another_tokenizer), cmocka_unit_test(most_layers),
                                       cmocka_unit_test(votes)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
