//! The kinds of argument in `commands.txt`: what each may look like.

use slotstorm_node::random::Random;

use super::Request;

/// How key names look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    Plain,
    /// Most share a hash tag, so that commands with several keys are served in a cluster.
    Tagged,
}

/// Each type has keys of its own, which other commands use now and then.
const POOLS: [(&str, &[&str]); 10] = [
    ("str", &["s0", "s1", "s2"]),
    ("num", &["n0", "n1"]),
    ("list", &["l0", "l1", "l2"]),
    ("set", &["t0", "t1", "t2"]),
    ("hash", &["h0", "h1"]),
    ("zset", &["z0", "z1", "z2"]),
    ("stream", &["x0", "x1"]),
    ("hll", &["p0", "p1", "p2"]),
    ("geo", &["g0", "g1"]),
    ("nokey", &["none"]),
];

/// Sorted sets whose scores are all 0: without that, Redis leaves open what a range by names gives. No other command
/// has these keys.
const LEXICAL: [&str; 2] = ["y0", "y1"];

/// Words that begin with a small letter and are none of these are said as they are.
pub const KINDS: [&str; 77] = [
    "lex",
    "str",
    "num",
    "list",
    "set",
    "hash",
    "zset",
    "stream",
    "hll",
    "geo",
    "nokey",
    "key",
    "sortable",
    "nlists",
    "nsets",
    "nzsets",
    "nkeys",
    "value",
    "member",
    "field",
    "int",
    "float",
    "score",
    "index",
    "count",
    "offset",
    "bitoffset",
    "bit",
    "bittype",
    "bitfieldop",
    "ttl",
    "ttlms",
    "at",
    "atms",
    "wait",
    "blockms",
    "pattern",
    "sortpattern",
    "min",
    "max",
    "lexmin",
    "lexmax",
    "longitude",
    "latitude",
    "radius",
    "unit",
    "id",
    "streamid",
    "rangemin",
    "rangemax",
    "group",
    "consumer",
    "minidle",
    "type",
    "payload",
    "db",
    "word",
    "user",
    "aclrule",
    "category",
    "channel",
    "configname",
    "configsafe",
    "commandname",
    "script",
    "sha",
    "library",
    "libname",
    "function",
    "slot",
    "nodeid",
    "section",
    "junk",
    "keys2",
    "bigvalue",
    "nan",
    "random",
];

const JUNK: [&str; 34] = [
    "",
    "abc",
    "-1",
    "0",
    "1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1.5",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "1e400",
    " 1",
    "1 ",
    "+1",
    "01",
    "-0",
    "0x10",
    "NX",
    "XX",
    "COUNT",
    "LIMIT",
    "WITHSCORES",
    "GET",
    "KEEPTTL",
    "(1",
    "[a",
    "#",
    "*",
    "$",
    ">",
    "1-1-1",
];

const VALUES: [&str; 22] = [
    "",
    "a",
    "b",
    "c",
    "foo",
    "bar",
    "hello world",
    "ohmytext",
    "mynewtext",
    "10",
    "-5",
    "0",
    "3.14",
    "1e2",
    "007",
    "12345678901234567890",
    "9223372036854775807",
    "\u{0}\u{1}\u{7f}",
    "caf\u{e9}",
    "line\r\nbreak",
    "a value of forty-five bytes, which is raw, no",
    "a value of sixty-five bytes, longer than a listpack's entry may be!!",
];

const MEMBERS: [&str; 14] = [
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "10",
    "20",
    "-3",
    "",
    "foo",
    "aa",
    "a member of sixty-five bytes, longer than a listpack's entry may be!",
];

const SCRIPTS: [&str; 30] = [
    "return 1",
    "return KEYS[1]",
    "return {KEYS[1], ARGV[1], ARGV[2]}",
    "return redis.call('GET', KEYS[1])",
    "return redis.call('SET', KEYS[1], ARGV[1])",
    "return redis.pcall('INCR', KEYS[1])",
    "return redis.call('INCR', KEYS[1])",
    "return redis.call('LPUSH', KEYS[1], unpack(ARGV))",
    "return redis.call('HGETALL', KEYS[1])",
    "return redis.call('TYPE', KEYS[1])",
    "return redis.status_reply('FINE')",
    "return redis.error_reply('MY ERR')",
    "return {ok='fine'}",
    "return {err='bad'}",
    "return {1, 2, {3, 'four', false, true, 5.7}, nil, 6}",
    "return 3.99",
    "return nil",
    "return false",
    "return true",
    "return {double=3.5}",
    "redis.setresp(3); return redis.call('PING')",
    "return nosuch",
    "nosuch = 1",
    "return redis.call('nosuch')",
    "return redis.call('GET')",
    "return redis.call()",
    "return redis.sha1hex(ARGV[1] or '')",
    "return tostring(cjson.encode({1,2,KEYS[1]}))",
    "local t = {} for i = 1, 3 do t[i] = i * i end return t",
    "return (",
];

const LIBRARIES: [&str; 6] = [
    "#!lua name=lib1\nredis.register_function('f1', function(keys, args) return {keys[1], args[1]} end)",
    "#!lua name=lib2\nredis.register_function{function_name='f2', callback=function(keys, args) \
     return redis.call('GET', keys[1]) end, flags={'no-writes'}}",
    "#!lua name=lib3\nredis.register_function('f3', function(keys, args) return redis.call('SET', keys[1], args[1]) end)",
    "#!lua name=lib4\nreturn 1",
    "#!lua name=lib5\nredis.register_function('f1', 1)",
    "no shebang",
];

const CONFIG_NAMES: [&str; 16] = [
    "maxmemory",
    "maxmemory-policy",
    "hash-max-listpack-entries",
    "list-max-*",
    "zset-max-listpack-value",
    "appendfsync",
    "save",
    "timeout",
    "databases",
    "nosuch",
    "set-max-intset-entries",
    "notify-keyspace-events",
    "slowlog-*",
    "stream-node-max-*",
    "lazyfree-*",
    "min-replicas-*",
];

const CONFIG_SAFE: [&str; 7] = [
    "hash-max-listpack-entries",
    "hash-max-listpack-value",
    "set-max-intset-entries",
    "zset-max-listpack-entries",
    "zset-max-listpack-value",
    "maxmemory-samples",
    "lfu-decay-time",
];

const ACL_RULES: [&str; 24] = [
    "on",
    "off",
    "nopass",
    "resetpass",
    ">pw",
    "<pw",
    ">other",
    "allkeys",
    "~s*",
    "~l?",
    "%R~z*",
    "%W~h*",
    "resetkeys",
    "+@all",
    "-@all",
    "+get",
    "-set",
    "+@read",
    "-@dangerous",
    "+config|get",
    "-client|kill",
    "allchannels",
    "&news*",
    "(+get ~x*)",
];

const COMMAND_NAMES: [&str; 16] = [
    "get",
    "set",
    "mset",
    "lpush",
    "zadd",
    "xadd",
    "xreadgroup",
    "eval",
    "config",
    "client",
    "sort",
    "migrate",
    "nosuch",
    "acl",
    "zunionstore",
    "bitfield",
];

/// The name behind a pool's name.
fn tagged(name: &str, random: &mut Random, keys: Keys) -> Vec<u8> {
    match keys {
        Keys::Tagged if random.below(20) != 0 => format!("{{k}}{name}").into_bytes(),
        _ => name.as_bytes().to_vec(),
    }
}

/// The names of all keys that requests with [`Keys::Plain`] speak of.
pub fn key_names() -> impl Iterator<Item = &'static str> {
    POOLS.iter().flat_map(|(_, names)| names.iter().copied()).chain(LEXICAL)
}

fn key(pool: &str, random: &mut Random, keys: Keys) -> Vec<u8> {
    let own = POOLS.iter().find(|(name, _)| *name == pool).filter(|_| random.below(10) != 0);
    let (_, names) = own.unwrap_or_else(|| &POOLS[random.below(POOLS.len() as u64) as usize]);
    tagged(names[random.below(names.len() as u64) as usize], random, keys)
}

fn pick<'a>(random: &mut Random, from: &[&'a str]) -> &'a str {
    from[random.below(from.len() as u64) as usize]
}

/// Writes the words of a kind of argument: one, but for the kinds that say how many.
#[allow(clippy::too_many_lines)] // a table
pub fn write(kind: &str, random: &mut Random, keys: Keys, request: &mut Request) {
    let between =
        |random: &mut Random, from: i64, to: i64| from + random.below((to - from + 1) as u64) as i64;
    let word = match kind {
        "str" | "num" | "list" | "set" | "hash" | "zset" | "stream" | "hll" | "geo" | "nokey" => {
            return request.push(key(kind, random, keys));
        }
        "key" => return request.push(key("", random, keys)),
        "lex" => {
            let name = pick(random, &LEXICAL);
            return request.push(tagged(name, random, keys));
        }
        "sortable" => {
            let pool = pick(random, &["list", "list", "set", "zset"]);
            return request.push(key(pool, random, keys));
        }
        "nlists" | "nsets" | "nzsets" | "nkeys" | "keys2" => {
            let pool = match kind {
                "nlists" => "list",
                "nsets" => "set",
                "nzsets" => "zset",
                _ => "",
            };
            let count = random.below(if kind == "nkeys" { 3 } else { 4 }).max(u64::from(kind != "nkeys"));
            let said = if random.below(25) == 0 { count + 1 } else { count };
            request.push(said.to_string().into_bytes());
            for _ in 0..count {
                request.push(key(pool, random, keys));
            }
            return;
        }
        "bitfieldop" => {
            let kind = bit_type(random);
            let offset = bit_offset(random);
            let n = between(random, -200, 300).to_string();
            let words: Vec<&str> = match random.below(4) {
                0 => vec!["GET", &kind, &offset],
                1 => vec!["SET", &kind, &offset, &n],
                2 => vec!["INCRBY", &kind, &offset, &n],
                _ => vec!["OVERFLOW", pick(random, &["WRAP", "SAT", "FAIL"]), "INCRBY", &kind, &offset, &n],
            };
            request.extend(words.into_iter().map(|word| word.as_bytes().to_vec()));
            return;
        }
        "payload" => return request.push(payload(random)),
        "value" if random.below(60) == 0 => "x".repeat(9000),
        "bigvalue" => "y".repeat(random.below(20_000) as usize),
        "value" => pick(random, &VALUES).to_owned(),
        "member" => pick(random, &MEMBERS).to_owned(),
        "field" => pick(random, &["f0", "f1", "f2", "f3", "f4", "", "10"]).to_owned(),
        "int" if random.below(12) == 0 => pick(random, &JUNK).to_owned(),
        "int" => between(random, -12, 20).to_string(),
        "float" | "score" => match random.below(10) {
            0 => pick(random, &JUNK).to_owned(),
            1 => pick(
                random,
                &["inf", "-inf", "+inf", "1e20", "-1e-7", "3.0e5", "0.1", "1.7976931348623157e308"],
            )
            .to_owned(),
            2..=4 => format!("{}.{}", between(random, -5, 9), random.below(1000)),
            _ => between(random, -5, 9).to_string(),
        },
        "index" => match random.below(15) {
            0 => pick(random, &JUNK).to_owned(),
            _ => between(random, -6, 6).to_string(),
        },
        "count" | "random" => match random.below(15) {
            0 => pick(random, &["-1", "abc", "9223372036854775807", "1.0", ""]).to_owned(),
            _ => random.below(7).to_string(),
        },
        "offset" => pick(random, &["0", "1", "3", "10", "60", "300", "-1", "536870912", "4294967296", "abc"])
            .to_owned(),
        "bitoffset" => bit_offset(random),
        "bit" => pick(random, &["0", "1", "1", "2", "a"]).to_owned(),
        "bittype" => bit_type(random),
        "ttl" => pick(random, &["100", "1000", "100000", "0", "-1", "abc", "9223372036854775807", "5000"])
            .to_owned(),
        "ttlms" => {
            pick(random, &["100000", "1000000", "0", "0", "-1", "9223372036854775807", "x"]).to_owned()
        }
        "at" => pick(random, &["4102444800", "4102444801", "1", "0", "-5", "abc", "9223372036854775807"])
            .to_owned(),
        "atms" => pick(random, &["4102444800000", "4102444800001", "1", "0", "-5", "9223372036854775807"])
            .to_owned(),
        "wait" => pick(random, &["0.01", "0.02", "-1", "abc", "0.015"]).to_owned(),
        "blockms" => pick(random, &["10", "15", "-1", "abc"]).to_owned(),
        "pattern" => {
            pick(random, &["*", "s*", "?0", "[a-m]*", "[^s]?", "", "f*", "\\*", "[a", "*0*"]).to_owned()
        }
        "sortpattern" => pick(random, &["s*", "n*", "h0->*", "nosort", "#", "*", "h0->f*", "z*"]).to_owned(),
        "min" | "max" => match random.below(8) {
            0 => pick(random, &["-inf", "+inf", "inf", "(", "abc", "nan", "(inf"]).to_owned(),
            1 => format!("({}", between(random, -5, 9)),
            _ => between(random, -5, 9).to_string(),
        },
        "lexmin" | "lexmax" => {
            pick(random, &["-", "+", "[a", "(a", "[c", "(d", "[f", "[", "(", "x", "[10"]).to_owned()
        }
        "longitude" => {
            pick(random, &["13.361389", "15.087269", "0", "-180", "180", "181", "2.35", "13.5", "x"])
                .to_owned()
        }
        "latitude" => {
            pick(random, &["38.115556", "37.502669", "0", "85.05112878", "-85", "86", "48.85", "38"])
                .to_owned()
        }
        "radius" => pick(random, &["100", "200", "5000", "0", "-1", "20000.5", "1e9", "x"]).to_owned(),
        "unit" => pick(random, &["m", "km", "ft", "mi", "KM", "x"]).to_owned(),
        "id" => match random.below(20) {
            0 => pick(
                random,
                &["abc", "0-0", "1-*", "5-*", "18446744073709551615-*", "-", "1-18446744073709551616"],
            )
            .to_owned(),
            1 => "18446744073709551615-18446744073709551615".to_owned(),
            2..=6 => format!("{}-*", 1 + random.below(60)),
            _ => format!("{}-{}", 1 + random.below(60), random.below(5)),
        },
        "streamid" => match random.below(10) {
            0 => pick(
                random,
                &["0", "0-0", "$", "abc", "+", "-", ">", "18446744073709551615-18446744073709551615"],
            )
            .to_owned(),
            1 | 2 => random.below(60).to_string(),
            _ => format!("{}-{}", 1 + random.below(60), random.below(5)),
        },
        "rangemin" => match random.below(3) {
            0 => "-".to_owned(),
            1 => format!("({}-{}", random.below(60), random.below(5)),
            _ => format!("{}", random.below(60)),
        },
        "rangemax" => match random.below(3) {
            0 => "+".to_owned(),
            1 => format!("({}-{}", random.below(60), random.below(5)),
            _ => format!("{}-{}", random.below(60), random.below(5)),
        },
        "group" => pick(random, &["grp", "grp2", "nogroup"]).to_owned(),
        "consumer" => pick(random, &["alice", "bob", "carol"]).to_owned(),
        "minidle" => pick(random, &["0", "0", "100000000", "x"]).to_owned(),
        "type" => pick(random, &["string", "list", "set", "hash", "zset", "stream", "x"]).to_owned(),
        "db" => pick(random, &["0", "1", "2", "15", "16", "-1", "x"]).to_owned(),
        "word" => pick(random, &["name", "x", "command", "with space", "", "event-1"]).to_owned(),
        "user" => pick(random, &["u1", "u2", "u3", "nobody"]).to_owned(),
        "aclrule" => pick(random, &ACL_RULES).to_owned(),
        "category" => {
            pick(random, &["read", "write", "string", "stream", "hyperloglog", "scripting", "x"]).to_owned()
        }
        "channel" => pick(random, &["news", "sport", "{k}c", ""]).to_owned(),
        "configname" => pick(random, &CONFIG_NAMES).to_owned(),
        "configsafe" => pick(random, &CONFIG_SAFE).to_owned(),
        "commandname" => pick(random, &COMMAND_NAMES).to_owned(),
        "script" => pick(random, &SCRIPTS).to_owned(),
        "sha" => pick(
            random,
            &["e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "7f923f79fe76194c868d7e1d0820de36700eb649", "abc"],
        )
        .to_owned(),
        "library" => pick(random, &LIBRARIES).to_owned(),
        "libname" => pick(random, &["lib1", "lib2", "lib3", "nolib", "lib*"]).to_owned(),
        "function" => pick(random, &["f1", "f2", "f3", "nofunction"]).to_owned(),
        "slot" => pick(random, &["0", "1", "5000", "16383", "16384", "-1", "x"]).to_owned(),
        "nodeid" => pick(random, &["0000000000000000000000000000000000000001", "x"]).to_owned(),
        "section" => {
            pick(random, &["server", "clients", "memory", "stats", "keyspace", "all", "everything", "x"])
                .to_owned()
        }
        "nan" => "nan".to_owned(),
        _ => pick(random, &JUNK).to_owned(),
    };
    request.push(word.into_bytes());
}

fn bit_type(random: &mut Random) -> String {
    pick(random, &["u8", "i8", "u1", "i5", "u16", "i64", "u63", "u64", "i65", "x", "u3"]).to_owned()
}

fn bit_offset(random: &mut Random) -> String {
    pick(random, &["0", "1", "7", "8", "100", "#0", "#1", "#5", "1000", "-1", "4294967296", "abc", "#", "15"])
        .to_owned()
}

/// What DUMP of a string gives, right or spoiled.
fn payload(random: &mut Random) -> Vec<u8> {
    let mut bytes = match random.below(3) {
        0 => b"\x00\x03foo".to_vec(),
        // A list in the form of old files, a set, a hash.
        1 => b"\x02\x02\x01a\x01b".to_vec(),
        _ => b"\x04\x01\x02f0\x01v".to_vec(),
    };
    bytes.extend_from_slice(&10_u16.to_le_bytes());
    let crc = slotstorm_node::rdb::crc64(0, &bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    if random.below(4) == 0 {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}
