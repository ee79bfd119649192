/* Laws that strategies obey, whatever the model: limits that make one of them another, speculation that changes no text,
 * accounts that add up, texts that do not depend on the batch. */
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

enum { N_PROMPTS = 6, N_NEW = 40 };
static jpt_model *model, *other;

static jpt_model *open_tiny(uint64_t seed, int32_t layers) {
    tiny_model t = {.seed = seed, .n_layers = layers};
    char      *path = tiny_model_file(&t);
    jpt_error  err = {0};
    jpt_model *m;
    if (jpt_model_open(path, NULL, &m, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    unlink(path);
    free(path);
    return m;
}

static int set_up(void **state) {
    (void)state;
    model = open_tiny(5, 4);
    other = open_tiny(6, 1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    jpt_model_close(model);
    jpt_model_close(other);
    return 0;
}

/* Prompts with repeats in them, so that looking back finds something. */
static int32_t prompt_of(int32_t i, int32_t p[24]) {
    int32_t n = 4 + 3 * i;
    for (int32_t k = 0; k < n; k++)
        p[k] = (i * 37 + (k % (3 + i)) * 11) % 256;
    return n;
}

/* All prompts under one spec, n_batch at a time; with the assistant where given. */
static void run(const char *spec_text, jpt_model *assistant, int32_t n_batch, bool ends, jpt_generation out[N_PROMPTS]) {
    static int32_t      prompt[N_PROMPTS][24];
    jpt_spec_list       l = {0};
    jpt_error           err = {0};
    jpt_session        *s, *a = NULL;
    jpt_request         r[N_PROMPTS];
    jpt_session_options so = {.n_ctx = 128}, ao = {.n_ctx = 128, .n_seqs = 12, .n_outputs = 12};
    if (jpt_spec_parse(spec_text, &l, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    const jpt_spec *spec = &l.spec[0];
    jpt_spec_session_options(&spec, 1, n_batch, &so);
    if (jpt_session_open(model, &so, &s, &err) != JPT_OK)
        fail_msg("%s", err.msg);
    if (assistant) {
        assert_int_equal(jpt_session_open(assistant, &ao, &a, &err), JPT_OK);
        assert_int_equal(jpt_session_set_assistant(s, a, &err), JPT_OK);
    }
    for (int32_t i = 0; i < N_PROMPTS; i++) {
        int32_t n = prompt_of(i, prompt[i]);
        r[i] = (jpt_request){.spec = spec, .prompt = prompt[i], .n_prompt = n, .max_new_tokens = N_NEW - 3 * i, .seed = 7, .prompt_index = (uint32_t)i, .ignore_eos = !ends};
        out[i] = (jpt_generation){0};
    }
    if (jpt_generate(s, r, N_PROMPTS, n_batch, out, NULL, NULL, &err) != JPT_OK)
        fail_msg("%s: %s", spec_text, err.msg);
    for (int32_t i = 0; i < N_PROMPTS; i++) {
        uint64_t kept = out[i].work.positions_computed - out[i].work.positions_discarded, most = (uint64_t)(r[i].n_prompt + out[i].n_tokens);
        if (kept != most && kept != most - 1)
            fail_msg("%s, prompt %d: %llu computed, %llu thrown away, %d + %d kept", spec_text, i, (unsigned long long)out[i].work.positions_computed,
                     (unsigned long long)out[i].work.positions_discarded, r[i].n_prompt, out[i].n_tokens);
        assert_true(ends || out[i].n_tokens == r[i].max_new_tokens);
    }
    /* nothing is left behind: every sequence can be had again */
    jpt_seq q;
    for (int32_t i = 0; i < so.n_seqs; i++)
        if (jpt_seq_new(s, &q, &err) != JPT_OK)
            fail_msg("%s: sequence %d of %d was not given back", spec_text, i, so.n_seqs);
    jpt_session_close(s);
    jpt_session_close(a);
    jpt_spec_list_fini(&l);
}

static void fini(jpt_generation g[N_PROMPTS]) {
    for (int i = 0; i < N_PROMPTS; i++)
        jpt_generation_fini(&g[i]);
}

static void same(const char *a, jpt_model *assist_a, int32_t batch_a, const char *b, jpt_model *assist_b, int32_t batch_b) {
    jpt_generation x[N_PROMPTS], y[N_PROMPTS];
    for (int ends = 0; ends < 2; ends++) {
        run(a, assist_a, batch_a, ends, x);
        run(b, assist_b, batch_b, ends, y);
        for (int i = 0; i < N_PROMPTS; i++)
            if (x[i].n_tokens != y[i].n_tokens || memcmp(x[i].tokens, y[i].tokens, (size_t)x[i].n_tokens * sizeof(int32_t)) != 0) {
                int k = 0;
                while (k < x[i].n_tokens && k < y[i].n_tokens && x[i].tokens[k] == y[i].tokens[k])
                    k++;
                fail_msg("'%s' (batch %d) and '%s' (batch %d): prompt %d differs at token %d", a, batch_a, b, batch_b, i, k);
            }
        fini(x);
        fini(y);
    }
}

static void limits(void **state) {
    (void)state;
    same("greedy", NULL, 1, "beam:num_beams=1", NULL, 1);
    same("greedy:repetition_penalty=1.3", NULL, 1, "beam:num_beams=1,repetition_penalty=1.3", NULL, 1);
    same("beam:num_beams=4", NULL, 1, "beam:num_beams=4,early_stopping=false,num_return_sequences=4", NULL, 1);
    same("greedy", NULL, 1, "diverse-beam:num_beams=1,num_beam_groups=1", NULL, 1);
    same("greedy", NULL, 1, "contrastive:penalty_alpha=0", NULL, 1);
    same("greedy", NULL, 1, "contrastive:top_k=1", NULL, 1);
    same("greedy", NULL, 1, "fsd:penalty_alpha=0", NULL, 1);
    same("greedy", NULL, 1, "fsd-d:penalty_alpha=0", NULL, 1);
    same("greedy", NULL, 1, "fsd:top_k=1", NULL, 1);
    same("greedy", NULL, 1, "cd:beta=0,amateur_layer=2", NULL, 1);
    same("greedy", NULL, 1, "cd:form=li,beta=0", other, 1);
    same("cd:form=li,beta=0.7", other, 1, "cd-beam:num_beams=1,beta=0.7", other, 1);
    same("cd:form=li,amateur_layer=2", NULL, 1, "cd-beam:num_beams=1,amateur_layer=2", NULL, 1);
    same("beam:num_beams=4", NULL, 1, "cd-beam:num_beams=4,beta=0,relative_top=1e-30", other, 1);
    same("beam:num_beams=3,length_penalty=0", NULL, 1, "cd-beam:num_beams=3,beta=0,relative_top=1e-30,amateur_layer=1,length_penalty=0", NULL, 1);
    same("greedy", NULL, 1, "cd:form=obrien", model, 1); /* (1 + b) z - b z = z */
    same("sample", NULL, 1, "xtc:xtc_probability=0,min_p=0", NULL, 1);
    same("sample", NULL, 1, "dry:dry_multiplier=0", NULL, 1);
    same("sample", NULL, 1, "dynatemp:dynatemp_range=0", NULL, 1);
    same("sample", NULL, 1, "top-n-sigma:top_n_sigma=100", NULL, 1);
    same("sample", NULL, 1, "sample:chain=llama.cpp", NULL, 1);
    same("greedy", NULL, 1, "top-h:top_h=0.0001", NULL, 1);
    same("greedy", NULL, 1, "guidance:guidance_scale=1", NULL, 1);
    same("sample:top_p=0.9", NULL, 1, "guidance:guidance_scale=1,do_sample=true,top_p=0.9", NULL, 1);
    same("sample:temperature=0.6", NULL, 1, "self-consistency:n=1,temperature=0.6", NULL, 1);
    same("sample", NULL, 1, "best-of-n:n=1", NULL, 1);
    same("sample", NULL, 1, "mbr:n=1", NULL, 1);
    same("sample", NULL, 1, "samples:n=5", NULL, 1); /* the first is the plain sample */
    same("mbr:n=5,utility=exact", NULL, 1, "self-consistency:n=5", NULL, 1); /* exact utility is the vote */
    same("greedy", NULL, 1, "sample:temperature=1e-6", NULL, 1);
    same("greedy", NULL, 1, "assisted:do_sample=true,acceptance=ratio,temperature=1e-6", other, 1);
    same("greedy:suppress_tokens=0/1/2/3", NULL, 1, "greedy:suppress_tokens=0/1/2/3,logit_bias=0:50/3:50,sequence_bias=2:50", NULL, 1); /* what is suppressed cannot be favoured */
    same("greedy:repetition_penalty=1.4", NULL, 1, "greedy:repetition_penalty=1.4,penalty_last_n=-1", NULL, 1);
    same("greedy:min_length=30", NULL, 1, "greedy:min_length=30,renormalize_logits=true", NULL, 1);
    same("mirostat-v2:tau=100", NULL, 1, "sample", NULL, 1); /* no token is surprising enough */
}

static void speculation_changes_no_text(void **state) {
    (void)state;
    static const struct {
        const char *spec;
        bool        assisted;
    } kinds[] = {
        {"prompt-lookup", false}, {"prompt-lookup:prompt_lookup_num_tokens=3,max_matching_ngram_size=4,match=last", false},
        {"prompt-lookup:num_assistant_tokens_schedule=energy", false}, {"assisted", true}, {"assisted:num_assistant_tokens=9,num_assistant_tokens_schedule=heuristic", true},
        {"assisted:assistant_confidence_threshold=0.3", true}, {"assisted:num_assistant_tokens_schedule=energy", true}, {"self-speculation", false},
        {"self-speculation:exit_layer=3,num_assistant_tokens=7", false}, {"lookahead", false}, {"lookahead:window=4,ngram=3", false}, {"lookahead:window=6,ngram=2,guess_set=4", false},
    };
    static const struct {
        const char *plain, *more;
    } ways[] = {{"greedy", ""},
                {"greedy:repetition_penalty=1.3,no_repeat_ngram_size=3", "repetition_penalty=1.3,no_repeat_ngram_size=3"},
                {"sample:temperature=0.7", "do_sample=true,temperature=0.7"},
                {"sample:top_p=0.6,temperature=0.5,repetition_penalty=1.2", "do_sample=true,top_p=0.6,temperature=0.5,repetition_penalty=1.2"}};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++)
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            char spec[256];
            snprintf(spec, sizeof spec, "%s%s%s", kinds[k].spec, !*ways[w].more ? "" : strchr(kinds[k].spec, ':') ? "," : ":", ways[w].more);
            same(ways[w].plain, NULL, 1, spec, kinds[k].assisted ? other : NULL, 1);
            if (kinds[k].assisted)
                same(ways[w].plain, NULL, 1, spec, model, 1); /* a perfect draft */
        }
}

/* The same for the distribution: the second token of many draws (JPT_TEST_ALL: 20,000) by speculation against its exact probabilities, summed over
 * all first tokens. */
static void speculation_keeps_the_distribution(void **state) {
    (void)state;
    enum { MORE = 6 };
    const int draws = getenv("JPT_TEST_ALL") ? 20000 : getenv("JPT_SKIP_SLOW") ? 1000 : 4000;
    static const struct {
        const char *spec;
        bool        accepts; /* prompt lookup finds nothing here, lookahead has seen no n-gram in so short a text */
    } specs[MORE] = {{"assisted:do_sample=true,temperature=0.8,top_k=6,num_assistant_tokens=3", true}, {"assisted:do_sample=true,acceptance=ratio,temperature=0.8,top_k=6,num_assistant_tokens=3", true},
                     {"self-speculation:do_sample=true,temperature=0.8,top_k=6,exit_layer=3", true}, {"self-speculation:do_sample=true,acceptance=ratio,temperature=0.8,top_k=6,exit_layer=3", true},
                     {"prompt-lookup:do_sample=true,temperature=0.8,top_k=6,max_matching_ngram_size=1", false}, {"lookahead:do_sample=true,temperature=0.8,top_k=6,window=3,ngram=3", false}};
    int32_t             prompt[24], n = prompt_of(3, prompt), V = jpt_model_get_info(model)->n_vocab;
    jpt_error           err = {0};
    jpt_session_options so = {.n_ctx = 64, .n_seqs = 17, .n_outputs = 1200, .n_tree = 16 * 64}, ao = {.n_ctx = 64, .n_seqs = 16, .n_outputs = 16};
    jpt_session        *s, *a;
    jpt_model          *near = open_tiny(5, 3); /* the same weights without the last layer */
    assert_int_equal(jpt_session_open(model, &so, &s, &err), JPT_OK);
    assert_int_equal(jpt_session_open(near, &ao, &a, &err), JPT_OK);
    assert_int_equal(jpt_session_set_assistant(s, a, &err), JPT_OK);
    /* exact: p(second) = sum over first tokens of p(first) p(second | first), each cut to 6 at temperature 0.8 */
    jpt_chain c = {.n_links = 2, .min_tokens_to_keep = 1, .link = {{.kind = JPT_LINK_TEMPERATURE, .value = 0.8}, {.kind = JPT_LINK_TOP_K, .value = 6, .count = 6}}};
    float    *z = malloc((size_t)V * sizeof *z), *z2 = malloc((size_t)V * sizeof *z2);
    double   *p = calloc((size_t)V, sizeof *p);
    void     *scratch = malloc(jpt_select_scratch_bytes(V));
    for (int32_t first = -1; first < V; first++) {
        jpt_seq        q;
        jpt_batch_item it = {.tokens = prompt, .n_tokens = n + (first >= 0), .logits = JPT_ROWS_LAST};
        jpt_batch      b = {.items = &it, .n_items = 1};
        float         *row = first < 0 ? z : z2;
        if (first >= 0 && z[first] == -INFINITY)
            continue;
        prompt[n] = first;
        assert_int_equal(jpt_seq_new(s, &q, &err), JPT_OK);
        it.seq = q;
        assert_int_equal(jpt_session_forward(s, &b, &err), JPT_OK);
        assert_int_equal(jpt_session_logits(s, it.logits_row, row, &err), JPT_OK);
        jpt_seq_free(s, q);
        assert_int_equal(jpt_chain_apply(&c, &(jpt_select_item){.history = prompt, .n_history = n}, row, V, scratch, &err), JPT_OK);
        assert_true(jpt_log_softmax(row, V, row));
        for (int32_t v = 0; first >= 0 && v < V; v++)
            p[v] += exp((double)z[first] + (double)z2[v]);
    }
    for (int k = 0; k < MORE; k++) {
        jpt_spec_list   l = {0};
        jpt_request    *r = calloc((size_t)draws, sizeof *r);
        jpt_generation *g = calloc((size_t)draws, sizeof *g);
        int32_t        *count = calloc((size_t)V, sizeof *count), accepted = 0;
        double          chi = 0, rest = 0, rest_count = 0;
        int             df = -1;
        assert_int_equal(jpt_spec_parse(specs[k].spec, &l, &err), JPT_OK);
        for (int i = 0; i < draws; i++)
            r[i] = (jpt_request){.spec = &l.spec[0], .prompt = prompt, .n_prompt = n, .max_new_tokens = 3, .seed = (uint64_t)i, .ignore_eos = true};
        if (jpt_generate(s, r, draws, 16, g, NULL, NULL, &err) != JPT_OK)
            fail_msg("%s: %s", specs[k].spec, err.msg);
        for (int i = 0; i < draws; i++) {
            count[g[i].tokens[1]]++;
            accepted += g[i].work.forwards < 3;
            jpt_generation_fini(&g[i]);
        }
        for (int32_t v = 0; v < V; v++) {
            double want = draws * p[v];
            if (want < 5) {
                rest += want, rest_count += count[v];
                continue;
            }
            chi += (count[v] - want) * (count[v] - want) / want;
            df++;
        }
        if (rest > 0.5)
            chi += (rest_count - rest) * (rest_count - rest) / rest, df++;
        double tail = 0.5 * erfc((cbrt(chi / df) - (1 - 2.0 / (9 * df))) / sqrt(2.0 / (9 * df)) / sqrt(2));
        printf("golden: %.*s%s: second token of %d draws, chi-square %.1f with %d degrees of freedom, p = %.3f; a guess was accepted in %d\n", (int)strcspn(specs[k].spec, ":"),
               specs[k].spec, strstr(specs[k].spec, "ratio") ? " by the ratio" : "", draws, chi, df, tail, accepted);
        assert_true(tail > 1e-4 && df > 5);
        assert_true(accepted > 0 || !specs[k].accepts);
        free(r), free(g), free(count);
        jpt_spec_list_fini(&l);
    }
    free(z), free(z2), free(p), free(scratch);
    jpt_session_close(s), jpt_session_close(a);
    jpt_model_close(near);
}

/* Words that must stand in the text do, and beams without words are diverse beam search's with one group. */
static void forced_words(void **state) {
    (void)state;
    static const struct {
        const char *spec, *all[2], *one[2];
    } cases[] = {{"constrained-beam:force_words=zq", {"zq"}, {0}}, {"constrained-beam:force_words=zq/wx,num_beams=5", {"zq", "wx"}, {0}},
                 {"constrained-beam:force_words=zq|wx,num_beams=3", {0}, {"zq", "wx"}}, {"constrained-beam:force_words=zqj,repetition_penalty=1.2,length_penalty=2", {"zqj"}, {0}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int ends = 0; ends < 2; ends++) {
            jpt_generation g[N_PROMPTS];
            run(cases[i].spec, NULL, 1, ends, g);
            for (int k = 0; k < N_PROMPTS; k++) {
                bool one = !cases[i].one[0];
                for (int w = 0; w < 2; w++) {
                    if (cases[i].all[w] && !memmem(g[k].text.p, g[k].text.n, cases[i].all[w], strlen(cases[i].all[w])))
                        fail_msg("%s, prompt %d: '%s' is missing from '%s' (%d tokens)", cases[i].spec, k, cases[i].all[w], g[k].text.p, g[k].n_tokens);
                    one = one || (cases[i].one[w] && memmem(g[k].text.p, g[k].text.n, cases[i].one[w], strlen(cases[i].one[w])));
                }
                assert_true(one);
                assert_int_equal(g[k].work.kv_bytes_moved, 0);
            }
            fini(g);
        }
    jpt_spec_list l = {0};
    jpt_error     err = {0};
    assert_int_equal(jpt_spec_parse("constrained-beam", &l, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "force_words"));
    err = (jpt_error){0};
    assert_int_equal(jpt_spec_parse("constrained-beam:force_words=/", &l, &err), JPT_ARG);
    assert_non_null(strstr(err.msg, "word/word"));
    jpt_spec_list_fini(&l);
}

static void a_perfect_draft_is_always_right(void **state) {
    (void)state;
    jpt_generation g[N_PROMPTS];
    run("assisted:num_assistant_tokens=4,do_sample=true,acceptance=ratio", model, 1, false, g); /* p = q */
    for (int i = 0; i < N_PROMPTS; i++)
        assert_true(g[i].work.positions_discarded == 0);
    fini(g);
    run("assisted:num_assistant_tokens=4", model, 1, false, g);
    for (int i = 0; i < N_PROMPTS; i++) {
        assert_true(g[i].work.positions_discarded == 0);
        assert_true(g[i].work.forwards <= (uint64_t)(2 + (g[i].n_tokens + 4) / 5));
        assert_true(g[i].work.draft_forwards > 0 && g[i].work.draft_positions >= g[i].work.draft_forwards);
    }
    fini(g);
    /* beams are worth their name: the best of 4 is at least as likely as greedy's, for most prompts of one length */
    jpt_generation b[N_PROMPTS];
    int            better = 0;
    run("greedy", NULL, 1, false, g);
    run("beam:num_beams=4,length_penalty=0", NULL, 1, false, b);
    for (int i = 0; i < N_PROMPTS; i++) {
        double lg = 0, lb = 0;
        for (int k = 0; k < g[i].n_tokens; k++)
            lg += (double)g[i].logprobs[k], lb += (double)b[i].logprobs[k];
        better += lb >= lg - 1e-4;
        assert_true(b[i].work.positions_discarded > 0);
        assert_int_equal(b[i].work.kv_bytes_moved, 0); /* forks and page tables only */
    }
    assert_true(better >= N_PROMPTS - 1);
    fini(g);
    fini(b);
}

static void batches_change_no_text(void **state) {
    (void)state;
    static const char *const specs[] = {"greedy", "sample", "beam", "beam-sample", "diverse-beam", "constrained-beam:force_words=zq", "contrastive", "adaptive-contrastive", "fsd", "fsd-d", "prompt-lookup",
                                        "self-speculation", "lookahead", "dola:dola_layers=1/2", "dola-sample:dola_layers=low,top_p=0.9", "cd:amateur_layer=2", "cd-sample:amateur_layer=2", "cd-beam:amateur_layer=2",
                                        "mirostat", "mirostat:form=paper,tau=3,eta=1", "mirostat-v2:tau=3", "adaptive-p", "guard", "guidance", "best-of-n:n=3", "self-consistency:n=4",
                                        "mbr:n=4", "mbr:n=3,utility=bleu", "mbr:n=4,utility=embedding", "samples"};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        same(specs[i], NULL, 1, specs[i], NULL, 3);
        same(specs[i], NULL, 1, specs[i], NULL, 6);
    }
    for (size_t k = 0; k < jpt_strategy_count(); k++) { /* and those of the registry that the list above does not name */
        const char *name = jpt_strategy_at(k)->name;
        bool        named = strcmp(name, "assisted") == 0; /* below */
        for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
            named |= strncmp(specs[i], name, strlen(name)) == 0 && (specs[i][strlen(name)] == ':' || !specs[i][strlen(name)]);
        if (!named)
            same(name, NULL, 1, name, NULL, 4);
    }
    same("assisted", other, 1, "assisted", other, 4);
    same("cd", other, 1, "cd", other, 4);
    same("cd-beam:num_beams=2", other, 1, "cd-beam:num_beams=2", other, 4);
}

/* Beams that are given back in order of score, the text among them. */
static void answers(void **state) {
    (void)state;
    jpt_generation g[N_PROMPTS];
    run("best-of-n:n=6", NULL, 1, true, g);
    for (int i = 0; i < N_PROMPTS; i++) {
        assert_int_equal(g[i].n_alternatives, 6);
        for (int k = 0; k < 6; k++) {
            assert_true(g[i].alternatives[k].score <= g[i].alternatives[0].score);
            assert_int_equal(g[i].work.forwards >= (uint64_t)g[i].alternatives[k].n, 1); /* side by side, not one after the other */
        }
        assert_memory_equal(g[i].alternatives[0].tokens, g[i].tokens, (size_t)g[i].n_tokens * sizeof(int32_t));
        assert_int_equal(g[i].work.kv_bytes_moved, 0);
    }
    fini(g);
}

/* The consensus has the best score, and a text that most samples share is taken, whatever likeness is measured by. */
static void consensus(void **state) {
    (void)state;
    jpt_generation g[N_PROMPTS];
    static const char *const specs[] = {"mbr:n=7,utility=embedding,temperature=0.35", "mbr:n=7,utility=chrf,temperature=0.35", "mbr:n=7,utility=bleu,temperature=0.35"};
    for (int u = 0; u < 3; u++) {
        run(specs[u], NULL, 1, true, g);
        for (int i = 0; i < N_PROMPTS; i++) {
            for (int k = 1; k < 7; k++)
                assert_true(g[i].alternatives[k].score <= g[i].alternatives[0].score);
            for (int a = 0; a < 7; a++) { /* a text that most samples share wins */
                int same_text = 0;
                for (int b = 0; b < 7; b++)
                    same_text += strcmp(g[i].alternatives[a].text.p ? g[i].alternatives[a].text.p : "", g[i].alternatives[b].text.p ? g[i].alternatives[b].text.p : "") == 0;
                if (same_text >= 5)
                    assert_string_equal(g[i].text.p ? g[i].text.p : "", g[i].alternatives[a].text.p ? g[i].alternatives[a].text.p : "");
            }
        }
        fini(g);
    }
}

/* A made-up meter: a joule each time it is asked, 20 ms apart at most; texts end within the budget and say why. */
static double joules;
static double ask(void *ud) {
    (void)ud;
    usleep(21000);
    return joules++;
}

static void budgets(void **state) {
    (void)state;
    static const struct {
        const char *spec, *note;
    } cases[] = {{"greedy", "stopped"}, {"sample", "stopped"}, {"beam:num_beams=4", "narrowed the beam to 1"}, {"diverse-beam", "stopped"}, {"contrastive", "stopped"},
                 {"self-speculation", "dropped the drafts"}, {"best-of-n:n=3", "stopped"}, {"dola", "stopped"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        jpt_spec_list       l = {0};
        jpt_session        *s;
        jpt_error           err = {0};
        jpt_generation      g = {0};
        jpt_session_options so = {.n_ctx = 128};
        int32_t             prompt[24], n = prompt_of(2, prompt);
        assert_int_equal(jpt_spec_parse(cases[i].spec, &l, &err), JPT_OK);
        const jpt_spec *spec = &l.spec[0];
        jpt_spec_session_options(&spec, 1, 1, &so);
        assert_int_equal(jpt_session_open(model, &so, &s, &err), JPT_OK);
        joules = 100;
        jpt_request r = {.spec = spec, .prompt = prompt, .n_prompt = n, .max_new_tokens = 80, .seed = 7, .ignore_eos = true, .max_joules = 12, .joules = ask};
        if (jpt_generate(s, &r, 1, 1, &g, NULL, NULL, &err) != JPT_OK)
            fail_msg("%s: %s", cases[i].spec, err.msg);
        if (!strstr(g.budget_note, cases[i].note))
            fail_msg("%s: the note is '%s', expected '%s'", cases[i].spec, g.budget_note, cases[i].note);
        assert_true(g.n_tokens > 4 && g.n_tokens < 80 && g.text.n > 0);
        assert_int_equal(g.stop, JPT_STOP_BUDGET);
        assert_true(joules <= 100 + 12 + 3);
        uint64_t kept = g.work.positions_computed - g.work.positions_discarded, most = (uint64_t)(n + g.n_tokens);
        if (kept != most && kept != most - 1)
            fail_msg("%s: the accounts do not add up under a budget", cases[i].spec);
        jpt_generation_fini(&g);
        jpt_session_close(s);
        jpt_spec_list_fini(&l);
    }
}

static void alternatives(void **state) {
    (void)state;
    jpt_generation g[N_PROMPTS];
    run("beam:num_beams=5,num_return_sequences=5", NULL, 1, false, g);
    for (int i = 0; i < N_PROMPTS; i++) {
        assert_int_equal(g[i].n_alternatives, 5);
        assert_int_equal(g[i].alternatives[0].n, g[i].n_tokens);
        assert_memory_equal(g[i].alternatives[0].tokens, g[i].tokens, (size_t)g[i].n_tokens * sizeof(int32_t));
        assert_string_equal(g[i].alternatives[0].text.p, g[i].text.p);
        for (int k = 1; k < 5; k++)
            assert_true(g[i].alternatives[k].score <= g[i].alternatives[k - 1].score);
    }
    fini(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits), cmocka_unit_test(speculation_changes_no_text), cmocka_unit_test(speculation_keeps_the_distribution), cmocka_unit_test(forced_words), cmocka_unit_test(a_perfect_draft_is_always_right),
                                       cmocka_unit_test(batches_change_no_text), cmocka_unit_test(alternatives), cmocka_unit_test(answers), cmocka_unit_test(consensus), cmocka_unit_test(budgets)};
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
