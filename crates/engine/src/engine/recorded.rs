//! The last requests to a model, for the warm-up of its next version.
//!
//! The newest take the place of the oldest: what is asked next is most like what was asked last, and
//! nothing is held for longer than it is of use. Requests are held in memory alone and go with the last
//! version of their model.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use gatefold_features::{OwnedBatch, RawBatch};

/// Time between two requests that are copied: under load the others cost a look at the clock.
const PERIOD: Duration = Duration::from_secs(1);
/// Candidates that all requests may have together, since each is run on every worker's backend.
const ROWS: usize = 8192;
/// Bytes that all requests may take together.
const BYTES: usize = 8 << 20;
/// A request that would take more than this part of the rows or bytes is not kept, as it would take
/// the place of too many.
const PART: usize = 4;

/// Keeps a few requests in bounded space.
pub(super) struct Recorded {
    capacity: usize,
    began: Instant,
    /// Milliseconds after `began` from which the next request is kept.
    due: AtomicU64,
    kept: Mutex<VecDeque<Kept>>,
}

/// What a caller asked.
pub(crate) struct Request {
    pub(crate) batch: OwnedBatch,
    /// Outputs asked for by name; empty means all.
    pub(crate) outputs: Vec<String>,
}

struct Kept {
    request: Arc<Request>,
    rows: usize,
    bytes: usize,
}

impl Recorded {
    /// Room for `capacity` requests.
    pub(super) fn new(capacity: usize, began: Instant) -> Recorded {
        Recorded { capacity, began, due: AtomicU64::new(0), kept: Mutex::default() }
    }

    /// Keeps a request that has been scored, where it is time for another and it is not too large.
    pub(super) fn offer(&self, request: &RawBatch<'_>, outputs: &[String], now: Instant) {
        let (due, millis) = (self.due.load(Relaxed), |time: Duration| time.as_millis() as u64);
        let now = millis(now.saturating_duration_since(self.began));
        let rows = request.candidates;
        // One that is too large does not take the place of the next.
        let early = self.capacity == 0 || now < due || rows > ROWS / PART;
        // Of those that come at the same time one goes on.
        if early || self.due.compare_exchange(due, now + millis(PERIOD), Relaxed, Relaxed).is_err() {
            return;
        }
        let bytes = request.bytes();
        if bytes > BYTES / PART {
            return;
        }
        let request = Arc::new(Request { batch: OwnedBatch::from(request), outputs: outputs.to_vec() });
        let mut kept = self.lock();
        let total = |kept: &VecDeque<Kept>, of: fn(&Kept) -> usize| kept.iter().map(of).sum::<usize>();
        while kept.len() >= self.capacity
            || total(&kept, |kept| kept.rows) + rows > ROWS
            || total(&kept, |kept| kept.bytes) + bytes > BYTES
        {
            kept.pop_front();
        }
        kept.push_back(Kept { request, rows, bytes });
    }

    /// The requests, the oldest first.
    pub(super) fn requests(&self) -> Vec<Arc<Request>> {
        self.lock().iter().map(|kept| kept.request.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use gatefold_features::{RawColumn, RawValues};

    use super::*;

    /// A request of `candidates`, all of the user `user`, who has `likes`.
    fn request<'a>(user: i64, candidates: usize, likes: Vec<&'a str>) -> RawBatch<'a> {
        let offsets = vec![0, likes.len() as u32].into();
        let column = |values| RawColumn { values, missing: None };
        RawBatch {
            requests: 1,
            candidates,
            request_of: vec![0; candidates],
            columns: vec![
                ("user".into(), column(RawValues::Ints(vec![user].into()))),
                ("likes".into(), column(RawValues::TextLists { values: likes, offsets })),
            ],
        }
    }

    /// Users of the requests that are kept.
    fn users(recorded: &Recorded) -> Vec<i64> {
        let user = |request: &Arc<Request>| match &request.batch.raw().columns[0].1.values {
            RawValues::Ints(users) => users[0],
            other => panic!("{other:?}"),
        };
        recorded.requests().iter().map(user).collect()
    }

    #[test]
    fn one_a_second_is_kept_and_the_newest_take_the_place_of_the_oldest() {
        let began = Instant::now();
        let recorded = Recorded::new(3, began);
        for tenth in 0..50 {
            recorded.offer(
                &request(tenth, 1, vec![]),
                &[],
                began + Duration::from_millis(100 * tenth as u64),
            );
        }
        assert_eq!(users(&recorded), [20, 30, 40]);
        let none = Recorded::new(0, began);
        none.offer(&request(1, 1, vec![]), &[], began);
        assert!(none.requests().is_empty());
    }

    #[test]
    fn callers_at_the_same_time_leave_one_request() {
        let began = Instant::now();
        let recorded = Recorded::new(16, began);
        std::thread::scope(|scope| {
            for user in 0..8 {
                let recorded = &recorded;
                scope.spawn(move || {
                    (0..100).for_each(|_| recorded.offer(&request(user, 1, vec![]), &[], began))
                });
            }
        });
        assert_eq!(recorded.requests().len(), 1);
    }

    #[test]
    fn rows_and_bytes_are_bounded() {
        #[track_caller]
        fn check(sizes: &[(usize, usize)], expected: &[i64]) {
            let began = Instant::now();
            let recorded = Recorded::new(16, began);
            for (user, (candidates, bytes)) in sizes.iter().enumerate() {
                let text = "x".repeat(*bytes);
                let now = began + Duration::from_secs(user as u64);
                recorded.offer(&request(user as i64, *candidates, vec![&text]), &[], now);
            }
            assert_eq!(users(&recorded), expected);
        }
        let most = ROWS / PART;
        let recorded = Recorded::new(16, Instant::now());
        let now = Instant::now();
        recorded.offer(&request(0, most + 1, vec![]), &[], now);
        recorded.offer(&request(1, most, vec![]), &[], now);
        assert_eq!(users(&recorded), [1]);
        check(&[(most, 0), (most + 1, 0), (1, 0)], &[0, 2]);
        check(&[(most, 0), (1, 0), (most, 0), (most, 0), (most, 0)], &[1, 2, 3, 4]);
        let most = BYTES / PART - 1000;
        check(&[(1, most), (1, most + 1000), (1, 0)], &[0, 2]);
        check(&[(1, most), (1, 0), (1, most), (1, most), (1, most), (1, most)], &[1, 2, 3, 4, 5]);
    }
}
