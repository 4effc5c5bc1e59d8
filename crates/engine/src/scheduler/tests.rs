use std::collections::HashMap;

use super::*;
use crate::{
    BackendError, BackendLoader, Bundle, GraphForm,
    testing::{SharedLoader, TestLoader, publish},
};

const MILLISECOND: Duration = Duration::from_millis(1);

type Answer = oneshot::Receiver<Result<Scored, ScoreError>>;

/// A scheduler, the receivers of what was pushed, and a clock that only a test moves.
struct Bench {
    scheduler: Scheduler,
    now: Instant,
    answers: HashMap<Ticket, Answer>,
    bundle: Arc<Bundle>,
    loader: Arc<TestLoader>,
    _folder: tempfile::TempDir,
}

struct NoBackend;

impl Backend for NoBackend {
    fn run(&mut self, _: &FeatureBatch, _: &[usize]) -> Result<Vec<Vec<f32>>, BackendError> {
        Ok(Vec::new())
    }
}

impl Bench {
    fn new(queue_rows: usize, batch_rows: usize, delay: Duration) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let bundle = Arc::new(publish(folder.path(), "shop"));
        let limits = Limits { workers: 1, queue_rows, batch_rows, batch_delay: delay };
        Bench {
            scheduler: Scheduler::new(limits),
            now: Instant::now(),
            answers: HashMap::new(),
            bundle,
            loader: Arc::default(),
            _folder: folder,
        }
    }

    fn lane(&mut self, backends: usize) -> u64 {
        let loader: Arc<dyn BackendLoader> = Arc::new(SharedLoader(self.loader.clone()));
        let instance = Instance::new(self.bundle.clone(), GraphForm::UserOnce, loader);
        let backends = (0..backends).map(|_| Box::new(NoBackend) as Box<dyn Backend>).collect();
        self.scheduler.add(Arc::new(instance), backends)
    }

    fn entry(&self, demand: Demand) -> (Entry, Answer) {
        let (reply, answer) = oneshot::channel();
        let Demand { rows, deadline, priority } = demand;
        let batch = FeatureBatch { requests: 1, candidates: rows, ..FeatureBatch::default() };
        let (span, stage) = (tracing::Span::none(), tracing::Span::none());
        let outputs = vec![0];
        (Entry { batch, outputs, deadline, priority, queued_at: self.now, reply, span, stage }, answer)
    }

    fn try_push(&mut self, lane: u64, rows: usize, deadline: Option<Duration>) -> Result<Ticket, Refused> {
        self.offer(lane, rows, deadline, 0)
    }

    fn offer(
        &mut self,
        lane: u64,
        rows: usize,
        deadline: Option<Duration>,
        priority: u8,
    ) -> Result<Ticket, Refused> {
        let deadline = deadline.map(|after| self.now + after);
        let demand = Demand { rows, deadline, priority };
        self.scheduler.admit(lane, demand, self.now)?;
        let (entry, answer) = self.entry(demand);
        let pushed = self.scheduler.push(lane, entry, self.now);
        let ticket = pushed.unwrap_or_else(|_| panic!("admitted and not queued"));
        self.answers.insert(ticket, answer);
        Ok(ticket)
    }

    #[track_caller]
    fn push(&mut self, lane: u64, rows: usize) -> Ticket {
        self.push_as(lane, rows, 0)
    }

    #[track_caller]
    fn push_as(&mut self, lane: u64, rows: usize, priority: u8) -> Ticket {
        self.offer(lane, rows, None, priority).unwrap_or_else(|_| panic!("refused"))
    }

    /// Rows of each entry of the next batch, and its lane; the backend stays lent.
    fn take(&mut self) -> Option<(u64, Vec<usize>)> {
        match self.scheduler.next(self.now) {
            Next::Run(work) => Some((work.lane, work.entries.iter().map(Entry::rows).collect())),
            _ => None,
        }
    }

    /// Ends a batch that took a millisecond for ten rows.
    fn end(&mut self, (lane, rows): (u64, Vec<usize>)) {
        let rows: usize = rows.iter().sum();
        let took = MILLISECOND * rows as u32 / 10;
        self.scheduler.give_back(lane, Some(Box::new(NoBackend)), rows, took);
    }

    /// As `take`, and the batch ends at once.
    fn serve(&mut self) -> Option<(u64, Vec<usize>)> {
        let taken = self.take()?;
        self.end(taken.clone());
        Some(taken)
    }

    fn answer(&mut self, ticket: Ticket) -> Option<ScoreError> {
        self.answers.get_mut(&ticket).unwrap().try_recv().ok().and_then(Result::err)
    }
}

#[test]
fn a_batch_is_filled_in_order_up_to_the_row_budget() {
    let mut bench = Bench::new(1000, 100, Duration::ZERO);
    let lane = bench.lane(1);
    for rows in [40, 50, 20, 80, 300, 5] {
        bench.push(lane, rows);
    }
    assert_eq!(bench.serve(), Some((lane, vec![40, 50])));
    assert_eq!(bench.serve(), Some((lane, vec![20, 80])));
    assert_eq!(bench.serve(), Some((lane, vec![300])), "a request beyond the budget runs alone");
    assert_eq!(bench.serve(), Some((lane, vec![5])));
    assert_eq!(bench.serve(), None);
}

#[test]
fn the_queue_is_bounded_in_rows() {
    let mut bench = Bench::new(100, 100, Duration::ZERO);
    let lane = bench.lane(1);
    bench.push(lane, 60);
    bench.push(lane, 40);
    assert!(matches!(bench.try_push(lane, 1, None), Err(Refused::Full(100))));
    assert_eq!(bench.serve(), Some((lane, vec![60, 40])));
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 0);
    bench.push(lane, 100);
}

#[test]
fn a_batch_waits_for_its_delay_and_no_longer() {
    let mut bench = Bench::new(1000, 100, 2 * MILLISECOND);
    let lane = bench.lane(1);
    let start = bench.now;
    bench.push(lane, 10);
    assert!(matches!(bench.scheduler.next(bench.now), Next::Wait(until) if until == start + 2 * MILLISECOND));
    bench.now += MILLISECOND;
    bench.push(lane, 20);
    assert!(matches!(bench.scheduler.next(bench.now), Next::Wait(until) if until == start + 2 * MILLISECOND));
    bench.now += MILLISECOND;
    assert_eq!(bench.serve(), Some((lane, vec![10, 20])));
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut bench = Bench::new(1000, 100, 2 * MILLISECOND);
    let lane = bench.lane(1);
    bench.push(lane, 99);
    assert_eq!(bench.take(), None);
    bench.push(lane, 1);
    assert_eq!(bench.serve(), Some((lane, vec![99, 1])));
}

#[test]
fn closing_makes_what_waits_ripe() {
    let mut bench = Bench::new(1000, 100, 2 * MILLISECOND);
    let lane = bench.lane(1);
    bench.push(lane, 10);
    bench.scheduler.close();
    assert!(matches!(bench.try_push(lane, 1, None), Err(Refused::Closed)));
    assert_eq!(bench.serve(), Some((lane, vec![10])));
    assert!(bench.scheduler.is_idle());
}

#[test]
fn the_dead_are_dropped_before_compute() {
    let mut bench = Bench::new(1000, 100, Duration::ZERO);
    let lane = bench.lane(1);
    let expiring = bench.try_push(lane, 90, Some(MILLISECOND)).unwrap_or_else(|_| panic!("refused"));
    let gone = bench.push(lane, 60);
    bench.push(lane, 50);
    bench.push(lane, 50);
    bench.answers.remove(&gone);
    bench.now += MILLISECOND;
    assert_eq!(bench.serve(), Some((lane, vec![50, 50])), "dead rows take no part of the budget");
    assert!(matches!(bench.answer(expiring), Some(ScoreError::DeadlineExceeded)));
    // A lane with nothing but the dead gives no batch.
    bench.try_push(lane, 1, Some(MILLISECOND)).unwrap_or_else(|_| panic!("refused"));
    bench.now += MILLISECOND;
    assert!(matches!(bench.scheduler.next(bench.now), Next::Idle));
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 0);
    assert!(bench.scheduler.is_idle());
}

#[test]
fn a_cancelled_entry_frees_its_place_at_once() {
    let mut bench = Bench::new(100, 100, Duration::ZERO);
    let lane = bench.lane(1);
    bench.push(lane, 30);
    let middle = bench.push(lane, 50);
    bench.push(lane, 20);
    bench.scheduler.cancel(lane, middle);
    bench.scheduler.cancel(lane, middle);
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 50);
    bench.push(lane, 50);
    assert_eq!(bench.serve(), Some((lane, vec![30, 20, 50])));
}

#[test]
fn models_take_turns_by_rows_however_unequal_their_queues() {
    let mut bench = Bench::new(100_000, 100, Duration::ZERO);
    let flooded = bench.lane(1);
    let quiet = bench.lane(1);
    for _ in 0..100 {
        bench.push(flooded, 100);
    }
    for _ in 0..10 {
        bench.serve();
    }
    // The quiet one begins now: it starts level, neither behind nor with credit saved up.
    for _ in 0..8 {
        bench.push(quiet, 50);
    }
    let served: Vec<u64> = (0..8).map(|_| bench.serve().unwrap().0).collect();
    let turns = served.iter().filter(|lane| **lane == quiet).count();
    assert_eq!(turns, 4, "{served:?}");
    assert!(served.windows(3).any(|three| three.contains(&quiet) && three.contains(&flooded)));
}

#[test]
fn a_lane_without_a_free_backend_is_passed_over() {
    let mut bench = Bench::new(1000, 10, Duration::ZERO);
    let first = bench.lane(1);
    let second = bench.lane(1);
    for lane in [first, second] {
        bench.push(lane, 10);
        bench.push(lane, 10);
    }
    assert_eq!(bench.take().unwrap().0, first);
    assert_eq!(bench.take().unwrap().0, second);
    assert!(matches!(bench.scheduler.next(bench.now), Next::Idle));
    bench.end((second, vec![10]));
    assert_eq!(bench.take().unwrap().0, second);
}

#[test]
fn a_retired_lane_finishes_what_it_has_and_goes() {
    let mut bench = Bench::new(1000, 10, 5 * MILLISECOND);
    let lane = bench.lane(2);
    bench.push(lane, 5);
    bench.scheduler.retire(lane);
    assert_eq!(bench.take(), Some((lane, vec![5])), "it is ripe at once");
    let (late, _answer) = bench.entry(Demand { rows: 1, deadline: None, priority: 0 });
    assert!(matches!(bench.scheduler.push(lane, late, bench.now), Err(Unqueued::Retired(_))));
    assert!(bench.scheduler.has(lane), "its batch still runs");
    bench.end((lane, vec![5]));
    assert!(!bench.scheduler.has(lane));
    let empty = bench.lane(1);
    bench.scheduler.retire(empty);
    assert!(!bench.scheduler.has(empty));
}

#[test]
fn a_lane_that_lost_its_last_backend_answers_and_takes_no_more() {
    let mut bench = Bench::new(1000, 10, Duration::ZERO);
    let lane = bench.lane(1);
    bench.push(lane, 10);
    let waiting = bench.push(lane, 10);
    bench.take();
    assert!(bench.scheduler.give_back(lane, None, 10, MILLISECOND));
    assert!(matches!(bench.answer(waiting), Some(ScoreError::Lost { .. })));
    assert!(!bench.scheduler.has(lane));
    // One that was going anyway has lost nothing, nor has one that keeps a backend.
    let (going, two) = (bench.lane(1), bench.lane(2));
    for lane in [going, two] {
        bench.push(lane, 10);
        bench.take();
    }
    bench.scheduler.retire(going);
    assert!(!bench.scheduler.give_back(going, None, 10, MILLISECOND));
    assert!(!bench.scheduler.give_back(two, None, 10, MILLISECOND));
    assert!(!bench.scheduler.has(going) && bench.scheduler.has(two));
}

#[test]
fn stopping_answers_everything() {
    let mut bench = Bench::new(1000, 10, Duration::ZERO);
    let lane = bench.lane(1);
    let tickets = [bench.push(lane, 10), bench.push(lane, 10)];
    assert_eq!(bench.scheduler.stop(), 2);
    for ticket in tickets {
        assert!(matches!(bench.answer(ticket), Some(ScoreError::ShuttingDown)));
    }
    assert!(bench.scheduler.stopped() && bench.scheduler.is_idle());
}

#[test]
fn a_higher_priority_goes_first_and_equals_keep_their_order() {
    let mut bench = Bench::new(1000, 10, Duration::ZERO);
    let lane = bench.lane(1);
    for (rows, priority) in [(1, 0), (2, 1), (3, 9), (4, 1), (5, 9), (6, 0)] {
        bench.push_as(lane, rows, priority);
    }
    assert_eq!(bench.serve(), Some((lane, vec![3, 5, 2])));
    assert_eq!(bench.serve(), Some((lane, vec![4, 1])));
    assert_eq!(bench.serve(), Some((lane, vec![6])));
}

#[test]
fn a_low_priority_is_overtaken_for_as_long_as_the_lead_and_no_longer() {
    let mut bench = Bench::new(1000, 1, Duration::ZERO);
    let lane = bench.lane(1);
    // More of the higher priority comes than can be served.
    let low = bench.push(lane, 1);
    let mut served = Vec::new();
    for _ in 0..30 {
        bench.now += 20 * MILLISECOND;
        for _ in 0..2 {
            bench.push_as(lane, 1, 2);
        }
        let Next::Run(work) = bench.scheduler.next(bench.now) else { panic!("there is work") };
        served.push(work.entries[0].priority);
        bench.end((lane, vec![1]));
    }
    // The low one came at 0 ms and two levels lead by 200 ms: only what came before 200 ms goes
    // first, which is 9 times 2 entries (at 200 ms both count as equal, and it came first).
    assert_eq!(served.iter().position(|priority| *priority == 0), Some(18), "{served:?}");
    assert!(bench.answer(low).is_none());
}

#[test]
fn in_a_full_queue_the_higher_priority_takes_the_place_of_the_last_of_the_lower() {
    let mut bench = Bench::new(100, 100, Duration::ZERO);
    let lane = bench.lane(1);
    let first = bench.push_as(lane, 40, 1);
    let second = bench.push_as(lane, 20, 1);
    let lowest = bench.push_as(lane, 10, 0);
    let high = bench.push_as(lane, 30, 5);
    assert!(matches!(bench.offer(lane, 1, None, 0), Err(Refused::Full(100))));
    // Not even all of the lower would make room: nothing is displaced for it.
    assert!(matches!(bench.offer(lane, 11, None, 1), Err(Refused::Full(90))));
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 100);
    let displacing = bench.push_as(lane, 25, 3);
    for (ticket, displaced) in
        [(first, false), (second, true), (lowest, true), (high, false), (displacing, false)]
    {
        let found = matches!(bench.answer(ticket), Some(ScoreError::Displaced { .. }));
        assert_eq!(found, displaced, "{ticket:?}");
    }
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 95);
    assert_eq!(bench.scheduler.waiting_rows(lane, 2), 55);
    assert_eq!(bench.serve(), Some((lane, vec![30, 25, 40])));
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 0);
}

#[test]
fn a_late_higher_priority_does_not_put_off_a_batch() {
    let mut bench = Bench::new(1000, 100, 2 * MILLISECOND);
    let lane = bench.lane(1);
    let start = bench.now;
    bench.push(lane, 10);
    bench.now += MILLISECOND;
    bench.push_as(lane, 20, 9);
    assert!(matches!(bench.scheduler.next(bench.now), Next::Wait(until) if until == start + 2 * MILLISECOND));
    bench.now += MILLISECOND;
    assert_eq!(bench.serve(), Some((lane, vec![20, 10])));
}

#[test]
fn whatever_waits_every_lane_gets_its_share_of_rows() {
    // Three models whose requests differ in size and in priority, all of them with more work than
    // can be done: whenever one is served, none is behind by more than a batch.
    let mut bench = Bench::new(100_000, 100, Duration::ZERO);
    let lanes = [(1, 0), (7, 9), (250, 3)].map(|(rows, priority)| (bench.lane(1), rows, priority));
    let mut served = HashMap::new();
    for _ in 0..300 {
        for (lane, rows, priority) in lanes {
            while bench.scheduler.waiting_rows(lane, 0) < 300 {
                bench.push_as(lane, rows, priority);
            }
        }
        let (lane, rows) = bench.serve().unwrap();
        *served.entry(lane).or_insert(0) += rows.iter().sum::<usize>();
        let of = |lane: u64| served.get(&lane).copied().unwrap_or_default();
        let counts = lanes.map(|(lane, ..)| of(lane));
        let spread = counts.iter().max().unwrap() - counts.iter().min().unwrap();
        assert!(spread <= 250, "{counts:?}");
    }
}

#[test]
fn room_is_kept_while_a_request_is_encoded() {
    let mut bench = Bench::new(100, 100, Duration::ZERO);
    let lane = bench.lane(1);
    let now = bench.now;
    let demand = |rows| Demand { rows, deadline: None, priority: 0 };
    assert_eq!(bench.scheduler.admit(lane, demand(70), now), Ok(()));
    assert_eq!(bench.scheduler.admit(lane, demand(40), now), Err(Refused::Full(70)));
    assert_eq!(bench.scheduler.admit(lane, demand(30), now), Ok(()));
    bench.scheduler.release(lane, 70);
    assert_eq!(bench.scheduler.admit(lane, demand(70), now), Ok(()));
    assert!(!bench.scheduler.is_idle(), "what is admitted is waited for");
    // What was admitted before the close is served after it.
    bench.scheduler.close();
    assert_eq!(bench.scheduler.admit(lane, demand(0), now), Err(Refused::Closed));
    let (entry, _answer) = bench.entry(demand(30));
    assert!(bench.scheduler.push(lane, entry, now).is_ok());
    bench.scheduler.release(lane, 70);
    assert_eq!(bench.serve(), Some((lane, vec![30])));
    assert!(bench.scheduler.is_idle());
}

#[test]
fn a_queue_keeps_its_bound_whoever_is_encoded_first() {
    let mut bench = Bench::new(100, 100, Duration::ZERO);
    let lane = bench.lane(1);
    let waiting = bench.push_as(lane, 50, 0);
    // Another low one is being encoded when a high one comes and is queued before it.
    let late = Demand { rows: 50, deadline: None, priority: 0 };
    assert_eq!(bench.scheduler.admit(lane, late, bench.now), Ok(()));
    let high = bench.push_as(lane, 50, 9);
    let (entry, mut answer) = bench.entry(late);
    assert!(bench.scheduler.push(lane, entry, bench.now).is_ok());
    assert_eq!(bench.scheduler.waiting_rows(lane, 0), 100);
    assert!(matches!(bench.answer(waiting), Some(ScoreError::Displaced { .. })));
    assert!(bench.answer(high).is_none() && answer.try_recv().is_err());
}

#[test]
fn what_cannot_be_answered_in_time_is_not_admitted() {
    let mut bench = Bench::new(10_000, 100, Duration::ZERO);
    let lane = bench.lane(1);
    // No batch has run: nothing is known, so nothing is refused.
    let soon = Demand { rows: 100, deadline: Some(bench.now + MILLISECOND), priority: 0 };
    assert_eq!(bench.scheduler.admit(lane, soon, bench.now), Ok(()));
    bench.scheduler.release(lane, 100);
    assert!(matches!(bench.try_push(lane, 1, Some(Duration::ZERO)), Err(Refused::Expired)));
    bench.push(lane, 100);
    bench.serve();
    // A millisecond for ten rows. 300 rows are ahead, 200 of them in batches before its own.
    bench.push(lane, 300);
    let needed = |bench: &mut Bench, wait: Duration| match bench.try_push(lane, 10, Some(wait)) {
        Err(Refused::TooLate(needed)) => Some(needed.as_secs_f64()),
        Err(other) => panic!("{other:?}"),
        Ok(_) => None,
    };
    let seconds = needed(&mut bench, 20 * MILLISECOND).expect("20 ms are not enough");
    assert!((seconds - 0.031).abs() < 1e-6, "{seconds}");
    assert!(needed(&mut bench, 51 * MILLISECOND).is_some(), "two fifths are kept in reserve");
    assert!(needed(&mut bench, 52 * MILLISECOND).is_none());
    // What has a higher priority than all that waits is tried.
    assert!(bench.offer(lane, 10, Some(2 * MILLISECOND), 5).is_ok());
    // Another lane takes turns: as many of its rows come before as of this one.
    let other = bench.lane(1);
    bench.push(other, 50);
    bench.serve();
    bench.push(other, 1000);
    let seconds = needed(&mut bench, 20 * MILLISECOND).expect("two lanes wait");
    assert!(seconds > 0.06, "{seconds}");
}

/// Requests of 50 rows at three times the rate that one worker can serve, each wanted within 100
/// ms; a batch costs 0.5 ms and 5 µs a row. Time is counted, not spent.
#[test]
fn at_three_times_the_load_what_is_admitted_is_in_time_and_no_capacity_is_lost() {
    const ROWS: usize = 50;
    let microseconds = Duration::from_micros;
    let cost = |rows: usize| microseconds(500 + 5 * rows as u64);
    let (budget, wanted_within) = (1000, 100 * MILLISECOND);
    let mut bench = Bench::new(1_000_000, budget, Duration::ZERO);
    let lane = bench.lane(1);
    let start = bench.now;
    let requests_a_second = budget as f64 / ROWS as f64 / cost(budget).as_secs_f64();
    let between = Duration::from_secs_f64(1.0 / (3.0 * requests_a_second));
    let end = start + Duration::from_secs(10);

    let (mut arrival, mut offered, mut admitted, mut in_time) = (start, 0_u32, 0_u32, 0_u32);
    let mut running: Option<(Instant, Vec<Instant>, usize, Duration)> = None;
    while bench.now < end {
        let done = running.as_ref().map(|(done, ..)| *done);
        if done.is_some_and(|done| done <= arrival) {
            let (done, deadlines, rows, took) = running.take().unwrap();
            bench.now = done;
            in_time += deadlines.iter().filter(|deadline| **deadline >= done).count() as u32;
            bench.scheduler.give_back(lane, Some(Box::new(NoBackend)), rows, took);
        } else {
            bench.now = arrival;
            arrival += between;
            offered += 1;
            admitted += u32::from(bench.try_push(lane, ROWS, Some(wanted_within)).is_ok());
        }
        if running.is_none()
            && let Next::Run(work) = bench.scheduler.next(bench.now)
        {
            let took = cost(work.rows);
            let deadlines = work.entries.iter().filter_map(|entry| entry.deadline).collect();
            running = Some((bench.now + took, deadlines, work.rows, took));
        }
    }
    let capacity = requests_a_second * 10.0;
    assert!(f64::from(offered) > 2.9 * capacity, "{offered} offered, capacity {capacity}");
    let goodput = f64::from(in_time) / capacity;
    assert!(goodput > 0.97, "{goodput} of the capacity");
    let waiting = bench.scheduler.waiting_rows(lane, 0) / ROWS + budget / ROWS;
    assert!(admitted <= in_time + waiting as u32, "{admitted} admitted, {in_time} in time");
}
