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
//! A request is admitted by its rows before it is encoded: the queue must have room, and what is
//! ahead of it, at the [`Pace`] of the batches before, must leave it time enough.
//!
//! Nothing here blocks, sleeps or looks at a clock, so its tests need no time to pass.

mod pace;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gatefold_features::FeatureBatch;
use tokio::sync::oneshot;

use crate::{Backend, ScoreError, engine::Instance};
use pace::Pace;

/// Part of the time left that an answer may be expected to take: an estimate is one, threads wait for
/// cores, and the answer has to travel. What is refused so costs no throughput, as the queue is far
/// from empty then.
const TIME_TO_USE: f64 = 0.6;

/// The highest priority of a job; 0 is the lowest.
pub const HIGHEST_PRIORITY: u8 = 9;
/// How much earlier than it did an entry is taken to have arrived, for each level of priority.
pub const PRIORITY_LEAD: Duration = Duration::from_millis(100);

/// Bounds of every lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Threads that run batches.
    pub(crate) workers: usize,
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
    /// What the entry is going through: the wait in the queue, then the run of its batch.
    pub(crate) stage: tracing::Span,
}

impl Entry {
    fn rows(&self) -> usize {
        self.batch.candidates
    }
}

/// What a request wants of a lane, known before it is encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) rows: usize,
    pub(crate) deadline: Option<Instant>,
    /// As in [`Entry`].
    pub(crate) priority: u8,
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
    /// Rows of the entries.
    pub(crate) rows: usize,
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

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The lane holds this many rows already, of this priority or a higher one.
    Full(usize),
    /// The answer would take about this long.
    TooLate(Duration),
    /// The deadline has passed.
    Expired,
    /// No new work is taken.
    Closed,
}

/// Why an entry was not queued.
pub(crate) enum Unqueued {
    /// The model version is gone: look it up again.
    Retired(Box<Entry>),
    /// The time for finishing what was admitted is over.
    Stopped,
}

struct Lane {
    instance: Arc<Instance>,
    /// Waiting entries in the order in which they leave.
    waiting: BTreeMap<Ticket, Entry>,
    /// Rows waiting, by priority.
    rows: [usize; HIGHEST_PRIORITY as usize + 1],
    /// Rows admitted that are being encoded.
    reserved: usize,
    /// Rows being computed.
    running: usize,
    pace: Pace,
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
    /// be served last first.
    fn displace(&mut self, rows: usize, priority: u8) {
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
            reserved: 0,
            running: 0,
            pace: Pace::default(),
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

    /// Keeps room in a lane for rows that are to be encoded: [`Scheduler::push`] uses it,
    /// [`Scheduler::release`] gives it up. A lane that has gone keeps none: `push` says so.
    pub(crate) fn admit(&mut self, lane: u64, demand: Demand, now: Instant) -> Result<(), Refused> {
        let Demand { rows, deadline, priority } = demand;
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Err(Refused::Expired);
        }
        if self.closed {
            return Err(Refused::Closed);
        }
        let Some(found) = self.lanes.get(&lane) else { return Ok(()) };
        let ahead = found.rows_from(priority) + found.reserved;
        // Lower priorities make room, if it comes to that, once the entry is there.
        if ahead + rows > self.limits.queue_rows {
            return Err(Refused::Full(ahead));
        }
        // With nothing ahead it is tried: a pace that was wrong is found out so.
        if let Some(deadline) = deadline
            && ahead > 0
        {
            let needed = self.seconds_to_answer(found, ahead, rows);
            if needed > deadline.saturating_duration_since(now).as_secs_f64() * TIME_TO_USE {
                return Err(Refused::TooLate(Duration::try_from_secs_f64(needed).unwrap_or(Duration::MAX)));
            }
        }
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.reserved += rows;
        }
        Ok(())
    }

    /// Time until an entry that came now with `ahead` rows of its lane before it would be answered:
    /// half of what runs, what is ahead (of other lanes as many rows as of its own, since lanes take
    /// turns by rows), shared by the workers, and then its own batch.
    fn seconds_to_answer(&self, lane: &Lane, ahead: usize, rows: usize) -> f64 {
        let before = |other: &Lane| {
            let waiting = (other.rows() + other.reserved).min(ahead);
            other.pace.seconds(waiting as f64 + other.running as f64 / 2.0)
        };
        let before: f64 = self.lanes.values().map(before).sum();
        let batch = (ahead + rows).min(self.limits.batch_rows).max(rows);
        // Part of what is ahead may run in the same batch; then it is not also before it.
        let joined = lane.pace.seconds((batch - rows).min(ahead) as f64);
        (before - joined).max(0.0) / self.limits.workers as f64 + lane.pace.seconds(batch as f64)
    }

    /// Gives up the room of rows that were admitted and are not queued.
    pub(crate) fn release(&mut self, lane: u64, rows: usize) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.reserved = found.reserved.saturating_sub(rows);
        }
    }

    /// Queues an entry that was admitted and returns its ticket.
    pub(crate) fn push(&mut self, lane: u64, mut entry: Entry, now: Instant) -> Result<Ticket, Unqueued> {
        self.release(lane, entry.rows());
        if self.stopped {
            return Err(Unqueued::Stopped);
        }
        let Some(found) = self.lanes.get_mut(&lane).filter(|lane| !lane.retired) else {
            return Err(Unqueued::Retired(Box::new(entry)));
        };
        // Room that is kept for others counts: they displace nothing of their own priority.
        let taken = found.rows() + found.reserved + entry.rows();
        let beyond = taken.saturating_sub(self.limits.queue_rows);
        if beyond > 0 {
            found.displace(beyond, entry.priority);
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
        lane.running += rows;
        self.clock = self.clock.max(lane.served);
        lane.served += rows as u64;
        Some(Work { lane: id, instance: lane.instance.clone(), backend, entries, rows })
    }

    /// Takes back the backend that was lent for a batch of `rows`, or `None` where it is lost, and
    /// learns how long the batch `took`. A lane that has lost its last backend answers what waits in
    /// it and takes no more; whether this is what happened now.
    pub(crate) fn give_back(
        &mut self,
        lane: u64,
        backend: Option<Box<dyn Backend>>,
        rows: usize,
        took: Duration,
    ) -> bool {
        let mut lost = false;
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.lent -= 1;
            found.running = found.running.saturating_sub(rows);
            found.pace.ran(rows, took);
            found.free.extend(backend);
            if found.free.is_empty() && found.lent == 0 {
                lost = !found.retired;
                found.retired = true;
                for entry in found.clear() {
                    let _ = entry.reply.send(Err(found.instance.lost()));
                }
            }
        }
        self.remove_if_done(lane);
        lost
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

    /// Whether any entry waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.lanes.values().any(|lane| !lane.waiting.is_empty())
    }

    /// Whether nothing is admitted and nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |lane: &Lane| lane.waiting.is_empty() && lane.reserved == 0 && lane.lent == 0;
        self.lanes.values().all(idle)
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
