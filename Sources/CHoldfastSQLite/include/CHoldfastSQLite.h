// SPDX-License-Identifier: Apache-2.0
//
// What Swift cannot call of SQLite's C interface because it takes a variable number of arguments.
#pragma once

/// Closes a connection later without copying its write-ahead log into the database: for a log that others do not see any
/// more. `connection` is a `sqlite3 *`. Any thread that may use the connection.
void hf_sqlite_keep_log_apart(void *connection);
