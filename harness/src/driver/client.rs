//! One client: operations are due at times fixed beforehand (open loop), whatever became of those before
//! them. Each in flight belongs to a process of its own, so that a shard that hangs holds up nothing but
//! itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;
use redis_protocol::redis_keyslot;
use slotstorm_checker::record::{Body, Kind, Nanos, Process, Speaker};
use slotstorm_fabric::Endpoint;
use slotstorm_workloads::client::{
    ClientOptions, ClusterClient, Completion, Event, Link, Message, Outcome, Request, Step,
};
use slotstorm_workloads::workload::{Invocation, Next, Workload};

use super::{MS, Shared, tally};
use crate::backend::{LinkEvent, LinkId, Mailbox, World};

/// Operations in flight of one client; above it the next ones wait (their latency counts from when they were
/// due).
const MAX_IN_FLIGHT: usize = 1000;
/// So many clients listen, if the workload has anything to listen to.
const SUBSCRIBERS: u16 = 3;
/// A wake-up later than this is recorded as a stall.
const STALL: Nanos = 20 * MS;
/// A client looks up at least so often, to see that the run is closing.
const LOOK_UP: Nanos = 100 * MS;

/// A client's task.
pub(super) struct Client<W: World> {
    requests: Requests<W>,
    number: u16,
    rng: ChaCha8Rng,
    /// Operations begun so far.
    begun: u64,
    next_due: Nanos,
}

impl<W: World> Client<W> {
    pub fn new(world: &W, number: u16, shared: Rc<Shared>) -> Self {
        let mut rng = world.rng(&format!("client {number}"));
        let mut client = Self {
            requests: Requests::new(world, number, shared, rng.next_u64()),
            number,
            rng,
            begun: 0,
            next_due: 0,
        };
        client.next_due = client.due();
        if number < SUBSCRIBERS {
            client.requests.subscribe();
        }
        client
    }

    /// Works until the run is closing and nothing is in flight.
    pub async fn run(mut self) {
        loop {
            let closing = *self.requests.shared.closing.borrow();
            if closing && self.requests.in_flight.is_empty() {
                break;
            }
            let room = !closing && self.requests.in_flight.len() < MAX_IN_FLIGHT;
            if room && self.next_due <= self.requests.world.now() {
                let invocation = self.requests.shared.workload.borrow_mut().next(&mut self.rng);
                self.requests.invoke(invocation, Some(self.next_due));
                self.begun += 1;
                self.next_due = self.due();
                continue;
            }
            let wake = if room { self.next_due } else { Nanos::MAX };
            self.requests.wait(wake.min(self.requests.world.now() + LOOK_UP)).await;
        }
        *self.requests.shared.running.borrow_mut() -= 1;
    }

    /// When the next operation is due: the clients take turns, each a random part of its turn late.
    fn due(&mut self) -> Nanos {
        let plan = &self.requests.shared.options;
        let turn = self.begun * u64::from(plan.clients) + u64::from(self.number);
        let late: f64 = self.rng.random();
        plan.origin + ((turn as f64 + late) / plan.rate * 1e9) as Nanos
    }
}

/// A cluster client on a mailbox, and the record of what it does.
pub(super) struct Requests<W: World> {
    pub world: W,
    pub shared: Rc<Shared>,
    pub in_flight: BTreeMap<u64, InFlight>,
    /// Keys whose last request ended otherwise than ok, with the request.
    pub failed: Vec<Invocation>,
    number: u16,
    mailbox: W::Mailbox,
    cluster: ClusterClient,
    ours: BTreeMap<Link, LinkId>,
    theirs: BTreeMap<LinkId, Link>,
    next_id: u64,
    /// Processes that have nothing in flight.
    idle: Vec<u64>,
}

/// An operation that was invoked and has no completion yet.
pub(super) struct InFlight {
    process: u64,
    invocation: Invocation,
    /// How often commands followed.
    stage: u8,
}

impl<W: World> Requests<W> {
    pub fn new(world: &W, number: u16, shared: Rc<Shared>, seed: u64) -> Self {
        let plan = &shared.options;
        let mut options = ClientOptions::new(plan.seeds.clone(), seed);
        options.op_timeout_ns = plan.op_timeout;
        if plan.wait.is_some() {
            options = options.one_request_per_link();
        }
        Self {
            world: world.clone(),
            in_flight: BTreeMap::new(),
            failed: Vec::new(),
            number,
            mailbox: world.mailbox(Endpoint::Client(number)),
            cluster: ClusterClient::new(options),
            ours: BTreeMap::new(),
            theirs: BTreeMap::new(),
            next_id: 0,
            idle: Vec::new(),
            shared,
        }
    }

    /// Listens to whatever the workload publishes.
    fn subscribe(&mut self) {
        let subscriptions = self.shared.workload.borrow().subscriptions();
        let now = self.world.now();
        for subscription in subscriptions {
            self.cluster.subscribe(now, subscription);
        }
        self.carry_out();
    }

    /// A message is an operation that begins and ends when it arrives.
    fn got(&mut self, message: &Message) {
        let process = self.process();
        let mut body = Workload::message(&message.channel, &message.payload);
        if let Some(op) = body.op_mut() {
            op.client = Some(u32::from(self.number));
            op.node = Some(self.name_of(message.node));
        }
        self.world.record(Kind::Invoke, Process::Client(process), body.clone());
        self.world.record(Kind::Ok, Process::Client(process), body);
        self.idle.push(process);
    }

    /// A process that has nothing in flight.
    fn process(&mut self) -> u64 {
        self.idle.pop().unwrap_or_else(|| {
            let mut next = self.shared.next_process.borrow_mut();
            *next += 1;
            *next - 1
        })
    }

    fn name_of(&self, node: SocketAddr) -> String {
        self.shared.node_names.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    /// Records the invocation, then sends it.
    pub fn invoke(&mut self, invocation: Invocation, intended: Option<Nanos>) {
        let process = self.process();
        let mut body = invocation.body.clone();
        if let Some(op) = body.op_mut() {
            op.intended = intended;
            op.client = Some(u32::from(self.number));
        }
        self.world.record(Kind::Invoke, Process::Client(process), body);
        let id = self.next_id;
        self.next_id += 1;
        let request = Request {
            id,
            key: invocation.op().key.clone().into_bytes(),
            commands: invocation.commands.clone(),
            route: invocation.route,
            wait: if invocation.is_write { self.shared.options.wait } else { None },
        };
        self.in_flight.insert(id, InFlight { process, invocation, stage: 0 });
        self.cluster.request(self.world.now(), request);
        self.carry_out();
    }

    /// Waits for the next thing that happens, at most until `until`.
    pub async fn wait(&mut self, until: Nanos) {
        let deadline = self.cluster.next_deadline().unwrap_or(Nanos::MAX).min(until);
        // A deadline that has passed already is no sign of a stall.
        let due = deadline.max(self.world.now());
        let event = self.mailbox.next(deadline).await;
        let now = self.world.now();
        let Some(event) = event else {
            self.note_stall(due, now);
            self.cluster.tick(now);
            return self.carry_out();
        };
        match &event {
            LinkEvent::Connected(id) => {
                if let Some(link) = self.theirs.get(id) {
                    self.cluster.on(now, Event::Connected(*link));
                }
            }
            LinkEvent::Received(id, bytes) => {
                if let Some(link) = self.theirs.get(id) {
                    self.cluster.on(now, Event::Received(*link, bytes));
                }
            }
            LinkEvent::Refused(id, why) => {
                if let Some(link) = self.forget(*id) {
                    self.cluster.on(now, Event::Refused(link, why));
                }
            }
            LinkEvent::Closed(id, why) => {
                if let Some(link) = self.forget(*id) {
                    self.cluster.on(now, Event::Closed(link, why));
                }
            }
        }
        self.carry_out();
    }

    fn forget(&mut self, id: LinkId) -> Option<Link> {
        let link = self.theirs.remove(&id)?;
        self.ours.remove(&link);
        Some(link)
    }

    fn carry_out(&mut self) {
        while let Some(step) = self.cluster.next_step() {
            match step {
                Step::Connect { link, to } => {
                    let id = self.mailbox.connect(to);
                    self.ours.insert(link, id);
                    self.theirs.insert(id, link);
                }
                Step::Send { link, bytes } => {
                    if let Some(id) = self.ours.get(&link) {
                        self.mailbox.send(*id, bytes);
                    }
                }
                Step::Close { link } => {
                    if let Some(id) = self.ours.remove(&link) {
                        self.theirs.remove(&id);
                        self.mailbox.close(id);
                    }
                }
                Step::Looked(completion) => self.looked(completion),
                Step::Done(completion) => self.complete(completion),
                Step::Message(message) => self.got(&message),
            }
        }
    }

    /// The first part of an operation was answered: its workload says whether a second one follows.
    fn looked(&mut self, completion: Completion) {
        let id = completion.id;
        let Some(InFlight { invocation, stage, .. }) = self.in_flight.get_mut(&id) else { return };
        let Outcome::Ok(reply) = &completion.outcome else { return };
        if let Ok(Next::Then(commands)) =
            self.shared.workload.borrow_mut().answered(invocation, *stage, reply)
        {
            *stage += 1;
            self.cluster.go_on(self.world.now(), id, commands);
        } else {
            self.cluster.leave(id);
            self.complete(completion);
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Some(InFlight { process, invocation, stage }) = self.in_flight.remove(&completion.id) else {
            return;
        };
        let asked_for_wait = if invocation.is_write { self.shared.options.wait } else { None };
        let (kind, end, mut body, error) = match completion.outcome {
            Outcome::Ok(reply) => {
                let next = self.shared.workload.borrow_mut().answered(&invocation, stage, &reply);
                let asked = || invocation.body.clone();
                match next {
                    Ok(Next::Done(body)) => (Kind::Ok, tally::End::Ok, body, None),
                    Ok(Next::Refused(why)) => (Kind::Fail, tally::End::Fail, asked(), Some(why)),
                    Ok(Next::Then(_)) => {
                        let why = "more commands were due on a connection that others use".to_owned();
                        (Kind::Info, tally::End::Unknown, asked(), Some(why))
                    }
                    // The server answered nonsense: nobody can say what it did.
                    Err(why) => (Kind::Info, tally::End::Unknown, asked(), Some(why)),
                }
            }
            Outcome::Fail(why) => (Kind::Fail, tally::End::Fail, invocation.body.clone(), Some(why)),
            Outcome::Info(why) => (Kind::Info, tally::End::Unknown, invocation.body.clone(), Some(why)),
        };
        if let Some(op) = body.op_mut() {
            op.client = Some(u32::from(self.number));
            op.node = completion.node.map(|address| self.name_of(address));
            op.wait = completion.wait;
            op.wait_wanted = asked_for_wait.map(|wait| i64::from(wait.replicas));
            op.error = error;
        }
        self.world.record(kind, Process::Client(process), body);
        let slot = redis_keyslot(invocation.op().key.as_bytes());
        self.shared.tally.borrow_mut().count(slot, end, invocation.is_write);
        if kind != Kind::Info {
            self.idle.push(process);
        }
        if kind != Kind::Ok {
            self.failed.push(invocation);
        }
    }

    fn note_stall(&self, deadline: Nanos, now: Nanos) {
        let late = now.saturating_sub(deadline);
        let mut last = self.shared.last_stall.borrow_mut();
        if late > STALL && now - *last > STALL {
            *last = now;
            let body = Body::Stall { value: late, of: "driver".into() };
            self.world.record(Kind::Info, Process::Other(Speaker::Harness), body);
        }
    }
}
