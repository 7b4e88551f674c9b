//! A page for every kind of fault.

use super::draw::{self, Draw, Drawn};

/// What kind of thing a fault breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    Process,
    Disk,
    Network,
    Messages,
    Clock,
    Membership,
    Load,
}

/// All that there is to know of a kind.
#[derive(Debug)]
pub struct Page {
    pub name: &'static str,
    pub family: Family,
    /// What it does, at the level of the kernel or of messages.
    pub does: &'static str,
    pub does_not: &'static str,
    pub undone_by: &'static str,
    /// Guarantees that do not hold while and after it holds, for the nodes that it hits: what breaks them is listed as
    /// outside the model, and not held against the server.
    pub voids: &'static [&'static [&'static str]],
    /// The words of the storm file that mean something for it, beside those that every fault has.
    pub words: &'static str,
    /// An example's words.
    pub example: &'static str,
    /// The presets that have it; `everything` has all.
    pub presets: &'static [&'static str],
    /// How presets make one.
    pub draw: fn(&mut Draw<'_>) -> Vec<Drawn>,
}

impl Page {
    /// All guarantees that it voids.
    pub fn voided(&self) -> impl Iterator<Item = &'static str> {
        self.voids.iter().copied().flatten().copied()
    }
}

/// The page of a kind.
pub fn page(name: &str) -> Result<&'static Page, String> {
    KINDS.iter().find(|page| page.name == name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|page| page.name).collect();
        format!("no such kind of fault: \"{name}\"; expected one of {}", names.join(", "))
    })
}

/// Votes, epochs and claims are promises that nodes.conf keeps.
const EPOCHS: &[&str] = &[
    "one-vote-per-epoch",
    "votes-for-the-entitled",
    "told-epochs-never-go-back",
    "owner-epoch-never-goes-back",
    "current-epoch-never-goes-back",
    "epochs-survive-a-restart",
    "votes-survive-a-restart",
    "promotion-epoch-is-new",
    "no-claims-with-equal-epochs",
    "no-lasting-equal-epochs",
    "collision-spares-who-serves",
    "convergence",
];
/// A server may end or refuse to start, or come back with less.
const DATA: &[&str] = &["no-crash", "acknowledged-writes"];
/// What comes back may be what nobody wrote: an append-only file has no checksum.
const BYTES: &[&str] = &["values-as-written"];
/// Who counts the votes and reports differs from node to node; or a master comes back as the replica that it was once, and
/// its slots count no master until the others have told it.
const MAJORITIES: &[&str] = &["fail-by-a-majority", "promotion-by-a-majority"];
/// When an old master hears of the newer one, or believes that it must step down.
const BOUND: &[&str] = &["split-brain-bound"];

/// All kinds.
pub static KINDS: &[Page] = &[
    Page {
        name: "kill",
        family: Family::Process,
        does: "SIGKILL: the kernel ends the process; its sockets are closed or reset, what it had not handed to the kernel is gone.",
        does_not: "It does not lose what write(2) had taken: the page cache survives, so appendfsync makes no difference.",
        undone_by: "The server is started again on its data after `restart_after`, or at the end of the storm.",
        voids: &[],
        words: "target restart_after wipe",
        example: "target = \"random master\"\nrestart_after = \"3 NT\"",
        presets: &["failover", "restarts", "elections", "resharding"],
        draw: draw::kill,
    },
    Page {
        name: "term",
        family: Family::Process,
        does: "SIGTERM: the server saves if it is configured so, and exits.",
        does_not: "It does not wait for replicas longer than shutdown-timeout (7.0 and later wait for lagging ones).",
        undone_by: "As that of kill.",
        voids: &[],
        words: "target restart_after wipe",
        example: "target = \"random master\"",
        presets: &["restarts"],
        draw: draw::term,
    },
    Page {
        name: "restart",
        family: Family::Process,
        does: "SIGTERM, and a start as soon as the process is gone: usually within the node timeout, so that nobody notices in time.",
        does_not: "It is no failover in itself.",
        undone_by: "It undoes itself.",
        voids: &[],
        words: "target wipe",
        example: "target = \"random master\"",
        presets: &["restarts"],
        draw: draw::restart,
    },
    Page {
        name: "restart-loop",
        family: Family::Process,
        does: "SIGKILL and a start in turn: the server runs for `up`, is gone for `down`, for `duration` in all, as under a supervisor.",
        does_not: "It does not wait until the server has loaded its data before it kills it again.",
        undone_by: "The server is started for good.",
        voids: &[],
        words: "target up down duration",
        example: "target = \"random replica\"\nup = \"0.5 NT\"\ndown = \"0.2 NT\"\nduration = \"3 NT\"",
        presets: &["restarts"],
        draw: draw::restart_loop,
    },
    Page {
        name: "crash-all",
        family: Family::Process,
        does: "SIGKILL of every server, all signals sent before any is waited for; a start of all after `restart_after`.",
        does_not: "It loses no data that was written: this is a power cut of processes, not of disks.",
        undone_by: "All servers are started.",
        voids: &[],
        words: "restart_after",
        example: "restart_after = \"0.5 NT\"",
        presets: &["restarts"],
        draw: draw::crash_all,
    },
    Page {
        name: "pause",
        family: Family::Process,
        does: "SIGSTOP: the process runs no instruction; the kernel still accepts connections and takes bytes until its buffers are full.",
        does_not: "It is no network fault: nothing is reset, and peers wait for answers.",
        undone_by: "SIGCONT; what had arrived is read then, old messages first.",
        voids: &[],
        words: "target duration",
        example: "target = \"random master\"\nduration = \"2.5 NT\"",
        presets: &["failover", "elections"],
        draw: draw::pause,
    },
    Page {
        name: "slow",
        family: Family::Process,
        does: "SIGSTOP and SIGCONT in turn: the server runs for `run` and stands for `stop`, so that it is slow and answers late.",
        does_not: "It does not slow single commands or the disk.",
        undone_by: "SIGCONT.",
        voids: &[],
        words: "target run stop duration",
        example: "target = \"random master\"\nrun = \"20 ms\"\nstop = \"80 ms\"\nduration = \"3 NT\"",
        presets: &["elections"],
        draw: draw::slow,
    },
    Page {
        name: "wipe",
        family: Family::Disk,
        does: "SIGKILL, and all files of the data directory but nodes.conf are removed before the start: the data volume is lost, the identity is not.",
        does_not: "It does not make the node a stranger: it comes back under its id, with its epochs.",
        undone_by: "Its replica or master gives the data back by a full synchronisation, if one has it.",
        voids: &[],
        words: "target restart_after",
        example: "target = \"random replica\"\nrestart_after = 1",
        presets: &["disk"],
        draw: draw::wipe,
    },
    Page {
        name: "roll-back-config",
        family: Family::Disk,
        does: "SIGKILL, and nodes.conf is replaced by the copy taken when the storm began (or at the last such fault on the node): a restored backup.",
        does_not: "It leaves the data as it is. Nothing happens if the file has not changed since.",
        undone_by: "Gossip teaches the node the newer epochs; its forgotten votes are forgotten for good.",
        voids: &[EPOCHS, MAJORITIES, BOUND],
        words: "target restart_after",
        example: "target = \"random node\"\nrestart_after = \"3 NT\"",
        presets: &["disk"],
        draw: draw::roll_back_config,
    },
    Page {
        name: "truncate",
        family: Family::Disk,
        does: "SIGKILL, and the last `permille` of a thousand bytes of `file` (config, aof, rdb) are cut off: a write that a power cut tore.",
        does_not: "It is no bad sector: what is left is as it was.",
        undone_by: "The server is started on it; aof-load-truncated decides whether a cut append-only file is accepted. A server that refuses to start stays down until the end of the storm, when its data (not nodes.conf) is wiped.",
        voids: &[EPOCHS, DATA, MAJORITIES],
        words: "target file permille restart_after",
        example: "target = \"random replica\"\nfile = \"aof\"\npermille = 20\nrestart_after = 1",
        presets: &["disk"],
        draw: draw::truncate,
    },
    Page {
        name: "corrupt",
        family: Family::Disk,
        does: "SIGKILL, and `count` bytes in the last tenth of `file` are changed, drawn by seed.",
        does_not: "It does not change lengths.",
        undone_by: "As truncate.",
        voids: &[EPOCHS, DATA, BYTES, MAJORITIES],
        words: "target file count restart_after",
        example: "target = \"random replica\"\nfile = \"rdb\"\ncount = 3\nrestart_after = 1",
        presets: &["disk"],
        draw: draw::corrupt,
    },
    Page {
        name: "read-only",
        family: Family::Disk,
        does: "The data directory and all in it lose their write permission: nothing can be made, renamed or opened for writing (EACCES). Works as root, too: servers are started without CAP_DAC_OVERRIDE.",
        does_not: "Files that are open already (the append-only file) can still be written: this is a permission, not a read-only mount (EROFS).",
        undone_by: "Permissions come back. A server that ended meanwhile (a failed save of nodes.conf ends redis-server) is started again at the end of the storm.",
        voids: &[DATA],
        words: "target duration",
        example: "target = \"random node\"\nduration = \"3 NT\"",
        presets: &["disk"],
        draw: draw::read_only,
    },
    Page {
        name: "disk-full",
        family: Family::Disk,
        does: "RLIMIT_FSIZE: no file of the process may grow beyond the size that nodes.conf has now; a write beyond it is cut short, then fails with EFBIG. Works with and without root; SIGXFSZ is blocked, so nobody is killed by it.",
        does_not: "Not ENOSPC: files below that size can still be made, and other processes are not touched.",
        undone_by: "The limit is lifted. What was cut short stays so.",
        voids: &[EPOCHS, DATA],
        words: "target duration",
        example: "target = \"random master\"\nduration = \"3 NT\"",
        presets: &["disk"],
        draw: draw::disk_full,
    },
    Page {
        name: "isolate",
        family: Family::Network,
        does: "All bytes between the target's side and the rest stop, both ways, on all planes or those in `planes`. Policy blackhole: the proxy stops reading, kernel buffers fill, FIN and RST are held, too; new connections are accepted and never read.",
        does_not: "A loopback proxy cannot drop a SYN: connects succeed and then hear nothing.",
        undone_by: "What was held is delivered (`on_heal` = resume), or the connections are reset (reset), as after a retransmission timeout.",
        voids: &[],
        words: "target duration planes clients policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "target = \"random master\"\nduration = \"2.5 NT\"",
        presets: &["failover", "partitions"],
        draw: draw::isolate,
    },
    Page {
        name: "halves",
        family: Family::Network,
        does: "As isolate, between two halves of the cluster: a minority of masters with as many replicas on one side.",
        does_not: "As isolate.",
        undone_by: "As isolate.",
        voids: &[],
        words: "duration planes clients policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "duration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::halves,
    },
    Page {
        name: "majority-ring",
        family: Family::Network,
        does: "Nodes stand in a ring, in an order drawn by seed; each keeps its links to its nearest neighbours up to a majority of all and loses the others, so that no two nodes see the same majority.",
        does_not: "Clients reach everyone.",
        undone_by: "As isolate.",
        voids: &[],
        words: "duration planes policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "duration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::majority_ring,
    },
    Page {
        name: "bridge",
        family: Family::Network,
        does: "Two halves of the cluster that reach each other over no link; the target reaches both.",
        does_not: "Clients reach everyone.",
        undone_by: "As isolate.",
        voids: &[],
        words: "target duration planes policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "target = \"random master\"\nduration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::bridge,
    },
    Page {
        name: "one-way",
        family: Family::Network,
        does: "As isolate, in one direction: what the target sends (`direction` = out) or what the others send to it (in), on every connection whoever dialled it.",
        does_not: "Acknowledgements of TCP still pass: the sender sees full buffers, not a dead peer.",
        undone_by: "As isolate.",
        voids: &[],
        words: "target duration direction planes clients policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "target = \"random master\"\ndirection = \"out\"\nduration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::one_way,
    },
    Page {
        name: "flapping",
        family: Family::Network,
        does: "As isolate, but it holds for `down` and passes for `up` in turn.",
        does_not: "Failure detection sees the sum: short enough cuts are never noticed.",
        undone_by: "As isolate.",
        voids: &[],
        words: "target down up duration planes clients policy on_heal delay_ms jitter_ms permille stall_ms bytes_per_s",
        example: "target = \"random master\"\ndown = \"0.6 NT\"\nup = \"0.4 NT\"\nduration = \"4 NT\"",
        presets: &["partitions"],
        draw: draw::flapping,
    },
    Page {
        name: "refuse",
        family: Family::Network,
        does: "Connections between the target and the rest are reset, and new ones are accepted and reset at once: a closed port.",
        does_not: "A real closed port answers the SYN with RST; here the connect succeeds first.",
        undone_by: "New connections pass.",
        voids: &[],
        words: "target duration planes clients",
        example: "target = \"random master\"\nduration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::refuse,
    },
    Page {
        name: "reset",
        family: Family::Network,
        does: "Connections between the target and the rest are reset once, both ends; new ones pass.",
        does_not: "Bytes that were on the way are lost with their connection, as with any RST.",
        undone_by: "It undoes itself.",
        voids: &[],
        words: "target planes clients",
        example: "target = \"random master\"",
        presets: &["partitions"],
        draw: draw::reset,
    },
    Page {
        name: "delay",
        family: Family::Network,
        does: "Each piece that is read is delivered `delay_ms` plus a random part of `jitter_ms` later, in order.",
        does_not: "It does not change bandwidth but for a queue of 1 MiB a direction: beyond that, reading stops.",
        undone_by: "What is queued arrives in its time.",
        voids: &[],
        words: "target duration planes clients delay_ms jitter_ms",
        example: "target = \"random master\"\nduration = \"3 NT\"\ndelay_ms = 100\njitter_ms = 50",
        presets: &["partitions"],
        draw: draw::delay,
    },
    Page {
        name: "half-close",
        family: Family::Network,
        does: "The target's connections are closed in each cut direction (FIN), while the other direction goes on.",
        does_not: "The kernel answers what is sent after the close as usual.",
        undone_by: "New connections pass.",
        voids: &[],
        words: "target duration planes clients",
        example: "target = \"random master\"\nduration = \"2.5 NT\"",
        presets: &["partitions"],
        draw: draw::half_close,
    },
    Page {
        name: "dead-connections",
        family: Family::Network,
        does: "Connections between the target and the rest that are open are dead from then on, for good: nothing passes, no FIN and no RST. New ones pass: a firewall lost its table.",
        does_not: "The kernel acknowledges what is sent until its buffers are full, so TCP's own timeouts do not fire.",
        undone_by: "Nothing: `duration` says how long the judge takes the links for cut.",
        voids: &[],
        words: "target duration planes clients",
        example: "target = \"random node\"\nduration = \"1.5 NT\"\nplanes = [\"bus\"]",
        presets: &["partitions"],
        draw: draw::dead_connections,
    },
    Page {
        name: "stall",
        family: Family::Network,
        does: "What packet loss does to TCP: of a thousand pieces read, `permille` wait `stall_ms` (a retransmission timeout), and what follows on the connection waits behind them.",
        does_not: "No byte is lost, and no congestion window shrinks.",
        undone_by: "What waits arrives in its time.",
        voids: &[],
        words: "target duration planes clients permille stall_ms",
        example: "target = \"random master\"\nduration = \"3 NT\"\npermille = 100\nstall_ms = 200",
        presets: &["partitions"],
        draw: draw::stall,
    },
    Page {
        name: "rate",
        family: Family::Network,
        does: "Each direction of each link and plane carries at most `bytes_per_s`; beyond a queue of 1 MiB reading stops.",
        does_not: "It is no delay for what fits.",
        undone_by: "The limit is lifted; what is queued arrives in its time.",
        voids: &[],
        words: "target duration planes clients bytes_per_s",
        example: "target = \"random master\"\nduration = \"3 NT\"\nbytes_per_s = 50000",
        presets: &["partitions"],
        draw: draw::rate,
    },
    Page {
        name: "drop-messages",
        family: Family::Messages,
        does: "Whole bus messages of these `types` that the target sends (to `to`, in these `epochs`) are taken out of the stream; the next one follows directly.",
        does_not: "The connection is not touched, and no other type: the sender believes them sent.",
        undone_by: "Messages pass again.",
        voids: &[BOUND],
        words: "target to duration types epochs percent",
        example: "target = \"random node\"\ntypes = [\"auth-ack\"]\nduration = \"3 NT\"",
        presets: &["elections"],
        draw: draw::drop_messages,
    },
    Page {
        name: "delay-messages",
        family: Family::Messages,
        does: "Bus messages of these types arrive `delay_ms` later, and what follows on their connection behind them.",
        does_not: "Other connections between the same two nodes overtake them: each node dials its own.",
        undone_by: "What is queued arrives in its time.",
        voids: &[BOUND],
        words: "target to duration types epochs percent delay_ms",
        example: "target = \"random node\"\ntypes = [\"pong\", \"update\"]\ndelay_ms = 300\nduration = \"3 NT\"",
        presets: &["elections"],
        draw: draw::delay_messages,
    },
    Page {
        name: "duplicate-messages",
        family: Family::Messages,
        does: "Bus messages of these types arrive twice in a row.",
        does_not: "TCP never does this to a stream; a node that answers a request again after a reconnect does.",
        undone_by: "Messages arrive once again.",
        voids: &[BOUND],
        words: "target to duration types epochs percent",
        example: "target = \"random node\"\ntypes = [\"auth-req\", \"auth-ack\", \"fail\"]\nduration = \"3 NT\"",
        presets: &["elections"],
        draw: draw::duplicate_messages,
    },
    Page {
        name: "reorder-messages",
        family: Family::Messages,
        does: "Bus messages of these types are taken out and put back `delay_ms` later, behind what was sent meanwhile.",
        does_not: "Two links between the same nodes do this to each other all the time; within one stream TCP never does.",
        undone_by: "What was taken out arrives in its time.",
        voids: &[BOUND],
        words: "target to duration types epochs percent delay_ms",
        example: "target = \"random node\"\ntypes = [\"pong\", \"update\"]\ndelay_ms = 200\nduration = \"3 NT\"",
        presets: &["elections"],
        draw: draw::reorder_messages,
    },
    Page {
        name: "clock-jump",
        family: Family::Clock,
        does: "The target's wall clock is `offset_ms` ahead (or behind, if negative) at once; monotonic time is not touched. Our own server takes it at run time; any other one through libfaketime (Debian: `apt install faketime`), else the fault is refused and says so.",
        does_not: "The host's clock is never touched.",
        undone_by: "The clock jumps back.",
        voids: &[BOUND],
        words: "target offset_ms duration",
        example: "target = \"random node\"\noffset_ms = 5000\nduration = \"3 NT\"",
        presets: &["clocks"],
        draw: draw::clock_jump,
    },
    Page {
        name: "clock-drift",
        family: Family::Clock,
        does: "The target's wall clock runs `drift_ppm` millionths too fast (too slow, if negative). As clock-jump.",
        does_not: "As clock-jump.",
        undone_by: "The clock jumps back to the host's.",
        voids: &[BOUND],
        words: "target drift_ppm duration",
        example: "target = \"random node\"\ndrift_ppm = 50000\nduration = \"5 NT\"",
        presets: &["clocks"],
        draw: draw::clock_drift,
    },
    Page {
        name: "failover",
        family: Family::Membership,
        does: "CLUSTER FAILOVER to the target (a replica), with FORCE or TAKEOVER as `mode` says. OK means that it was scheduled.",
        does_not: "It does not wait, and does not ask again.",
        undone_by: "Nothing: roles stay as they became.",
        voids: &[],
        words: "target mode",
        example: "target = \"random replica\"\nmode = \"plain\"",
        presets: &["membership", "elections"],
        draw: draw::failover,
    },
    Page {
        name: "del-node",
        family: Family::Membership,
        does: "The target leaves: all others are told CLUSTER FORGET, and it CLUSTER RESET SOFT, which empties a replica. A master with slots refuses.",
        does_not: "Who cannot be reached does not forget, and gossip may bring it back.",
        undone_by: "add-node, or the end of the storm.",
        voids: &[MAJORITIES],
        words: "target",
        example: "target = \"random replica\"",
        presets: &["membership"],
        draw: draw::del_node,
    },
    Page {
        name: "add-node",
        family: Family::Membership,
        does: "Whoever left by del-node meets all others again and becomes a replica of the master with the fewest.",
        does_not: "It starts no new process.",
        undone_by: "Nothing.",
        voids: &[MAJORITIES],
        words: "",
        example: "",
        presets: &["membership"],
        draw: draw::add_node,
    },
    Page {
        name: "reshard",
        family: Family::Membership,
        does: "`slots` slots of the target (or the one `slot`) go to another master (or to `to`): SETSLOT, MIGRATE of every key, SETSLOT NODE on the target of the move first. Slots that an earlier move left open are closed before, as an operator would.",
        does_not: "It is one controller's work: it stops where a node does not answer, and slots may stay open.",
        undone_by: "Nothing; open slots are closed at the end of the storm, which is reported.",
        voids: &[],
        words: "target slots slot to",
        example: "target = \"random master\"\nslots = 20",
        presets: &["resharding", "membership"],
        draw: draw::reshard,
    },
    Page {
        name: "rebalance",
        family: Family::Membership,
        does: "Slots go from masters with more to masters with less until all have the same, as reshard.",
        does_not: "As reshard.",
        undone_by: "As reshard.",
        voids: &[],
        words: "",
        example: "",
        presets: &["resharding", "membership"],
        draw: draw::rebalance,
    },
    Page {
        name: "forget",
        family: Family::Membership,
        does: "All others are told CLUSTER FORGET of the target, which still knows them; after `duration` it meets all of them again.",
        does_not: "They refuse its gossip for a minute only; who replicates it refuses to forget it.",
        undone_by: "CLUSTER MEET, to each of them.",
        voids: &[MAJORITIES],
        words: "target duration",
        example: "target = \"random replica\"\nduration = \"3 NT\"",
        presets: &["membership"],
        draw: draw::forget,
    },
    Page {
        name: "config",
        family: Family::Membership,
        does: "CONFIG SET of `option` to `value` on the target while it runs.",
        does_not: "It is not written to a file: a restart has the old value.",
        undone_by: "CONFIG SET of the value before.",
        voids: &[],
        words: "target option value duration",
        example: "target = \"random node\"\noption = \"repl-backlog-size\"\nvalue = \"16384\"\nduration = \"3 NT\"",
        presets: &["membership"],
        draw: draw::config,
    },
    Page {
        name: "command",
        family: Family::Membership,
        does: "One command, straight to the target. {id of WHOM} stands for a node's id, {host of WHOM} and {port of WHOM} for where the cluster reaches it.",
        does_not: "It is not retried; an error is recorded as the answer.",
        undone_by: "Nothing.",
        voids: &[],
        words: "target command",
        example: "target = \"random master\"\ncommand = \"BGREWRITEAOF\"",
        presets: &["restarts", "membership"],
        draw: draw::command,
    },
    Page {
        name: "burst",
        family: Family::Load,
        does: "`rate` small writes a second to keys of the target's slots, from one connection straight to it, beside the workload.",
        does_not: "They do not pass the proxy, and are not judged.",
        undone_by: "They stop, and their keys are deleted.",
        voids: &[],
        words: "target rate duration",
        example: "target = \"random master\"\nrate = 5000\nduration = 3",
        presets: &["restarts"],
        draw: draw::burst,
    },
    Page {
        name: "big-values",
        family: Family::Load,
        does: "`count` values of `bytes` bytes are written to the target's slots, one after the other, straight to it.",
        does_not: "As burst.",
        undone_by: "They are deleted.",
        voids: &[],
        words: "target count bytes duration",
        example: "target = \"random master\"\ncount = 20\nbytes = 1000000\nduration = 3",
        presets: &["resharding"],
        draw: draw::big_values,
    },
    Page {
        name: "slow-command",
        family: Family::Load,
        does: "DEBUG SLEEP: the server's one thread does nothing for `duration`, neither for clients nor on the bus.",
        does_not: "Unlike pause, background threads and children go on.",
        undone_by: "It undoes itself.",
        voids: &[],
        words: "target duration",
        example: "target = \"random master\"\nduration = \"1.2 NT\"",
        presets: &["elections"],
        draw: draw::slow_command,
    },
    Page {
        name: "flood",
        family: Family::Load,
        does: "`count` connections to the target, each greeted with PING, straight to it.",
        does_not: "They ask for nothing more.",
        undone_by: "They are closed.",
        voids: &[],
        words: "target count duration",
        example: "target = \"random master\"\ncount = 300\nduration = 3",
        presets: &["restarts"],
        draw: draw::flood,
    },
    Page {
        name: "overflow",
        family: Family::Load,
        does: "The target's limit of replica output buffers and its backlog are set to their least, what it sends to replicas is held, and `bytes` bytes are written to it: it closes its replicas' links, and they need a full synchronisation.",
        does_not: "The kernel's buffers come first: some MB pass before the server's own grow.",
        undone_by: "Old limits, links pass, the keys are deleted.",
        voids: &[],
        words: "target bytes duration",
        example: "target = \"random master\"\nbytes = 30000000\nduration = 3",
        presets: &["partitions"],
        draw: draw::overflow,
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Fault, PRESETS, Plan, StormFile};

    #[test]
    fn every_example_is_a_fault_of_its_kind_and_reads_back_as_itself() {
        for page in KINDS {
            let text = format!("[[fault]]\nat = 1\nkind = \"{}\"\n{}\n", page.name, page.example);
            let plan = Plan::from_file(StormFile::parse(page.name, &text).unwrap(), 1).unwrap();
            let fault: &Fault = &plan.faults[0];
            assert_eq!(fault.kind.name(), page.name);
            let again = plan.to_file().to_toml("x");
            let again = Plan::from_file(StormFile::parse(page.name, &again).unwrap(), 1).unwrap();
            assert_eq!(plan, again, "{}", page.name);
        }
    }

    #[test]
    fn every_kind_has_a_whole_page_and_stands_in_a_preset_beside_everything() {
        for page in KINDS {
            for text in [page.does, page.does_not, page.undone_by] {
                assert!(text.ends_with('.') && text.len() >= 8, "{}: {text}", page.name);
            }
            assert!(!page.presets.is_empty(), "{}", page.name);
            for preset in page.presets {
                assert!(PRESETS.iter().any(|it| it.name == *preset), "{}: {preset}", page.name);
            }
        }
    }

    #[test]
    fn what_a_page_voids_is_a_guarantee_that_the_judge_knows() {
        for page in KINDS {
            for guarantee in page.voided() {
                assert!(slotstorm_checker::GUARANTEES.contains(&guarantee), "{}: {guarantee}", page.name);
            }
        }
    }
}
