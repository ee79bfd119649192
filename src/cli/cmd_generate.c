/* jpt generate: one prompt, one strategy, what it wrote and what it cost. */
#include "cli.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STOP_MAX = 16 };

typedef struct options {
    cli_engine  engine;
    const char *prompt, *file, *spec, *system, *stop[STOP_MAX];
    int32_t     n_stop, max_new_tokens, min_new_tokens, n_ctx;
    uint64_t    seed;
    double      max_joules;
    bool        chat, json, ignore_eos;
} options;

static const char help[] =
    "usage: jpt generate -m MODEL [-p TEXT | -f FILE | -] [options]\n\n"
    "  -p, --prompt TEXT      the prompt; -f FILE reads it from a file, - from standard input\n"
    "  -c, --chat             wrap it in the model's chat template\n"
    "      --system TEXT      system message of the chat\n"
    "  -s, --strategy SPEC    name[:key=value,...] (default greedy); jpt list strategies\n"
    "      --compat paper     as the study behind jpt asked: no chat template, 256 new tokens, ended by </s> and <|im_end|> too\n"
    "  -n, --max-new-tokens N default 128\n"
    "      --min-new-tokens N\n"
    "      --stop STR         stop before this text; may be repeated\n"
    "      --ignore-eos       go on to the full length\n"
    "      --seed S           default 0\n"
    "      --max-joules J     budget: beams narrow, drafts go, the text ends (docs/energy-aware.md)\n"
    "      --ctx N            context, default min(the model's, 4096)\n"
    "      --json             one JSON object: text, tokens, seconds, joules, counts\n" CLI_ENGINE_HELP;

enum { O_SYSTEM = 0x200, O_MIN, O_STOP, O_IGNORE, O_SEED, O_CTX, O_JSON, O_HELP, O_JOULES, O_COMPAT };

static int parse(int argc, char **argv, options *o) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"prompt", required_argument, NULL, 'p'}, {"file", required_argument, NULL, 'f'},
        {"chat", no_argument, NULL, 'c'}, {"system", required_argument, NULL, O_SYSTEM}, {"strategy", required_argument, NULL, 's'},
        {"max-new-tokens", required_argument, NULL, 'n'}, {"min-new-tokens", required_argument, NULL, O_MIN}, {"stop", required_argument, NULL, O_STOP},
        {"ignore-eos", no_argument, NULL, O_IGNORE}, {"seed", required_argument, NULL, O_SEED}, {"max-joules", required_argument, NULL, O_JOULES}, {"ctx", required_argument, NULL, O_CTX},
        {"compat", required_argument, NULL, O_COMPAT}, {"json", no_argument, NULL, O_JSON}, {"help", no_argument, NULL, 'h'}, {0}};
    long long v;
    bool      paper = false;
    *o = (options){.spec = "greedy"};
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "p:f:cs:n:h", longs, NULL)) != -1;) {
        int engine = cli_engine_option(&o->engine, c, optarg);
        if (engine < 0)
            return -engine;
        if (engine)
            continue;
        switch (c) {
        case 'p': o->prompt = optarg; break;
        case 'f': o->file = optarg; break;
        case 'c': o->chat = true; break;
        case 's': o->spec = optarg; break;
        case 'n':
            if (!cli_parse_int(optarg, 1, 1 << 20, &v))
                return cli_usage("-n %s: expected a number from 1 to 1048576", optarg);
            o->max_new_tokens = (int32_t)v;
            break;
        case O_JOULES:
            if (!cli_parse_double(optarg, 1e-9, 1e12, &o->max_joules))
                return cli_usage("--max-joules %s: expected joules above 0", optarg);
            break;
        case O_COMPAT:
            if (strcmp(optarg, "paper") != 0)
                return cli_usage("--compat %s: only 'paper' is known", optarg);
            paper = true;
            break;
        case O_SYSTEM: o->system = optarg; break;
        case O_MIN:
            if (!cli_parse_int(optarg, 0, 1 << 20, &v))
                return cli_usage("--min-new-tokens %s: expected a number from 0 to 1048576", optarg);
            o->min_new_tokens = (int32_t)v;
            break;
        case O_STOP:
            if (o->n_stop == STOP_MAX || !*optarg)
                return cli_usage("--stop: at most %d texts, none of them empty", STOP_MAX);
            o->stop[o->n_stop++] = optarg;
            break;
        case O_IGNORE: o->ignore_eos = true; break;
        case O_SEED:
            if (!cli_parse_int(optarg, 0, INT64_MAX, &v))
                return cli_usage("--seed %s: expected a whole number from 0", optarg);
            o->seed = (uint64_t)v;
            break;
        case O_CTX:
            if (!cli_parse_int(optarg, 2, 1 << 24, &v))
                return cli_usage("--ctx %s: expected a number from 2 to 16777216", optarg);
            o->n_ctx = (int32_t)v;
            break;
        case O_JSON: o->json = true; break;
        case 'h': fputs(help, stdout); return -1;
        default: return cli_bad_option("generate", argv);
        }
    }
    if (optind < argc && strcmp(argv[optind], "-") == 0 && !o->prompt && !o->file) {
        o->file = "-";
        optind++;
    }
    if (optind < argc)
        return cli_usage("generate: unexpected '%s' (the prompt goes behind -p)", argv[optind]);
    if (!o->engine.model)
        return cli_usage("generate: no model; give -m MODEL");
    if (!o->prompt == !o->file)
        return cli_usage("generate: give one prompt: -p TEXT, -f FILE or -");
    if (paper && (o->chat || o->system))
        return cli_usage("generate: --compat paper knows no chat template: leave --chat and --system away");
    if (paper && o->n_stop > STOP_MAX - 2)
        return cli_usage("--stop: at most %d texts with --compat paper", STOP_MAX - 2);
    if (paper) {
        o->stop[o->n_stop++] = "</s>";
        o->stop[o->n_stop++] = "<|im_end|>";
    }
    if (o->max_new_tokens == 0)
        o->max_new_tokens = paper ? 256 : 128;
    if (o->min_new_tokens > o->max_new_tokens)
        return cli_usage("generate: --min-new-tokens %d is above --max-new-tokens %d", o->min_new_tokens, o->max_new_tokens);
    return 0;
}

static void on_text(void *ud, const char *text, size_t n) {
    (void)ud;
    if (fwrite(text, 1, n, stdout) != n || fflush(stdout) != 0)
        jpt_stop_request(); /* nobody reads on: no more joules for it */
}

static json_t *number(double v) { return isnan(v) ? json_null() : json_real(v); }

static void print_json(const options *o, const jpt_model_info *m, const jpt_spec *spec, int32_t n_prompt, const jpt_generation *g,
                       const jpt_run_request_energy *e) {
    jpt_buf params = {0};
    jpt_spec_json(spec, &params);
    json_t *tokens = json_array(), *j = json_object(), *w = json_object(), *energy = json_object(), *phases = json_object();
    for (int32_t i = 0; i < g->n_tokens; i++)
        json_array_append_new(tokens, json_integer(g->tokens[i]));
    json_object_set_new(j, "model", json_string(m->name));
    json_object_set_new(j, "quantization", json_string(m->quantization));
    json_object_set_new(j, "backend", json_string(m->backend));
    json_object_set_new(j, "strategy", json_string(spec->text));
    json_object_set_new(j, "parameters", json_loads(params.p, 0, NULL));
    json_object_set_new(j, "seed", json_integer((json_int_t)o->seed));
    json_object_set_new(j, "text", json_stringn_nocheck(g->text.p ? g->text.p : "", g->text.n));
    json_object_set_new(j, "tokens", tokens);
    json_object_set_new(j, "prompt_tokens", json_integer(n_prompt));
    json_object_set_new(j, "output_tokens", json_integer(g->n_tokens));
    json_object_set_new(j, "stop_reason", json_string(g->stop == JPT_STOP_NONE ? "interrupted" : jpt_stop_reason_name(g->stop)));
    json_object_set_new(j, "budget_note", g->budget_note[0] ? json_string(g->budget_note) : json_null());
    json_object_set_new(j, "duration_s", json_real(g->duration_s));
    json_object_set_new(j, "prefill_s", json_real(g->prefill_s));
    json_object_set_new(j, "decode_s", json_real(g->decode_s));
    json_object_set_new(j, "ttft_s", json_real(g->ttft_s));
    json_object_set_new(j, "tokens_per_s", number(g->decode_s > 0 && g->n_tokens > 1 ? (g->n_tokens - 1) / g->decode_s : NAN));
    json_object_set_new(energy, "energy_j", number(e->energy.energy_j));
    json_object_set_new(energy, "energy_error_j", number(e->energy.error_j));
    json_object_set_new(energy, "net_energy_j", number(e->energy.net_energy_j));
    json_object_set_new(energy, "joules_per_output_token", number(g->n_tokens ? e->energy.energy_j / g->n_tokens : NAN));
    json_object_set_new(energy, "energy_source", json_string(e->energy.source));
    json_object_set_new(energy, "modelled", json_boolean(e->energy.modelled));
    json_object_set_new(energy, "valid", json_boolean(e->energy.valid));
    json_object_set_new(energy, "reasons", e->energy.reasons[0] ? json_string(e->energy.reasons) : json_null());
    static const char *const names[JPT_PHASE_COUNT + 1] = {"prefill_j", "decode_j", "draft_j", "verify_j", "select_j", "kv_j", "other_j"};
    for (int i = 0; i <= JPT_PHASE_COUNT; i++)
        json_object_set_new(phases, names[i], number(e->phase_j[i]));
    json_object_set_new(energy, "phases", phases);
    json_object_set_new(j, "energy", energy);
    json_object_set_new(w, "forwards", json_integer((json_int_t)g->work.forwards));
    json_object_set_new(w, "passes", json_integer((json_int_t)g->work.passes));
    json_object_set_new(w, "positions_computed", json_integer((json_int_t)g->work.positions_computed));
    json_object_set_new(w, "positions_discarded", json_integer((json_int_t)g->work.positions_discarded));
    json_object_set_new(w, "logits_rows", json_integer((json_int_t)g->work.logits_rows));
    json_object_set_new(w, "kv_bytes_moved", json_integer((json_int_t)g->work.kv_bytes_moved));
    json_object_set_new(w, "selects", json_integer((json_int_t)g->work.selects));
    json_object_set_new(w, "draft_forwards", json_integer((json_int_t)g->work.draft_forwards));
    json_object_set_new(w, "draft_positions", json_integer((json_int_t)g->work.draft_positions));
    json_object_set_new(j, "work", w);
    if (g->n_alternatives > 0) {
        json_t *all = json_array();
        for (int32_t i = 0; i < g->n_alternatives; i++)
            json_array_append_new(all, json_pack("{s:o,s:f,s:i}", "text", json_stringn_nocheck(g->alternatives[i].text.p ? g->alternatives[i].text.p : "", g->alternatives[i].text.n),
                                                 "score", g->alternatives[i].score, "output_tokens", (int)g->alternatives[i].n));
        json_object_set_new(j, "sequences", all);
    }
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(j);
    jpt_buf_fini(&params);
}

static void print_summary(const jpt_generation *g, const jpt_energy *e) {
    fprintf(stderr, "%d tokens (%s) in %.2f s", g->n_tokens, jpt_stop_reason_name(g->stop), g->duration_s);
    if (g->decode_s > 0 && g->n_tokens > 1)
        fprintf(stderr, ", %.1f tok/s", (g->n_tokens - 1) / g->decode_s);
    if (isnan(e->energy_j))
        fprintf(stderr, ", no energy: %s", e->reasons);
    else
        fprintf(stderr, ", %.3g J, %.3g J/token (%s%s%s)", e->energy_j, g->n_tokens ? e->energy_j / g->n_tokens : NAN, e->source,
                e->modelled ? ": modelled, not measured" : "", e->valid ? "" : "; not valid");
    fputc('\n', stderr);
    if (g->budget_note[0])
        fprintf(stderr, "budget: %s\n", g->budget_note);
    if (!e->valid && !isnan(e->energy_j))
        fprintf(stderr, "energy not valid: %s\n", e->reasons);
}

static int run(const options *o, jpt_error *err) {
    jpt_spec_list    specs = {0};
    jpt_model       *m = NULL, *draft = NULL;
    jpt_session     *s = NULL, *ds = NULL;
    jpt_meter       *meter = NULL;
    jpt_buf          text = {0};
    jpt_ids          ids = {0};
    jpt_generation   g = {0};
    jpt_run_request_energy e = {0};
    int              status = CLI_OK;
    jpt_status       st = jpt_spec_parse(o->spec, &specs, err);
    if (st == JPT_OK && specs.n != 1)
        st = JPT_FAIL(err, ARG, "generate runs one strategy; '%s' is a grid of %zu (jpt bench runs grids)", o->spec, specs.n);
    if (st != JPT_OK) {
        jpt_spec_list_fini(&specs);
        cli_fail(err);
        return CLI_USAGE;
    }
    if (o->system && !o->chat)
        fputs("jpt: --system does nothing without --chat\n", stderr);
    if (o->file)
        st = jpt_text_read(o->file, &text, err);
    else
        jpt_buf_addz(&text, o->prompt);
    if (st == JPT_OK && text.n == 0)
        st = JPT_FAIL(err, ARG, "the prompt is empty");
    if (st == JPT_OK && memchr(text.p, 0, text.n))
        st = JPT_FAIL(err, ARG, "the prompt holds a zero byte at byte %zu; is it a text file?", (size_t)((char *)memchr(text.p, 0, text.n) - text.p));
    if (st == JPT_OK && jpt_utf8_valid_prefix(text.p, text.n) != text.n)
        st = JPT_FAIL(err, ARG, "the prompt is not valid UTF-8 at byte %zu; convert it first (iconv)", jpt_utf8_valid_prefix(text.p, text.n));
    if (st == JPT_OK)
        st = cli_open_models(&o->engine, &m, &draft, err);
    if (st == JPT_OK && o->chat && jpt_chat_detect(jpt_model_chat_template(m)) == JPT_CHAT_NONE)
        st = JPT_FAIL(err, UNSUPPORTED, "%s: has no chat template that jpt knows; leave --chat away", o->engine.model);
    if (st == JPT_OK)
        st = jpt_run_encode_prompt(m, o->system, text.p, o->chat, &ids, err);
    if (st == JPT_OK) {
        const jpt_spec *spec = &specs.spec[0];
        st = jpt_run_open_sessions(m, draft, &spec, 1, 1, o->n_ctx, &s, &ds, err);
    }
    if (st == JPT_OK) {
        const char       *uuid = jpt_model_get_info(m)->gpu_uuid;
        jpt_meter_options mo = {.watts = o->engine.watts, .prefer_gpu = *uuid, .gpu_uuid = uuid};
        st = jpt_meter_open(o->engine.meter, &mo, &meter, err);
    }
    if (st == JPT_OK) {
        jpt_request r = {.spec = &specs.spec[0], .prompt = ids.p, .n_prompt = (int32_t)ids.n, .max_new_tokens = o->max_new_tokens,
                         .min_new_tokens = o->min_new_tokens, .stop = o->stop, .n_stop = o->n_stop, .ignore_eos = o->ignore_eos, .seed = o->seed, .max_joules = o->max_joules,
                         .on_text = o->json ? NULL : on_text};
        st = jpt_run_requests(s, meter, NAN, &r, 1, 1, &g, &e, err);
        if (!o->json && (st == JPT_OK || st == JPT_INTERRUPTED))
            putchar('\n');
        fflush(stdout);
    }
    if (st == JPT_INTERRUPTED && o->json) /* what there is, marked as cut short */
        print_json(o, jpt_model_get_info(m), &specs.spec[0], (int32_t)ids.n, &g, &e);
    if (st == JPT_OK) {
        if (o->json)
            print_json(o, jpt_model_get_info(m), &specs.spec[0], (int32_t)ids.n, &g, &e);
        if (cli_verbosity() > 0 && !o->json)
            print_summary(&g, &e.energy);
        if (o->engine.require_energy && (!e.energy.valid || e.energy.modelled)) {
            fprintf(stderr, "jpt: energy was demanded, but it is %s\n", e.energy.modelled ? "modelled, not measured" : e.energy.reasons);
            status = CLI_NO_ENERGY;
        }
    }
    jpt_generation_fini(&g);
    jpt_meter_close(meter);
    jpt_session_close(s);
    jpt_session_close(ds);
    jpt_model_close(m);
    jpt_model_close(draft);
    jpt_ids_fini(&ids);
    jpt_buf_fini(&text);
    jpt_spec_list_fini(&specs);
    if (ferror(stdout))
        return CLI_FAILED; /* main says why */
    return st == JPT_OK ? status : cli_fail(err);
}

int cmd_generate(int argc, char **argv) {
    options   o;
    jpt_error err = {0};
    int       rc = parse(argc, argv, &o);
    if (rc)
        return rc < 0 ? CLI_OK : rc;
    return run(&o, &err);
}
