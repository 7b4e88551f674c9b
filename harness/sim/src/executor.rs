//! A deterministic executor in virtual time: one thread, tasks run in the order in which they were woken, and
//! when none can run the clock jumps to the next timer. Nothing in it knows what the time really is.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;

/// Nanoseconds of virtual time.
pub type Nanos = u64;

/// What happens beside the tasks, in the same time: the simulated machines.
pub trait Machinery {
    /// When the next thing happens.
    fn next_at(&self) -> Option<Nanos>;
    /// The time has come: it happens.
    fn turn(&self);
    /// The clock goes on though nothing of its own happens.
    fn advance(&self, now: Nanos);
}

/// The executor. Cheap to clone: a handle.
#[derive(Clone, Default)]
pub struct Executor {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    machinery: RefCell<Option<Rc<dyn Machinery>>>,
    now: Cell<Nanos>,
    /// By number. A number is never used twice: what wakes a task that has ended must wake no other.
    tasks: RefCell<Vec<Option<(Task, Waker)>>>,
    timers: RefCell<Timers>,
    ready: Arc<Ready>,
}

/// Timers by time, then in the order in which they were set. Most are taken back before their time, since a client that
/// waits has a deadline, too: those stay in the heap, and are nobody's when they come up.
#[derive(Default)]
struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    /// Number and waker of the timer that has this place.
    places: Slab<(u64, Waker)>,
    next: u64,
}

impl Timers {
    fn set(&mut self, at: Nanos, waker: Waker) -> TimerId {
        let number = self.next;
        self.next += 1;
        let place = self.places.insert((number, waker));
        self.heap.push(Reverse((at, number, place)));
        TimerId { number, place }
    }

    /// Its waker, if it has not gone off.
    fn waker(&mut self, id: TimerId) -> Option<&mut Waker> {
        let (number, waker) = self.places.get_mut(id.place)?;
        (*number == id.number).then_some(waker)
    }

    fn take(&mut self, id: TimerId) -> Option<Waker> {
        self.waker(id)?;
        self.places.try_remove(id.place).map(|(_, waker)| waker)
    }

    /// When the next one goes off.
    fn next_at(&mut self) -> Option<Nanos> {
        loop {
            let Reverse((at, number, place)) = *self.heap.peek()?;
            if self.waker(TimerId { number, place }).is_some() {
                return Some(at);
            }
            self.heap.pop();
        }
    }

    fn pop(&mut self) -> Option<(Nanos, Waker)> {
        let at = self.next_at()?;
        let Reverse((_, number, place)) = self.heap.pop()?;
        Some((at, self.take(TimerId { number, place })?))
    }

    fn clear(&mut self) {
        self.heap.clear();
        self.places.clear();
    }
}

#[derive(Clone, Copy, Debug)]
struct TimerId {
    number: u64,
    place: usize,
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Tasks that were woken, oldest first. Behind a mutex only because `Waker` must be `Send`; there is one
/// thread.
#[derive(Default)]
struct Ready {
    queue: Mutex<VecDeque<usize>>,
}

impl Ready {
    fn push(&self, task: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !queue.contains(&task) {
            queue.push_back(task);
        }
    }

    fn pop(&self) -> Option<usize> {
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop_front()
    }
}

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// Every task waits, and no timer will wake any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {at} ns of virtual time every task waits for something that will never come")]
pub struct Deadlock {
    /// When it was noticed.
    pub at: Nanos,
}

impl Executor {
    /// An executor at time 0 without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on this happens, too. At one moment it comes before timers.
    pub fn attach(&self, machinery: Rc<dyn Machinery>) {
        *self.inner.machinery.borrow_mut() = Some(machinery);
    }

    /// Virtual time.
    #[inline]
    pub fn now(&self) -> Nanos {
        self.inner.now.get()
    }

    /// Adds a task; it runs when its turn comes, at the earliest after the running one waits.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.inner.tasks.borrow_mut();
        let number = tasks.len();
        // One waker for the task's whole life: it is asked for at every step.
        let waker = Waker::from(Arc::new(TaskWaker { task: number, ready: Arc::clone(&self.inner.ready) }));
        tasks.push(Some((Box::pin(task), waker)));
        self.inner.ready.push(number);
    }

    /// Resolves at `at`; at once if that has passed.
    #[inline]
    pub fn sleep_until(&self, at: Nanos) -> Sleep {
        Sleep { executor: self.clone(), at, set: None }
    }

    /// Runs all tasks until `main` ends; answers what it answers. Other tasks stay where they are.
    pub fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> Result<T, Deadlock> {
        let result: Rc<RefCell<Option<T>>> = Rc::default();
        let slot = Rc::clone(&result);
        self.spawn(async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            if let Some(value) = result.borrow_mut().take() {
                return Ok(value);
            }
            if let Some(number) = self.inner.ready.pop() {
                self.turn(number);
            } else if !self.advance() {
                return Err(Deadlock { at: self.now() });
            }
        }
    }

    /// Forgets all tasks and the machinery, which may hold this executor in turn.
    pub fn clear(&self) {
        // Taken out first: what a task drops may take its timer back.
        let tasks = std::mem::take(&mut *self.inner.tasks.borrow_mut());
        drop(tasks);
        self.inner.timers.borrow_mut().clear();
        self.inner.machinery.borrow_mut().take();
    }

    fn turn(&self, number: usize) {
        // Taken out while it runs, so that it may spawn others.
        let Some((mut task, waker)) = self.inner.tasks.borrow_mut().get_mut(number).and_then(Option::take)
        else {
            return;
        };
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            && let Some(place) = self.inner.tasks.borrow_mut().get_mut(number)
        {
            *place = Some((task, waker));
        }
    }

    /// Jumps to the next timer and wakes its task, or lets the machinery's next event happen; false if there is
    /// neither.
    fn advance(&self) -> bool {
        let timer = self.inner.timers.borrow_mut().next_at();
        let machinery = self.inner.machinery.borrow();
        if let Some(machinery) = machinery.as_deref() {
            if let Some(at) = machinery.next_at()
                && timer.is_none_or(|timer| at <= timer)
            {
                self.inner.now.set(self.inner.now.get().max(at));
                machinery.turn();
                return true;
            }
            if let Some(timer) = timer {
                machinery.advance(timer);
            }
        }
        let Some((at, waker)) = self.inner.timers.borrow_mut().pop() else { return false };
        self.inner.now.set(self.inner.now.get().max(at));
        waker.wake();
        true
    }
}

/// A timer. Dropping it takes it back.
pub struct Sleep {
    executor: Executor,
    at: Nanos,
    set: Option<TimerId>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.at {
            return Poll::Ready(());
        }
        let this = &mut *self;
        let mut timers = this.executor.inner.timers.borrow_mut();
        match this.set.and_then(|id| timers.waker(id)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => this.set = Some(timers.set(this.at, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.set {
            self.executor.inner.timers.borrow_mut().take(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_jumps_to_the_next_timer_and_tasks_run_in_their_order() {
        let executor = Executor::new();
        let seen: Rc<RefCell<Vec<(u64, &str)>>> = Rc::default();
        for (name, at) in [("late", 3_000_000_000), ("early", 1), ("also early", 1)] {
            let (sim, seen) = (executor.clone(), Rc::clone(&seen));
            executor.spawn(async move {
                sim.sleep_until(at).await;
                seen.borrow_mut().push((sim.now(), name));
            });
        }
        let sim = executor.clone();
        let answer = executor.run(async move {
            sim.sleep_until(3_600_000_000_000).await;
            42
        });
        assert_eq!(answer, Ok(42));
        assert_eq!(*seen.borrow(), [(1, "early"), (1, "also early"), (3_000_000_000, "late")]);
    }

    #[test]
    fn a_run_that_nothing_can_wake_is_told_instead_of_hanging() {
        let executor = Executor::new();
        let sim = executor.clone();
        executor.spawn(async move { sim.sleep_until(5).await });
        assert_eq!(executor.run(std::future::pending::<()>()), Err(Deadlock { at: 5 }));
    }

    #[test]
    fn a_dropped_timer_does_not_hold_the_clock() {
        let executor = Executor::new();
        drop(executor.sleep_until(1_000));
        let sim = executor.clone();
        executor.run(async move { sim.sleep_until(10).await }).unwrap();
        assert_eq!(executor.now(), 10);
    }
}
