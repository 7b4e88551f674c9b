//! Every node's view over time: each node is asked for its state over its real address, on a connection of
//! its own, ten times a second and more often while a fault holds. Views go to the record, role changes to
//! whoever listens.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use slotstorm_checker::record::{Nanos, Seen, View};
use slotstorm_fabric::Endpoint;

use crate::backend::{LinkEvent, LinkId, Mailbox, SeenBy, World};

mod model;
mod reading;
mod whole;

pub use model::{ClusterModel, NodeModel, holds, node_name};
pub use reading::Names;
use reading::Reader;
pub use whole::whole;

const MS: Nanos = 1_000_000;

/// How the observer asks.
#[derive(Clone, Copy, Debug)]
pub struct ObserverOptions {
    /// Between two polls of one node, in nanoseconds.
    pub interval: Nanos,
    /// The same while a fault holds.
    pub interval_in_fault: Nanos,
    /// A poll without an answer for so long is recorded as silence.
    pub timeout: Nanos,
}

impl Default for ObserverOptions {
    fn default() -> Self {
        Self { interval: 100 * MS, interval_in_fault: 50 * MS, timeout: 250 * MS }
    }
}

/// A change in what a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleChange {
    pub time: Nanos,
    pub node: String,
    /// True if it became (or is) a master.
    pub master: bool,
    /// Its new master, if it is a replica.
    pub of: Option<String>,
    pub epoch: u64,
    pub epoch_before: u64,
    /// The first of the slots it gained, if it became a master of slots.
    pub slots: Vec<(u16, u16)>,
}

/// The running observer. Cheap to clone: a handle.
#[derive(Clone)]
pub struct Observer {
    shared: Rc<Shared>,
}

struct Shared {
    model: RefCell<ClusterModel>,
    names: Names,
    options: ObserverOptions,
    fault_holds: Cell<bool>,
    stopped: Cell<bool>,
    on_role: Box<dyn Fn(&RoleChange)>,
}

impl Observer {
    /// Begins to poll all nodes of `world`, one task each.
    pub fn start<W: World>(
        world: &W,
        names: Names,
        options: ObserverOptions,
        on_role: impl Fn(&RoleChange) + 'static,
    ) -> Self {
        let mut model = ClusterModel::new(world.nodes());
        for number in 1..=world.nodes() {
            model.set_process(number, world.state(number));
        }
        let shared = Rc::new(Shared {
            model: RefCell::new(model),
            names,
            options,
            fault_holds: Cell::new(false),
            stopped: Cell::new(false),
            on_role: Box::new(on_role),
        });
        for number in 1..=world.nodes() {
            let poller = Poller {
                world: world.clone(),
                mailbox: world.mailbox(Endpoint::Controller),
                shared: Rc::clone(&shared),
                number,
                line: None,
                reader: Reader::default(),
                questions: [
                    reading::questions(reading::QUESTIONS),
                    reading::questions(reading::QUESTIONS.into_iter().chain([reading::FIRST_QUESTION])),
                ],
            };
            world.spawn(poller.run());
        }
        Self { shared }
    }

    /// The cluster now, with fresh process states from `world`.
    pub fn model<W: World>(&self, world: &W) -> ClusterModel {
        let mut model = self.shared.model.borrow_mut();
        for number in 1..=world.nodes() {
            model.set_process(number, world.state(number));
        }
        model.clone()
    }

    /// Polls more often from now on, or as often as usual.
    pub fn set_fault_holds(&self, holds: bool) {
        self.shared.fault_holds.set(holds);
    }

    /// Ends all polling.
    pub fn stop(&self) {
        self.shared.stopped.set(true);
    }
}

/// The task that polls one node.
struct Poller<W: World> {
    world: W,
    mailbox: W::Mailbox,
    shared: Rc<Shared>,
    number: u16,
    line: Option<Line>,
    reader: Reader,
    /// The questions of a poll; of the first one on a connection.
    questions: [Vec<u8>; 2],
}

/// The connection to the node.
struct Line {
    link: LinkId,
    connected: bool,
    incoming: BytesMut,
    /// Which process is at the other end; none before the first poll was answered.
    run_id: Option<String>,
    /// How many answers the poll under way asked for, and those that came.
    asked: usize,
    answers: Vec<Bytes>,
    /// Answers of polls that were given up, still to come: they are skipped, so that no view is older than
    /// its poll.
    stale: usize,
}

/// What became of a poll.
enum Polled {
    Answered(Box<Seen>),
    Silent(String),
}

impl<W: World> Poller<W> {
    async fn run(mut self) {
        // Spread over the interval, so that the nodes are not all asked at once.
        let stagger = self.shared.options.interval / u64::from(self.world.nodes().max(1));
        let mut due = self.world.now() + stagger * u64::from(self.number - 1);
        while !self.shared.stopped.get() {
            self.world.sleep_until(due).await;
            let sent = self.world.now();
            let polled = self.poll(sent).await;
            if self.shared.stopped.get() {
                break;
            }
            self.note(sent, polled);
            let options = &self.shared.options;
            let interval =
                if self.shared.fault_holds.get() { options.interval_in_fault } else { options.interval };
            due = (due + interval).max(self.world.now() + interval / 4);
        }
        if let Some(line) = self.line.take() {
            self.mailbox.close(line.link);
        }
    }

    fn note(&self, sent: Nanos, polled: Polled) {
        let mut view = View { time: self.world.now(), sent, node: node_name(self.number), ..View::default() };
        match polled {
            Polled::Answered(seen) => {
                let before = self.shared.model.borrow().node(self.number).and_then(|node| node.seen.clone());
                let change =
                    before.and_then(|(_, before)| role_change(view.time, &view.node, &before, &seen));
                self.shared.model.borrow_mut().set_seen(self.number, view.time, Rc::new((*seen).clone()));
                view.seen = Some(*seen);
                if let Some(change) = change {
                    (self.shared.on_role)(&change);
                }
            }
            Polled::Silent(why) => view.error = Some(why),
        }
        self.world.record_view(view);
    }

    async fn poll(&mut self, sent: Nanos) -> Polled {
        let deadline = sent + self.shared.options.timeout;
        let mut asked = false;
        if self.line.is_none() {
            let link = self.mailbox.connect(self.world.address(self.number, SeenBy::Controller));
            self.line = Some(Line {
                link,
                connected: false,
                incoming: BytesMut::new(),
                run_id: None,
                asked: 0,
                answers: Vec::new(),
                stale: 0,
            });
        }
        loop {
            if let Some(line) = &mut self.line
                && line.connected
                && line.stale == 0
                && !asked
            {
                asked = true;
                let first = line.ask();
                self.mailbox.send(line.link, self.questions[usize::from(first)].clone());
            }
            let Some(event) = self.mailbox.next(deadline).await else {
                let why = match &mut self.line {
                    Some(line) if asked => {
                        line.stale += line.asked - line.answers.len();
                        "no answer"
                    }
                    Some(line) if line.connected => "no answer to an earlier question",
                    _ => "no connection",
                };
                return Polled::Silent(why.into());
            };
            match event {
                LinkEvent::Connected(link) => {
                    if let Some(line) = self.line.as_mut().filter(|line| line.link == link) {
                        line.connected = true;
                    }
                }
                LinkEvent::Refused(link, why) | LinkEvent::Closed(link, why) => {
                    if self.line.as_ref().is_some_and(|line| line.link == link) {
                        self.line = None;
                        return Polled::Silent(why);
                    }
                }
                LinkEvent::Received(link, bytes) => {
                    let Some(line) = self.line.as_mut().filter(|line| line.link == link) else { continue };
                    if let Err(why) = line.take(&bytes) {
                        self.mailbox.close(link);
                        self.line = None;
                        return Polled::Silent(why);
                    }
                    if asked && line.answers.len() == line.asked {
                        if line.run_id.is_none() {
                            line.run_id = line.answers.pop().map(|answer| reading::run_id(&text_of(&answer)));
                        }
                        let answers = std::mem::take(&mut line.answers);
                        let texts: [_; 3] = std::array::from_fn(|at| text_of(&answers[at]));
                        let run_id = line.run_id.as_deref().unwrap_or_default();
                        let read = self.reader.read(
                            texts.each_ref().map(|text| &**text),
                            run_id,
                            &self.shared.names,
                        );
                        return match read {
                            Ok(seen) => Polled::Answered(Box::new(seen)),
                            Err(error) => Polled::Silent(error.to_string()),
                        };
                    }
                }
            }
        }
    }
}

impl Line {
    /// A poll begins; true if it is the first one, which asks one question more.
    fn ask(&mut self) -> bool {
        let first = self.run_id.is_none();
        self.answers.clear();
        self.asked = reading::QUESTIONS.len() + usize::from(first);
        first
    }

    /// Takes bytes in; an error if they are not the answers that were asked for.
    fn take(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.incoming.extend_from_slice(bytes);
        while !self.incoming.is_empty() {
            let frame = match decode_bytes_mut(&mut self.incoming) {
                Ok(None) => return Ok(()),
                Ok(Some((frame, _, _))) => frame,
                Err(error) => return Err(format!("not RESP2: {error}")),
            };
            if self.stale > 0 {
                self.stale -= 1;
                continue;
            }
            match frame {
                BytesFrame::BulkString(text) | BytesFrame::SimpleString(text) => {
                    self.answers.push(text);
                }
                BytesFrame::Error(text) => return Err(format!("the server answers: {text}")),
                _ => return Err("an answer of the wrong type".into()),
            }
            if self.answers.len() > self.asked {
                return Err("more answers than questions".into());
            }
        }
        Ok(())
    }
}

/// An answer as text: what is none is shown as it is.
fn text_of(answer: &[u8]) -> Cow<'_, str> {
    // The usual case is checked faster so.
    std::str::from_utf8(answer).map_or_else(|_| String::from_utf8_lossy(answer), Cow::Borrowed)
}

/// What changed between two words of one node, if it is worth telling.
fn role_change(time: Nanos, node: &str, before: &Seen, now: &Seen) -> Option<RoleChange> {
    let gained = now.master && !now.slots.is_empty() && (!before.master || before.slots.is_empty());
    let demoted = before.master && !now.master;
    let moved = !before.master && !now.master && before.master_name != now.master_name;
    (gained || demoted || moved).then(|| RoleChange {
        time,
        node: node.to_owned(),
        master: now.master,
        of: now.master_name.clone(),
        epoch: now.epoch,
        epoch_before: before.epoch,
        slots: now.slots.clone(),
    })
}
