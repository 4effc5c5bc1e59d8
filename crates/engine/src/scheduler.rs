//! Which requests are computed next: plain state, moved by calls that are given the time.
//!
//! Each model version has a *lane*: a bounded queue and the backends that are free. A worker asks
//! [`Scheduler::next`] and gets a batch of one lane together with one of its backends, or learns
//! how long to wait. Lanes take turns by rows served (start-time fair queueing: the lane that was
//! served least goes first, and one that comes back from idle starts level with the others), so a
//! flooded model cannot starve a quiet one.
//!
//! Within a lane entries leave in the order of arrival, but each level of [priority](Entry::priority)
//! counts as [`PRIORITY_LEAD`] of waiting done before. So a higher priority goes first, and nobody
//! starves: what has waited longer than the lead is not overtaken any more. Where the queue is full,
//! an entry displaces what waits with lower priority, last in the order first.
//!
//! Nothing here blocks, sleeps or looks at a clock, so its tests need no time to pass.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_features::FeatureBatch;
use tokio::sync::oneshot;

use crate::{Backend, ScoreError, engine::Instance};

/// The highest priority of a job; 0 is the lowest.
pub const HIGHEST_PRIORITY: u8 = 9;
/// How much earlier than it did an entry is taken to have arrived, for each level of priority.
pub const PRIORITY_LEAD: Duration = Duration::from_millis(100);

/// Bounds of every lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rows that may wait in a lane.
    pub(crate) queue_rows: usize,
    /// Rows a batch is filled to.
    pub(crate) batch_rows: usize,
    /// How long an entry may wait for its batch to fill.
    pub(crate) batch_delay: Duration,
}

/// One request waiting for its scores.
pub(crate) struct Entry {
    pub(crate) batch: FeatureBatch,
    /// Positions of the outputs wanted.
    pub(crate) outputs: Vec<usize>,
    pub(crate) deadline: Option<Instant>,
    /// 0 to [`HIGHEST_PRIORITY`].
    pub(crate) priority: u8,
    /// Set when the entry is queued.
    pub(crate) queued_at: Instant,
    pub(crate) reply: oneshot::Sender<Result<Scored, ScoreError>>,
    /// The caller's span: what a worker does for the entry is written under it.
    pub(crate) span: tracing::Span,
}

impl Entry {
    fn rows(&self) -> usize {
        self.batch.candidates
    }
}

/// A place in a lane's queue; entries leave in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket {
    /// The time of arrival, put off by the lead of each level that the priority is below the highest.
    turn: Instant,
    number: u64,
}

/// What a worker answers.
#[derive(Debug)]
pub(crate) struct Scored {
    pub(crate) scores: Vec<Vec<f32>>,
    pub(crate) queue: Duration,
    pub(crate) infer: Duration,
    pub(crate) batch_jobs: usize,
    pub(crate) batch_rows: usize,
}

/// Work for one worker: the entries, and a backend to be given back with [`Scheduler::give_back`].
pub(crate) struct Work {
    pub(crate) lane: u64,
    pub(crate) instance: Arc<Instance>,
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) entries: Vec<Entry>,
}

/// What a worker is to do.
pub(crate) enum Next {
    /// Run this.
    Run(Work),
    /// A batch is ripe at this time, unless something arrives before.
    Wait(Instant),
    /// Nothing to do until something arrives.
    Idle,
}

/// Why an entry was not queued; it is given back.
pub(crate) enum Refused {
    /// The lane holds this many rows already.
    Full(usize),
    /// The model version is gone: look it up again.
    Retired(Box<Entry>),
    /// No new work is taken.
    Closed,
}

struct Lane {
    instance: Arc<Instance>,
    /// Waiting entries in the order in which they leave.
    waiting: BTreeMap<Ticket, Entry>,
    /// Rows waiting, by priority.
    rows: [usize; HIGHEST_PRIORITY as usize + 1],
    free: Vec<Box<dyn Backend>>,
    lent: usize,
    /// Rows served, on the scale that lanes are compared by.
    served: u64,
    retired: bool,
}

impl Lane {
    /// Rows waiting with this priority or a higher one.
    fn rows_from(&self, priority: u8) -> usize {
        self.rows.iter().skip(priority.into()).sum()
    }

    fn rows(&self) -> usize {
        self.rows_from(0)
    }

    fn insert(&mut self, ticket: Ticket, entry: Entry) {
        self.rows[usize::from(entry.priority)] += entry.rows();
        self.waiting.insert(ticket, entry);
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Entry> {
        let entry = self.waiting.remove(&ticket)?;
        self.rows[usize::from(entry.priority)] -= entry.rows();
        Some(entry)
    }

    /// Takes out all that waits.
    fn clear(&mut self) -> impl Iterator<Item = Entry> + use<> {
        self.rows = Default::default();
        std::mem::take(&mut self.waiting).into_values()
    }

    /// Makes room for `rows` by displacing entries of a priority below `priority`, those that would
    /// be served last first. Nothing is displaced unless it is enough.
    fn displace(&mut self, rows: usize, priority: u8) -> bool {
        if self.rows() - self.rows_from(priority) < rows {
            return false;
        }
        let mut freed = 0;
        let lower = self.waiting.iter().rev().filter(|(_, entry)| entry.priority < priority);
        let displaced = lower.take_while(|(_, entry)| {
            let wanted = freed < rows;
            freed += entry.rows();
            wanted
        });
        for ticket in displaced.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            if let Some(entry) = self.remove(ticket) {
                // The caller may be gone.
                let _ = entry.reply.send(Err(ScoreError::Displaced { model: self.instance.model.clone() }));
            }
        }
        true
    }
}

pub(crate) struct Scheduler {
    limits: Limits,
    lanes: BTreeMap<u64, Lane>,
    next_lane: u64,
    next_ticket: u64,
    /// Rows served of the lane that was served last, before it was.
    clock: u64,
    closed: bool,
    stopped: bool,
    /// Workers that wait to be woken; kept by those who wait.
    pub(crate) idle_workers: usize,
}

impl Scheduler {
    pub(crate) fn new(limits: Limits) -> Scheduler {
        Scheduler {
            limits,
            lanes: BTreeMap::new(),
            next_lane: 0,
            next_ticket: 0,
            clock: 0,
            closed: false,
            stopped: false,
            idle_workers: 0,
        }
    }

    /// Adds a lane for a model version with its backends.
    pub(crate) fn add(&mut self, instance: Arc<Instance>, backends: Vec<Box<dyn Backend>>) -> u64 {
        let id = self.next_lane;
        self.next_lane += 1;
        let lane = Lane {
            instance,
            waiting: BTreeMap::new(),
            rows: Default::default(),
            free: backends,
            lent: 0,
            served: self.clock,
            retired: false,
        };
        self.lanes.insert(id, lane);
        id
    }

    /// Lets a lane finish what waits in it and then go.
    pub(crate) fn retire(&mut self, lane: u64) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.retired = true;
        }
        self.remove_if_done(lane);
    }

    /// Whether the lane is still there.
    pub(crate) fn has(&self, lane: u64) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Rows waiting in a lane with this priority or a higher one.
    pub(crate) fn waiting_rows(&self, lane: u64, priority: u8) -> usize {
        self.lanes.get(&lane).map_or(0, |lane| lane.rows_from(priority))
    }

    /// Queues an entry and returns its ticket.
    pub(crate) fn push(&mut self, lane: u64, mut entry: Entry, now: Instant) -> Result<Ticket, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        let Some(found) = self.lanes.get_mut(&lane).filter(|lane| !lane.retired) else {
            return Err(Refused::Retired(Box::new(entry)));
        };
        let beyond = (found.rows() + entry.rows()).saturating_sub(self.limits.queue_rows);
        if beyond > 0 && !found.displace(beyond, entry.priority) {
            return Err(Refused::Full(found.rows_from(entry.priority)));
        }
        if found.waiting.is_empty() && found.lent == 0 {
            found.served = found.served.max(self.clock);
        }
        let behind = u32::from(HIGHEST_PRIORITY.saturating_sub(entry.priority));
        let ticket = Ticket { turn: now + PRIORITY_LEAD * behind, number: self.next_ticket };
        self.next_ticket += 1;
        entry.queued_at = now;
        found.insert(ticket, entry);
        Ok(ticket)
    }

    /// Takes out an entry whose caller no longer waits, so that its place is free at once.
    pub(crate) fn cancel(&mut self, lane: u64, ticket: Ticket) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.remove(ticket);
        }
        self.remove_if_done(lane);
    }

    /// The next batch: of the lanes that have a free backend and a ripe queue, the one served
    /// least. Entries that are dead (cancelled, or past their deadline) are dropped on the way.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        loop {
            let ready = |lane: &&Lane| !lane.waiting.is_empty() && !lane.free.is_empty();
            let ripe_at = |lane: &Lane| {
                let full = lane.rows() >= self.limits.batch_rows || lane.retired || self.closed;
                if full || self.limits.batch_delay.is_zero() {
                    return now;
                }
                // Not always the first: a higher priority may have come later.
                let oldest = lane.waiting.values().map(|entry| entry.queued_at).min();
                oldest.map_or(now, |oldest| oldest + self.limits.batch_delay)
            };
            let chosen = self
                .lanes
                .iter()
                .filter(|(_, lane)| ready(lane) && ripe_at(lane) <= now)
                .min_by_key(|(id, lane)| (lane.served, **id))
                .map(|(id, _)| *id);
            let Some(id) = chosen else {
                let first = self.lanes.values().filter(ready).map(ripe_at).min();
                return first.map_or(Next::Idle, Next::Wait);
            };
            if let Some(work) = self.take(id, now) {
                return Next::Run(work);
            }
            // Everything in that lane was dead.
            self.remove_if_done(id);
        }
    }

    fn take(&mut self, id: u64, now: Instant) -> Option<Work> {
        let lane = self.lanes.get_mut(&id)?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut rows = 0;
        while let Some((ticket, first)) = lane.waiting.first_key_value() {
            let dead = first.reply.is_closed() || first.deadline.is_some_and(|deadline| deadline <= now);
            // A request beyond the budget runs alone; the order is kept.
            if !dead && !entries.is_empty() && rows + first.rows() > self.limits.batch_rows {
                break;
            }
            let ticket = *ticket;
            let Some(entry) = lane.remove(ticket) else { break };
            if dead {
                // The caller may be gone; then nobody wants the answer.
                let _ = entry.reply.send(Err(ScoreError::DeadlineExceeded));
                continue;
            }
            rows += entry.rows();
            entries.push(entry);
        }
        if entries.is_empty() {
            return None;
        }
        let backend = lane.free.pop()?;
        lane.lent += 1;
        self.clock = self.clock.max(lane.served);
        lane.served += rows as u64;
        Some(Work { lane: id, instance: lane.instance.clone(), backend, entries })
    }

    /// Takes back a lent backend, or `None` where it is lost. A lane that has lost its last backend
    /// answers what waits in it and takes no more.
    pub(crate) fn give_back(&mut self, lane: u64, backend: Option<Box<dyn Backend>>) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.lent -= 1;
            found.free.extend(backend);
            if found.free.is_empty() && found.lent == 0 {
                found.retired = true;
                for entry in found.clear() {
                    let _ = entry.reply.send(Err(found.instance.lost()));
                }
            }
        }
        self.remove_if_done(lane);
    }

    /// Takes no new entries; what waits is still served.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Answers everything that waits with [`ScoreError::ShuttingDown`] and ends the workers.
    /// Returns the number of entries answered so.
    pub(crate) fn stop(&mut self) -> usize {
        self.closed = true;
        self.stopped = true;
        let mut count = 0;
        for lane in self.lanes.values_mut() {
            count += lane.waiting.len();
            for entry in lane.clear() {
                let _ = entry.reply.send(Err(ScoreError::ShuttingDown));
            }
        }
        count
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn closed(&self) -> bool {
        self.closed
    }

    /// Whether any entry waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waiting.is_empty())
    }

    /// Whether nothing waits and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.values().all(|lane| lane.waiting.is_empty() && lane.lent == 0)
    }

    fn remove_if_done(&mut self, id: u64) {
        let done = |lane: &Lane| lane.retired && lane.waiting.is_empty() && lane.lent == 0;
        if self.lanes.get(&id).is_some_and(done) {
            self.lanes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
