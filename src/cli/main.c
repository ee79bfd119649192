/* jpt: joules per token.  Dispatches to the subcommands; holds the signal rule: the first Ctrl-C asks the
 * running command to stop after the current step and keep what is finished, the second ends at once. */
#include "cli.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} command;

static const command commands[] = {
    {"generate", cmd_generate, "write text with one strategy, and say what it cost"},
    {"calibrate", cmd_calibrate, "what this device pays at rest, a byte, a FLOP: floors for bench"},
    {"bench", cmd_bench, "run tasks x strategies, metered; run again to resume"},
    {"report", cmd_report, "results.db to one HTML page, Markdown, LaTeX, CSV, JSON"},
    {"compare", cmd_compare, "strategies of a results.db, paired, with intervals"},
    {"advise", cmd_advise, "the cheapest setting of a results.db that is good enough"},
    {"audit", cmd_audit, "check a results.db: rows against each other, figures against rows"},
    {"export", cmd_export, "results.db to runs.csv, requests.jsonl, power.csv, results.json"},
    {"import", cmd_import, "runs of others: nvidia-smi traces, lm-evaluation-harness logs"},
    {"status", cmd_status, "how far a bench is, from another terminal"},
    {"score", cmd_score, "BLEU, chrF and others from files"},
    {"evaluate", cmd_evaluate, "coherence, perplexity and cosines, added to a results.db or of files"},
    {"embed", cmd_embed, "sentence vectors, or a model's features for MAUVE"},
    {"meter", cmd_meter, "joules, seconds and watts of any command"},
    {"doctor", cmd_doctor, "what can be metered and run here, with limits and reasons"},
    {"inspect", cmd_inspect, "what is in a model file"},
    {"perplexity", cmd_perplexity, "perplexity of a text"},
    {"pull", cmd_pull, "fetch a known model"},
    {"list", cmd_list, "models, tasks or strategies that are known"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void usage(FILE *to) {
    fputs("jpt: what every decoding strategy of a language model costs, in joules, next to what it gives.\n\n"
          "usage: jpt COMMAND [options]        jpt COMMAND --help\n\n",
          to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-11s %s\n", commands[i].name, commands[i].help);
    fputs("\nexit: 0 done, 1 failed, 2 usage, 3 energy demanded but not valid, 130 interrupted\n", to);
}

static void on_signal(int sig) {
    if (jpt_stop_requested())
        _exit(128 + sig);
    jpt_stop_request();
}

static void print_log(void *ud, jpt_log_level level, const char *line) {
    (void)ud;
    if ((level == JPT_LOG_ERROR) || (level == JPT_LOG_WARN && cli_verbosity() > 0) || cli_verbosity() > 1)
        fprintf(stderr, "jpt: %s\n", line);
}

/* A result that could not be written is a failure. */
static int check_output(int status) {
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    fputs("jpt: standard output: writing failed; the result is incomplete\n", stderr);
    return status == CLI_OK ? CLI_FAILED : status;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        usage(stdout);
        return check_output(CLI_OK);
    }
    if (strcmp(word, "--version") == 0) {
        printf("jpt %s\n", JPT_VERSION);
        return check_output(CLI_OK);
    }
    jpt_log_set(print_log, NULL);
    opterr = 0; /* commands say it themselves, in one line */
    const char *names[N_COMMANDS];
    for (size_t i = 0; i < N_COMMANDS; i++) {
        names[i] = commands[i].name;
        if (strcmp(word, commands[i].name) != 0)
            continue;
        struct sigaction sa = {.sa_handler = on_signal};
        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGTERM, &sa, NULL);
        signal(SIGPIPE, SIG_IGN); /* a closed pipe is an output error with a message, not a silent death */
        return check_output(commands[i].run(argc - 1, argv + 1));
    }
    const char *near = jpt_nearest(word, names, N_COMMANDS);
    fprintf(stderr, "jpt: unknown command '%s'%s%s%s; jpt --help lists them\n", word, near ? "; did you mean '" : "",
            near ? near : "", near ? "'?" : "");
    return CLI_USAGE;
}
