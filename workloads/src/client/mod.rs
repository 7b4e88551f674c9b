//! A Redis Cluster client as a state machine: it pipelines on one connection per node, follows MOVED and ASK, learns
//! the slot map by CLUSTER SLOTS, and says of every request whether it happened.
//!
//! The caller carries out [`Step`]s and reports [`Event`]s:
//!
//! ```text
//! request(now, ..)  on(now, event)  tick(now)   then   while let Some(step) = next_step() { .. }
//! ```
//! and calls `tick` at [`ClusterClient::next_deadline`].
//!
//! Outcomes are Jepsen's. A request that was never handed to a connection, or was answered by an error, certainly did
//! not happen (`Fail`); one that was sent and not answered may have (`Info`). A request is never sent twice but after a
//! redirection or TRYAGAIN, which are the server's word that it was not executed.
//!
//! A request may be several commands that are sent together (MULTI to EXEC): an error to any of them means that none was
//! executed. One that first looks and then decides (WATCH, GET, then MULTI to EXEC) has a connection to itself, and nothing
//! has happened before its second part is sent.

mod link;
mod slot_map;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use redis_protocol::redis_keyslot;
use redis_protocol::resp2::types::BytesFrame;

pub use link::Link;
use link::{Expected, LinkState};
use slot_map::SlotMap;
use subscriptions::Listening;
pub use subscriptions::{Message, Subscription};

/// Nanoseconds; the origin is the caller's.
pub type Nanos = u64;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Where to ask for the slot map first.
    pub seeds: Vec<SocketAddr>,
    /// From the request to giving it up.
    pub op_timeout_ns: Nanos,
    /// Between two requests for the slot map, at least.
    pub refresh_interval_ns: Nanos,
    /// MOVED and ASK answers followed for one request.
    pub max_redirects: u8,
    /// Requests in flight on one connection; above it another one is dialled.
    pub pipelining: usize,
    /// Connections to one node at most.
    pub links_per_node: usize,
    /// Seed of the choice of the node asked for the slot map.
    pub seed: u64,
}

impl ClientOptions {
    /// Options for a storm's clients: one second for an operation, deep pipelines.
    pub fn new(seeds: Vec<SocketAddr>, seed: u64) -> Self {
        Self {
            seeds,
            op_timeout_ns: 1_000_000_000,
            refresh_interval_ns: 100_000_000,
            max_redirects: 5,
            pipelining: 4096,
            links_per_node: 1,
            seed,
        }
    }

    /// WAIT blocks a connection, so each write that is followed by one needs a connection to itself.
    #[must_use]
    pub fn one_request_per_link(mut self) -> Self {
        self.pipelining = 1;
        self.links_per_node = 64;
        self
    }
}

/// Commands on keys of one slot.
#[derive(Clone, Debug)]
pub struct Request {
    /// The caller's name for it.
    pub id: u64,
    /// Decides the slot.
    pub key: Vec<u8>,
    /// Commands with their arguments, sent together; the last one's reply is the answer.
    pub commands: Vec<Vec<Vec<u8>>>,
    /// Whom to ask.
    pub route: Route,
    /// Follow it by WAIT on the same connection.
    pub wait: Option<Wait>,
}

/// Whom a request asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// The slot's owner.
    #[default]
    Master,
    /// The same, on a connection of its own, and in two parts: the first only looks ([`Step::Looked`]).
    Alone,
    /// A replica of the slot's owner, always the same one as long as there are as many. Redirections are not followed.
    Replica,
    /// Nobody's: connections for subscriptions only.
    Subscriber,
}

/// `WAIT replicas timeout_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// How many replicas must have acknowledged.
    pub replicas: u32,
    /// How long the server waits for them.
    pub timeout_ms: u32,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    pub id: u64,
    pub outcome: Outcome,
    /// The node that answered, or that was asked last.
    pub node: Option<SocketAddr>,
    /// WAIT's answer, if one was asked for and came.
    pub wait: Option<i64>,
}

/// Jepsen's three completions.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It happened; the reply.
    Ok(BytesFrame),
    /// It certainly did not happen.
    Fail(String),
    /// Nobody can say.
    Info(String),
}

/// What the caller is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Dial; answer `Connected` or `Refused`.
    Connect {
        link: Link,
        to: SocketAddr,
    },
    Send {
        link: Link,
        bytes: Vec<u8>,
    },
    /// Close; no event follows.
    Close {
        link: Link,
    },
    /// The first part of a request on a connection of its own is answered: call `go_on` or `leave`.
    Looked(Completion),
    /// A request is finished.
    Done(Completion),
    /// Somebody published on a channel that is listened to.
    Message(Message),
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Connected(Link),
    /// The dial failed: nothing was sent.
    Refused(Link, &'a str),
    Received(Link, &'a [u8]),
    Closed(Link, &'a str),
}

/// The client.
#[derive(Debug)]
pub struct ClusterClient {
    options: ClientOptions,
    map: SlotMap,
    links: BTreeMap<Link, LinkState>,
    next_link: u64,
    requests: BTreeMap<u64, Pending>,
    /// Deadlines of requests, soonest first.
    deadlines: BTreeSet<(Nanos, u64)>,
    /// Requests without a place to go to until the slot map is read again.
    parked: VecDeque<u64>,
    /// Requests that were told to try again, and when.
    retries: BTreeSet<(Nanos, u64)>,
    listening: Vec<Listening>,
    refresh: Refresh,
    rng: ChaCha8Rng,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    deadline: Nanos,
    stage: Stage,
    redirects: u8,
    /// The node it was last given to.
    node: Option<SocketAddr>,
    /// Nodes that could not be dialled for it, with the reason.
    refused: Option<(SocketAddr, String)>,
    /// The first error among the replies to its commands, or the last reason to try again.
    error: Option<String>,
    /// What was sent last may change something.
    effective: bool,
}

/// How far a request is.
#[derive(Debug)]
enum Stage {
    /// Not handed to any connection (or handed back by a redirection).
    Unsent,
    /// Handed to this connection; its reply is awaited.
    Sent(Link),
    /// The first part was answered on this connection; the caller decides.
    Looked(Link),
    /// Answered on this connection; WAIT's reply is awaited. After a redirection the WAIT of the connection before is
    /// answered, too, sooner or later: that answer belongs to nothing.
    Waiting(Link, BytesFrame),
}

/// The state of our knowledge of the slot map.
#[derive(Debug, Default)]
struct Refresh {
    /// It is known to be wrong or absent.
    wanted: bool,
    /// A CLUSTER SLOTS request is out, on this link, until this time.
    asked: Option<(Link, Nanos)>,
    /// Not before this time.
    not_before: Nanos,
    /// Nodes that did not answer since the last success.
    silent: BTreeSet<SocketAddr>,
}

/// How long the answer to CLUSTER SLOTS is awaited before another node is asked.
const REFRESH_TIMEOUT_NS: Nanos = 300_000_000;
/// How long a request waits after TRYAGAIN.
const TRY_AGAIN_NS: Nanos = 20_000_000;
/// A connection whose oldest reply is late by so many operation timeouts is given up.
const DEAD_LINK_TIMEOUTS: u64 = 5;

impl ClusterClient {
    /// A client that knows nothing but its seeds.
    pub fn new(options: ClientOptions) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(options.seed);
        Self {
            map: SlotMap::new(&options.seeds),
            options,
            links: BTreeMap::new(),
            next_link: 0,
            requests: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            parked: VecDeque::new(),
            retries: BTreeSet::new(),
            listening: Vec::new(),
            refresh: Refresh { wanted: true, ..Refresh::default() },
            rng,
            steps: VecDeque::new(),
        }
    }

    /// Begins a request. `id` must not be in flight.
    pub fn request(&mut self, now: Nanos, request: Request) {
        let id = request.id;
        let deadline = now + self.options.op_timeout_ns;
        self.deadlines.insert((deadline, id));
        let effective = request.route != Route::Alone;
        let pending = Pending {
            request,
            deadline,
            stage: Stage::Unsent,
            redirects: 0,
            node: None,
            refused: None,
            error: None,
            effective,
        };
        let known = self.requests.insert(id, pending);
        debug_assert!(known.is_none(), "request {id} is in flight already");
        self.place(now, id);
        self.tick(now);
    }

    /// The second part of a request that looked, on the same connection.
    pub fn go_on(&mut self, now: Nanos, id: u64, commands: Vec<Vec<Vec<u8>>>) {
        let Some(pending) = self.requests.get_mut(&id) else { return };
        let Stage::Looked(link) = pending.stage else { return };
        let Some(state) = self.links.get_mut(&link) else { return };
        pending.request.commands = commands;
        pending.stage = Stage::Sent(link);
        pending.effective = true;
        state.queue(now, &pending.request, true);
        self.steps.push_back(Step::Send { link, bytes: state.take_outgoing() });
        self.tick(now);
    }

    /// A request that looked needs no second part.
    pub fn leave(&mut self, id: u64) {
        if let Some(pending) = self.requests.remove(&id) {
            self.deadlines.remove(&(pending.deadline, id));
            self.release(id);
        }
    }

    /// Requests without a completion.
    pub fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Reports an event.
    pub fn on(&mut self, now: Nanos, event: Event<'_>) {
        match event {
            Event::Connected(link) => self.connected(now, link),
            Event::Refused(link, why) => self.refused(now, link, why),
            Event::Received(link, bytes) => self.received(now, link, bytes),
            Event::Closed(link, why) => self.closed(now, link, why),
        }
        self.tick(now);
    }

    /// Gives up what is overdue and asks for the slot map where it is wanted.
    pub fn tick(&mut self, now: Nanos) {
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.time_out(id);
        }
        while let Some(&(at, id)) = self.retries.first() {
            if at > now {
                break;
            }
            self.retries.remove(&(at, id));
            self.place(now, id);
        }
        let dead_after = self.options.op_timeout_ns * DEAD_LINK_TIMEOUTS;
        let is_dead =
            |state: &LinkState| state.oldest_expected().is_some_and(|sent| sent + dead_after <= now);
        let dead = |links: &BTreeMap<Link, LinkState>| {
            links.iter().find(|(_, state)| is_dead(state)).map(|(link, _)| *link)
        };
        while let Some(link) = dead(&self.links) {
            self.steps.push_back(Step::Close { link });
            self.closed(now, link, "silent for too long, closed by the client");
        }
        self.subscribe_if_due(now);
        self.refresh_if_wanted(now);
    }

    /// When `tick` is due.
    pub fn next_deadline(&self) -> Option<Nanos> {
        let request = self.deadlines.first().map(|(at, _)| *at);
        let refresh = match self.refresh.asked {
            Some((_, until)) => Some(until),
            None if self.refresh.wanted => Some(self.refresh.not_before),
            None => None,
        };
        let retry = self.retries.first().map(|(at, _)| *at);
        [request, refresh, retry, self.next_subscription()].into_iter().flatten().min()
    }

    /// The next thing for the caller to do.
    pub fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    // ---- requests ----

    fn place(&mut self, now: Nanos, id: u64) {
        let Some(pending) = self.requests.get(&id) else { return };
        match self.target(&pending.request) {
            Some(node) => self.send_to(now, id, node, false),
            None => self.park(id),
        }
    }

    /// Whom the slot map names for it.
    fn target(&self, request: &Request) -> Option<SocketAddr> {
        let slot = redis_keyslot(&request.key);
        match request.route {
            Route::Master | Route::Alone | Route::Subscriber => self.map.owner(slot),
            Route::Replica => {
                let replicas = self.map.replicas(slot);
                replicas.get(self.options.seed as usize % replicas.len().max(1)).copied()
            }
        }
    }

    fn park(&mut self, id: u64) {
        self.parked.push_back(id);
        self.refresh.wanted = true;
    }

    fn send_to(&mut self, now: Nanos, id: u64, to: SocketAddr, asking: bool) {
        let Some(route) = self.requests.get(&id).map(|pending| pending.request.route) else { return };
        let link = self.link_to(to, route);
        let Some(pending) = self.requests.get_mut(&id) else { return };
        pending.node = Some(to);
        pending.error = None;
        let state = self.links.get_mut(&link).expect("link_to answers a link that exists");
        if route == Route::Alone {
            state.hold(id);
        }
        if asking {
            state.queue_asking(now);
        }
        if state.queue(now, &pending.request, pending.effective) {
            pending.stage = Stage::Sent(link);
            self.steps.push_back(Step::Send { link, bytes: state.take_outgoing() });
        }
    }

    /// A link to `to` with room in its pipeline, or the one with the shortest queue, dialled if there is none.
    fn link_to(&mut self, to: SocketAddr, route: Route) -> Link {
        let mut shortest: Option<(usize, Link)> = None;
        let mut count = 0;
        for (link, state) in self.links.iter().filter(|(_, state)| state.to() == to && state.route() == route)
        {
            if route == Route::Alone {
                if state.is_free() {
                    return *link;
                }
                continue;
            }
            count += 1;
            let depth = state.depth();
            if shortest.is_none_or(|(best, _)| depth < best) {
                shortest = Some((depth, *link));
            }
        }
        match shortest {
            Some((depth, link))
                if depth < self.options.pipelining || count >= self.options.links_per_node =>
            {
                link
            }
            _ => {
                let link = Link(self.next_link);
                self.next_link += 1;
                self.links.insert(link, LinkState::dialling(to, route));
                self.steps.push_back(Step::Connect { link, to });
                link
            }
        }
    }

    fn finish(&mut self, id: u64, outcome: Outcome, wait: Option<i64>) {
        let Some(pending) = self.requests.remove(&id) else { return };
        self.deadlines.remove(&(pending.deadline, id));
        self.release(id);
        self.steps.push_back(Step::Done(Completion { id, outcome, node: pending.node, wait }));
    }

    /// A connection that a request had to itself is free for the next one, unless a reply is still due on it.
    fn release(&mut self, id: u64) {
        let held = self.links.iter_mut().find(|(_, state)| state.is_held_by(id));
        let Some((&link, state)) = held else { return };
        if state.depth() == 0 {
            state.let_go();
        } else {
            self.links.remove(&link);
            self.steps.push_back(Step::Close { link });
        }
    }

    /// It was sent, and nobody will answer.
    fn unanswered(&mut self, id: u64, why: String) {
        let effective = self.requests.get(&id).is_none_or(|pending| pending.effective);
        self.finish(id, if effective { Outcome::Info(why) } else { Outcome::Fail(why) }, None);
    }

    fn time_out(&mut self, id: u64) {
        let Some(pending) = self.requests.get_mut(&id) else { return };
        self.refresh.wanted = true;
        let timeout_ms = self.options.op_timeout_ns / 1_000_000;
        match std::mem::replace(&mut pending.stage, Stage::Unsent) {
            Stage::Waiting(_, reply) => self.finish(id, Outcome::Ok(reply), None),
            Stage::Sent(_) | Stage::Looked(_) => {
                if let Some(node) = pending.node {
                    self.refresh.silent.insert(node);
                }
                self.unanswered(id, format!("no answer in {timeout_ms} ms"));
            }
            Stage::Unsent => {
                for state in self.links.values_mut() {
                    state.unqueue(id);
                }
                self.parked.retain(|parked| *parked != id);
                self.retries.retain(|(_, retried)| *retried != id);
                let why = match (&pending.error, &pending.refused) {
                    (Some(error), _) => error.clone(),
                    (None, Some((node, why))) => format!("never sent: {node}: {why}"),
                    (None, None) => format!("never sent: no connection in {timeout_ms} ms"),
                };
                self.finish(id, Outcome::Fail(why), None);
            }
        }
    }

    // ---- connections ----

    fn connected(&mut self, now: Nanos, link: Link) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.greet(now);
        self.steps.push_back(Step::Send { link, bytes: state.take_outgoing() });
    }

    fn greeted(&mut self, now: Nanos, link: Link) {
        let Some(state) = self.links.get_mut(&link) else { return };
        for id in state.opened(now) {
            if let Some(pending) = self.requests.get_mut(&id) {
                pending.stage = Stage::Sent(link);
            }
        }
        let bytes = state.take_outgoing();
        if !bytes.is_empty() {
            self.steps.push_back(Step::Send { link, bytes });
        }
    }

    fn refused(&mut self, now: Nanos, link: Link, why: &str) {
        let Some(state) = self.links.remove(&link) else { return };
        let node = state.to();
        self.link_gone(now, link, node);
        for id in state.unsent() {
            self.could_not_reach(id, node, why);
        }
    }

    /// A request met a node that cannot be dialled: it waits for one newer slot map, then it fails.
    fn could_not_reach(&mut self, id: u64, node: SocketAddr, why: &str) {
        let Some(pending) = self.requests.get_mut(&id) else { return };
        if pending.refused.as_ref().is_some_and(|(before, _)| *before == node) {
            self.finish(id, Outcome::Fail(format!("never sent: {node}: {why}")), None);
        } else {
            pending.refused = Some((node, why.to_owned()));
            self.park(id);
        }
    }

    fn closed(&mut self, now: Nanos, link: Link, why: &str) {
        let Some(state) = self.links.remove(&link) else { return };
        let node = state.to();
        self.link_gone(now, link, node);
        for id in state.unsent() {
            self.could_not_reach(id, node, why);
        }
        for expected in state.into_expected() {
            match expected {
                Expected::Reply(id) => {
                    self.unanswered(id, format!("connection lost: {why}"));
                }
                Expected::Wait(id) => self.waited(link, id, None),
                Expected::Greeting
                | Expected::Asking
                | Expected::Slots
                | Expected::Part(_)
                | Expected::Nothing => {}
            }
        }
    }

    fn link_gone(&mut self, now: Nanos, link: Link, node: SocketAddr) {
        self.refresh.wanted = true;
        self.lost_subscriptions(now + REFRESH_TIMEOUT_NS, link);
        if self.refresh.asked.is_some_and(|(asked, _)| asked == link) {
            self.refresh.asked = None;
            self.refresh.silent.insert(node);
            self.refresh.not_before = now + self.options.refresh_interval_ns / 4;
        }
    }

    fn received(&mut self, now: Nanos, link: Link, bytes: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.received(bytes);
        loop {
            let Some(state) = self.links.get_mut(&link) else { return };
            match state.next_reply() {
                Ok(None) => return,
                Ok(Some((expected, reply))) => self.replied(now, link, expected, reply),
                Err(why) => {
                    self.steps.push_back(Step::Close { link });
                    self.closed(now, link, &why);
                    return;
                }
            }
        }
    }

    fn replied(&mut self, now: Nanos, link: Link, expected: Expected, reply: BytesFrame) {
        match expected {
            // Any answer will do: an error to PING (loading, say) comes from a server that is there.
            Expected::Greeting => self.greeted(now, link),
            Expected::Asking => {}
            Expected::Part(id) => self.part_answered(link, id, &reply),
            Expected::Nothing => self.pushed(now, link, &reply),
            Expected::Slots => self.slots_answered(now, link, &reply),
            Expected::Wait(id) => self.waited(link, id, Some(&reply)),
            Expected::Reply(id) => self.answered(now, link, id, reply),
        }
    }

    /// A reply to one of several commands tells nothing unless it is an error: then the last one's tells no more.
    fn part_answered(&mut self, link: Link, id: u64, reply: &BytesFrame) {
        let (Some(pending), BytesFrame::Error(text)) = (self.requests.get_mut(&id), reply) else { return };
        if matches!(pending.stage, Stage::Sent(on) if on == link) && pending.error.is_none() {
            pending.error = Some(text.to_string());
        }
    }

    fn answered(&mut self, now: Nanos, link: Link, id: u64, reply: BytesFrame) {
        let Some(pending) = self.requests.get_mut(&id) else { return }; // given up before
        if !matches!(pending.stage, Stage::Sent(on) if on == link) {
            return;
        }
        if let BytesFrame::Error(text) = &reply {
            let text = pending.error.take().unwrap_or_else(|| text.to_string());
            let second_part = pending.request.route == Route::Alone && pending.effective;
            pending.stage = Stage::Unsent;
            if second_part {
                // What was watched was watched here: nobody else can go on with it.
                self.finish(id, Outcome::Fail(text), None);
            } else {
                self.release(id);
                self.refused_by_server(now, id, &text);
            }
        } else if !pending.effective {
            pending.stage = Stage::Looked(link);
            let looked = Completion { id, outcome: Outcome::Ok(reply), node: pending.node, wait: None };
            self.steps.push_back(Step::Looked(looked));
        } else if pending.request.wait.is_some() {
            pending.stage = Stage::Waiting(link, reply);
        } else {
            self.finish(id, Outcome::Ok(reply), None);
        }
    }

    /// WAIT was answered on this connection, or never will be.
    fn waited(&mut self, link: Link, id: u64, reply: Option<&BytesFrame>) {
        match self.requests.get(&id).map(|pending| &pending.stage) {
            Some(Stage::Waiting(on, written)) if *on == link => {
                let written = written.clone();
                let replicas = if let Some(BytesFrame::Integer(n)) = reply { Some(*n) } else { None };
                self.finish(id, Outcome::Ok(written), replicas);
            }
            // After an error reply to the write itself, WAIT's answer belongs to nothing.
            _ => {}
        }
    }

    fn refused_by_server(&mut self, now: Nanos, id: u64, error: &str) {
        let Some(pending) = self.requests.get_mut(&id) else { return };
        let from = pending.node;
        if error.starts_with("TRYAGAIN") {
            pending.redirects = 0;
            pending.error = Some(error.to_owned());
            self.retries.insert((now + TRY_AGAIN_NS, id));
            return;
        }
        if pending.request.route == Route::Replica && error.starts_with("MOVED") {
            self.refresh.wanted = true;
            self.finish(id, Outcome::Fail(error.to_owned()), None);
            return;
        }
        if let Some((asking, slot, to)) = slot_map::redirection(error, from) {
            pending.redirects += 1;
            if pending.redirects > self.options.max_redirects {
                self.finish(id, Outcome::Fail(format!("too many redirections, last: {error}")), None);
                return;
            }
            if !asking {
                self.map.moved(slot, to);
                self.refresh.wanted = true;
            }
            self.send_to(now, id, to, asking);
            return;
        }
        if ["CLUSTERDOWN", "LOADING", "MASTERDOWN"].iter().any(|prefix| error.starts_with(prefix)) {
            self.refresh.wanted = true;
        }
        self.finish(id, Outcome::Fail(error.to_owned()), None);
    }

    // ---- the slot map ----

    fn refresh_if_wanted(&mut self, now: Nanos) {
        if let Some((link, until)) = self.refresh.asked {
            if until > now {
                return;
            }
            self.refresh.asked = None;
            if let Some(state) = self.links.get(&link) {
                self.refresh.silent.insert(state.to());
            }
        }
        if !self.refresh.wanted || now < self.refresh.not_before {
            return;
        }
        let known = self.map.nodes();
        let mut candidates: Vec<SocketAddr> =
            known.iter().copied().filter(|node| !self.refresh.silent.contains(node)).collect();
        if candidates.is_empty() {
            self.refresh.silent.clear();
            candidates = known;
        }
        if candidates.is_empty() {
            return;
        }
        let node = candidates[self.rng.random_range(0..candidates.len())];
        let link = self.link_to(node, Route::Master);
        let state = self.links.get_mut(&link).expect("link_to answers a link that exists");
        let open = state.queue_slots(now);
        if open {
            self.steps.push_back(Step::Send { link, bytes: state.take_outgoing() });
        }
        self.refresh.asked = Some((link, now + REFRESH_TIMEOUT_NS));
    }

    fn slots_answered(&mut self, now: Nanos, link: Link, reply: &BytesFrame) {
        let Some(from) = self.links.get(&link).map(LinkState::to) else { return };
        let ours = self.refresh.asked.is_some_and(|(asked, _)| asked == link);
        if ours {
            self.refresh.asked = None;
        }
        self.refresh.not_before = now + self.options.refresh_interval_ns;
        if !self.map.learn(reply, from) {
            self.refresh.silent.insert(from);
            return;
        }
        self.refresh.wanted = false;
        self.refresh.silent.clear();
        for id in std::mem::take(&mut self.parked) {
            let Some(pending) = self.requests.get(&id) else { continue };
            let owner = self.target(&pending.request);
            match (&pending.refused, owner) {
                (_, None) => {
                    let why = match pending.request.route {
                        Route::Replica => "the slot has no replica",
                        Route::Master | Route::Alone | Route::Subscriber => {
                            "CLUSTERDOWN Hash slot not served"
                        }
                    };
                    self.finish(id, Outcome::Fail(why.to_owned()), None);
                }
                // The newer map still names the node that cannot be dialled.
                (Some((node, why)), Some(owner)) if *node == owner => {
                    let why = format!("never sent: {node}: {why}");
                    self.refresh.wanted = true;
                    self.finish(id, Outcome::Fail(why), None);
                }
                (_, Some(owner)) => self.send_to(now, id, owner, false),
            }
        }
    }
}

#[cfg(test)]
mod tests;
