//! FTS5, and modules whose rows cannot be captured.

use super::*;

const F: &str = "CREATE VIRTUAL TABLE f USING fts5(title, body UNINDEXED, tokenize='porter');
                 INSERT INTO f VALUES('hello','world'),('good','bye');";

#[test]
fn fts5_with_its_own_content_gives_rows() {
    check(
        F,
        &[
            "INSERT INTO f(rowid,title,body) VALUES(9,'new','row')",
            "UPDATE f SET body='moon' WHERE rowid=1",
            "DELETE FROM f WHERE rowid=2",
            "INSERT INTO f(f) VALUES('optimize')",
        ],
        &["- f[2] title=good body=bye", "~ f[1] body=world->moon", "+ f[9] title=new body=row"],
    );
    check(F, &["SAVEPOINT s; DELETE FROM f; ROLLBACK TO s"], &[]);
    check(F, &["INSERT INTO f(f) VALUES('rebuild')"], &[]);
    check(
        "",
        &["CREATE VIRTUAL TABLE n USING fts5(x)", "INSERT INTO n VALUES('a b')"],
        &["CREATE VIRTUAL TABLE n USING fts5(x)", "+ n[1] x=a b"],
    );
}

#[test]
fn fts5_can_be_renamed_and_dropped() {
    check(F, &["ALTER TABLE f RENAME TO g"], &["ALTER TABLE f RENAME TO g"]);
    check(F, &["DELETE FROM f", "DROP TABLE f"], &["DROP TABLE f"]);
    refused(F, &["ALTER TABLE f RENAME TO g", "DELETE FROM g"], "in separate transactions");
}

#[test]
fn external_content_follows_from_its_table() {
    check(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x);
         CREATE VIRTUAL TABLE f USING fts5(x, content='t', content_rowid='id');
         CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO f(rowid,x) VALUES(new.id,new.x); END",
        &["INSERT INTO t VALUES(1,'a b')"],
        &["+ t[1] id=1 x=a b"],
    );
}

#[test]
fn contentless_and_other_modules_are_refused() {
    let words = "cannot be captured; write it from a named mutator";
    refused(
        "CREATE VIRTUAL TABLE f USING fts5(x, content='')",
        &["INSERT INTO f VALUES('a')"],
        words,
    );
    let rtree = "CREATE VIRTUAL TABLE r USING rtree(i,x0,x1); CREATE TABLE t(a)";
    refused(
        rtree,
        &["INSERT INTO r VALUES(1,2,3)"],
        "rows of virtual table `r` (module `rtree`) cannot be captured",
    );
    refused(
        "",
        &["CREATE VIRTUAL TABLE r USING rtree(i,x0,x1)", "INSERT INTO r VALUES(1,2,3)"],
        words,
    );
    refused("CREATE VIRTUAL TABLE f USING fts4(x)", &["INSERT INTO f VALUES('a')"], words);
    check(
        rtree,
        &[
            "SAVEPOINT s; INSERT INTO r VALUES(1,2,3); ROLLBACK TO s; RELEASE s",
            "INSERT INTO t VALUES(1)",
        ],
        &["+ t[1] a=1"],
    );
    check(
        "",
        &["CREATE VIRTUAL TABLE r USING rtree(i,x0,x1)"],
        &["CREATE VIRTUAL TABLE r USING rtree(i,x0,x1)"],
    );
}
