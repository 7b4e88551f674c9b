//! Who a client is and what it may do: AUTH, HELLO, RESET, and the check before each command.

use super::client::{Client, ConnKind, ReplyMode};
use super::{Node, text};
use crate::acl::{AclDefaults, Changed, Denied, Refusal, UserId, may_listen};
use crate::command::{Fault, SYNTAX, Spec, is, shown};
use crate::config::Key;
use crate::io::ConnId;
use crate::keyspace::number::parse_i64;
use crate::pubsub::Kind;
use crate::resp::{Args, Protocol, Reply};

/// Where a command was refused, for ACL LOG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    TopLevel,
    Multi,
    Lua,
}

impl Node {
    /// What new users may without being told so.
    pub(super) fn acl_defaults(&self) -> AclDefaults {
        AclDefaults { all_channels: self.config.text(Key::AclPubsubDefault) == "allchannels" }
    }

    /// Makes the users that the configuration names; the server must not start if that fails.
    pub(super) fn start_users(&mut self) {
        self.take_requirepass();
        let path = self.config.some_text(Key::Aclfile).map(str::to_owned);
        if path.is_some() && !self.config.users.is_empty() {
            return self.fatal(
                "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is \
                 invalid. This setup is very likely to lead to configuration errors and security holes, please define \
                 either an ACL file or declare users directly in your redis.conf, but not both.",
            );
        }
        let defaults = self.acl_defaults();
        let users = std::mem::take(&mut self.config.users);
        match self.acl.configure(&users, defaults) {
            Ok(notes) => notes.into_iter().for_each(|note| self.log(crate::io::LogLevel::Notice, note)),
            Err(error) => {
                self.log(crate::io::LogLevel::Warning, error);
                return self.fatal("Critical error while loading ACLs. Exiting.");
            }
        }
        if let (Some(path), Some(file)) = (path, self.config.acl_text.take())
            && let Err(error) = self.acl.load(&path, &file, defaults)
        {
            self.fatal(&format!("Aborting Redis startup because of ACL errors: {error}"));
        }
    }

    /// `requirepass` is the default user's only password.
    pub(super) fn take_requirepass(&mut self) {
        match self.config.some_text(Key::Requirepass) {
            Some(password) => {
                let rule = [b">", password.as_bytes()].concat();
                self.acl.change_default(&[b"resetpass", &rule]);
            }
            None => self.acl.change_default(&[b"resetpass", b"nopass"]),
        }
    }

    /// Refuses what the client's user may not call; the refusal is logged.
    pub(super) fn permit(
        &mut self,
        conn: ConnId,
        client: &Client,
        spec: &'static Spec,
        args: Args<'_>,
        context: Context,
    ) -> Result<(), Denied> {
        let Err(denied) = self.acl.check(client.user, spec, args) else {
            let sorts = matches!(spec.name, "sort" | "sort_ro");
            self.db.refuses_patterns =
                sorts && !self.acl.user(client.user).is_some_and(|user| user.may_read_all_keys(spec, args));
            return Ok(());
        };
        let (reason, object) = match denied {
            Denied::Command => ("command", spec.name.as_bytes()),
            Denied::Key(at) => ("key", &args[at]),
            Denied::Channel(at) => ("channel", &args[at]),
        };
        let username = self.acl.name(client.user).to_vec();
        self.note_refusal(conn, client, (reason, context), object, username);
        Err(denied)
    }

    fn note_refusal(
        &mut self,
        conn: ConnId,
        client: &Client,
        (reason, context): (&'static str, Context),
        object: &[u8],
        username: Vec<u8>,
    ) {
        let refusal = Refusal {
            count: 1,
            reason,
            context: match context {
                Context::TopLevel => "toplevel",
                Context::Multi => "multi",
                Context::Lua => "lua",
            },
            object: object.to_vec(),
            username,
            at: self.now.wall,
            client: self.client_line(conn, client),
        };
        self.acl.log.add(refusal, self.config.uint(Key::AcllogMaxLen) as usize);
    }

    pub(super) fn auth(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        if args.len() > 3 {
            return Err(SYNTAX);
        }
        if args.len() == 2 && self.acl.default_user().needs_no_password() {
            return Err(text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        let (user, password) =
            if args.len() == 2 { (&b"default"[..], &args[1]) } else { (&args[1], &args[2]) };
        self.authenticate(conn, client, (user, password), &args[0])?;
        self.reply(client).ok();
        Ok(())
    }

    fn authenticate(
        &mut self,
        conn: ConnId,
        client: &mut Client,
        (user, password): (&[u8], &[u8]),
        command: &[u8],
    ) -> Result<(), Fault> {
        let Some(id) = self.acl.authenticate(user, password) else {
            let context = if client.in_exec { Context::Multi } else { Context::TopLevel };
            self.note_refusal(conn, client, ("auth", context), command, user.to_vec());
            return Err(text("WRONGPASS invalid username-password pair or user is disabled."));
        };
        client.authenticated = true;
        client.user = id;
        Ok(())
    }

    pub(super) fn hello(&mut self, conn: ConnId, client: &mut Client, args: Args<'_>) -> Result<(), Fault> {
        let mut protocol = client.protocol;
        let mut index = 1;
        if let Some(version) = args.get(1) {
            let version = parse_i64(version);
            protocol = match version.ok_or(text("ERR Protocol version is not an integer or out of range"))? {
                2 => Protocol::Resp2,
                3 => Protocol::Resp3,
                _ => return Err(text("NOPROTO unsupported protocol version")),
            };
            index = 2;
        }
        while index < args.len() {
            let left = args.len() - index - 1;
            if is(&args[index], "AUTH") && left >= 2 {
                self.authenticate(conn, client, (&args[index + 1], &args[index + 2]), &args[0])?;
                index += 3;
            } else if is(&args[index], "SETNAME") && left >= 1 {
                check_name(&args[index + 1])?;
                client.name = args[index + 1].to_vec();
                index += 2;
            } else {
                let option = shown(&args[index], 128);
                return Err(Fault::new(format!("ERR Syntax error in HELLO option '{option}'")));
            }
        }
        if !client.authenticated {
            return Err(text(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time",
            ));
        }
        client.protocol = protocol;
        let mode: &[u8] = if self.config.flag(Key::ClusterEnabled) { b"cluster" } else { b"standalone" };
        let role: &[u8] = if self.is_replica() { b"replica" } else { b"master" };
        let mut reply = self.reply(client);
        reply.map(7);
        for (name, value) in [(&b"server"[..], &b"redis"[..]), (b"version", b"7.0.15")] {
            reply.bulk(name);
            reply.bulk(value);
        }
        reply.bulk(b"proto");
        reply.int(if protocol == Protocol::Resp2 { 2 } else { 3 });
        reply.bulk(b"id");
        reply.int(client.id as i64);
        for (name, value) in [(&b"mode"[..], mode), (b"role", role)] {
            reply.bulk(name);
            reply.bulk(value);
        }
        reply.bulk(b"modules");
        reply.array(0);
        Ok(())
    }

    pub(super) fn reset(&mut self, conn: ConnId, client: &mut Client) -> Result<(), Fault> {
        if self.replication.is_replica(conn) {
            return Err(text("ERR can only reset normal client connections"));
        }
        self.discard(conn, client);
        for (kind, name) in std::mem::take(&mut client.subscriptions) {
            self.pubsub.unsubscribe(kind, conn, &name);
        }
        self.monitors.retain(|other| *other != conn);
        client.is_monitor = false;
        client.readonly = false;
        client.name.clear();
        client.reply_mode = ReplyMode::On;
        client.no_evict = false;
        client.protocol = Protocol::Resp2;
        client.db = 0;
        self.db.select(0);
        client.user = UserId::DEFAULT;
        client.authenticated = self.acl.is_open();
        Reply::new(&mut self.scratch, client.protocol).simple("RESET");
        Ok(())
    }

    /// Users changed: clients of those that are gone are closed, and listeners to channels that were taken away.
    pub(super) fn users_changed(&mut self, conn: ConnId, client: &mut Client, changed: &Changed) {
        let fits = |client: &Client| {
            if changed.gone.contains(&client.user) {
                return true;
            }
            let Some((user, patterns)) = &changed.fewer_channels else { return false };
            client.user == *user
                && client
                    .subscriptions
                    .iter()
                    .any(|(kind, name)| !may_listen(patterns, name, *kind == Kind::Pattern))
        };
        let goodbye: Vec<ConnId> = self
            .conns
            .iter()
            .filter(|(_, state)| matches!(&state.kind, ConnKind::Client(Some(other)) if fits(other)))
            .map(|(conn, _)| *conn)
            .collect();
        for other in goodbye {
            self.end_client(other);
        }
        if fits(client) {
            client.closing = true;
        }
        if changed.gone.contains(&client.user) {
            client.user = UserId::DEFAULT;
            client.authenticated = false;
        }
        debug_assert!(self.conns.contains_key(&conn));
    }

    /// Closes another client, as if it had gone.
    pub(super) fn end_client(&mut self, conn: ConnId) {
        self.replicate(|replication, now, actions| replication.closed(conn, now, actions));
        self.close(conn, false);
    }
}

/// The reply to a refused command.
pub(super) fn refused(denied: Denied, spec: &Spec) -> Fault {
    match denied {
        Denied::Command => {
            Fault::new(format!("NOPERM this user has no permissions to run the '{}' command", spec.name))
        }
        Denied::Key(_) => {
            text("NOPERM this user has no permissions to access one of the keys used as arguments")
        }
        Denied::Channel(_) => {
            text("NOPERM this user has no permissions to access one of the channels used as arguments")
        }
    }
}

/// The reply to a command that was refused only when EXEC came.
pub(super) fn refused_at_exec(denied: Denied) -> Fault {
    let reason = match denied {
        Denied::Command => "no permission to execute the command or subcommand",
        Denied::Key(_) => "no permission to touch the specified keys",
        Denied::Channel(_) => "no permission to access one of the channels used as arguments to the command",
    };
    Fault::new(format!(
        "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
         is no longer allowed for the following reason: {reason}"
    ))
}

/// Why a script may not call a command: because its caller may not.
pub(super) fn not_for_script(denied: Denied) -> std::borrow::Cow<'static, str> {
    match denied {
        Denied::Command => "The user executing the script can't run this command or subcommand",
        Denied::Key(_) => {
            "The user executing the script can't access at least one of the keys mentioned in the command arguments"
        }
        Denied::Channel(_) => "The user executing the script can't publish to the channel mentioned in the command",
    }
    .into()
}

/// Names of clients are words.
pub(super) fn check_name(name: &[u8]) -> Result<(), Fault> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        Ok(())
    } else {
        Err(text("ERR Client names cannot contain spaces, newlines or special characters."))
    }
}
