/* What the subcommands share.  One file a subcommand; main.c dispatches. */
#ifndef JPT_CLI_H
#define JPT_CLI_H

#include <jpt/base.h>
#include <jpt/model.h>

/* Exit statuses, part of the command-line contract. */
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NO_ENERGY = 3, CLI_INTERRUPTED = 130 };

/* Each gets argv[0] = its own name and returns an exit status. */
int cmd_bench(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_advise(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_embed(int argc, char **argv);
int cmd_evaluate(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_meter(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_score(int argc, char **argv);

/* Print "jpt: MESSAGE" (with the source position under -v) and return the exit status for the code. */
int cli_fail(const jpt_error *err);
/* After getopt_long said '?': one line that names the option; CLI_USAGE. */
int cli_bad_option(const char *command, char **argv);
/* Print "jpt: MESSAGE" and a hint at --help; returns CLI_USAGE. */
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Path of a model file or of a pulled model's name; the text lives until the next call. */
const char *cli_model_path(const char *name, jpt_error *err);

/* Whole-string numbers; false on anything else. */
bool cli_parse_int(const char *text, long long min, long long max, long long *out);
bool cli_parse_share(const char *text, double *out); /* "99%" or "0.99": above 0, at most 1 */
bool cli_parse_double(const char *text, double min, double max, double *out);

/* -q and -v, set by cli_set_verbosity; 0 quiet, 1 normal, 2 verbose. */
int  cli_verbosity(void);
void cli_set_verbosity(int level);

/* Options that every command with an engine takes.  cli_engine_option returns 1 when it took the option,
 * 0 when it is not one of these, CLI_USAGE negated when its value is bad. */
typedef struct cli_engine {
    const char       *model, *meter, *draft; /* draft: second model of speculation and contrastive decoding */
    jpt_model_options opt;
    double            watts;          /* of the modelled meter; <= 0: its default */
    bool              require_energy;
} cli_engine;
#define CLI_ENGINE_SHORT "m:qv"
#define CLI_ENGINE_LONG                                                                                  \
    {"model", required_argument, NULL, 'm'}, {"draft-model", required_argument, NULL, 0x106}, {"device", required_argument, NULL, 0x100},                 \
        {"threads", required_argument, NULL, 0x101}, {"dtype", required_argument, NULL, 0x102},          \
        {"meter", required_argument, NULL, 0x103}, {"watts", required_argument, NULL, 0x104},            \
        {"require-energy", no_argument, NULL, 0x105}, {"quiet", no_argument, NULL, 'q'},                 \
        {"no-repack", no_argument, NULL, 0x107},                                                         \
        {"verbose", no_argument, NULL, 'v'}
#define CLI_MODEL_HELP                                                                                    \
    "  -m, --model MODEL      a GGUF or llama2.c file, or a name that `jpt pull` knows\n"                 \
    "      --device NAME      auto, cpu, ref (plain C, the slow definition)\n"                            \
    "      --threads N        default: the cores this process may use\n"                                  \
    "      --dtype TYPE       auto (the file's own blocks, 8-bit activations), f32 (exact), q8, fp8 (cuda: 8 bits made at load)\n" \
    "      --no-repack        leave the weights where the file has them: less memory, slower, same results\n" \
    "  -q, -v                 quieter, more to say\n"
#define CLI_ENGINE_HELP CLI_MODEL_HELP                                                                    \
    "      --draft-model M    second model: draft of 'assisted', amateur of 'cd' (of the same tokenizer)\n" \
    "      --meter KIND       auto, nvml_counter, nvml_instant_integral, rapl, model, none\n"             \
    "      --watts W          watts a busy core, for the modelled meter\n"                                \
    "      --require-energy   exit 3 when the energy is modelled, absent or not valid\n"
int cli_engine_option(cli_engine *e, int c, const char *arg);
/* The model of -m, and of --draft-model where given (*draft stays NULL otherwise). */
jpt_status cli_open_models(const cli_engine *e, jpt_model **model, jpt_model **draft, jpt_error *err);

/* A progress line: on a terminal redrawn in place with time left, elsewhere a plain line every tenth. */
typedef struct cli_progress {
    const char *what;
    long long   total, done, skipped; /* skipped: done in an earlier run */
    double      t_start_s, t_drawn_s;
    int         last_tenth;
} cli_progress;
void cli_progress_start(cli_progress *p, const char *what, long long total);
void cli_progress_step(cli_progress *p, long long done, const char *detail);
void cli_progress_end(cli_progress *p);

#endif
