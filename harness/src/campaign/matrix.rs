//! Which run comes when: pure, the same file and seed give the same sequence, so that a resumed night goes on with the
//! very runs that are missing.

use rand::Rng;
use serde::{Deserialize, Serialize};
use slotstorm_checker::record::Expect;

use super::file::{CampaignFile, Canary, Topology, can_run};
use crate::plan::seed;

/// Canaries come first, and again after so many runs.
const CANARY_EVERY: u64 = 200;

/// A run of a night.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// From 0.
    pub number: u64,
    pub cell: Cell,
    pub seed: u64,
    /// It must be invalid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
    /// Part of the signature that the canary must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must_show: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_availability_pct: Option<f64>,
}

/// One value of each axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    pub server: String,
    pub preset: String,
    pub workload: String,
    pub topology: Topology,
    pub node_timeout_ms: u64,
    pub expect: Expect,
    pub backend: String,
}

impl Cell {
    /// What is judged and compared over nights: a server, and apart from it the same server in the simulator, whose times are
    /// not those of a machine.
    pub fn subject(&self) -> String {
        if self.is_simulated() { format!("{} (sim)", self.server) } else { self.server.clone() }
    }

    /// True if it runs in virtual time: it needs no calm host, and cannot starve.
    pub fn is_simulated(&self) -> bool {
        self.backend == "sim"
    }
}

/// The tasks of a night, one after the other and without end.
pub struct Sequence {
    cells: Vec<Weighed>,
    canaries: Vec<Canary>,
    file: CampaignFile,
    night_seed: u64,
    next: u64,
    /// Runs of the matrix so far.
    ordinary: u64,
    /// Canaries of the current round that are still to come.
    canaries_left: usize,
}

struct Weighed {
    cell: Cell,
    weight: u64,
    /// How much of the night it has had, as a number that grows by 1 / weight with each run.
    passed: f64,
    runs: u64,
}

impl Sequence {
    /// From the beginning.
    pub fn new(file: &CampaignFile, night_seed: u64) -> Self {
        let canaries = file.canaries();
        Self {
            cells: cells(file, night_seed),
            canaries_left: canaries.len(),
            canaries,
            file: file.clone(),
            night_seed,
            next: 0,
            ordinary: 0,
        }
    }

    /// How many cells the matrix has.
    pub fn cells(&self) -> usize {
        self.cells.len()
    }

    fn canary(&mut self, number: u64, seed: u64) -> Task {
        let canary = &self.canaries[self.canaries.len() - self.canaries_left];
        self.canaries_left -= 1;
        let cell = Cell {
            server: canary.server.clone(),
            preset: canary.preset.clone(),
            workload: canary.workload.clone(),
            topology: Topology { masters: 3, replicas: 1 },
            node_timeout_ms: 2000,
            expect: canary.expect,
            backend: canary.backend.clone(),
        };
        Task {
            number,
            cell,
            seed,
            canary: true,
            must_show: canary.signature.clone(),
            min_availability_pct: canary.min_availability_pct,
        }
    }
}

impl Iterator for Sequence {
    type Item = Task;

    /// Of all cells the one that has had the least of its share; equals in an order that the seed shuffled.
    fn next(&mut self) -> Option<Task> {
        let number = self.next;
        self.next += 1;
        let own_seed = u64::from(seed::rng(self.night_seed, &format!("task {number}")).random::<u32>());
        if self.canaries_left > 0 {
            return Some(self.canary(number, own_seed));
        }
        let least = self.cells.iter_mut().min_by(|a, b| a.passed.total_cmp(&b.passed))?;
        least.passed += 1.0 / least.weight as f64;
        let seeds = &self.file.seeds;
        let seed = match seeds.len() as u64 {
            0 => own_seed,
            count => seeds[(least.runs % count) as usize],
        };
        least.runs += 1;
        let cell = least.cell.clone();
        self.ordinary += 1;
        if self.ordinary.is_multiple_of(CANARY_EVERY) {
            self.canaries_left = self.canaries.len();
        }
        Some(Task { number, cell, seed, canary: false, must_show: None, min_availability_pct: None })
    }
}

/// All cells whose weight is not zero, shuffled.
fn cells(file: &CampaignFile, night_seed: u64) -> Vec<Weighed> {
    let matrix = &file.matrix;
    let mut cells = Vec::new();
    for server in &matrix.server {
        for preset in &matrix.preset {
            for workload in &matrix.workload {
                for topology in &matrix.topology {
                    for node_timeout in &matrix.node_timeout_ms {
                        for expect in &matrix.expect {
                            for backend in &matrix.backend {
                                let weights = [
                                    server.weight(),
                                    preset.weight(),
                                    workload.weight(),
                                    topology.weight(),
                                    node_timeout.weight(),
                                    expect.weight(),
                                    backend.weight(),
                                ];
                                let weight = weights.iter().map(|&weight| u64::from(weight)).product();
                                let cell = Cell {
                                    server: server.value().clone(),
                                    preset: preset.value().clone(),
                                    workload: workload.value().clone(),
                                    topology: *topology.value(),
                                    node_timeout_ms: *node_timeout.value(),
                                    expect: *expect.value(),
                                    backend: backend.value().clone(),
                                };
                                cells.push(Weighed { cell, weight, passed: 0.0, runs: 0 });
                            }
                        }
                    }
                }
            }
        }
    }
    cells.retain(|weighed| weighed.weight > 0 && can_run(&weighed.cell.backend, &weighed.cell.server));
    let mut rng = seed::rng(night_seed, "cells");
    for last in (1..cells.len()).rev() {
        cells.swap(last, rng.random_range(0..=last));
    }
    // Without this the first round would give every cell one run, whatever its weight.
    for weighed in &mut cells {
        weighed.passed = rng.random::<f64>() / weighed.weight as f64;
    }
    cells
}
