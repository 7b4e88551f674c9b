//! What an operator sees: redis-cli's lines, coloured on a terminal; a bar while keys move; questions.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // a shell: the terminal

use std::cell::{Cell, RefCell};
use std::io::{BufRead, IsTerminal, Write};
use std::rc::Rc;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::Trouble;
use crate::admin::note::{Gauge, Note};
use crate::cli::terminal::Paint;

/// Where notes go.
pub struct Screen {
    paint: Paint,
    terminal: bool,
    /// Say nothing: the answer is JSON.
    quiet: bool,
    /// Slots that move are not named one by one.
    hashes: Cell<bool>,
    bar: RefCell<Option<ProgressBar>>,
}

impl Screen {
    pub fn new(quiet: bool) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        Self { paint: Paint::of_stdout(), terminal, quiet, hashes: Cell::new(false), bar: RefCell::default() }
    }

    /// From here on a `#` stands for a slot, as redis-cli's rebalance has it.
    pub fn use_hashes(&self) {
        self.hashes.set(true);
    }

    /// Shows one note.
    pub fn show(&self, note: &Note) {
        if self.quiet {
            return;
        }
        let style = match note {
            Note::Step(_) => "29;1",
            Note::Good(_) => "32;1",
            Note::Warning(_) | Note::Stop(_) => "33;1",
            Note::Bad(_) => "31;1",
            Note::Line(_) => "",
            Note::Moving { .. } if self.terminal || self.hashes.get() => return,
            Note::Moving { .. } => "",
            Note::Moved(gauge) => return self.moved(*gauge),
        };
        let text = note.to_string();
        let text = if style.is_empty() { text } else { self.paint.style(style, &text) };
        match &*self.bar.borrow() {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    fn moved(&self, gauge: Gauge) {
        if !self.terminal {
            return;
        }
        let mut slot = self.bar.borrow_mut();
        // A slot weighs as a key, so that empty slots move the bar, too.
        let (done, all) = (gauge.slots + gauge.keys, gauge.slots_in_all + gauge.keys_in_all);
        let bar = slot.get_or_insert_with(|| {
            let bar = ProgressBar::new(all);
            let style = "  {bar:30.cyan/blue} {msg}, {per_sec}, {eta} left";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        bar.set_length(all.max(done));
        bar.set_position(done);
        bar.set_message(format!(
            "{}/{} slots, {}/{} keys",
            gauge.slots, gauge.slots_in_all, gauge.keys, gauge.keys_in_all
        ));
    }

    /// Takes the bar away; a line of `#` for slots that moved.
    pub fn end_of_move(&self, slots: usize) {
        if let Some(bar) = self.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
        if self.hashes.get() && !self.quiet && slots > 0 {
            println!("{}", "#".repeat(slots));
        }
    }
}

/// Asks for a line; `None` at the end of stdin.
pub fn ask(question: &str) -> std::io::Result<Option<String>> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    let count = std::io::stdin().lock().read_line(&mut answer)?;
    Ok((count > 0).then(|| answer.trim().to_owned()))
}

/// Whether the answer is `yes`.
pub fn agreed(question: &str, yes: bool) -> std::io::Result<bool> {
    Ok(yes || ask(question)?.is_some_and(|answer| answer.eq_ignore_ascii_case("yes")))
}

/// Asks for a password: not shown on a terminal.
pub fn secret(question: &str) -> Result<String, Trouble> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let usual = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
    if let Some(usual) = &usual {
        let mut silent = usual.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        let _ = tcsetattr(&stdin, SetArg::TCSANOW, &silent);
    }
    let answer = ask(question);
    if let Some(usual) = &usual {
        let _ = tcsetattr(&stdin, SetArg::TCSANOW, usual);
        println!();
    }
    answer?.ok_or_else(|| Trouble::Usage("no password was given".to_owned()))
}

/// The first Ctrl-C (or SIGTERM) asks the work to end at the next safe point, the second ends it at once.
pub fn halt_on_interrupt() -> std::io::Result<Rc<Cell<bool>>> {
    let halt = Rc::new(Cell::new(false));
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told = halt.clone();
    tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if told.replace(true) {
                eprintln!("*** stopped at once: slots may be open (slotstorm cluster check, then fix)");
                std::process::exit(1);
            }
            eprintln!("*** stopping when the slots that are open now are closed; again to stop at once");
        }
    });
    Ok(halt)
}
