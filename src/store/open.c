/* Opening a results file: the writer's lock, whose file it is, schema and migrations. */
#include "store_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SQL_KEY(name) #name " INTEGER NOT NULL, "
#define SQL_INT(name) #name " INTEGER, "
#define SQL_REAL(name) #name " REAL, "
#define SQL_TEXT(name) #name " TEXT, "
#define SQL(kind, name) SQL_##kind(name)

/* steps[i] goes from schema i to i+1.  A column added to a map in store.h needs a new step here, and the
 * step that made the table must then be frozen as plain text. */
const char *const jpt_store_steps[JPT_STORE_SCHEMA] = {
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
    "INSERT INTO meta VALUES ('schema_version', '1');"
    "CREATE TABLE study (id INTEGER PRIMARY KEY,"
    " jpt_version TEXT, cpu TEXT, threads INTEGER, sampler_order TEXT, protocol TEXT, leaves_out TEXT,"
    " created TEXT NOT NULL) STRICT;"
    "CREATE TABLE model (id INTEGER PRIMARY KEY,"
    " name TEXT, file TEXT, sha256 TEXT, architecture TEXT, n_params INTEGER, file_bytes INTEGER,"
    " dtype TEXT, backend TEXT, compute_dtype TEXT,"
    " created TEXT NOT NULL) STRICT;"
    "CREATE TABLE task (id INTEGER PRIMARY KEY,"
    " name TEXT, sha256 TEXT, n_items INTEGER, primary_metric TEXT, higher_is_better INTEGER,"
    " license TEXT,"
    " created TEXT NOT NULL) STRICT;"
    "CREATE TABLE item (id INTEGER PRIMARY KEY,"
    " task INTEGER NOT NULL, item_index INTEGER NOT NULL, item_id TEXT, prompt TEXT,"
    " created TEXT NOT NULL,"
    " FOREIGN KEY (task) REFERENCES task(id), UNIQUE (task, item_index)) STRICT;"
    "CREATE TABLE meter (id INTEGER PRIMARY KEY,"
    " kind TEXT, source TEXT, modelled INTEGER, coverage TEXT, step_s REAL, accuracy TEXT,"
    " declared_w REAL,"
    " created TEXT NOT NULL) STRICT;"
    "CREATE TABLE cell (id INTEGER PRIMARY KEY,"
    " study INTEGER NOT NULL, model INTEGER NOT NULL, task INTEGER NOT NULL, meter INTEGER NOT NULL,"
    " spec TEXT, strategy TEXT, params_json TEXT, device TEXT, batch INTEGER, seeds TEXT,"
    " max_new_tokens INTEGER, draft_model TEXT, max_joules REAL,"
    " created TEXT NOT NULL,"
    " FOREIGN KEY (study) REFERENCES study(id), FOREIGN KEY (model) REFERENCES model(id),"
    " FOREIGN KEY (task) REFERENCES task(id), FOREIGN KEY (meter) REFERENCES meter(id),"
    " UNIQUE (study, model, task, meter, spec, device, batch, seeds, max_new_tokens, draft_model, max_joules)) STRICT;"
    "CREATE TABLE request (id INTEGER PRIMARY KEY,"
    " cell INTEGER NOT NULL, block INTEGER NOT NULL, item_index INTEGER NOT NULL, seed INTEGER NOT NULL,"
    " order_in_block INTEGER, item_id TEXT, prompt_tokens INTEGER, output_tokens INTEGER,"
    " stop_reason TEXT, text TEXT, token_ids_json TEXT, t_start_s REAL, duration_s REAL, ttft_s REAL,"
    " prefill_s REAL, decode_s REAL, energy_j REAL, energy_error_j REAL, energy_source TEXT,"
    " modelled INTEGER, net_energy_j REAL, idle_w REAL, prefill_energy_j REAL, decode_energy_j REAL,"
    " draft_energy_j REAL, verify_energy_j REAL, select_energy_j REAL, other_energy_j REAL,"
    " energy_valid INTEGER, energy_reasons TEXT, forwards INTEGER, positions_computed INTEGER,"
    " positions_discarded INTEGER, logits_rows INTEGER, kv_bytes_moved INTEGER, draft_forwards INTEGER,"
    " draft_positions INTEGER, budget_note TEXT, failed INTEGER, error TEXT,"
    " created TEXT NOT NULL,"
    " FOREIGN KEY (cell) REFERENCES cell(id), UNIQUE (cell, block, item_index, seed)) STRICT;"
    "CREATE TABLE score (request INTEGER NOT NULL REFERENCES request(id), metric TEXT NOT NULL, value REAL,"
    " PRIMARY KEY (request, metric)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE cell_score (id INTEGER PRIMARY KEY, cell INTEGER NOT NULL REFERENCES cell(id),"
    " metric TEXT NOT NULL, value REAL, ci_low REAL, ci_high REAL, n INTEGER) STRICT;",

    "ALTER TABLE task ADD COLUMN citation TEXT;"
    "ALTER TABLE meter ADD COLUMN card TEXT; ALTER TABLE meter ADD COLUMN card_uuid TEXT;"
    "ALTER TABLE meter ADD COLUMN driver TEXT; ALTER TABLE meter ADD COLUMN power_limit_w REAL;"
    "CREATE TABLE plan (id INTEGER PRIMARY KEY, " JPT_PLAN_MAP(SQL) "created TEXT NOT NULL,"
    " FOREIGN KEY (study) REFERENCES study(id)) STRICT;"
    "CREATE TABLE window (id INTEGER PRIMARY KEY, " JPT_WINDOW_MAP(SQL) "created TEXT NOT NULL,"
    " FOREIGN KEY (study) REFERENCES study(id), FOREIGN KEY (meter) REFERENCES meter(id), FOREIGN KEY (cell) REFERENCES cell(id)) STRICT;"
    "CREATE INDEX window_cell ON window (cell, block, kind);"
    "CREATE TABLE power (id INTEGER PRIMARY KEY, " JPT_POWER_MAP(SQL) "FOREIGN KEY (window) REFERENCES window(id)) STRICT;"
    "CREATE INDEX power_window ON power (window, t_s);"
    "CREATE TABLE ledger (id INTEGER PRIMARY KEY, " JPT_LEDGER_MAP(SQL) "created TEXT NOT NULL,"
    " FOREIGN KEY (study) REFERENCES study(id), FOREIGN KEY (cell) REFERENCES cell(id)) STRICT;"
    "CREATE TABLE calibration (id INTEGER PRIMARY KEY, " JPT_CALIBRATION_MAP(SQL) "created TEXT NOT NULL) STRICT;"
    "CREATE TABLE floor (id INTEGER PRIMARY KEY, " JPT_FLOOR_MAP(SQL) "created TEXT NOT NULL,"
    " FOREIGN KEY (cell) REFERENCES cell(id), FOREIGN KEY (calibration) REFERENCES calibration(id)) STRICT;"
    "CREATE TABLE look (id INTEGER PRIMARY KEY, " JPT_LOOK_MAP(SQL) "created TEXT NOT NULL,"
    " FOREIGN KEY (study) REFERENCES study(id), FOREIGN KEY (task) REFERENCES task(id)) STRICT;"
    "ALTER TABLE request ADD COLUMN window INTEGER REFERENCES window(id); ALTER TABLE request ADD COLUMN share_rule TEXT;"
    "ALTER TABLE request ADD COLUMN kv_energy_j REAL; ALTER TABLE request ADD COLUMN fate_rule TEXT;"
    "ALTER TABLE request ADD COLUMN kept_energy_j REAL; ALTER TABLE request ADD COLUMN rejected_energy_j REAL;"
    "ALTER TABLE request ADD COLUMN pruned_energy_j REAL; ALTER TABLE request ADD COLUMN past_stop_energy_j REAL;"};

jpt_status jpt_store_sql_fail(sqlite3 *db, const char *path, const char *doing, jpt_error *err) {
    int         code = db ? sqlite3_errcode(db) & 0xff : SQLITE_NOMEM;
    const char *why = db ? sqlite3_errmsg(db) : "out of memory";
    switch (code) {
    case SQLITE_NOMEM: return JPT_FAIL(err, NOMEM, "%s: out of memory while %s", path, doing);
    case SQLITE_FULL:
        return JPT_FAIL(err, IO, "%s: the disk is full while %s; what was finished before is kept", path, doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return JPT_FAIL(err, BUSY, "%s: in use by another process while %s; try again", path, doing);
    case SQLITE_NOTADB:
        return JPT_FAIL(err, FORMAT, "%s: not a SQLite file, expected a results file of jpt bench", path);
    case SQLITE_CORRUPT: return JPT_FAIL(err, FORMAT, "%s: the file is damaged (%s), found while %s", path, why, doing);
    case SQLITE_CONSTRAINT: return JPT_FAIL(err, ARG, "%s: row refused while %s (%s)", path, doing, why);
    default:
        return JPT_FAIL(err, IO, "%s: %s while %s; check the path, permissions and free space; what was finished "
                                 "before is kept", path, why, doing);
    }
}

static jpt_status pragma_int(sqlite3 *db, const char *path, const char *sql, int64_t *out, jpt_error *err) {
    sqlite3_stmt *st = NULL;
    jpt_status    status = JPT_OK;
    if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
        *out = sqlite3_column_int64(st, 0);
    else
        status = jpt_store_sql_fail(db, path, "reading its header", err);
    sqlite3_finalize(st);
    return status;
}

static jpt_status run_sql(sqlite3 *db, const char *path, const char *sql, const char *doing, jpt_error *err) {
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? JPT_OK : jpt_store_sql_fail(db, path, doing, err);
}

jpt_status jpt_store_migrate(sqlite3 *db, const char *path, const char *const *steps, int n_steps, jpt_error *err) {
    int64_t version = 0;
    JPT_TRY(pragma_int(db, path, "PRAGMA user_version", &version, err));
    if (version > n_steps)
        return JPT_FAIL(err, UNSUPPORTED,
                        "%s: made by a newer jpt (schema %lld, this one reads %d): use that jpt, or another file", path,
                        (long long)version, n_steps);
    if (version < 0)
        return JPT_FAIL(err, FORMAT, "%s: schema %lld, expected 1 to %d", path, (long long)version, n_steps);
    for (int v = (int)version; v < n_steps; v++) {
        char mark[200];
        snprintf(mark, sizeof mark,
                 "PRAGMA application_id=%d; PRAGMA user_version=%d;"
                 "UPDATE meta SET value='%d' WHERE key='schema_version'; COMMIT;",
                 JPT_STORE_APPLICATION_ID, v + 1, v + 1);
        jpt_status status = run_sql(db, path, "BEGIN IMMEDIATE", "bringing the schema up to date", err);
        if (status == JPT_OK)
            status = run_sql(db, path, steps[v], "bringing the schema up to date", err);
        if (status == JPT_OK)
            status = run_sql(db, path, mark, "bringing the schema up to date", err);
        if (status != JPT_OK) {
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return status;
        }
    }
    return JPT_OK;
}

/* The lock belongs to the open file description: it goes when the process dies, however it dies. */
static jpt_status take_lock(jpt_store *s, jpt_error *err) {
    jpt_buf name = {0};
    jpt_buf_printf(&name, "%s.lock", s->path);
    if (name.oom) {
        jpt_buf_fini(&name);
        return JPT_FAIL(err, NOMEM, "%s: out of memory while opening", s->path);
    }
    jpt_status status = JPT_OK;
    s->lock_fd = open(name.p, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (s->lock_fd < 0)
        status = JPT_FAIL(err, IO, "%s: cannot be written (%s); choose a folder that exists and is writable", name.p,
                          strerror(errno));
    else if (fcntl(s->lock_fd, F_OFD_SETLK, &lock) != 0)
        status = errno == EAGAIN || errno == EACCES
                     ? JPT_FAIL(err, BUSY, "%s: another process is writing to it; wait for it or use another file",
                                s->path)
                     : JPT_FAIL(err, IO, "%s: cannot be locked (%s)", name.p, strerror(errno));
    jpt_buf_fini(&name);
    return status;
}

bool jpt_store_is_busy(const char *path) {
    jpt_buf      name = {0};
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    jpt_buf_printf(&name, "%s.lock", path);
    int  fd = name.oom ? -1 : open(name.p, O_RDONLY | O_CLOEXEC);
    bool busy = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (fd >= 0)
        close(fd);
    jpt_buf_fini(&name);
    return busy;
}

/* The path as a URI, so that no name is special to SQLite (":memory:").  A reader that may not write beside a file without
 * a log needs `immutable`: WAL mode wants its index even for reading. */
static jpt_status open_file(jpt_store *s, int flags, jpt_error *err) {
    jpt_buf     uri = {0}, wal = {0};
    struct stat log;
    jpt_buf_printf(&uri, "file:%s", s->path[0] == '/' ? "" : "./");
    for (const char *c = s->path; *c; c++)
        jpt_buf_printf(&uri, *c == '%' || *c == '?' || *c == '#' ? "%%%02X" : "%c", (unsigned char)*c);
    jpt_buf_printf(&wal, "%s-wal", s->path);
    char *folder = strdup(s->path), *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    bool  alone = (flags & SQLITE_OPEN_READONLY) && folder && access(slash ? folder : ".", W_OK) != 0 && !wal.oom &&
                 (stat(wal.p, &log) != 0 || log.st_size == 0);
    if (alone)
        jpt_buf_addz(&uri, "?immutable=1");
    jpt_status st = uri.oom || wal.oom || !folder ? JPT_FAIL(err, NOMEM, "%s: out of memory while opening", s->path) : JPT_OK;
    if (st == JPT_OK && sqlite3_open_v2(uri.p, &s->db, flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
        st = jpt_store_sql_fail(s->db, s->path, "opening", err);
    jpt_buf_fini(&uri);
    jpt_buf_fini(&wal);
    free(folder);
    return st;
}

/* An older file for a reader: its pages in memory, brought up to date there. */
static jpt_status copy_and_migrate(jpt_store *s, jpt_error *err) {
    sqlite3 *copy = NULL;
    if (sqlite3_open_v2(":memory:", &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        jpt_status st = jpt_store_sql_fail(copy, s->path, "copying an older file", err);
        sqlite3_close(copy);
        return st;
    }
    sqlite3_backup *b = sqlite3_backup_init(copy, "main", s->db, "main");
    int             code = b ? sqlite3_backup_step(b, -1) : SQLITE_ERROR;
    sqlite3_backup_finish(b);
    jpt_status st = code == SQLITE_DONE ? JPT_OK : jpt_store_sql_fail(b ? s->db : copy, s->path, "copying an older file", err);
    sqlite3_close(s->db);
    s->db = copy;
    return st == JPT_OK ? jpt_store_migrate(s->db, s->path, jpt_store_steps, JPT_STORE_SCHEMA, err) : st;
}

static jpt_status open_checked(jpt_store *s, jpt_store_mode mode, jpt_error *err) {
    struct stat info;
    if (!*s->path)
        return JPT_FAIL(err, ARG, "the name of the results file is empty");
    bool        fresh = stat(s->path, &info) != 0;
    if (fresh && errno != ENOENT)
        return JPT_FAIL(err, IO, "%s: cannot be opened (%s)", s->path, strerror(errno));
    if (fresh && mode != JPT_STORE_CREATE)
        return JPT_FAIL(err, NOT_FOUND, "%s: no such file; jpt bench -o %s makes one", s->path, s->path);
    if (!fresh && !S_ISREG(info.st_mode))
        return JPT_FAIL(err, IO, "%s: not a regular file, expected a results file of jpt bench", s->path);
    if (mode != JPT_STORE_READ)
        JPT_TRY(take_lock(s, err));
    fresh = fresh || info.st_size == 0;
    int flags = mode == JPT_STORE_READ     ? SQLITE_OPEN_READONLY
                : mode == JPT_STORE_CREATE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                           : SQLITE_OPEN_READWRITE;
    JPT_TRY(open_file(s, flags, err));
    sqlite3_busy_timeout(s->db, 5000);
    int64_t app = 0, version = 0, objects = 0;
    JPT_TRY(pragma_int(s->db, s->path, "PRAGMA application_id", &app, err));
    JPT_TRY(pragma_int(s->db, s->path, "PRAGMA user_version", &version, err));
    JPT_TRY(pragma_int(s->db, s->path, "SELECT count(*) FROM sqlite_schema", &objects, err));
    bool blank = app == 0 && version == 0 && objects == 0; /* new, or killed before the first commit */
    if (!blank && app != JPT_STORE_APPLICATION_ID)
        return JPT_FAIL(err, FORMAT, "%s: a SQLite file of another program, expected a results file of jpt bench",
                        s->path);
    if (mode == JPT_STORE_READ) {
        if (blank)
            return JPT_FAIL(err, FORMAT, "%s: empty file, expected a results file of jpt bench", s->path);
        if (version < JPT_STORE_SCHEMA)
            return copy_and_migrate(s, err);
        if (version > JPT_STORE_SCHEMA)
            return jpt_store_migrate(s->db, s->path, jpt_store_steps, JPT_STORE_SCHEMA, err);
        return JPT_OK;
    }
    if (blank && mode == JPT_STORE_APPEND)
        return JPT_FAIL(err, FORMAT, "%s: an empty SQLite file, expected a results file of jpt bench", s->path);
    /* Refuse a newer file before anything about it is changed. */
    if (version <= JPT_STORE_SCHEMA)
        JPT_TRY(run_sql(s->db, s->path,
                        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;", "opening", err));
    return jpt_store_migrate(s->db, s->path, jpt_store_steps, JPT_STORE_SCHEMA, err);
}

jpt_status jpt_store_open(const char *path, jpt_store_mode mode, jpt_store **out, jpt_error *err) {
    jpt_store *s = calloc(1, sizeof *s);
    if (s != NULL)
        s->path = strdup(path);
    if (s == NULL || s->path == NULL) {
        free(s);
        return JPT_FAIL(err, NOMEM, "%s: out of memory while opening", path);
    }
    s->lock_fd = -1;
    jpt_status status = open_checked(s, mode, err);
    if (status != JPT_OK) {
        jpt_store_close(s);
        return status;
    }
    *out = s;
    return JPT_OK;
}

void jpt_store_close(jpt_store *s) {
    if (s == NULL)
        return;
    sqlite3_close(s->db);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->path);
    free(s);
}
