/* jpt calibrate: what this device pays at rest, a byte, a FLOP and a launch. */
#include "cli.h"
#include <getopt.h>
#include <jpt/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: jpt calibrate -m MODEL [options]\n\n"
    "idle watts, joules a byte and a FLOP, and watts of launch-bound work on this device, kept for jpt bench: every cell then shows its\n"
    "floor.  The model should be one that the device is meant for: a small one in a large cache tells nothing of memory.\n\n"
    "      --seconds S        at most so long, 14 to 3600 (default 110; a modelled meter takes a tenth)\n"
    "      --json\n" CLI_ENGINE_HELP;

static void print_number(const char *name, double v, bool last) {
    if (isfinite(v))
        printf("\"%s\": %.9g%s", name, v, last ? "" : ", ");
    else
        printf("\"%s\": null%s", name, last ? "" : ", ");
}

static void print_json(const jpt_calibration *c) {
    printf("{\"device\": \"%s\", \"card_uuid\": \"%s\", \"energy_source\": \"%s\", \"modelled\": %s, \"taken\": \"%s\", ", c->device, c->card_uuid, c->energy_source,
           c->modelled ? "true" : "false", c->taken);
    print_number("idle_w", c->idle_w, false);
    print_number("pj_per_byte", c->pj_per_byte, false);
    print_number("pj_per_flop", c->pj_per_flop, false);
    print_number("launch_w", c->launch_w, false);
    print_number("launch_s", c->launch_s, false);
    print_number("bytes_per_s", c->bytes_per_s, false);
    print_number("flops_per_s", c->flops_per_s, false);
    print_number("residual", c->residual, false);
    print_number("prefill_j", c->prefill_j, false);
    print_number("decode_j", c->decode_j, false);
    print_number("select_j", c->select_j, false);
    print_number("select_error_j", c->select_error_j, true);
    puts("}");
}

static void print_text(const jpt_calibration *c) {
    printf("%s, meter %s%s\n", c->backend, c->energy_source, c->modelled ? " (modelled, not measured)" : "");
    if (isfinite(c->idle_w))
        printf("idle            %.4g W, weights resident\n", c->idle_w);
    else
        printf("idle            none: the meter has no baseline\n");
    printf("a byte          %.4g pJ, at best %.4g GB/s\n", c->pj_per_byte, c->bytes_per_s * 1e-9);
    printf("a FLOP          %.4g pJ, at best %.4g TFLOP/s\n", c->pj_per_flop, c->flops_per_s * 1e-12);
    printf("one layer       %.4g W, %.4g ms a step (it waits for launches, where the model is small)\n", c->launch_w, c->launch_s * 1e3);
    printf("phases alone    %.4g J a position of a long prompt, %.4g J a step of one row, %.4g J a choice (+-%.2g)\n", c->prefill_j, c->decode_j, c->select_j, c->select_error_j);
    printf("fit             leaves %.3g %% of the joules unexplained (root mean square over four widths)\n", 100 * c->residual);
    if (!(c->residual < JPT_CALIBRATION_RESIDUAL))
        printf("                that is too much: no cell gets a floor from it; take a model that the device is meant for\n");
}

int cmd_calibrate(int argc, char **argv) {
    static const struct option longs[] = {CLI_ENGINE_LONG, {"seconds", required_argument, NULL, 0x200}, {"json", no_argument, NULL, 0x201}, {"help", no_argument, NULL, 'h'}, {0}};
    cli_engine                 e = {0};
    double                     seconds = 110;
    bool                       json = false;
    for (int c; (c = getopt_long(argc, argv, CLI_ENGINE_SHORT "h", longs, NULL)) != -1;) {
        int engine = cli_engine_option(&e, c, optarg);
        if (engine < 0)
            return -engine;
        if (engine)
            continue;
        switch (c) {
        case 0x200:
            if (!cli_parse_double(optarg, 14, 3600, &seconds))
                return cli_usage("--seconds %s: expected 14 to 3600", optarg);
            break;
        case 0x201: json = true; break;
        case 'h': fputs(help, stdout); return CLI_OK;
        default: return cli_bad_option("calibrate", argv);
        }
    }
    if (!e.model || optind < argc)
        return cli_usage("calibrate: needs -m MODEL");
    jpt_error       err = {0};
    jpt_model      *m = NULL, *draft = NULL;
    jpt_meter      *meter = NULL;
    jpt_calibration out;
    jpt_status      st = cli_open_models(&e, &m, &draft, &err);
    if (st == JPT_OK) {
        const char       *uuid = jpt_model_get_info(m)->gpu_uuid;
        jpt_meter_options mo = {.watts = e.watts, .prefer_gpu = *uuid, .gpu_uuid = uuid};
        st = jpt_meter_open(e.meter, &mo, &meter, &err);
    }
    int rc = CLI_OK;
    if (st == JPT_OK && e.require_energy && !jpt_meter_measures(meter)) {
        fprintf(stderr, "jpt: energy was demanded, but the only meter here is '%s'\n", jpt_meter_get_limits(meter)->name);
        rc = CLI_NO_ENERGY;
    } else if (st == JPT_OK) {
        jpt_run_engine engine = {.model = m, .meter = meter, .device = e.opt.device && strcmp(e.opt.device, "auto") != 0 ? e.opt.device : "cpu"};
        st = jpt_run_calibrate(&engine, seconds, &out, &err);
        if (st == JPT_OK)
            st = jpt_calibration_save(&out, &err);
        if (st == JPT_OK && json)
            print_json(&out);
        else if (st == JPT_OK)
            print_text(&out);
    }
    jpt_meter_close(meter);
    jpt_model_close(m);
    jpt_model_close(draft);
    return st == JPT_OK ? rc : cli_fail(&err);
}
