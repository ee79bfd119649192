/* Inside the store: the handle, error mapping, and migrations with the steps as an argument so that a
 * test can bring its own. */
#ifndef JPT_STORE_PRIV_H
#define JPT_STORE_PRIV_H

#include <jpt/store.h>
#include <sqlite3.h>

struct jpt_store {
    sqlite3 *db;
    int      lock_fd; /* -1 for a reader */
    int      depth;   /* of transactions */
    char    *path;
};

extern const char *const jpt_store_steps[JPT_STORE_SCHEMA];

/* One line for the last failure on db; the code follows SQLite's. */
jpt_status jpt_store_sql_fail(sqlite3 *db, const char *path, const char *doing, jpt_error *err);

/* Bring db from its user_version to n_steps, each step a transaction; steps[i] goes from i to i+1. */
jpt_status jpt_store_migrate(sqlite3 *db, const char *path, const char *const *steps, int n_steps, jpt_error *err);

#endif
