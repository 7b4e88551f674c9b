//! Stories about configuration texts. What Redis prints was seen on redis-server 7.0.15.

use proptest::prelude::*;

use super::*;

fn load_text(text: &str) -> Result<Config, LoadError> {
    let source = Source { file: text, ..Source::default() };
    Config::load(source, &mut |pattern| Err(format!("can't open {pattern}")))
}

fn loaded(text: &str) -> Config {
    load_text(text).unwrap()
}

fn from_command_line(words: &[&str]) -> Result<Config, LoadError> {
    let args: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let Ok(CommandLine::Serve(serve)) = parse_args(&args) else { panic!("a server is wanted: {words:?}") };
    let source = Source { args: &serve.lines, ..Source::default() };
    Config::load(source, &mut |_| Ok(Vec::new()))
}

#[test]
fn the_table_is_sorted_and_every_default_is_readable_and_shown_as_written() {
    assert!(DIRECTIVES.is_sorted_by(|a, b| a.name < b.name));
    let config = Config::default();
    for key in KEYS {
        assert_eq!(config.shown(*key), key.directive().default, "{key:?}");
    }
}

#[test]
fn a_server_is_a_cluster_node_unless_told_otherwise() {
    let enabled = |words: &[&str]| from_command_line(words).unwrap().flag(Key::ClusterEnabled);
    assert!(enabled(&[]));
    assert!(enabled(&["--cluster-node-timeout", "2000"]));
    assert!(!enabled(&["--cluster-node-timeout", "2000", "--cluster-enabled", "no"]));
}

#[test]
fn a_file_has_comments_quotes_escapes_and_units() {
    let config =
        loaded("# a comment\n\n  requirepass \"a\\x41\\\"b\" \r\nMAXMEMORY 2mb\nmasterauth 'it\\'s'\n");
    assert_eq!(config.text(Key::Requirepass), "aA\"b");
    assert_eq!(config.int(Key::Maxmemory), 2 * 1024 * 1024);
    assert_eq!(config.text(Key::Masterauth), "it's");
    let units = ["1k", "1kb", "1m", "1MB", "1g", "1gb", "7b", "7"]
        .map(|unit| loaded(&format!("maxmemory {unit}")).int(Key::Maxmemory));
    assert_eq!(units, [1000, 1024, 1_000_000, 1 << 20, 1_000_000_000, 1 << 30, 7, 7]);
}

#[test]
fn each_wrong_line_is_refused_with_redis_words() {
    let reasons = [
        ("port", "wrong number of arguments"),
        ("port \"abc\"", "argument couldn't be parsed into an integer"),
        ("port 010", "argument couldn't be parsed into an integer"),
        ("port \"1\" \"2\"", "wrong number of arguments"),
        ("port 99999", "argument must be between 0 and 65535 inclusive"),
        ("appendonly maybe", "argument must be 'yes' or 'no'"),
        ("appendfsync foo", "argument(s) must be one of the following: everysec, always, no"),
        ("maxmemory 3zb", "argument must be a memory value"),
        ("save 1", "Invalid save parameters"),
        ("save a b", "Invalid save parameters"),
        (
            "client-output-buffer-limit x 1 1 1",
            "Invalid client class specified in buffer limit configuration.",
        ),
        ("client-output-buffer-limit normal 1 1", "Wrong number of arguments in buffer limit configuration."),
        (
            "cluster-announce-hostname a_b",
            "Hostnames may only contain alphanumeric characters, hyphens or dots",
        ),
        ("dbfilename a/b", "dbfilename can't be a path, just a filename"),
        ("appenddirname a/b", "appenddirname can't be a path, just a dirname"),
        ("notify-keyspace-events KZ", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        ("databases 0", "argument must be between 1 and 2147483647 inclusive"),
        ("prot 1", "Bad directive or wrong number of arguments"),
        ("include", "Bad directive or wrong number of arguments"),
        ("requirepass \"abc", "Unbalanced quotes in configuration line"),
    ];
    for (line, reason) in reasons {
        let error = load_text(&format!("\n{line}\n")).unwrap_err();
        let expected = format!("Reading the configuration file, at line 2\n>>> '{line}'\n{reason}");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn a_replica_directive_and_a_port_without_room_for_the_bus_are_refused_in_cluster_mode_only() {
    let refused = load_text("replicaof 10.0.0.1 6379").unwrap_err();
    assert_eq!(refused, LoadError::Whole("replicaof directive not allowed in cluster mode".into()));
    assert!(matches!(load_text("port 60000"), Err(LoadError::Whole(_))));
    assert_eq!(loaded("port 60000\ncluster-port 1234").bus_port(), 1234);
    let alone = loaded("cluster-enabled no\nslaveof 10.0.0.1 6379\nport 60000");
    assert_eq!(alone.words(Key::Replicaof), ["10.0.0.1", "6379"]);
}

#[test]
fn included_files_stand_where_the_include_stands_and_a_circle_ends() {
    let files = |pattern: &str| {
        let file = |path: &str, text: &str| IncludedFile { path: path.into(), text: text.into() };
        match pattern {
            "conf.d/*" => Ok(vec![file("conf.d/a", "hz 20"), file("conf.d/b", "hz 30\ntimeout 5")]),
            "self" => Ok(vec![file("self", "include self")]),
            _ => Err(format!("Fatal error, can't open config file '{pattern}'")),
        }
    };
    let load = |text| Config::load(Source { file: text, ..Source::default() }, &mut { files });
    let config = load("hz 10\ninclude conf.d/*\ntimeout 6").unwrap();
    assert_eq!((config.int(Key::Hz), config.int(Key::Timeout)), (30, 6));
    assert!(load("include self").unwrap_err().to_string().contains("include itself"));
    assert!(matches!(load("include none"), Err(LoadError::Include(_))));
}

#[test]
fn command_lines_are_understood_as_redis_does() {
    let save = |words: &[&str]| from_command_line(words).unwrap().shown(Key::Save);
    assert_eq!(save(&["--save", "60", "1"]), "60 1");
    assert_eq!(save(&["--save", "60 1"]), "60 1");
    assert_eq!(save(&["--save", ""]), "");
    assert_eq!(save(&["--save"]), "");
    assert_eq!(save(&["--save", "--appendonly", "no"]), "");
    assert_eq!(save(&["--save 100 2"]), "100 2");
    assert_eq!(save(&["--save", "60", "1", "--save", "10", "9"]), "60 1 10 9");

    let config =
        from_command_line(&["--port 7000", "--APPENDONLY", "yes", "--requirepass", "a \"b"]).unwrap();
    assert_eq!(config.int(Key::Port), 7000);
    assert!(config.flag(Key::Appendonly));
    assert_eq!(config.text(Key::Requirepass), "a \"b");
    // A word with dashes right after a name is its value.
    assert_eq!(from_command_line(&["--requirepass", "--secret"]).unwrap().text(Key::Requirepass), "--secret");
    let binds = from_command_line(&["--bind", "127.0.0.1", "-::1", "--hz", "5"]).unwrap();
    assert_eq!(binds.words(Key::Bind), ["127.0.0.1", "-::1"]);
}

#[test]
fn called_redis_server_it_is_standalone_until_a_cluster_is_meant() {
    let load = |text: &str| {
        let source = Source { file: text, standalone_unless_told: true, ..Source::default() };
        Config::load(source, &mut |_| Ok(Vec::new())).unwrap()
    };
    let mode = |text: &str| (load(text).flag(Key::ClusterEnabled), load(text).implies_cluster);
    assert_eq!(mode("port 7000\ncluster-node-timeout 2000"), (false, false));
    assert_eq!(mode("cluster-config-file nodes-7000.conf"), (true, true));
    assert_eq!(mode("cluster-save-config"), (true, true));
    assert_eq!(mode("cluster-enabled no\ncluster-config-file nodes.conf"), (false, false));
    assert_eq!(mode("cluster-config-file nodes.conf\ncluster-enabled yes"), (true, false));
}

#[test]
fn cluster_save_config_takes_no_value() {
    for words in [&["--cluster-save-config"][..], &["--cluster-save-config", "--port", "7000"][..]] {
        let config = from_command_line(words).unwrap();
        assert!(config.flag(Key::ClusterSaveConfig) && config.flag(Key::ClusterEnabled), "{words:?}");
    }
}

#[test]
fn the_command_line_names_a_file_standard_input_and_other_modes() {
    let parse = |words: &[&str]| parse_args(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    let serve = |words: &[&str]| match parse(words) {
        Ok(CommandLine::Serve(serve)) => serve,
        other => panic!("{other:?}"),
    };
    assert_eq!(serve(&["my.conf", "--hz", "5"]).file.as_deref(), Some("my.conf"));
    assert!(serve(&["-"]).from_stdin && serve(&["--hz", "5", "-"]).from_stdin);
    assert!(!serve(&["my.conf", "--requirepass", "x"]).from_stdin);
    assert_eq!(parse(&["-v"]), Ok(CommandLine::Version));
    assert_eq!(parse(&["--help"]), Ok(CommandLine::Help));
    assert!(parse(&["--sentinel"]).is_err());
}

#[test]
fn command_line_lines_come_after_the_file_and_count_on() {
    let source = Source { file: "hz 20", args: "hz \"x\" ", ..Source::default() };
    let error = Config::load(source, &mut |_| Ok(Vec::new())).unwrap_err().to_string();
    assert!(error.starts_with("Reading the configuration file, at line 2\n>>> 'hz \"x\"'"), "{error}");
}

#[test]
fn config_get_takes_patterns_and_shows_aliases_but_no_hidden_names() {
    let config = Config::default();
    let names =
        |patterns: &[&str]| config.get(patterns).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&["h?"]), ["hz"]);
    assert_eq!(names(&["HZ", "hz"]), ["hz"]);
    assert_eq!(names(&["*-priority"]), ["replica-priority", "slave-priority"]);
    assert_eq!(names(&["key-load-delay"]), ["key-load-delay"]);
    assert!(!names(&["*"]).contains(&"key-load-delay"));
    assert!(names(&["nosuch"]).is_empty());
}

#[test]
fn config_set_sets_all_pairs_or_none() {
    let mut config = Config::default();
    let changed = config.set(&[("hz", "20"), ("slave-priority", "7"), ("timeout", "0")], false).unwrap();
    assert_eq!(changed, [Key::Hz, Key::ReplicaPriority]);

    let mut text = |pairs: &[(&str, &str)]| config.set(pairs, false).unwrap_err().to_string();
    let failed = "CONFIG SET failed (possibly related to argument";
    assert_eq!(
        text(&[("hz", "30"), ("maxmemory", "x")]),
        format!("{failed} 'maxmemory') - argument must be a memory value")
    );
    assert_eq!(text(&[("hz", "10"), ("HZ", "11")]), format!("{failed} 'HZ') - duplicate parameter"));
    assert_eq!(
        text(&[("cluster-port", "1")]),
        format!("{failed} 'cluster-port') - can't set immutable config")
    );
    assert_eq!(text(&[("dir", "/")]), format!("{failed} 'dir') - can't set protected config"));
    assert_eq!(
        text(&[("hz", "10"), ("nosuch", "1")]),
        "Unknown option or number of arguments for CONFIG SET - 'nosuch'"
    );
    assert_eq!(config.int(Key::Hz), 20);
    config.set(&[("hz", "600")], false).unwrap();
    assert_eq!(config.int(Key::Hz), 500);
}

#[test]
fn one_class_of_output_limits_is_set_and_the_others_stay() {
    let mut config = Config::default();
    config.set(&[("client-output-buffer-limit", "replica 1kb 2 3")], false).unwrap();
    let limit = OutputLimit { hard_bytes: 1024, soft_bytes: 2, soft_s: 3 };
    assert_eq!(config.output_limit(OutputClass::Replica), limit);
    assert_eq!(config.output_limit(OutputClass::Pubsub).hard_bytes, 33_554_432);
}

#[test]
fn event_classes_are_shown_as_redis_does() {
    let shown =
        |letters: &str| loaded(&format!("notify-keyspace-events {letters}")).shown(Key::NotifyKeyspaceEvents);
    assert_eq!(shown("KEA"), "AKE");
    assert_eq!(shown("xKg"), "gxK");
}

#[test]
fn a_directive_of_several_words_takes_them_in_any_order_and_shows_them_in_one() {
    let mut config = loaded("shutdown-on-sigint force nosave");
    assert_eq!(config.shown(Key::ShutdownOnSigint), "nosave force");
    config.set(&[("shutdown-on-sigint", "NOW save")], false).unwrap();
    assert_eq!(config.shown(Key::ShutdownOnSigint), "save now");
    config.set(&[("shutdown-on-sigint", "default")], false).unwrap();
    assert_eq!(config.shown(Key::ShutdownOnSigint), "default");
    for wrong in ["", "later", "now later"] {
        let error = config.set(&[("shutdown-on-sigint", wrong)], false).unwrap_err().to_string();
        assert!(error.contains("argument(s) must be one of the following: default, save, nosave"), "{error}");
    }
}

#[test]
fn a_rewrite_of_everything_loads_the_same() {
    let config = loaded("hz 20\nshutdown-on-sigterm nosave now");
    let text = config.rewrite("hz 20\n", true);
    assert!(text.contains("\nmaxmemory-policy noeviction\n"), "{text}");
    assert_eq!(loaded(&text).get(&["*"]), config.get(&["*"]));
}

#[test]
fn a_rewrite_keeps_comments_and_order_and_says_each_directive_once() {
    let old = "# hello\n\nport 7000\nsave \"\"\n# tail comment\nhz 20\nhz 10\nmaxmemory 2mb\n\
               slave-priority 5\n\
               user default on nopass ~* &* +@all\n";
    let mut config = loaded(old);
    let pairs = [
        ("save", "5 6"),
        ("maxmemory", "0"),
        ("slave-priority", "7"),
        ("client-output-buffer-limit", "replica 1 2 3"),
        ("cluster-announce-ip", "a b"),
        ("bind", "127.0.0.1 -::1"),
    ];
    config.set(&pairs, false).unwrap();
    config.user_lines = vec!["default on nopass ~* &* +@all".to_owned()];
    let new = config.rewrite(old, false);
    assert_eq!(
        new,
        "# hello\n\nport 7000\nsave 5 6\n# tail comment\nhz 10\nmaxmemory 0\nreplica-priority 7\n\
         user default on nopass ~* &* +@all\n\n# Generated by CONFIG REWRITE\nbind 127.0.0.1 -::1\n\
         client-output-buffer-limit replica 1 2 3\ncluster-announce-ip \"a b\"\ncluster-enabled yes\n"
    );
    let mut again = loaded(&new);
    // The node tells its users before each rewrite.
    again.user_lines.clone_from(&config.user_lines);
    assert_eq!(again.get(&["*"]), config.get(&["*"]));
    assert_eq!(again.rewrite(&new, false), new, "a second rewrite changes nothing");
}

#[test]
fn glob_patterns_match_as_in_redis() {
    let is_match = |pattern: &str, text: &str| glob_matches(pattern.as_bytes(), text.as_bytes(), false);
    for (pattern, text) in [
        ("*", ""),
        ("a*b*c", "aXbXXbc"),
        ("h[a-c]t", "hbt"),
        ("h[^a]t", "hbt"),
        ("\\*", "*"),
        ("[c-a]", "b"),
        ("a**", "a"),
    ] {
        assert!(is_match(pattern, text), "{pattern} {text}");
    }
    for (pattern, text) in [("", "a"), ("a?", "a"), ("h[^b]t", "hbt"), ("\\*", "a"), ("a*b", "a")] {
        assert!(!is_match(pattern, text), "{pattern} {text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_loading_panic(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = load_text(&text);
        let _ = glob_matches(&bytes, text.as_bytes(), true);
        let _ = parse_args(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
    }

    #[test]
    fn a_rewritten_file_loads_the_same(hz in 1..500_i64, pass in any::<String>(), bytes in 0..i64::MAX) {
        let mut config = Config::default();
        let pairs = [("hz", hz.to_string()), ("requirepass", pass), ("maxmemory", bytes.to_string())];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
        config.set(&pairs, false).unwrap();
        config.set(&[("save", "")], false).unwrap();
        let text = config.rewrite("", false);
        prop_assert_eq!(loaded(&text).get(&["*"]), config.get(&["*"]));
    }
}
