//! Geo commands: sorted sets whose scores are places ([`geohash`]).

use super::call::{Call, is};
use super::fault::{Fault, NOT_FLOAT, Outcome, SYNTAX, WRONG_TYPE, text};
use super::notify::class;
use super::zsets;
use crate::keyspace::geohash::{self, Area, Place, Shape};
use crate::keyspace::number::IntText;
use crate::keyspace::zset::Zset;
use crate::keyspace::{Entry, Value, score};

const WRONG_MEMBER: Fault = text("ERR could not decode requested zset member");

pub(super) fn geoadd(call: &mut Call<'_>) -> Outcome {
    let mut options = zsets::AddOptions::default();
    let mut first = 2;
    while first < call.args.len() {
        match call.arg(first) {
            word if is(word, "NX") => options.only_new = true,
            word if is(word, "XX") => options.only_existing = true,
            word if is(word, "CH") => options.count_changed = true,
            _ => break,
        }
        first += 1;
    }
    let words = call.args.len() - first;
    if words == 0 || !words.is_multiple_of(3) || options.only_new && options.only_existing {
        return Err(SYNTAX);
    }
    let mut pairs = Vec::with_capacity(words / 3);
    for at in (first..call.args.len()).step_by(3) {
        let score = geohash::score(place(call, at)?);
        pairs.push((score as f64, call.arg(at + 2)));
    }
    let dirty = call.db.dirty;
    zsets::add_pairs(call, options, &pairs)?;
    if call.db.dirty > dirty {
        let scores: Vec<IntText> = pairs.iter().map(|(score, _)| IntText::new(*score as i64)).collect();
        let given = (1..first).map(|index| call.arg(index));
        let mut args: Vec<&[u8]> = std::iter::once(&b"zadd"[..]).chain(given).collect();
        for (score, (_, member)) in scores.iter().zip(&pairs) {
            args.extend([&**score, member]);
        }
        call.propagate(&args);
    }
    Ok(())
}

/// The arguments at `index` and behind it as longitude and latitude.
fn place(call: &Call<'_>, index: usize) -> Result<Place, Fault> {
    let degrees = |index: usize| score::parse(call.arg(index)).ok_or(NOT_FLOAT);
    let place = Place { longitude: degrees(index)?, latitude: degrees(index + 1)? };
    if geohash::is_valid(place) {
        return Ok(place);
    }
    let Place { longitude, latitude } = place;
    Err(Fault::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")))
}

/// Meters in a unit of length.
fn unit_m(unit: &[u8]) -> Result<f64, Fault> {
    [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)]
        .into_iter()
        .find_map(|(name, meters)| is(unit, name).then_some(meters))
        .ok_or(text("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// The places of members; `None` for one that is not there.
fn places(call: &mut Call<'_>, first: usize) -> Result<Vec<Option<Place>>, Fault> {
    let (env, members) = (call.db.keys.env(), call.args.from(first));
    let zset = call.zset(call.arg(1))?;
    let place = |member| zset?.score(env, member).map(geohash::place);
    Ok(members.iter().map(place).collect())
}

pub(super) fn geohash(call: &mut Call<'_>) -> Outcome {
    let places = places(call, 2)?;
    call.reply.array(places.len());
    for place in places {
        match place {
            Some(place) => call.reply.bulk(&geohash::text(place)),
            None => call.reply.null(),
        }
    }
    Ok(())
}

pub(super) fn geopos(call: &mut Call<'_>) -> Outcome {
    let places = places(call, 2)?;
    call.reply.array(places.len());
    for place in places {
        match place {
            Some(place) => answer_place(call, place),
            None => call.reply.null_array(),
        }
    }
    Ok(())
}

fn answer_place(call: &mut Call<'_>, place: Place) {
    call.reply.array(2);
    call.reply.human_double(place.longitude);
    call.reply.human_double(place.latitude);
}

pub(super) fn geodist(call: &mut Call<'_>) -> Outcome {
    let unit_m = match call.args.len() {
        4 => 1.0,
        5 => unit_m(call.arg(4))?,
        _ => return Err(SYNTAX),
    };
    let places = places(call, 2)?;
    match places[..] {
        [Some(from), Some(to), ..] => {
            let distance = geohash::distance_m(from, to) / unit_m;
            call.reply.bulk(distance_text(distance).as_bytes());
        }
        _ => call.reply.null(),
    }
    Ok(())
}

/// Four digits behind the point.
fn distance_text(distance: f64) -> String {
    let scaled = (distance * 10_000.0).round_ties_even();
    // What does not fit is to the processor the least of all integers.
    let fits = (i64::MIN as f64..i64::MAX as f64).contains(&scaled);
    let scaled = if fits { scaled as i64 } else { i64::MIN };
    let sign = if scaled < 0 { "-" } else { "" };
    let magnitude = scaled.unsigned_abs();
    format!("{sign}{}.{:04}", magnitude / 10_000, magnitude % 10_000)
}

/// Which of the searching commands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `GEORADIUS`: the arguments say where and how far.
    Radius { may_store: bool },
    /// `GEORADIUSBYMEMBER`
    RadiusByMember { may_store: bool },
    /// `GEOSEARCH`: options say where and how far.
    Search,
    /// `GEOSEARCHSTORE`
    SearchStore,
}

pub(super) fn georadius(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::Radius { may_store: true })
}

pub(super) fn georadius_ro(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::Radius { may_store: false })
}

pub(super) fn georadiusbymember(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::RadiusByMember { may_store: true })
}

pub(super) fn georadiusbymember_ro(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::RadiusByMember { may_store: false })
}

pub(super) fn geosearch(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::Search)
}

pub(super) fn geosearchstore(call: &mut Call<'_>) -> Outcome {
    search(call, Kind::SearchStore)
}

impl Kind {
    const fn is_search(self) -> bool {
        matches!(self, Self::Search | Self::SearchStore)
    }

    const fn may_store(self) -> bool {
        matches!(self, Self::Radius { may_store: true } | Self::RadiusByMember { may_store: true })
    }

    /// The argument that is the key searched.
    const fn source(self) -> usize {
        if matches!(self, Self::SearchStore) { 2 } else { 1 }
    }

    /// Where the options begin.
    const fn options_at(self) -> usize {
        match self {
            Self::Radius { .. } => 6,
            Self::RadiusByMember { .. } => 5,
            Self::Search => 2,
            Self::SearchStore => 3,
        }
    }
}

/// What the arguments of a search ask for.
#[derive(Default)]
struct Wish<'a> {
    /// A place was named; the place itself is missing while the source does not exist.
    from_member: bool,
    center: Option<Place>,
    shape: Option<(Shape, f64)>,
    by_box: bool,
    with_distance: bool,
    with_hash: bool,
    with_place: bool,
    /// Descending if true; `None`: as found.
    sort: Option<bool>,
    count: Option<usize>,
    any: bool,
    store: Option<&'a [u8]>,
    store_distance: bool,
}

/// A member found.
struct Found {
    member: Vec<u8>,
    place: Place,
    score: f64,
    distance_m: f64,
}

fn search(call: &mut Call<'_>, kind: Kind) -> Outcome {
    let source = call.arg(kind.source());
    let there = call.zset(source)?.is_some();
    let wish = wish(call, kind, there)?;
    let found = match (there, wish.center, wish.shape) {
        (true, Some(center), Some((shape, unit_m))) => {
            let area = Area { center, shape, unit_m };
            let limit = if wish.any { wish.count } else { None };
            look(call, source, &area, limit)?
        }
        _ => Vec::new(),
    };
    let unit_m = wish.shape.map_or(1.0, |(_, unit_m)| unit_m);
    let found = chosen(found, &wish);
    if let Some(target) = wish.store {
        keep(call, target, &found, kind, wish.store_distance.then_some(unit_m));
    } else {
        answer(call, &found, &wish, unit_m);
    }
    Ok(())
}

/// Reads the arguments, in Redis' order, so that of several mistakes the same one is told.
fn wish<'a>(call: &mut Call<'a>, kind: Kind, there: bool) -> Result<Wish<'a>, Fault> {
    let mut wish = Wish::default();
    match kind {
        Kind::Radius { .. } => {
            wish.center = Some(place(call, 2)?);
            wish.shape = Some(circle(call, 4)?);
        }
        Kind::RadiusByMember { .. } if there => {
            wish.center = Some(member_place(call, kind, 2)?);
            wish.shape = Some(circle(call, 3)?);
        }
        Kind::RadiusByMember { .. } => {}
        Kind::Search => {}
        Kind::SearchStore => wish.store = Some(call.arg(1)),
    }
    let mut index = kind.options_at();
    while index < call.args.len() {
        index += option(call, kind, there, index, &mut wish)?;
    }
    if wish.store.is_some() && (wish.with_distance || wish.with_hash || wish.with_place) {
        let what = if kind.is_search() { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
        return Err(Fault::new(format!(
            "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
        )));
    }
    if kind.is_search() {
        let given = super::fault::shown(call.arg(0), 128);
        if !wish.from_member && wish.center.is_none() {
            return Err(Fault::new(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {given}"
            )));
        }
        if wish.shape.is_none() {
            return Err(Fault::new(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {given}"
            )));
        }
    }
    if wish.any && wish.count.is_none() {
        return Err(text("ERR the ANY argument requires COUNT argument"));
    }
    Ok(wish)
}

/// Reads the option at `index`; gives the number of its words.
fn option<'a>(
    call: &mut Call<'a>,
    kind: Kind,
    there: bool,
    index: usize,
    wish: &mut Wish<'a>,
) -> Result<usize, Fault> {
    let (word, left) = (call.arg(index), call.args.len() - index - 1);
    let storing = left >= 1 && kind.may_store();
    match () {
        () if is(word, "WITHDIST") => wish.with_distance = true,
        () if is(word, "WITHHASH") => wish.with_hash = true,
        () if is(word, "WITHCOORD") => wish.with_place = true,
        () if is(word, "ANY") => wish.any = true,
        () if is(word, "ASC") => wish.sort = Some(false),
        () if is(word, "DESC") => wish.sort = Some(true),
        () if is(word, "COUNT") && left >= 1 => {
            let count = call.int(index + 1)?;
            let count = usize::try_from(count).ok().filter(|&count| count > 0);
            wish.count = Some(count.ok_or(text("ERR COUNT must be > 0"))?);
            return Ok(2);
        }
        () if (is(word, "STORE") || is(word, "STOREDIST")) && storing => {
            wish.store = Some(call.arg(index + 1));
            wish.store_distance = is(word, "STOREDIST");
            return Ok(2);
        }
        () if is(word, "STOREDIST") && kind == Kind::SearchStore => wish.store_distance = true,
        () if !kind.is_search() => return Err(SYNTAX),
        () if is(word, "FROMMEMBER") && left >= 1 && (wish.from_member || wish.center.is_none()) => {
            wish.from_member = true;
            if there {
                wish.center = Some(member_place(call, kind, index + 1)?);
            }
            return Ok(2);
        }
        () if is(word, "FROMLONLAT") && left >= 2 && !wish.from_member => {
            wish.center = Some(place(call, index + 1)?);
            return Ok(3);
        }
        () if is(word, "BYRADIUS") && left >= 2 && !wish.by_box => {
            wish.shape = Some(circle(call, index + 1)?);
            return Ok(3);
        }
        () if is(word, "BYBOX") && left >= 3 && (wish.by_box || wish.shape.is_none()) => {
            let side = |index, wrong| score::parse(call.arg(index)).ok_or(wrong);
            let width = side(index + 1, text("ERR need numeric width"))?;
            let height = side(index + 2, text("ERR need numeric height"))?;
            if width < 0.0 || height < 0.0 {
                return Err(text("ERR height or width cannot be negative"));
            }
            wish.shape = Some((Shape::Box { width, height }, unit_m(call.arg(index + 3))?));
            wish.by_box = true;
            return Ok(4);
        }
        () => return Err(SYNTAX),
    }
    Ok(1)
}

/// A radius and its unit.
fn circle(call: &Call<'_>, index: usize) -> Result<(Shape, f64), Fault> {
    let radius = score::parse(call.arg(index)).ok_or(text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(text("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit_m(call.arg(index + 1))?))
}

/// The place of the member that the argument at `index` names, in a source that is there.
fn member_place(call: &Call<'_>, kind: Kind, index: usize) -> Result<Place, Fault> {
    let zset = zset(call, call.arg(kind.source()))?;
    let score = zset.and_then(|zset| zset.score(call.db.keys.env(), call.arg(index)));
    score.map(geohash::place).ok_or(WRONG_MEMBER)
}

/// The sorted set of a key that was looked up before.
fn zset<'a>(call: &'a Call<'_>, key: &[u8]) -> Result<Option<&'a Zset>, Fault> {
    match call.db.keys.get(key).filter(|_| call.db.is_there(key, call.now)).map(Entry::value) {
        None => Ok(None),
        Some(Value::Zset(zset)) => Ok(Some(zset)),
        Some(_) => Err(WRONG_TYPE),
    }
}

/// The members inside an area, no more than `limit`.
fn look(call: &Call<'_>, source: &[u8], area: &Area, limit: Option<usize>) -> Result<Vec<Found>, Fault> {
    let mut all = Vec::new();
    let Some(zset) = zset(call, source)? else { return Ok(all) };
    for (from, to) in area.score_ranges() {
        let (first, end) = zset.ranks(|(_, score)| score < from, |(_, score)| score < to);
        for (member, score) in zset.iter_from(first).take(end - first) {
            if limit.is_some_and(|limit| all.len() >= limit) {
                return Ok(all);
            }
            let place = geohash::place(score);
            if let Some(distance_m) = area.distance_m(place) {
                all.push(Found { member: member.to_vec(), place, score, distance_m });
            }
        }
    }
    Ok(all)
}

/// In the order that was asked for, no more than were asked for; the nearest if only their number was.
fn chosen(mut found: Vec<Found>, wish: &Wish<'_>) -> Vec<Found> {
    let sort = wish.sort.or((wish.count.is_some() && !wish.any).then_some(false));
    if let Some(descending) = sort {
        found.sort_by(|a, b| {
            let order = a.distance_m.total_cmp(&b.distance_m);
            if descending { order.reverse() } else { order }
        });
    }
    found.truncate(wish.count.unwrap_or(usize::MAX));
    found
}

fn answer(call: &mut Call<'_>, found: &[Found], wish: &Wish<'_>, unit_m: f64) {
    let extra = usize::from(wish.with_distance) + usize::from(wish.with_hash) + usize::from(wish.with_place);
    call.reply.array(found.len());
    for item in found {
        if extra > 0 {
            call.reply.array(extra + 1);
        }
        call.reply.bulk(&item.member);
        if wish.with_distance {
            call.reply.bulk(distance_text(item.distance_m / unit_m).as_bytes());
        }
        if wish.with_hash {
            call.reply.int(item.score as i64);
        }
        if wish.with_place {
            answer_place(call, item.place);
        }
    }
}

/// Stores what was found: as places, or as distances in a unit.
fn keep(call: &mut Call<'_>, target: &[u8], found: &[Found], kind: Kind, distance_unit_m: Option<f64>) {
    if found.is_empty() {
        if call.db.find(target, call.now).is_some() {
            call.delete(target);
        }
    } else {
        let env = call.db.keys.env();
        let mut zset = Zset::default();
        for item in found {
            let score = distance_unit_m.map_or(item.score, |unit_m| item.distance_m / unit_m);
            zset.set(env, &item.member, score);
        }
        call.db.keys.set(target, Value::Zset(zset), None, call.now.wall);
        call.db.changed(target);
        call.db.dirty += found.len() as u64 - 1;
        let event = if kind.is_search() { "geosearchstore" } else { "georadiusstore" };
        call.db.notify(class::ZSET, event, target);
    }
    call.reply.int(found.len() as i64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_have_four_digits() {
        for (distance, shown) in [
            (0.0, "0.0000"),
            (0.775, "0.7750"),
            (166_274.151_56, "166274.1516"),
            (-1.5, "-1.5000"),
            (f64::NAN, "-922337203685477.5808"),
            (f64::INFINITY, "-922337203685477.5808"),
        ] {
            assert_eq!(distance_text(distance), shown);
        }
    }
}
