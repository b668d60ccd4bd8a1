//! Expected output, taken from sqlite3 3.40 by hand.

use rusqlite::Connection;

use super::*;

const ODD: &str = "SELECT 'a b' AS a, 'it''s' AS b, '' AS c, NULL AS d, 'x,y' AS e, 'plain' AS f, \
    x'00ff41' AS g, 1.0 AS h, x'414243' AS i, 'say \"hi\"' AS j";
const LINES: &str = "SELECT 'a'||char(9)||'b' AS t, 'x'||char(13,10)||'y' AS crlf, \
    'z'||char(10) AS nl UNION ALL SELECT 1, 2, 3";
const PAIRS: &str = "SELECT 1 AS alpha, 2 AS b UNION ALL SELECT 100, 'two'";

fn check(mode: Mode, header: Option<bool>, sql: &str, expect: &str) {
    let format = Format { mode, header, separator: None };
    assert_eq!(printed(&format, sql), expect, "{mode:?} {sql}");
}

fn printed(format: &Format, sql: &str) -> String {
    let db = Connection::open_in_memory().unwrap();
    let mut out = Vec::new();
    crate::sql::run(&db, sql, format, &mut out).unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

#[test]
fn list() {
    check(Mode::List, None, PAIRS, "1|2\n100|two\n");
    check(Mode::List, Some(true), PAIRS, "alpha|b\n1|2\n100|two\n");
    check(Mode::List, None, ODD, "a b|it's|||x,y|plain||1.0|ABC|say \"hi\"\n");
    check(Mode::List, Some(true), "SELECT 1 AS a WHERE 0", "");
    let format = Format { separator: Some(", ".into()), ..Format::default() };
    assert_eq!(printed(&format, PAIRS), "1, 2\n100, two\n");
}

#[test]
fn csv() {
    let odd = "\"a b\",\"it's\",\"\",,\"x,y\",plain,\"\",1.0,ABC,\"say \"\"hi\"\"\"\n";
    check(Mode::Csv, None, ODD, odd);
    check(Mode::Csv, Some(true), PAIRS, "alpha,b\n1,2\n100,two\n");
    check(Mode::Csv, None, "SELECT 'a;b', '\u{e9}'", "a;b,\"\u{e9}\"\n");
    let format = Format { mode: Mode::Csv, header: None, separator: Some(";".into()) };
    assert_eq!(printed(&format, "SELECT 'a;b', 'c,d'"), "\"a;b\";c,d\n");
}

#[test]
fn json() {
    check(Mode::Json, None, PAIRS, "[{\"alpha\":1,\"b\":2},\n{\"alpha\":100,\"b\":\"two\"}]\n");
    check(Mode::Json, None, "SELECT 1 AS a WHERE 0", "[]\n");
    check(Mode::Json, None, "CREATE TABLE t(a)", "");
    check(Mode::Json, None, "SELECT 1 AS a; SELECT 2 AS a", "[{\"a\":1}]\n[{\"a\":2}]\n");
    let odd = "[{\"a\":\"a b\",\"b\":\"it's\",\"c\":\"\",\"d\":null,\"e\":\"x,y\",\"f\":\"plain\",\
        \"g\":\"\\u0000\\u00ffA\",\"h\":1.0,\"i\":\"ABC\",\"j\":\"say \\\"hi\\\"\"}]\n";
    check(Mode::Json, None, ODD, odd);
    check(
        Mode::Json,
        None,
        "SELECT 9e999 AS i, -9e999 AS n, 0.1+0.2 AS s, 1e20 AS e, char(7,9,10)||'\u{fc}' AS t",
        "[{\"i\":1e999,\"n\":-1e999,\"s\":0.30000000000000004,\"e\":1e20,\
         \"t\":\"\\u0007\\t\\n\u{fc}\"}]\n",
    );
}

#[test]
fn line() {
    check(Mode::Line, None, PAIRS, "alpha = 1\n    b = 2\n\nalpha = 100\n    b = two\n");
    check(Mode::Line, None, "SELECT NULL AS a", "    a = \n");
}

#[test]
fn column() {
    let pairs = "alpha  b  \n-----  ---\n1      2  \n100    two\n";
    check(Mode::Column, None, PAIRS, pairs);
    check(Mode::Column, Some(false), PAIRS, "1      2  \n100    two\n");
    check(Mode::Column, None, "SELECT 1 AS a WHERE 0", "");
    check(Mode::Column, None, "SELECT 1 AS \"a\nb\"", "a\n-\n1\n");
    let lines = "t          crlf  nl\n---------  ----  --\na       b  x     z \n           y       \n\
        \n1          2     3 \n";
    check(Mode::Column, None, LINES, lines);
    check(
        Mode::Column,
        None,
        "SELECT '\u{fc}\u{65e5}' AS u, 1 AS b",
        "u   b\n--  -\n\u{fc}\u{65e5}  1\n",
    );
}

#[test]
fn table() {
    let pairs = "+-------+-----+\n| alpha |  b  |\n+-------+-----+\n| 1     | 2   |\n\
        | 100   | two |\n+-------+-----+\n";
    check(Mode::Table, None, PAIRS, pairs);
    check(Mode::Table, None, "SELECT 1 AS a WHERE 0", "");
    let lines = "+-----------+------+----+\n|     t     | crlf | nl |\n+-----------+------+----+\n\
        | a       b | x    | z  |\n|           | y    |    |\n+-----------+------+----+\n\
        | 1         | 2    | 3  |\n+-----------+------+----+\n";
    check(Mode::Table, None, LINES, lines);
}

#[test]
fn a_query_plan_is_a_tree() {
    let sql = "CREATE TABLE t(a); EXPLAIN QUERY PLAN SELECT a FROM t UNION ALL SELECT 1";
    let plan = "QUERY PLAN\n`--COMPOUND QUERY\n   |--LEFT-MOST SUBQUERY\n   |  `--SCAN t\n   \
        `--UNION ALL\n      `--SCAN CONSTANT ROW\n";
    check(Mode::List, None, sql, plan);
    assert!(printed(&Format { mode: Mode::Json, ..Format::default() }, sql).starts_with("[{"));
}
