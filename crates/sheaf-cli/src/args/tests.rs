//! The grammar of the command line, and its errors.

use clap::CommandFactory;

use super::*;

fn line(text: &[&str]) -> Result<Parsed, Failure> {
    parse(std::iter::once("sheaf").chain(text.iter().copied()).map(OsString::from))
}

fn cli(text: &[&str]) -> Cli {
    match line(text) {
        Ok(Parsed::Run(cli)) => *cli,
        other => panic!("{text:?}: {other:?}"),
    }
}

fn refused(text: &[&str]) -> String {
    let failure = line(text).expect_err("must be refused");
    assert_eq!(failure.exit, crate::exit::Exit::Usage);
    failure.message
}

#[test]
fn the_grammar_has_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn global_flags_stand_before_and_after_the_command() {
    for words in [
        ["--dir", "d", "--json", "--server", "http://x", "sql", "s", "select 1"],
        ["sql", "s", "select 1", "--json", "--server", "http://x", "--dir", "d"],
    ] {
        let cli = cli(&words);
        assert_eq!(cli.global.dir, Some(PathBuf::from("d")));
        assert_eq!(cli.global.server.as_deref(), Some("http://x"));
        assert!(cli.global.json);
    }
}

#[test]
fn sql_takes_several_statements_and_flags_anywhere() {
    let cli = cli(&["sql", "--offline", "t/x", "a", "--view", "@7", "b", "--timeout", "0.5"]);
    let Command::Sql(sql) = cli.command else { panic!("not sql") };
    assert_eq!((sql.site.as_str(), sql.sql), ("t/x", vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(sql.view, ViewArg::At(7));
    assert!(sql.exchange.offline);
    assert_eq!(sql.exchange.timeout, Duration::from_millis(500));
}

#[test]
fn defaults_are_the_contract() {
    let Command::Sql(sql) = cli(&["sql", "s", "x"]).command else { panic!("not sql") };
    assert_eq!(sql.exchange.timeout, Duration::from_secs(10));
    assert_eq!(sql.view, ViewArg::Local);
    let Command::Serve(serve) = cli(&["serve", "--data", "d"]).command else { panic!("serve") };
    assert_eq!(serve.listen.to_string(), "127.0.0.1:7070");
    let Command::Log(log) = cli(&["log", "s", "-n", "3"]).command else { panic!("not log") };
    assert_eq!(log.limit, 3);
    let Command::Mutate(call) = cli(&["mutate", "s", "f"]).command else { panic!("mutate") };
    assert_eq!(call.args, "{}");
}

#[test]
fn sql_that_looks_like_a_flag_follows_two_dashes() {
    let Command::Sql(sql) = cli(&["sql", "s", "--", "-- note\nselect 1"]).command else {
        panic!("not sql")
    };
    assert_eq!(sql.sql, ["-- note\nselect 1"]);
}

#[test]
fn wrong_lines_are_refused_in_one_line_that_says_where_to_look() {
    let cases: [(&[&str], &str); 12] = [
        (&[], "no command was given"),
        (&["sqll"], "unrecognized subcommand 'sqll'"),
        (&["sql", "s"], "see `sheaf sql --help`"),
        (&["sql", "s", "x", "--view", "yesterday"], "give local, global, @LSN"),
        (&["sql", "s", "x", "--timeout", "-1"], "--timeout"),
        (&["sql", "s", "x", "--timeout=nan"], "number of seconds"),
        (&["sql", "s", "x", "--mode", "xml"], "xml"),
        (&["serve"], "--data"),
        (&["serve", "--data", "d", "--listen", "7070"], "give IP:PORT"),
        (&["mutators", "s", "--define", "x"], "NAME=FILE.sql"),
        (&["rules", "s", "--set", "t=text"], "TABLE.COLUMN=RULE"),
        (&["rules", "s", "t", "--set", "t.c=text"], "cannot be used with"),
    ];
    for (words, part) in cases {
        let message = refused(words);
        assert!(message.contains(part) && !message.contains('\n'), "{words:?}: {message}");
        assert!(message.contains("--help"), "{words:?}: {message}");
    }
}

#[test]
fn help_and_version_are_not_errors() {
    for words in [&["--help"][..], &["--version"], &["sql", "--help"]] {
        assert!(matches!(line(words), Ok(Parsed::Print(_))), "{words:?}");
    }
}

#[test]
fn json_is_seen_even_in_a_wrong_line() {
    let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    assert!(asks_for_json(args(&["sheaf", "sqll", "--json"])));
    assert!(!asks_for_json(args(&["sheaf", "sql", "s", "--", "--json"])));
    assert!(!asks_for_json(args(&["--json", "sql"])));
}

#[test]
fn sizes_are_read_as_people_write_them() {
    let read = |text| parse_bytes(text).ok();
    assert_eq!([read("0"), read("12k"), read("2G")], [Some(0), Some(12 << 10), Some(2 << 30)]);
    assert_eq!([read(""), read("M"), read("-1"), read("99999999999T"), read("1.5G")], [None; 5]);
}
