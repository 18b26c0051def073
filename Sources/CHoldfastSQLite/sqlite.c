// SPDX-License-Identifier: Apache-2.0
#include "CHoldfastSQLite.h"
#include <sqlite3.h>
#include <stddef.h>

void hf_sqlite_keep_log_apart(void *connection) {
    // https://www.sqlite.org/c3ref/c_dbconfig_defensive.html#sqlitedbconfignockptonclose
    sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
}
