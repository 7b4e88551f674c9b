//! The controller's side of the keeper: which server runs, is stopped or is gone, and waiting for that.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::rc::Rc;

use nix::sys::signal::Signal as UnixSignal;
use nix::unistd::getpid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::{Notify, mpsc, oneshot};

use super::keeper::{Order, OrderKind, Spawn, Word, children_of};
use crate::backend::{BackendError, ProcessState, Signal};

/// Something that happened to the servers without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Surprise {
    /// A server ended that nobody had killed.
    Exited { node: u16, status: String },
    /// The keeper is gone, and with it every server.
    KeeperGone,
}

/// All servers of a cluster. A handle.
#[derive(Clone)]
pub struct Servers(Rc<Inner>);

struct Inner {
    orders: RefCell<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    next_id: Cell<u64>,
    answers: RefCell<BTreeMap<u64, Asked>>,
    states: RefCell<BTreeMap<u16, Ward>>,
    changed: Notify,
    /// The keeper ended, or was told to.
    over: Cell<bool>,
    ended: Cell<bool>,
    keeper_pid: Cell<u32>,
    surprised: Box<dyn Fn(Surprise)>,
}

/// An order that waits for its answer.
struct Asked {
    /// The node that a spawn starts: it runs from the answer on, whatever is heard next.
    starts: Option<u16>,
    asker: oneshot::Sender<Result<u32, String>>,
}

#[derive(Clone, Debug)]
struct Ward {
    state: ProcessState,
    /// A signal that ends it was sent: its exit is no surprise.
    condemned: bool,
}

impl Default for Ward {
    fn default() -> Self {
        Self { state: ProcessState::Down { status: None }, condemned: false }
    }
}

impl Servers {
    /// Starts the keeper. Call inside a `LocalSet`.
    pub fn start(launcher: &Path, surprised: impl Fn(Surprise) + 'static) -> Result<Self, BackendError> {
        // If the keeper is killed, what its servers leave behind comes to this process.
        nix::sys::prctl::set_child_subreaper(true)
            .map_err(|error| harness(format!("cannot become a subreaper: {error}")))?;
        let mut keeper = Command::new(launcher)
            .arg("__keeper")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // a Ctrl-C in the terminal is for the controller alone
            .spawn()
            .map_err(|error| harness(format!("cannot start the keeper: {error}")))?;
        let (Some(stdin), Some(stdout)) = (keeper.stdin.take(), keeper.stdout.take()) else {
            return Err(harness("the keeper has no pipes".to_owned()));
        };
        let (orders, to_keeper) = mpsc::unbounded_channel();
        let servers = Self(Rc::new(Inner {
            orders: RefCell::new(Some(orders)),
            next_id: Cell::new(0),
            answers: RefCell::default(),
            states: RefCell::default(),
            changed: Notify::new(),
            over: Cell::new(false),
            ended: Cell::new(false),
            keeper_pid: Cell::new(keeper.id().unwrap_or(0)),
            surprised: Box::new(surprised),
        }));
        tokio::task::spawn_local(write_orders(stdin, to_keeper));
        let listener = servers.clone();
        tokio::task::spawn_local(async move {
            listener.listen(stdout).await;
            let _ = keeper.wait().await;
            listener.bury();
        });
        Ok(servers)
    }

    /// The keeper's process id.
    pub fn keeper_pid(&self) -> u32 {
        self.0.keeper_pid.get()
    }

    /// Starts a server that is down.
    pub async fn spawn(&self, spawn: Spawn) -> Result<u32, BackendError> {
        let node = spawn.node;
        if !matches!(self.state(node), ProcessState::Down { .. }) {
            return Err(harness(format!("n{node} runs already")));
        }
        self.order(OrderKind::Spawn(spawn)).await
    }

    /// Sends a signal, and waits until it took effect: gone, stopped, or running.
    pub async fn signal(&self, node: u16, signal: Signal) -> Result<(), BackendError> {
        let (unix, ends) = match signal {
            Signal::Kill => (UnixSignal::SIGKILL, true),
            Signal::Term => (UnixSignal::SIGTERM, true),
            Signal::Stop => (UnixSignal::SIGSTOP, false),
            Signal::Continue => (UnixSignal::SIGCONT, false),
        };
        match self.state(node) {
            ProcessState::Down { .. } => {
                return Err(harness(format!("n{node} does not run: no signal can be sent")));
            }
            ProcessState::Stopped { .. } if signal == Signal::Term => {
                return Err(harness(format!(
                    "n{node} is stopped: it would only see a SIGTERM once it continues"
                )));
            }
            _ => {}
        }
        if ends && let Some(ward) = self.0.states.borrow_mut().get_mut(&node) {
            ward.condemned = true;
        }
        self.order(OrderKind::Signal { node, signal: unix as i32 }).await?;
        let effect = move |state: &ProcessState| match (signal, state) {
            (_, ProcessState::Down { .. }) => true,
            (Signal::Stop, state) => matches!(state, ProcessState::Stopped { .. }),
            (Signal::Continue, state) => matches!(state, ProcessState::Running { .. }),
            (Signal::Kill | Signal::Term, _) => false,
        };
        loop {
            let changed = self.0.changed.notified();
            if effect(&self.state(node)) {
                return Ok(());
            }
            if self.0.ended.get() {
                return Err(harness("the keeper is gone".to_owned()));
            }
            changed.await;
        }
    }

    /// What became of a server.
    pub fn state(&self, node: u16) -> ProcessState {
        self.0.states.borrow().get(&node).cloned().unwrap_or_default().state
    }

    /// Process ids of the servers that are there, running or stopped.
    pub fn pids(&self) -> BTreeMap<u16, u32> {
        let states = self.0.states.borrow();
        states
            .iter()
            .filter_map(|(node, ward)| match ward.state {
                ProcessState::Running { pid } | ProcessState::Stopped { pid } => Some((*node, pid)),
                ProcessState::Down { .. } => None,
            })
            .collect()
    }

    /// Ends the keeper, which kills every server; answers when all are gone.
    pub async fn stop(&self) {
        self.0.over.set(true);
        self.0.orders.borrow_mut().take();
        loop {
            let changed = self.0.changed.notified();
            if self.0.ended.get() {
                return;
            }
            changed.await;
        }
    }

    async fn order(&self, what: OrderKind) -> Result<u32, BackendError> {
        let gone = || harness("the keeper is gone".to_owned());
        let id = self.0.next_id.get();
        self.0.next_id.set(id + 1);
        let starts = if let OrderKind::Spawn(spawn) = &what { Some(spawn.node) } else { None };
        let mut line = serde_json::to_vec(&Order { id, what }).map_err(|error| harness(error.to_string()))?;
        line.push(b'\n');
        let (asker, answered) = oneshot::channel();
        self.0.answers.borrow_mut().insert(id, Asked { starts, asker });
        self.0.orders.borrow().as_ref().ok_or_else(gone)?.send(line).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(harness)
    }

    async fn listen(&self, stdout: ChildStdout) {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(word) => self.hear(word),
                Err(error) => tracing::error!("the keeper said {line:?}: {error}"),
            }
        }
    }

    fn hear(&self, word: Word) {
        match word {
            Word::Done { id, pid } => self.answer(id, Ok(pid)),
            Word::Failed { id, why } => self.answer(id, Err(why)),
            Word::Stopped { node, pid } => self.became(node, ProcessState::Stopped { pid }),
            Word::Continued { node, pid } => self.became(node, ProcessState::Running { pid }),
            Word::Exited { node, status, .. } => {
                let condemned = {
                    let mut states = self.0.states.borrow_mut();
                    let ward = states.entry(node).or_default();
                    std::mem::take(&mut ward.condemned)
                };
                self.became(node, ProcessState::Down { status: Some(status.clone()) });
                if !condemned && !self.0.over.get() {
                    (self.0.surprised)(Surprise::Exited { node, status });
                }
            }
        }
    }

    fn answer(&self, id: u64, answer: Result<u32, String>) {
        let Some(asked) = self.0.answers.borrow_mut().remove(&id) else { return };
        if let (Some(node), Ok(pid)) = (asked.starts, &answer) {
            let ward = Ward { state: ProcessState::Running { pid: *pid }, condemned: false };
            self.0.states.borrow_mut().insert(node, ward);
            self.0.changed.notify_waiters();
        }
        let _ = asked.asker.send(answer);
    }

    fn became(&self, node: u16, state: ProcessState) {
        self.0.states.borrow_mut().entry(node).or_default().state = state;
        self.0.changed.notify_waiters();
    }

    /// After the keeper's end: nobody is left, or is made so.
    fn bury(&self) {
        self.0.orders.borrow_mut().take();
        if !self.0.over.get() {
            // Servers died with it (parent-death signal); their forked children were inherited by this process.
            kill_inherited();
        }
        for ward in self.0.states.borrow_mut().values_mut() {
            if !matches!(ward.state, ProcessState::Down { .. }) {
                ward.state = ProcessState::Down { status: Some("ended with its keeper".to_owned()) };
            }
        }
        self.0.answers.borrow_mut().clear();
        self.0.ended.set(true);
        self.0.changed.notify_waiters();
        if !self.0.over.get() {
            (self.0.surprised)(Surprise::KeeperGone);
        }
    }
}

async fn write_orders(mut stdin: ChildStdin, mut orders: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = orders.recv().await {
        if stdin.write_all(&line).await.is_err() {
            return; // its stdout ends too, which is heard
        }
    }
}

/// The controller has no children but the keeper, so whatever it inherited came from there. A server that dies leaves
/// its own children here in turn: until there are none.
fn kill_inherited() {
    loop {
        let children = children_of(getpid()).unwrap_or_default();
        if children.is_empty() {
            return;
        }
        for pid in children {
            let _ = nix::sys::signal::kill(pid, UnixSignal::SIGKILL);
            let _ = nix::sys::wait::waitpid(pid, None);
        }
    }
}

fn harness(message: String) -> BackendError {
    BackendError::Harness(message)
}
