//! `mixed`: all workloads of masters at once, each on keys of its own.

use redis_protocol::resp2::types::BytesFrame;

use super::{Draw, Invocation, Load, Next, WorkloadKind, WorkloadOptions, kind};

/// Those that it is made of.
const PARTS: [WorkloadKind; 9] = [
    WorkloadKind::Set,
    WorkloadKind::Append,
    WorkloadKind::Register,
    WorkloadKind::Counter,
    WorkloadKind::Queue,
    WorkloadKind::Lock,
    WorkloadKind::Transfer,
    WorkloadKind::Txn,
    WorkloadKind::MultiKey,
];

#[derive(Debug)]
pub(super) struct Mixed {
    parts: Vec<Box<dyn Load>>,
}

impl Mixed {
    pub fn new(options: WorkloadOptions) -> Self {
        let part = |kind| {
            let alone = WorkloadOptions::new(kind);
            kind::load(WorkloadOptions { keys: alone.keys.min(options.keys), ..alone })
        };
        Self { parts: PARTS.into_iter().map(part).collect() }
    }
}

impl Load for Mixed {
    fn next(&mut self, draw: &mut Draw<'_>) -> Invocation {
        let part = draw.below(self.parts.len() as u32);
        Invocation { part: part as u8, ..self.parts[part as usize].next(draw) }
    }

    fn final_reads(&self) -> Vec<Invocation> {
        let mut reads = Vec::new();
        for (part, load) in (0..).zip(&self.parts) {
            reads.extend(load.final_reads().into_iter().map(|read| Invocation { part, ..read }));
        }
        reads
    }

    fn answered(&mut self, invocation: &Invocation, stage: u8, reply: &BytesFrame) -> Result<Next, String> {
        self.parts[usize::from(invocation.part)].answered(invocation, stage, reply)
    }
}
