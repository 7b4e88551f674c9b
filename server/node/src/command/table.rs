//! The one table of commands, sorted by name. Arity, flags and key positions are those of Redis 7.0.

use super::flag::{
    ADMIN, ALLOW_BUSY, ASKING, BLOCKING, CONTAINER, DENYOOM, FAST, LOADING, MAY_REPLICATE, NO_AUTH, NO_MULTI,
    NOSCRIPT, PUBSUB, READONLY, STALE, WRITE,
};
use super::{
    KeyPositions, Run, Spec, bitmaps, databases, generic, geo, hashes, hyperloglog, lcs, lists, sets, sort,
    stream_claims, stream_groups, stream_info, stream_reads, streams, strings, transfer, zset_algebra,
    zset_ranges, zsets,
};

/// A command that the node itself carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Acl,
    Asking,
    Auth,
    BgRewriteAof,
    BgSave,
    Client,
    Cluster,
    Command,
    Config,
    Debug,
    Discard,
    Echo,
    Eval,
    Exec,
    Failover,
    Fcall,
    Function,
    Hello,
    Info,
    LastSave,
    Latency,
    Memory,
    Migrate,
    Monitor,
    Multi,
    PSubscribe,
    PSync,
    PUnsubscribe,
    Ping,
    PubSub,
    Publish,
    Quit,
    ReadOnly,
    ReadWrite,
    ReplConf,
    ReplicaOf,
    Reset,
    Role,
    SPublish,
    SSubscribe,
    SUnsubscribe,
    Save,
    Script,
    Select,
    Shutdown,
    SlowLog,
    Subscribe,
    Sync,
    Time,
    Unsubscribe,
    Unwatch,
    Wait,
    Watch,
}

/// The command of this name, whatever the case.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; 24];
    let lower = lower.get_mut(..name.len())?;
    for (to, from) in lower.iter_mut().zip(name) {
        *to = from.to_ascii_lowercase();
    }
    let mut place = name_hash(lower);
    loop {
        let spec = TABLE.get(usize::from(PLACES[place]))?;
        if spec.name.as_bytes() == lower {
            return Some(spec);
        }
        place = (place + 1) % PLACES.len();
    }
}

/// Places in [`TABLE`] by hash of the name, the next free one where two agree; behind its end where no name is.
/// Every request looks here: a search by halves compares eight names, and costs as much as reading a request.
static PLACES: [u16; 1024] = {
    let mut places = [u16::MAX; 1024];
    let mut index = 0;
    while index < TABLE.len() {
        let mut place = name_hash(TABLE[index].name.as_bytes());
        while places[place] != u16::MAX {
            place = (place + 1) % places.len();
        }
        places[place] = index as u16;
        index += 1;
    }
    places
};

const fn name_hash(name: &[u8]) -> usize {
    let mut hash = name.len();
    let mut index = 0;
    while index < name.len() {
        hash = (hash ^ name[index] as usize).wrapping_mul(0x0100_0193);
        index += 1;
    }
    (hash ^ hash >> 15) % 1024
}

const fn data(
    name: &'static str,
    arity: i32,
    flags: u32,
    keys: KeyPositions,
    run: fn(&mut super::Call<'_>) -> super::Outcome,
) -> Spec {
    Spec { name, arity, flags: flags | container(name), keys, run: Run::Data(run) }
}

const fn node(name: &'static str, arity: i32, flags: u32, verb: Verb) -> Spec {
    Spec { name, arity, flags: flags | container(name), keys: NONE, run: Run::Node(verb) }
}

/// A command that runs a script: behind it the number of keys, and the keys.
const fn script(name: &'static str, flags: u32, verb: Verb) -> Spec {
    Spec { keys: TIMED_COUNTED, ..node(name, -3, flags, verb) }
}

/// Commands that stand for their sub-commands.
const CONTAINERS: [&str; 15] = [
    "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module", "object",
    "pubsub", "script", "slowlog", "xgroup", "xinfo",
];

/// The flag of a container, or none.
const fn container(name: &str) -> u32 {
    let mut index = 0;
    while index < CONTAINERS.len() {
        if same(name.as_bytes(), CONTAINERS[index].as_bytes()) {
            return CONTAINER;
        }
        index += 1;
    }
    0
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

const fn keys(first: i32, last: i32, step: i32) -> KeyPositions {
    KeyPositions { first, last, step, count_at: 0, store_from: 0 }
}

const NONE: KeyPositions = keys(0, 0, 0);
const ONE: KeyPositions = keys(1, 1, 1);
const TWO: KeyPositions = keys(1, 2, 1);
const ALL: KeyPositions = keys(1, -1, 1);
const PAIRS: KeyPositions = keys(1, -1, 2);
const COUNTED: KeyPositions = KeyPositions { count_at: 1, ..NONE };
/// `XREAD` and its like.
const STREAMS: KeyPositions = KeyPositions { count_at: KeyPositions::BEHIND_STREAMS, ..NONE };
/// The last argument is a timeout.
const TIMED: KeyPositions = keys(1, -2, 1);
/// As [`COUNTED`], behind a timeout.
const TIMED_COUNTED: KeyPositions = KeyPositions { count_at: 2, ..COUNTED };
/// A key that is written, then as [`COUNTED`].
const STORE_COUNTED: KeyPositions = KeyPositions { count_at: 2, ..ONE };
/// As [`ONE`], and a key behind the word STORE.
const STORED: KeyPositions = KeyPositions { store_from: 2, ..ONE };
/// The same behind the arguments of GEORADIUS.
const GEO_STORED: KeyPositions = KeyPositions { store_from: 5, ..ONE };
const W: u32 = WRITE;
/// Of commands that may wait.
const B: u32 = NOSCRIPT | BLOCKING;
const R: u32 = READONLY;
const SERVED: u32 = LOADING | STALE;
/// Of commands that run scripts.
const SCRIPTED: u32 = NOSCRIPT | STALE;

/// The table.
#[rustfmt::skip] // one command a line
pub static TABLE: &[Spec] = &[
    node("acl", -2, 0, Verb::Acl),
    data("append", 3, W | DENYOOM | FAST, ONE, strings::append),
    node("asking", 1, FAST, Verb::Asking),
    node("auth", -2, NOSCRIPT | SERVED | FAST | NO_AUTH | ALLOW_BUSY, Verb::Auth),
    node("bgrewriteaof", 1, ADMIN | NOSCRIPT, Verb::BgRewriteAof),
    node("bgsave", -1, ADMIN | NOSCRIPT, Verb::BgSave),
    data("bitcount", -2, R, ONE, bitmaps::bitcount),
    data("bitfield", -2, W | DENYOOM, ONE, bitmaps::bitfield),
    data("bitfield_ro", -2, R | FAST, ONE, bitmaps::bitfield),
    data("bitop", -4, W | DENYOOM, keys(2, -1, 1), bitmaps::bitop),
    data("bitpos", -3, R, ONE, bitmaps::bitpos),
    data("blmove", 6, W | DENYOOM | B, TWO, lists::blmove),
    data("blmpop", -5, W | BLOCKING, TIMED_COUNTED, lists::blmpop),
    data("blpop", -3, W | B, TIMED, lists::blpop),
    data("brpop", -3, W | B, TIMED, lists::brpop),
    data("brpoplpush", 4, W | DENYOOM | B, TWO, lists::brpoplpush),
    data("bzmpop", -5, W | BLOCKING, TIMED_COUNTED, zsets::bzmpop),
    data("bzpopmax", -3, W | B | FAST, TIMED, zsets::bzpopmax),
    data("bzpopmin", -3, W | B | FAST, TIMED, zsets::bzpopmin),
    node("client", -2, 0, Verb::Client),
    node("cluster", -2, 0, Verb::Cluster),
    node("command", -1, SERVED, Verb::Command),
    node("config", -2, 0, Verb::Config),
    data("copy", -3, W | DENYOOM, TWO, generic::copy),
    data("dbsize", 1, R | FAST, NONE, databases::dbsize),
    node("debug", -2, ADMIN | NOSCRIPT | SERVED, Verb::Debug),
    data("decr", 2, W | DENYOOM | FAST, ONE, strings::decr),
    data("decrby", 3, W | DENYOOM | FAST, ONE, strings::decrby),
    data("del", -2, W, ALL, generic::del),
    node("discard", 1, NOSCRIPT | SERVED | FAST | ALLOW_BUSY, Verb::Discard),
    data("dump", 2, R, ONE, transfer::dump),
    node("echo", 2, SERVED | FAST, Verb::Echo),
    script("eval", SCRIPTED | MAY_REPLICATE, Verb::Eval),
    script("eval_ro", SCRIPTED | READONLY, Verb::Eval),
    script("evalsha", SCRIPTED | MAY_REPLICATE, Verb::Eval),
    script("evalsha_ro", SCRIPTED | READONLY, Verb::Eval),
    node("exec", 1, NOSCRIPT | SERVED, Verb::Exec),
    data("exists", -2, R | FAST, ALL, generic::exists),
    data("expire", -3, W | FAST, ONE, generic::expire),
    data("expireat", -3, W | FAST, ONE, generic::expireat),
    data("expiretime", 2, R | FAST, ONE, generic::expiretime),
    node("failover", -1, ADMIN | NOSCRIPT | STALE, Verb::Failover),
    script("fcall", SCRIPTED | MAY_REPLICATE, Verb::Fcall),
    script("fcall_ro", SCRIPTED | READONLY, Verb::Fcall),
    data("flushall", -1, W, NONE, databases::flushall),
    data("flushdb", -1, W, NONE, databases::flushdb),
    node("function", -2, 0, Verb::Function),
    data("geoadd", -5, W | DENYOOM, ONE, geo::geoadd),
    data("geodist", -4, R, ONE, geo::geodist),
    data("geohash", -2, R, ONE, geo::geohash),
    data("geopos", -2, R, ONE, geo::geopos),
    data("georadius", -6, W | DENYOOM, GEO_STORED, geo::georadius),
    data("georadius_ro", -6, R, ONE, geo::georadius_ro),
    data("georadiusbymember", -5, W | DENYOOM, GEO_STORED, geo::georadiusbymember),
    data("georadiusbymember_ro", -5, R, ONE, geo::georadiusbymember_ro),
    data("geosearch", -7, R, ONE, geo::geosearch),
    data("geosearchstore", -8, W | DENYOOM, TWO, geo::geosearchstore),
    data("get", 2, R | FAST, ONE, strings::get),
    data("getbit", 3, R | FAST, ONE, bitmaps::getbit),
    data("getdel", 2, W | FAST, ONE, strings::getdel),
    data("getex", -2, W | FAST, ONE, strings::getex),
    data("getrange", 4, R, ONE, strings::getrange),
    data("getset", 3, W | DENYOOM | FAST, ONE, strings::getset),
    data("hdel", -3, W | FAST, ONE, hashes::hdel),
    node("hello", -1, NOSCRIPT | SERVED | FAST | NO_AUTH | ALLOW_BUSY, Verb::Hello),
    data("hexists", 3, R | FAST, ONE, hashes::hexists),
    data("hget", 3, R | FAST, ONE, hashes::hget),
    data("hgetall", 2, R, ONE, hashes::hgetall),
    data("hincrby", 4, W | DENYOOM | FAST, ONE, hashes::hincrby),
    data("hincrbyfloat", 4, W | DENYOOM | FAST, ONE, hashes::hincrbyfloat),
    data("hkeys", 2, R, ONE, hashes::hkeys),
    data("hlen", 2, R | FAST, ONE, hashes::hlen),
    data("hmget", -3, R | FAST, ONE, hashes::hmget),
    data("hmset", -4, W | DENYOOM | FAST, ONE, hashes::hmset),
    data("hrandfield", -2, R, ONE, hashes::hrandfield),
    data("hscan", -3, R, ONE, generic::hscan),
    data("hset", -4, W | DENYOOM | FAST, ONE, hashes::hset),
    data("hsetnx", 4, W | DENYOOM | FAST, ONE, hashes::hsetnx),
    data("hstrlen", 3, R | FAST, ONE, hashes::hstrlen),
    data("hvals", 2, R, ONE, hashes::hvals),
    data("incr", 2, W | DENYOOM | FAST, ONE, strings::incr),
    data("incrby", 3, W | DENYOOM | FAST, ONE, strings::incrby),
    data("incrbyfloat", 3, W | DENYOOM | FAST, ONE, strings::incrbyfloat),
    node("info", -1, SERVED, Verb::Info),
    data("keys", 2, R, NONE, generic::keys),
    node("lastsave", 1, SERVED | FAST, Verb::LastSave),
    node("latency", -2, 0, Verb::Latency),
    data("lcs", -3, R, TWO, lcs::lcs),
    data("lindex", 3, R, ONE, lists::lindex),
    data("linsert", 5, W | DENYOOM, ONE, lists::linsert),
    data("llen", 2, R | FAST, ONE, lists::llen),
    data("lmove", 5, W | DENYOOM, TWO, lists::lmove),
    data("lmpop", -4, W, COUNTED, lists::lmpop),
    data("lolwut", -1, R | FAST, NONE, generic::lolwut),
    data("lpop", -2, W | FAST, ONE, lists::lpop),
    data("lpos", -3, R, ONE, lists::lpos),
    data("lpush", -3, W | DENYOOM | FAST, ONE, lists::lpush),
    data("lpushx", -3, W | DENYOOM | FAST, ONE, lists::lpushx),
    data("lrange", 4, R, ONE, lists::lrange),
    data("lrem", 4, W, ONE, lists::lrem),
    data("lset", 4, W | DENYOOM, ONE, lists::lset),
    data("ltrim", 4, W, ONE, lists::ltrim),
    node("memory", -2, 0, Verb::Memory),
    data("mget", -2, R | FAST, ALL, strings::mget),
    Spec { keys: keys(3, 3, 1), ..node("migrate", -6, W, Verb::Migrate) },
    node("monitor", 1, ADMIN | NOSCRIPT | SERVED, Verb::Monitor),
    data("move", 3, W | FAST, ONE, databases::move_key),
    data("mset", -3, W | DENYOOM, PAIRS, strings::mset),
    data("msetnx", -3, W | DENYOOM, PAIRS, strings::msetnx),
    node("multi", 1, NOSCRIPT | SERVED | FAST | ALLOW_BUSY, Verb::Multi),
    data("object", -2, 0, NONE, generic::object),
    data("persist", 2, W | FAST, ONE, generic::persist),
    data("pexpire", -3, W | FAST, ONE, generic::pexpire),
    data("pexpireat", -3, W | FAST, ONE, generic::pexpireat),
    data("pexpiretime", 2, R | FAST, ONE, generic::pexpiretime),
    data("pfadd", -2, W | DENYOOM | FAST, ONE, hyperloglog::pfadd),
    data("pfcount", -2, R | MAY_REPLICATE, ALL, hyperloglog::pfcount),
    data("pfdebug", 3, W | DENYOOM | ADMIN, keys(2, 2, 1), hyperloglog::pfdebug),
    data("pfmerge", -2, W | DENYOOM, ALL, hyperloglog::pfmerge),
    data("pfselftest", 1, ADMIN, NONE, hyperloglog::pfselftest),
    node("ping", -1, FAST, Verb::Ping),
    data("psetex", 4, W | DENYOOM, ONE, strings::psetex),
    node("psubscribe", -2, PUBSUB | NOSCRIPT | SERVED, Verb::PSubscribe),
    node("psync", -3, ADMIN | NOSCRIPT | NO_MULTI, Verb::PSync),
    data("pttl", 2, R | FAST, ONE, generic::pttl),
    node("publish", 3, PUBSUB | SERVED | FAST | MAY_REPLICATE, Verb::Publish),
    node("pubsub", -2, 0, Verb::PubSub),
    node("punsubscribe", -1, PUBSUB | NOSCRIPT | SERVED, Verb::PUnsubscribe),
    node("quit", -1, NOSCRIPT | SERVED | FAST | NO_AUTH | ALLOW_BUSY, Verb::Quit),
    data("randomkey", 1, R, NONE, generic::randomkey),
    node("readonly", 1, SERVED | FAST, Verb::ReadOnly),
    node("readwrite", 1, SERVED | FAST, Verb::ReadWrite),
    data("rename", 3, W, TWO, generic::rename),
    data("renamenx", 3, W | FAST, TWO, generic::renamenx),
    node("replconf", -1, ADMIN | NOSCRIPT | SERVED | ALLOW_BUSY, Verb::ReplConf),
    node("replicaof", 3, ADMIN | NOSCRIPT | STALE, Verb::ReplicaOf),
    node("reset", 1, NOSCRIPT | SERVED | FAST | NO_AUTH | ALLOW_BUSY, Verb::Reset),
    data("restore", -4, W | DENYOOM, ONE, transfer::restore),
    data("restore-asking", -4, W | DENYOOM | ASKING, ONE, transfer::restore),
    node("role", 1, NOSCRIPT | SERVED | FAST, Verb::Role),
    data("rpop", -2, W | FAST, ONE, lists::rpop),
    data("rpoplpush", 3, W | DENYOOM, TWO, lists::rpoplpush),
    data("rpush", -3, W | DENYOOM | FAST, ONE, lists::rpush),
    data("rpushx", -3, W | DENYOOM | FAST, ONE, lists::rpushx),
    data("sadd", -3, W | DENYOOM | FAST, ONE, sets::sadd),
    node("save", 1, ADMIN | NOSCRIPT | NO_MULTI, Verb::Save),
    data("scan", -2, R, NONE, generic::scan),
    data("scard", 2, R | FAST, ONE, sets::scard),
    node("script", -2, 0, Verb::Script),
    data("sdiff", -2, R, ALL, sets::sdiff),
    data("sdiffstore", -3, W | DENYOOM, ALL, sets::sdiffstore),
    node("select", 2, SERVED | FAST, Verb::Select),
    data("set", -3, W | DENYOOM, ONE, strings::set),
    data("setbit", 4, W | DENYOOM, ONE, bitmaps::setbit),
    data("setex", 4, W | DENYOOM, ONE, strings::setex),
    data("setnx", 3, W | DENYOOM | FAST, ONE, strings::setnx),
    data("setrange", 4, W | DENYOOM, ONE, strings::setrange),
    node("shutdown", -1, ADMIN | NOSCRIPT | SERVED | NO_MULTI | ALLOW_BUSY, Verb::Shutdown),
    data("sinter", -2, R, ALL, sets::sinter),
    data("sintercard", -3, R, COUNTED, sets::sintercard),
    data("sinterstore", -3, W | DENYOOM, ALL, sets::sinterstore),
    data("sismember", 3, R | FAST, ONE, sets::sismember),
    node("slaveof", 3, ADMIN | NOSCRIPT | STALE, Verb::ReplicaOf),
    node("slowlog", -2, 0, Verb::SlowLog),
    data("smembers", 2, R, ONE, sets::smembers),
    data("smismember", -3, R | FAST, ONE, sets::smismember),
    data("smove", 4, W | FAST, TWO, sets::smove),
    data("sort", -2, W | DENYOOM, STORED, sort::sort),
    data("sort_ro", -2, R, ONE, sort::sort),
    data("spop", -2, W | FAST, ONE, sets::spop),
    Spec { keys: ONE, ..node("spublish", 3, PUBSUB | SERVED | FAST | MAY_REPLICATE, Verb::SPublish) },
    data("srandmember", -2, R, ONE, sets::srandmember),
    data("srem", -3, W | FAST, ONE, sets::srem),
    data("sscan", -3, R, ONE, generic::sscan),
    Spec { keys: ALL, ..node("ssubscribe", -2, PUBSUB | NOSCRIPT | SERVED, Verb::SSubscribe) },
    data("strlen", 2, R | FAST, ONE, strings::strlen),
    node("subscribe", -2, PUBSUB | NOSCRIPT | SERVED, Verb::Subscribe),
    data("substr", 4, R, ONE, strings::getrange),
    data("sunion", -2, R, ALL, sets::sunion),
    data("sunionstore", -3, W | DENYOOM, ALL, sets::sunionstore),
    node("sunsubscribe", -1, PUBSUB | NOSCRIPT | SERVED, Verb::SUnsubscribe),
    data("swapdb", 3, W | FAST, NONE, databases::swapdb),
    node("sync", 1, ADMIN | NOSCRIPT | NO_MULTI, Verb::Sync),
    node("time", 1, SERVED | FAST, Verb::Time),
    data("touch", -2, R | FAST, ALL, generic::touch),
    data("ttl", 2, R | FAST, ONE, generic::ttl),
    data("type", 2, R | FAST, ONE, generic::key_type),
    data("unlink", -2, W | FAST, ALL, generic::del),
    node("unsubscribe", -1, PUBSUB | NOSCRIPT | SERVED, Verb::Unsubscribe),
    node("unwatch", 1, NOSCRIPT | SERVED | FAST | ALLOW_BUSY, Verb::Unwatch),
    node("wait", 3, NOSCRIPT, Verb::Wait),
    Spec { keys: ALL, ..node("watch", -2, NOSCRIPT | SERVED | FAST | ALLOW_BUSY, Verb::Watch) },
    data("xack", -4, W | FAST, ONE, stream_groups::xack),
    data("xadd", -5, W | DENYOOM | FAST, ONE, streams::xadd),
    data("xautoclaim", -6, W | FAST, ONE, stream_claims::xautoclaim),
    data("xclaim", -6, W | FAST, ONE, stream_claims::xclaim),
    data("xdel", -3, W | FAST, ONE, streams::xdel),
    data("xgroup", -2, 0, NONE, stream_groups::xgroup),
    data("xinfo", -2, 0, NONE, stream_info::xinfo),
    data("xlen", 2, R | FAST, ONE, streams::xlen),
    data("xpending", -3, R, ONE, stream_groups::xpending),
    data("xrange", -4, R, ONE, streams::xrange),
    data("xread", -4, R | BLOCKING, STREAMS, stream_reads::xread),
    data("xreadgroup", -7, W | BLOCKING, STREAMS, stream_reads::xreadgroup),
    data("xrevrange", -4, R, ONE, streams::xrevrange),
    data("xsetid", -3, W | DENYOOM | FAST, ONE, streams::xsetid),
    data("xtrim", -4, W, ONE, streams::xtrim),
    data("zadd", -4, W | DENYOOM | FAST, ONE, zsets::zadd),
    data("zcard", 2, R | FAST, ONE, zsets::zcard),
    data("zcount", 4, R | FAST, ONE, zset_ranges::zcount),
    data("zdiff", -3, R, COUNTED, zset_algebra::zdiff),
    data("zdiffstore", -4, W | DENYOOM, STORE_COUNTED, zset_algebra::zdiffstore),
    data("zincrby", 4, W | DENYOOM | FAST, ONE, zsets::zincrby),
    data("zinter", -3, R, COUNTED, zset_algebra::zinter),
    data("zintercard", -3, R, COUNTED, zset_algebra::zintercard),
    data("zinterstore", -4, W | DENYOOM, STORE_COUNTED, zset_algebra::zinterstore),
    data("zlexcount", 4, R | FAST, ONE, zset_ranges::zlexcount),
    data("zmpop", -4, W, COUNTED, zsets::zmpop),
    data("zmscore", -3, R | FAST, ONE, zsets::zmscore),
    data("zpopmax", -2, W | FAST, ONE, zsets::zpopmax),
    data("zpopmin", -2, W | FAST, ONE, zsets::zpopmin),
    data("zrandmember", -2, R, ONE, zsets::zrandmember),
    data("zrange", -4, R, ONE, zset_ranges::zrange),
    data("zrangebylex", -4, R, ONE, zset_ranges::zrangebylex),
    data("zrangebyscore", -4, R, ONE, zset_ranges::zrangebyscore),
    data("zrangestore", -5, W | DENYOOM, TWO, zset_ranges::zrangestore),
    data("zrank", 3, R | FAST, ONE, zsets::zrank),
    data("zrem", -3, W | FAST, ONE, zsets::zrem),
    data("zremrangebylex", 4, W, ONE, zset_ranges::zremrangebylex),
    data("zremrangebyrank", 4, W, ONE, zset_ranges::zremrangebyrank),
    data("zremrangebyscore", 4, W, ONE, zset_ranges::zremrangebyscore),
    data("zrevrange", -4, R, ONE, zset_ranges::zrevrange),
    data("zrevrangebylex", -4, R, ONE, zset_ranges::zrevrangebylex),
    data("zrevrangebyscore", -4, R, ONE, zset_ranges::zrevrangebyscore),
    data("zrevrank", 3, R | FAST, ONE, zsets::zrevrank),
    data("zscan", -3, R, ONE, generic::zscan),
    data("zscore", 3, R | FAST, ONE, zsets::zscore),
    data("zunion", -3, R, COUNTED, zset_algebra::zunion),
    data("zunionstore", -4, W | DENYOOM, STORE_COUNTED, zset_algebra::zunionstore),
];
