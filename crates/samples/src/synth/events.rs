//! What happens: requests, impressions, clicks and conversions.
//!
//! Requests are drawn first and put in time order; then each user's requests are lived through one
//! after another, with random numbers of the user's own. An item that a user has clicked is not
//! shown to them again, so that the last click before a conversion is the click that led to it.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    SynthConfig,
    truth::{Context, Truth},
    world::{DEVICES, PAGES, User, World, normal},
};

/// Days over which impressions spread.
pub(crate) const DAYS: i64 = 10;
/// Monday, 5 January 2026, 00:00 UTC, in milliseconds.
pub(crate) const FIRST_DAY_MS: i64 = 1_767_571_200_000;
const SECOND_MS: i64 = 1000;
pub(crate) const HOUR_MS: i64 = 3600 * SECOND_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// No conversion comes later than this after its click.
const LONGEST_DELAY_MS: i64 = 6 * DAY_MS;
/// Relative traffic of each hour.
const HOURS: [u32; 24] = [3, 2, 1, 1, 1, 2, 4, 6, 8, 8, 8, 9, 10, 9, 8, 8, 8, 9, 11, 13, 14, 13, 9, 6];

/// All impressions in the order of their requests, column by column.
#[derive(Debug, Default)]
pub(crate) struct Impressions {
    pub(crate) request: Vec<u32>,
    pub(crate) user: Vec<u32>,
    pub(crate) item: Vec<u32>,
    pub(crate) time: Vec<i64>,
    pub(crate) position: Vec<i32>,
    pub(crate) context: Vec<Context>,
    pub(crate) p_click: Vec<f32>,
    pub(crate) p_conversion: Vec<f32>,
    /// Whether it was clicked.
    pub(crate) clicked: Vec<bool>,
    /// Whether it would convert if it were clicked.
    pub(crate) would_convert: Vec<bool>,
}

/// A click or conversion as it stands in a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    /// Row of [`Impressions`].
    pub(crate) impression: u32,
    /// When it happened.
    pub(crate) time: i64,
    /// When it reached the log: the order of the file.
    pub(crate) arrival: i64,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) impressions: Impressions,
    pub(crate) clicks: Vec<Event>,
    pub(crate) conversions: Vec<Event>,
}

/// One page view.
#[derive(Clone, Copy, Debug)]
struct Request {
    time: i64,
    user: u32,
    first: u32,
    count: u32,
}

/// Lives through the requests of `world`.
pub(crate) fn live(config: &SynthConfig, world: &World) -> History {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(1);
    let requests = requests(config.impressions, world, &mut rng);
    let truth = Truth::new(config, &sample(world, &requests, &mut rng), &mut rng);

    let mut by_user: Vec<u32> = (0..requests.len() as u32).collect();
    by_user.sort_by_key(|&request| requests[request as usize].user);
    let mut history = History { impressions: Impressions::empty(config.impressions), ..History::default() };
    let mut life = Life { world, truth: &truth, requests: &requests, history: &mut history };
    for own in by_user.chunk_by(|a, b| requests[*a as usize].user == requests[*b as usize].user) {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(2 + u64::from(requests[own[0] as usize].user));
        life.live_user(own, &mut rng);
    }
    let key = |event: &Event| (event.arrival, event.impression, event.time);
    history.clicks.sort_by_key(key);
    history.conversions.sort_by_key(key);
    history
}

/// Requests of 10 to 20 impressions, `impressions` in all, in time order.
fn requests(impressions: usize, world: &World, rng: &mut impl Rng) -> Vec<Request> {
    let traffic: u32 = HOURS.iter().sum();
    let mut requests = Vec::with_capacity(impressions / 15 + 1);
    let mut left = impressions;
    while left > 0 {
        let count = rng.random_range(10..=20).min(left);
        left -= count;
        let day = rng.random_range(0..DAYS);
        let mut point = rng.random_range(0..traffic);
        let mut hour = 0;
        while point >= HOURS[hour] {
            point -= HOURS[hour];
            hour += 1;
        }
        let time = FIRST_DAY_MS + day * DAY_MS + hour as i64 * HOUR_MS + rng.random_range(0..HOUR_MS);
        let user = world.draw_user(day == DAYS - 1, rng) as u32;
        requests.push(Request { time, user, first: 0, count: count as u32 });
    }
    requests.sort_by_key(|request| (request.time, request.user));
    let mut first = 0;
    for request in &mut requests {
        request.first = first;
        first += request.count;
    }
    requests
}

/// Impressions to scale the truth by.
fn sample<'w>(
    world: &'w World,
    requests: &[Request],
    rng: &mut impl Rng,
) -> Vec<(&'w User, &'w super::world::Item, Context)> {
    let draw = |_| {
        let request = &requests[rng.random_range(0..requests.len())];
        let user = &world.users[request.user as usize];
        let item = &world.items[world.draw_item(user, is_last_day(request.time), rng)];
        (user, item, context(request.time, rng))
    };
    (0..40_000).map(draw).collect()
}

fn is_last_day(time: i64) -> bool {
    time >= FIRST_DAY_MS + (DAYS - 1) * DAY_MS
}

fn context(time: i64, rng: &mut impl Rng) -> Context {
    let hour = ((time - FIRST_DAY_MS) % DAY_MS / HOUR_MS) as usize;
    let page = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3][rng.random_range(0..10)];
    let device = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][rng.random_range(0..10)];
    debug_assert!(page < PAGES.len() && device < DEVICES.len());
    Context { hour, page, device: (rng.random::<f64>() >= 0.01).then_some(device) }
}

struct Life<'a> {
    world: &'a World,
    truth: &'a Truth,
    requests: &'a [Request],
    history: &'a mut History,
}

impl Life<'_> {
    /// One user's requests, in time order.
    fn live_user(&mut self, own: &[u32], rng: &mut ChaCha8Rng) {
        // Items that are not shown any more, because something has happened with them.
        let mut closed: Vec<u32> = Vec::new();
        let mut shown: Vec<u32> = Vec::new();
        for &number in own {
            let request = self.requests[number as usize];
            let user = &self.world.users[request.user as usize];
            let context = context(request.time, rng);
            shown.clear();
            for position in 0..request.count {
                let item = self.choose(user, request.time, &closed, &shown, rng);
                shown.push(item);
                let row = (request.first + position) as usize;
                let p = self.truth.probabilities(user, &self.world.items[item as usize], context);
                let impressions = &mut self.history.impressions;
                impressions.request[row] = number;
                impressions.user[row] = request.user;
                impressions.item[row] = item;
                impressions.time[row] = request.time;
                impressions.position[row] = position as i32;
                impressions.context[row] = context;
                impressions.p_click[row] = p[0] as f32;
                impressions.p_conversion[row] = p[1] as f32;
                let clicked = rng.random::<f64>() < p[0];
                let converts = rng.random::<f64>() < p[1];
                impressions.clicked[row] = clicked;
                impressions.would_convert[row] = converts;
                if self.follow(row as u32, request.time, clicked, converts, rng) {
                    closed.push(item);
                }
            }
        }
    }

    /// An item not yet shown in this request and not closed; after fifty attempts any not shown.
    fn choose(&self, user: &User, time: i64, closed: &[u32], shown: &[u32], rng: &mut ChaCha8Rng) -> u32 {
        let last_day = is_last_day(time);
        for _ in 0..50 {
            let item = self.world.draw_item(user, last_day, rng) as u32;
            if !shown.contains(&item) && !closed.contains(&item) {
                return item;
            }
        }
        let any = |item: &u32| !shown.contains(item);
        (0..self.world.old_items as u32).find(any).unwrap_or(0)
    }

    /// The events that follow an impression; whether there were any.
    fn follow(
        &mut self,
        impression: u32,
        time: i64,
        clicked: bool,
        converts: bool,
        rng: &mut ChaCha8Rng,
    ) -> bool {
        let arrival = |time: i64, rng: &mut ChaCha8Rng| {
            let late = rng.random::<f64>() < 0.02;
            time + if late { rng.random_range(0..DAY_MS) } else { rng.random_range(0..2 * SECOND_MS) }
        };
        let push = |events: &mut Vec<Event>, time: i64, rng: &mut ChaCha8Rng| {
            events.push(Event { impression, time, arrival: arrival(time, rng) });
        };
        let History { clicks, conversions, .. } = &mut *self.history;
        if !clicked {
            let chance = rng.random::<f64>();
            if chance < 0.001 {
                // A tab opened days later: too late to be called a click on this impression.
                push(clicks, time + 2 * DAY_MS + rng.random_range(0..DAY_MS), rng);
            } else if chance < 0.002 {
                // Bought without a click.
                push(conversions, time + rng.random_range(0..DAY_MS), rng);
            }
            return chance < 0.002;
        }
        let delay = (9.5 + 0.9 * normal(rng)).exp() as i64;
        let click_time = time + 500 + delay.min(20 * 60 * SECOND_MS);
        push(clicks, click_time, rng);
        if rng.random::<f64>() < 0.03 {
            push(clicks, click_time + rng.random_range(100..5 * SECOND_MS), rng);
        }
        if converts {
            // Half within minutes, the rest within hours to days.
            let hours = if rng.random::<f64>() < 0.5 { 0.3 } else { 20.0 };
            let delay = (-(1.0 - rng.random::<f64>()).ln() * hours * HOUR_MS as f64) as i64;
            let time = click_time + 10 * SECOND_MS + delay.min(LONGEST_DELAY_MS - DAY_MS);
            push(conversions, time, rng);
            if rng.random::<f64>() < 0.02
                && let Some(&event) = conversions.last()
            {
                conversions.push(event);
            }
        } else if rng.random::<f64>() < 0.005 {
            // Weeks later: no longer this click's doing.
            push(conversions, click_time + 10 * DAY_MS + rng.random_range(0..5 * DAY_MS), rng);
        }
        true
    }
}

impl Impressions {
    fn empty(rows: usize) -> Self {
        Self {
            request: vec![0; rows],
            user: vec![0; rows],
            item: vec![0; rows],
            time: vec![0; rows],
            position: vec![0; rows],
            context: vec![Context { hour: 0, page: 0, device: None }; rows],
            p_click: vec![0.0; rows],
            p_conversion: vec![0.0; rows],
            clicked: vec![false; rows],
            would_convert: vec![false; rows],
        }
    }
}
