/* jpt doctor: what can be metered and run here, with limits and reasons. */
#include "cli.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/backend.h>
#include <jpt/meter.h>
#include <jpt/pool.h>
#include <jpt/sandbox.h>
#include <math.h>
#include <string.h>

static json_t *number(double v) { return isnan(v) ? json_null() : json_real(v); }

static json_t *meter_row(jpt_meter_kind kind, bool json) {
    jpt_error   err = {0};
    jpt_meter  *m = NULL;
    const char *name = jpt_meter_kind_name(kind);
    bool        ok = jpt_meter_open(name, NULL, &m, &err) == JPT_OK;
    json_t     *row = json_object();
    json_object_set_new(row, "meter", json_string(name));
    json_object_set_new(row, "available", json_boolean(ok));
    if (ok) {
        const jpt_meter_limits *l = jpt_meter_get_limits(m);
        json_object_set_new(row, "modelled", json_boolean(l->modelled));
        json_object_set_new(row, "step_s", number(l->step_s));
        json_object_set_new(row, "call_cost_s", number(l->call_cost_s));
        json_object_set_new(row, "coverage", json_string(l->coverage));
        json_object_set_new(row, "accuracy", json_string(l->accuracy));
        const jpt_card_info *card = jpt_meter_card(m);
        if (card) {
            json_object_set_new(row, "card", json_string(card->name));
            json_object_set_new(row, "uuid", json_string(card->uuid));
            json_object_set_new(row, "driver", json_string(card->driver));
            json_object_set_new(row, "power_limit_w", number(card->power_limit_w));
        }
        if (!json) {
            printf("  %-22s yes", name);
            if (!isnan(l->step_s))
                printf(", step %.3g ms", l->step_s * 1e3);
            if (!isnan(l->call_cost_s))
                printf(", a reading costs %.3g us", l->call_cost_s * 1e6);
            printf("\n%25scovers %s\n%25s%s\n", "", l->coverage, "", l->accuracy);
            if (card)
                printf("%25sdriver %s, %s, power limit %.0f W; power is %ssampled beside it\n", "", card->driver, card->uuid, card->power_limit_w, l->second ? "" : "not ");
        }
    } else {
        json_object_set_new(row, "reason", json_string(err.msg));
        if (!json)
            printf("  %-22s no: %s\n", name, err.msg);
    }
    jpt_meter_close(m);
    return row;
}

int cmd_doctor(int argc, char **argv) {
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool                       json = false;
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;)
        switch (c) {
        case 'j': json = true; break;
        case 'h': puts("usage: jpt doctor [--json]"); return CLI_OK;
        default: return cli_bad_option("doctor", argv);
        }
    if (optind < argc)
        return cli_usage("doctor: unexpected '%s'", argv[optind]);
    json_t *all = json_object(), *meters = json_array();
    if (!json)
        puts("meters");
    for (int k = 0; k < JPT_METER_COUNT; k++)
        if (k != JPT_METER_REPLAY && k != JPT_METER_NONE)
            json_array_append_new(meters, meter_row((jpt_meter_kind)k, json));
    jpt_error    err = {0};
    jpt_meter   *best = NULL;
    jpt_backend *be = NULL;
    char         engine[160] = "none";
    const char  *chosen = jpt_meter_open("auto", NULL, &best, &err) == JPT_OK ? jpt_meter_get_limits(best)->name : "none";
    if (jpt_backend_open("cpu", NULL, &be, &err) == JPT_OK)
        be->ops->describe(be, engine, sizeof engine);
    err = (jpt_error){0};
    bool confined = jpt_sandbox_probe(&err) == JPT_OK;
    if (json) {
        json_object_set_new(all, "version", json_string(JPT_VERSION));
        json_object_set_new(all, "meters", meters);
        json_object_set_new(all, "chosen_meter", json_string(chosen));
        json_object_set_new(all, "engine", json_string(engine));
        json_object_set_new(all, "processors", json_integer(jpt_cpu_count()));
        json_object_set_new(all, "sandbox", json_boolean(confined));
        json_object_set_new(all, "sandbox_reason", confined ? json_null() : json_string(err.msg));
        json_object_set_new(all, "sandbox_mechanism", confined ? json_string(jpt_sandbox_mechanism()) : json_null());
        json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        printf("  jpt would use          %s%s\n", chosen, best && jpt_meter_get_limits(best)->modelled ? ": modelled, not measured" : "");
        printf("engine\n  %s, %d processor%s\n", engine, jpt_cpu_count(), jpt_cpu_count() == 1 ? "" : "s");
        printf("sandbox for generated code\n  %s%s\n", confined ? jpt_sandbox_mechanism() : err.msg, confined ? " and seccomp: works" : "");
        json_decref(meters);
    }
    json_decref(all);
    jpt_meter_close(best);
    jpt_backend_close(be);
    return CLI_OK;
}
