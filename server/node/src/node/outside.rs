//! Settings that the shell puts in force: where to listen, and how soon the kernel may kill the process. CONFIG SET is
//! answered when that is done, and undone if it fails.

use super::Node;
use super::client::{Blocked, Client};
use crate::config::{Config, Key};
use crate::io::{ConnId, Effect, LogLevel, Setting};

/// A CONFIG SET that waits for the shell.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// Who is answered; nobody inside of EXEC.
    waiting: Option<ConnId>,
    /// The configuration before.
    before: Config,
    changed: Vec<Key>,
    /// Answers that are to come.
    left: usize,
    /// What failed: the directive and Redis' words for it.
    failed: Option<(&'static str, &'static str)>,
    /// What is in force, and must be undone if another setting fails.
    in_force: Vec<Setting>,
    /// One failed, and what was in force is being undone.
    is_undone: bool,
}

impl Node {
    /// Asks the shell for what changed; false if nothing did that is its business.
    pub(super) fn settle_outside(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        before: Config,
        changed: &[Key],
    ) -> bool {
        let any = |keys: &[Key]| keys.iter().any(|key| changed.contains(key));
        let listens = any(&[Key::Port, Key::Bind]).then_some(Setting::Listening);
        let dies = any(&[Key::OomScoreAdj, Key::OomScoreAdjValues]).then_some(Setting::OomScore);
        let wanted: Vec<Setting> = listens.into_iter().chain(dies).collect();
        if wanted.is_empty() {
            return false;
        }
        let waiting = (!client.in_exec).then_some(conn);
        let left = wanted.len();
        let changed = changed.to_vec();
        self.unsettled = Some(Unsettled {
            waiting,
            before,
            changed,
            left,
            failed: None,
            in_force: Vec::new(),
            is_undone: false,
        });
        self.effects.list.extend(wanted.into_iter().map(|setting| Effect::Apply { setting }));
        if waiting.is_some() {
            client.blocked = Some(Blocked::Disk);
        }
        waiting.is_some()
    }

    /// The shell has done what it was asked for, or could not.
    pub(super) fn applied(&mut self, setting: Setting, well: bool) {
        let Some(mut unsettled) = self.unsettled.take() else { return };
        if unsettled.is_undone {
            // It was in force before; nothing more can be done if it cannot be now.
        } else if well {
            unsettled.in_force.push(setting);
        } else {
            unsettled.failed = Some(match setting {
                Setting::Listening if unsettled.changed.contains(&Key::Port) => {
                    ("port", "Unable to listen on this port. Check server logs.")
                }
                Setting::Listening => ("bind", "Failed to bind to specified addresses."),
                Setting::OomScore => {
                    ("oom-score-adj", "Failed to apply new oom_score_adj configuration, check server logs.")
                }
            });
        }
        unsettled.left -= 1;
        if unsettled.left > 0 {
            self.unsettled = Some(unsettled);
            return;
        }
        if unsettled.failed.is_some() && !unsettled.in_force.is_empty() {
            self.config = unsettled.before.clone();
            let undone = std::mem::take(&mut unsettled.in_force);
            unsettled.left = undone.len();
            unsettled.is_undone = true;
            self.effects.list.extend(undone.into_iter().map(|setting| Effect::Apply { setting }));
            self.unsettled = Some(unsettled);
            return;
        }
        let Unsettled { waiting, before, changed, failed, .. } = unsettled;
        let answer = failed.map(|(name, why)| {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {why}")
        });
        if let Some(answer) = &answer {
            self.log(LogLevel::Warning, answer.clone());
            self.config = before;
            self.config_changed(&changed);
        }
        if let Some(conn) = waiting {
            self.unblock(conn, |reply| match &answer {
                Some(answer) => reply.error(answer),
                None => reply.ok(),
            });
        }
        // Another CONFIG SET may wait for this one.
        self.resume(Blocked::Paused);
    }
}
