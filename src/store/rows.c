/* Rows in and out.  One description of columns a table drives insert, find and read. */
#include "store_priv.h"
#include <math.h>
#include <string.h>

typedef enum kind { KEY, INT, REAL, TEXT } kind;
typedef struct column {
    const char *name;
    kind        kind;
    size_t      offset;
} column;
typedef struct table {
    const char   *name, *order, *owner; /* owner: the column that a walk can be narrowed to */
    const column *columns;
    int           n;
} table;

#define COLUMN(row, k, field) {#field, k, offsetof(row, field)},
#define STUDY(k, f) COLUMN(jpt_study_row, k, f)
#define MODEL(k, f) COLUMN(jpt_model_row, k, f)
#define TASK(k, f) COLUMN(jpt_task_row, k, f)
#define ITEM(k, f) COLUMN(jpt_item_row, k, f)
#define METER(k, f) COLUMN(jpt_meter_row, k, f)
#define CELL(k, f) COLUMN(jpt_cell_row, k, f)
#define REQUEST(k, f) COLUMN(jpt_request_row, k, f)
#define PLAN(k, f) COLUMN(jpt_plan_row, k, f)
#define WINDOW(k, f) COLUMN(jpt_window_row, k, f)
#define POWER(k, f) COLUMN(jpt_power_row, k, f)
#define LEDGER(k, f) COLUMN(jpt_ledger_row, k, f)
#define CALIBRATION(k, f) COLUMN(jpt_calibration_row, k, f)
#define FLOOR(k, f) COLUMN(jpt_floor_row, k, f)
#define LOOK(k, f) COLUMN(jpt_look_row, k, f)
static const column study_columns[] = {JPT_STUDY_MAP(STUDY)};
static const column model_columns[] = {JPT_MODEL_MAP(MODEL)};
static const column task_columns[] = {JPT_TASK_MAP(TASK)};
static const column item_columns[] = {JPT_ITEM_MAP(ITEM)};
static const column meter_columns[] = {JPT_METER_MAP(METER)};
static const column cell_columns[] = {JPT_CELL_MAP(CELL)};
static const column request_columns[] = {JPT_REQUEST_MAP(REQUEST)};
static const column plan_columns[] = {JPT_PLAN_MAP(PLAN)};
static const column window_columns[] = {JPT_WINDOW_MAP(WINDOW)};
static const column power_columns[] = {JPT_POWER_MAP(POWER)};
static const column ledger_columns[] = {JPT_LEDGER_MAP(LEDGER)};
static const column calibration_columns[] = {JPT_CALIBRATION_MAP(CALIBRATION)};
static const column floor_columns[] = {JPT_FLOOR_MAP(FLOOR)};
static const column look_columns[] = {JPT_LOOK_MAP(LOOK)};
#define N(a) (int)(sizeof(a) / sizeof(a)[0])
static const table study_table = {"study", "id", NULL, study_columns, N(study_columns)};
static const table model_table = {"model", "id", NULL, model_columns, N(model_columns)};
static const table task_table = {"task", "id", NULL, task_columns, N(task_columns)};
static const table item_table = {"item", "task, item_index", NULL, item_columns, N(item_columns)};
static const table meter_table = {"meter", "id", NULL, meter_columns, N(meter_columns)};
static const table cell_table = {"cell", "id", NULL, cell_columns, N(cell_columns)};
static const table request_table = {"request", "cell, block, item_index, seed", "cell", request_columns, N(request_columns)};
static const table plan_table = {"plan", "id", NULL, plan_columns, N(plan_columns)};
static const table window_table = {"window", "block, t_start_s, id", "cell", window_columns, N(window_columns)};
static const table power_table = {"power", "window, t_s", "window", power_columns, N(power_columns)};
static const table ledger_table = {"ledger", "id", NULL, ledger_columns, N(ledger_columns)};
static const table calibration_table = {"calibration", "id", NULL, calibration_columns, N(calibration_columns)};
static const table floor_table = {"floor", "id", NULL, floor_columns, N(floor_columns)};
static const table look_table = {"look", "id", NULL, look_columns, N(look_columns)};

static void row_init(const table *t, void *row) {
    memcpy(row, &(int64_t){0}, sizeof(int64_t)); /* id comes first in every row */
    for (int i = 0; i < t->n; i++) {
        char *at = (char *)row + t->columns[i].offset;
        switch (t->columns[i].kind) {
        case KEY: *(int64_t *)(void *)at = 0; break;
        case INT: *(int64_t *)(void *)at = -1; break;
        case REAL: *(double *)(void *)at = NAN; break;
        case TEXT: *(const char **)(void *)at = NULL; break;
        }
    }
}
void jpt_study_row_init(jpt_study_row *r) { row_init(&study_table, r); }
void jpt_model_row_init(jpt_model_row *r) { row_init(&model_table, r); }
void jpt_task_row_init(jpt_task_row *r) { row_init(&task_table, r); }
void jpt_item_row_init(jpt_item_row *r) { row_init(&item_table, r); }
void jpt_meter_row_init(jpt_meter_row *r) { row_init(&meter_table, r); }
void jpt_cell_row_init(jpt_cell_row *r) { row_init(&cell_table, r); }
void jpt_request_row_init(jpt_request_row *r) { row_init(&request_table, r); }
void jpt_plan_row_init(jpt_plan_row *r) { row_init(&plan_table, r); }
void jpt_window_row_init(jpt_window_row *r) { row_init(&window_table, r); }
void jpt_power_row_init(jpt_power_row *r) { row_init(&power_table, r); }
void jpt_ledger_row_init(jpt_ledger_row *r) { row_init(&ledger_table, r); }
void jpt_calibration_row_init(jpt_calibration_row *r) { row_init(&calibration_table, r); }
void jpt_floor_row_init(jpt_floor_row *r) { row_init(&floor_table, r); }
void jpt_look_row_init(jpt_look_row *r) { row_init(&look_table, r); }

static int bind_real(sqlite3_stmt *st, int at, double v) {
    return isfinite(v) ? sqlite3_bind_double(st, at, v) : sqlite3_bind_null(st, at);
}

static int bind_row(sqlite3_stmt *st, const table *t, const void *row) {
    int code = SQLITE_OK;
    for (int i = 0; i < t->n && code == SQLITE_OK; i++) {
        const char *at = (const char *)row + t->columns[i].offset;
        switch (t->columns[i].kind) {
        case KEY: code = sqlite3_bind_int64(st, i + 1, *(const int64_t *)(const void *)at); break;
        case INT: {
            int64_t v = *(const int64_t *)(const void *)at;
            code = v < 0 ? sqlite3_bind_null(st, i + 1) : sqlite3_bind_int64(st, i + 1, v);
            break;
        }
        case REAL: code = bind_real(st, i + 1, *(const double *)(const void *)at); break;
        case TEXT: code = sqlite3_bind_text(st, i + 1, *(const char *const *)(const void *)at, -1, SQLITE_STATIC); break;
        }
    }
    return code;
}

static jpt_status prepare(jpt_store *s, jpt_buf *sql, sqlite3_stmt **st, jpt_error *err) {
    jpt_status status = JPT_OK;
    if (sql->oom)
        status = JPT_FAIL(err, NOMEM, "%s: out of memory", s->path);
    else if (sqlite3_prepare_v2(s->db, sql->p, -1, st, NULL) != SQLITE_OK)
        status = jpt_store_sql_fail(s->db, s->path, "preparing a query", err);
    jpt_buf_fini(sql);
    return status;
}

static jpt_status insert(jpt_store *s, const table *t, const void *row, int64_t *id, jpt_error *err) {
    jpt_buf       sql = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_printf(&sql, "INSERT INTO %s (", t->name);
    for (int i = 0; i < t->n; i++)
        jpt_buf_printf(&sql, "%s,", t->columns[i].name);
    jpt_buf_addz(&sql, "created) VALUES (");
    for (int i = 0; i < t->n; i++)
        jpt_buf_addz(&sql, "?,");
    jpt_buf_addz(&sql, "strftime('%Y-%m-%dT%H:%M:%SZ','now'))");
    JPT_TRY(prepare(s, &sql, &st, err));
    jpt_status status = JPT_OK;
    if (bind_row(st, t, row) != SQLITE_OK || sqlite3_step(st) != SQLITE_DONE)
        status = jpt_store_sql_fail(s->db, s->path, "adding a row", err);
    else if (id != NULL)
        *id = sqlite3_last_insert_rowid(s->db);
    sqlite3_finalize(st);
    return status;
}

static jpt_status find_or_insert(jpt_store *s, const table *t, const void *row, int64_t *id, jpt_error *err) {
    jpt_buf       sql = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_printf(&sql, "SELECT id FROM %s WHERE ", t->name);
    for (int i = 0; i < t->n; i++)
        jpt_buf_printf(&sql, "%s%s IS ?", i ? " AND " : "", t->columns[i].name);
    JPT_TRY(prepare(s, &sql, &st, err));
    int code = bind_row(st, t, row) == SQLITE_OK ? sqlite3_step(st) : SQLITE_ERROR;
    if (code == SQLITE_ROW)
        *id = sqlite3_column_int64(st, 0);
    jpt_status status =
        code == SQLITE_ROW || code == SQLITE_DONE ? JPT_OK : jpt_store_sql_fail(s->db, s->path, "looking up a row", err);
    sqlite3_finalize(st);
    return code == SQLITE_DONE ? insert(s, t, row, id, err) : status;
}

#define PUT(name)                                                                                             \
    jpt_status jpt_store_put_##name(jpt_store *s, const jpt_##name##_row *r, int64_t *id, jpt_error *err) {   \
        return find_or_insert(s, &name##_table, r, id, err);                                                  \
    }
PUT(study)
PUT(model)
PUT(task)
PUT(item)
PUT(meter)
PUT(cell)
PUT(plan)
PUT(calibration)
PUT(look)

jpt_status jpt_store_clear_ledger(jpt_store *s, int64_t study, jpt_error *err) {
    char sql[80];
    snprintf(sql, sizeof sql, "DELETE FROM ledger WHERE study = %lld", (long long)study);
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? JPT_OK : jpt_store_sql_fail(s->db, s->path, "clearing the ledger", err);
}
jpt_status jpt_store_add_ledger(jpt_store *s, const jpt_ledger_row *r, jpt_error *err) { return insert(s, &ledger_table, r, NULL, err); }
jpt_status jpt_store_add_floor(jpt_store *s, const jpt_floor_row *r, jpt_error *err) { return insert(s, &floor_table, r, NULL, err); }

static jpt_status query_int(jpt_store *s, const char *sql, const int64_t *args, int n, int64_t *out, jpt_error *err) {
    jpt_buf       text = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_addz(&text, sql);
    JPT_TRY(prepare(s, &text, &st, err));
    for (int i = 0; i < n; i++)
        sqlite3_bind_int64(st, i + 1, args[i]);
    jpt_status status = JPT_OK;
    if (sqlite3_step(st) == SQLITE_ROW)
        *out = sqlite3_column_int64(st, 0);
    else
        status = jpt_store_sql_fail(s->db, s->path, "counting rows", err);
    sqlite3_finalize(st);
    return status;
}

jpt_status jpt_store_request_exists(jpt_store *s, int64_t cell, int64_t block, int64_t item_index, int64_t seed,
                                    bool *exists, jpt_error *err) {
    int64_t n = 0, args[] = {cell, block, item_index, seed};
    JPT_TRY(query_int(s, "SELECT count(*) FROM request WHERE cell=? AND block=? AND item_index=? AND seed=?", args, 4,
                      &n, err));
    *exists = n > 0;
    return JPT_OK;
}

jpt_status jpt_store_n_invalid(jpt_store *s, int64_t cell, int64_t *n, jpt_error *err) {
    return query_int(s, "SELECT count(*) FROM request WHERE cell=? AND energy_valid=0", &cell, 1, n, err);
}

jpt_status jpt_store_n_requests(jpt_store *s, int64_t *n, jpt_error *err) {
    return query_int(s, "SELECT count(*) FROM request", NULL, 0, n, err);
}

static jpt_status put_scores(jpt_store *s, const char *sql, int64_t owner, const jpt_score_row *scores, size_t n,
                             bool of_cell, jpt_error *err) {
    jpt_buf       text = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_addz(&text, sql);
    JPT_TRY(prepare(s, &text, &st, err));
    jpt_status status = JPT_OK;
    for (size_t i = 0; i < n && status == JPT_OK; i++) {
        sqlite3_reset(st);
        sqlite3_bind_int64(st, 1, owner);
        sqlite3_bind_text(st, 2, scores[i].metric, -1, SQLITE_STATIC);
        bind_real(st, 3, scores[i].value);
        if (of_cell) {
            bind_real(st, 4, scores[i].ci_low);
            bind_real(st, 5, scores[i].ci_high);
            if (scores[i].n >= 0)
                sqlite3_bind_int64(st, 6, scores[i].n);
            else
                sqlite3_bind_null(st, 6);
        }
        if (sqlite3_step(st) != SQLITE_DONE)
            status = jpt_store_sql_fail(s->db, s->path, "adding a score", err);
    }
    sqlite3_finalize(st);
    return status;
}

/* Transactions nest: the outermost is SQLite's, those inside are savepoints. */
jpt_status jpt_store_begin(jpt_store *s, jpt_error *err) {
    const char *sql = s->depth ? "SAVEPOINT inner" : "BEGIN IMMEDIATE";
    if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return jpt_store_sql_fail(s->db, s->path, "beginning a transaction", err);
    s->depth++;
    return JPT_OK;
}

jpt_status jpt_store_end(jpt_store *s, jpt_status status, jpt_error *err) {
    bool inner = --s->depth > 0;
    if (status == JPT_OK && sqlite3_exec(s->db, inner ? "RELEASE inner" : "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        status = jpt_store_sql_fail(s->db, s->path, "committing", err);
    if (status != JPT_OK && !sqlite3_get_autocommit(s->db)) /* SQLite takes all back by itself when the disk is full */
        sqlite3_exec(s->db, inner ? "ROLLBACK TO inner; RELEASE inner" : "ROLLBACK", NULL, NULL, NULL);
    return status;
}

jpt_status jpt_store_put_request(jpt_store *s, const jpt_request_row *r, const jpt_score_row *scores, size_t n,
                                 int64_t *id, jpt_error *err) {
    int64_t row = 0;
    JPT_TRY(jpt_store_begin(s, err));
    jpt_status status = insert(s, &request_table, r, &row, err);
    if (status == JPT_OK)
        status = put_scores(s, "INSERT INTO score VALUES (?,?,?)", row, scores, n, false, err);
    status = jpt_store_end(s, status, err);
    if (status == JPT_OK && id != NULL)
        *id = row;
    return status;
}

jpt_status jpt_store_put_scores(jpt_store *s, const jpt_score_row *scores, size_t n, jpt_error *err) {
    JPT_TRY(jpt_store_begin(s, err));
    jpt_status status = JPT_OK;
    for (size_t i = 0, same; i < n && status == JPT_OK; i += same) {
        for (same = 1; i + same < n && scores[i + same].owner == scores[i].owner; same++)
            ;
        status = put_scores(s, "INSERT INTO score VALUES (?,?,?)", scores[i].owner, scores + i, same, false, err);
    }
    return jpt_store_end(s, status, err);
}

jpt_status jpt_store_put_window(jpt_store *s, const jpt_window_row *r, const jpt_power_row *power, size_t n, int64_t *id, jpt_error *err) {
    jpt_buf       sql = {0};
    sqlite3_stmt *st = NULL;
    int64_t       row = 0;
    JPT_TRY(jpt_store_begin(s, err));
    jpt_status status = insert(s, &window_table, r, &row, err);
    jpt_buf_addz(&sql, "INSERT INTO power (window, t_s, power_w) VALUES (?,?,?)");
    if (status == JPT_OK)
        status = prepare(s, &sql, &st, err);
    for (size_t i = 0; i < n && status == JPT_OK; i++) {
        sqlite3_reset(st);
        sqlite3_bind_int64(st, 1, row);
        bind_real(st, 2, power[i].t_s);
        bind_real(st, 3, power[i].power_w);
        if (sqlite3_step(st) != SQLITE_DONE)
            status = jpt_store_sql_fail(s->db, s->path, "adding power samples", err);
    }
    sqlite3_finalize(st);
    jpt_buf_fini(&sql);
    status = jpt_store_end(s, status, err);
    if (status == JPT_OK && id != NULL)
        *id = row;
    return status;
}

jpt_status jpt_store_n_windows(jpt_store *s, int64_t study, int64_t cell, int64_t block, const char *what, int64_t *n, int64_t *n_valid, jpt_error *err) {
    jpt_buf       sql = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_addz(&sql, "SELECT count(*), coalesce(sum(valid), 0) FROM window WHERE study=? AND coalesce(cell, -1)=? AND block=? AND kind=?");
    JPT_TRY(prepare(s, &sql, &st, err));
    sqlite3_bind_int64(st, 1, study);
    sqlite3_bind_int64(st, 2, cell);
    sqlite3_bind_int64(st, 3, block);
    sqlite3_bind_text(st, 4, what, -1, SQLITE_STATIC);
    jpt_status status = JPT_OK;
    if (sqlite3_step(st) == SQLITE_ROW) {
        *n = sqlite3_column_int64(st, 0);
        *n_valid = sqlite3_column_int64(st, 1);
    } else
        status = jpt_store_sql_fail(s->db, s->path, "counting windows", err);
    sqlite3_finalize(st);
    return status;
}

jpt_status jpt_store_put_cell_scores(jpt_store *s, int64_t cell, const jpt_score_row *scores, size_t n,
                                     jpt_error *err) {
    JPT_TRY(jpt_store_begin(s, err));
    return jpt_store_end(s,
               put_scores(s, "INSERT INTO cell_score (cell,metric,value,ci_low,ci_high,n) VALUES (?,?,?,?,?,?)", cell,
                          scores, n, true, err),
               err);
}

/* ---- reading ---------------------------------------------------------------------------------- */

static double column_real(sqlite3_stmt *st, int i) {
    return sqlite3_column_type(st, i) == SQLITE_NULL ? (double)NAN : sqlite3_column_double(st, i);
}

typedef jpt_status (*any_fn)(void *fn, void *ud, const void *row);

static jpt_status each(jpt_store *s, const table *t, int64_t owner, void *row, any_fn call, void *fn, void *ud,
                       jpt_error *err) {
    jpt_buf       sql = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_addz(&sql, "SELECT id");
    for (int i = 0; i < t->n; i++)
        jpt_buf_printf(&sql, ",%s", t->columns[i].name);
    jpt_buf_printf(&sql, " FROM %s", t->name);
    if (owner >= 0)
        jpt_buf_printf(&sql, " WHERE %s=?", t->owner);
    jpt_buf_printf(&sql, " ORDER BY %s", t->order);
    JPT_TRY(prepare(s, &sql, &st, err));
    if (owner >= 0)
        sqlite3_bind_int64(st, 1, owner);
    jpt_status status = JPT_OK;
    int        code;
    while ((code = sqlite3_step(st)) == SQLITE_ROW && status == JPT_OK) {
        row_init(t, row);
        int64_t id = sqlite3_column_int64(st, 0);
        memcpy(row, &id, sizeof id);
        for (int i = 0; i < t->n; i++) {
            char *at = (char *)row + t->columns[i].offset;
            bool  null = sqlite3_column_type(st, i + 1) == SQLITE_NULL;
            switch (t->columns[i].kind) {
            case KEY:
            case INT:
                if (!null)
                    *(int64_t *)(void *)at = sqlite3_column_int64(st, i + 1);
                break;
            case REAL: *(double *)(void *)at = column_real(st, i + 1); break;
            case TEXT: *(const char **)(void *)at = (const char *)sqlite3_column_text(st, i + 1); break;
            }
        }
        status = call(fn, ud, row);
    }
    if (status == JPT_OK && code != SQLITE_DONE)
        status = jpt_store_sql_fail(s->db, s->path, "reading rows", err);
    sqlite3_finalize(st);
    return status;
}

#define CALL(name)                                                                                            \
    static jpt_status call_##name(void *fn, void *ud, const void *row) {                                      \
        return (*(jpt_##name##_fn *)fn)(ud, row);                                                             \
    }
#define EACH(name)                                                                                            \
    CALL(name)                                                                                                \
    jpt_status jpt_store_each_##name(jpt_store *s, jpt_##name##_fn fn, void *ud, jpt_error *err) {            \
        jpt_##name##_row row;                                                                                 \
        return each(s, &name##_table, -1, &row, call_##name, &fn, ud, err);                                   \
    }
EACH(study)
EACH(model)
EACH(task)
EACH(item)
EACH(meter)
EACH(cell)
EACH(plan)
EACH(ledger)
EACH(calibration)
EACH(floor)
EACH(look)
#define EACH_OF(name)                                                                                                    \
    CALL(name)                                                                                                           \
    jpt_status jpt_store_each_##name(jpt_store *s, int64_t owner, jpt_##name##_fn fn, void *ud, jpt_error *err) {        \
        jpt_##name##_row row;                                                                                            \
        return each(s, &name##_table, owner, &row, call_##name, &fn, ud, err);                                           \
    }
EACH_OF(request)
EACH_OF(window)
EACH_OF(power)

static jpt_status each_score(jpt_store *s, const char *sql, int64_t cell, bool of_cell, jpt_score_fn fn, void *ud,
                             jpt_error *err) {
    jpt_buf       text = {0};
    sqlite3_stmt *st = NULL;
    jpt_buf_addz(&text, sql);
    JPT_TRY(prepare(s, &text, &st, err));
    sqlite3_bind_int64(st, 1, cell);
    jpt_status status = JPT_OK;
    int        code;
    while ((code = sqlite3_step(st)) == SQLITE_ROW && status == JPT_OK) {
        jpt_score_row row = {.owner = sqlite3_column_int64(st, 0),
                             .metric = (const char *)sqlite3_column_text(st, 1),
                             .value = column_real(st, 2),
                             .ci_low = of_cell ? column_real(st, 3) : (double)NAN,
                             .ci_high = of_cell ? column_real(st, 4) : (double)NAN,
                             .n = of_cell && sqlite3_column_type(st, 5) != SQLITE_NULL ? sqlite3_column_int64(st, 5) : -1};
        status = fn(ud, &row);
    }
    if (status == JPT_OK && code != SQLITE_DONE)
        status = jpt_store_sql_fail(s->db, s->path, "reading scores", err);
    sqlite3_finalize(st);
    return status;
}

jpt_status jpt_store_each_score(jpt_store *s, int64_t cell, jpt_score_fn fn, void *ud, jpt_error *err) {
    return each_score(s,
                      "SELECT request, metric, value FROM score JOIN request ON request.id=request"
                      " WHERE ?1<0 OR cell=?1 ORDER BY request, metric",
                      cell, false, fn, ud, err);
}

jpt_status jpt_store_each_cell_score(jpt_store *s, int64_t cell, jpt_score_fn fn, void *ud, jpt_error *err) {
    return each_score(s,
                      "SELECT cell, metric, value, ci_low, ci_high, n FROM cell_score AS a WHERE (?1<0 OR cell=?1)"
                      " AND id=(SELECT max(id) FROM cell_score b WHERE b.cell=a.cell AND b.metric=a.metric) ORDER BY id",
                      cell, true, fn, ud, err);
}
