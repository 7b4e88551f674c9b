//! The evidence of an edge in words. Nothing is kept for it while a history is checked: the key is looked at again.

use super::Keys;
use super::deps::{Asked, Dep};
use super::findings::Findings;
use super::graph::{Mask, PROCESS, REALTIME, WR, WW};
use super::history::Objects;
use super::index::Index;
use crate::answer::{Link, OpId, Relation};

pub(super) fn link(index: &Index<'_>, analysis: &mut Keys, from: u32, to: u32, kind: Mask) -> Link {
    let (relation, why) = match kind {
        PROCESS => {
            let process = index.history.spans()[from as usize].process;
            (Relation::Process, format!("process {process} did T{from} first"))
        }
        REALTIME => {
            let (returned, invoked) =
                (index.history.spans()[from as usize].returned, index.history.spans()[to as usize].invoked);
            let why = format!("T{from} had returned at {returned}, T{to} was invoked at {invoked}");
            (Relation::Realtime, why)
        }
        WW => of_data(index, analysis, from, to, Relation::WriteWrite),
        WR => of_data(index, analysis, from, to, Relation::WriteRead),
        _ => of_data(index, analysis, from, to, Relation::ReadWrite),
    };
    Link { from: OpId(from), to: OpId(to), relation, why }
}

fn of_data(
    index: &Index<'_>,
    analysis: &mut Keys,
    from: u32,
    to: u32,
    relation: Relation,
) -> (Relation, String) {
    let history = index.history;
    let mut keys: Vec<u32> = history.micro_range(from).map(|micro| history.micro_key(micro)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut asked = Asked { from, to, relation, found: None };
    for key in keys {
        if history.micro_range(to).all(|micro| history.micro_key(micro) != key) {
            continue;
        }
        analysis.analyse(index, key, &mut asked, &mut Findings::default());
        if let Some(dep) = asked.found {
            return (relation, words(history.objects(), &history.key_name(key), dep));
        }
    }
    (relation, String::new())
}

fn words(objects: Objects, key: &str, dep: Dep) -> String {
    let Dep { from, to, relation, before, after } = dep;
    match (objects, relation, before) {
        (Objects::Lists, Relation::WriteRead, _) => {
            format!("T{to} read {after} in {key}, which T{from} appended")
        }
        (Objects::Lists, Relation::WriteWrite, before) => {
            let before = before.unwrap_or_default();
            format!("T{to} appended {after} to {key} behind {before}, which T{from} appended")
        }
        (Objects::Lists, _, Some(before)) => {
            format!("T{from} read {key} up to {before}, without {after}, which T{to} appended")
        }
        (Objects::Lists, _, None) => {
            format!("T{from} read {key} while it was empty, without {after}, which T{to} appended")
        }
        (Objects::Registers, Relation::WriteRead, _) => {
            format!("T{to} read {after} in {key}, which T{from} wrote")
        }
        (Objects::Registers, Relation::WriteWrite, before) => {
            let before = before.unwrap_or_default();
            format!("T{to} wrote {after} to {key} over {before}, which T{from} wrote")
        }
        (Objects::Registers, _, Some(before)) => {
            format!("T{from} read {before} in {key}, which T{to} replaced by {after}")
        }
        (Objects::Registers, _, None) => {
            format!("T{from} read nil in {key}, which T{to} replaced by {after}")
        }
    }
}
