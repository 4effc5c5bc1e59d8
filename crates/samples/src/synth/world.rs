//! Users and items of the synthetic logs: what is written in their profiles, and their latent
//! tastes, which follow mostly from the profiles.

use rand::{Rng, RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Latent dimensions of a taste.
pub(crate) const TASTES: usize = 2;
/// Item categories.
pub(crate) const CATEGORIES: [&str; 32] = [
    "shoes",
    "boots",
    "dresses",
    "shirts",
    "jackets",
    "watches",
    "jewellery",
    "bags",
    "phones",
    "laptops",
    "cameras",
    "audio",
    "games",
    "consoles",
    "books",
    "comics",
    "toys",
    "baby",
    "garden",
    "tools",
    "kitchen",
    "furniture",
    "lamps",
    "bedding",
    "bicycles",
    "camping",
    "fitness",
    "football",
    "skincare",
    "perfume",
    "coffee",
    "wine",
];
/// Countries.
pub(crate) const COUNTRIES: [&str; 8] = ["us", "in", "br", "de", "fr", "jp", "ng", "se"];
/// Genders.
pub(crate) const GENDERS: [&str; 3] = ["f", "m", "x"];
/// User segments.
pub(crate) const SEGMENTS: [&str; 6] =
    ["student", "commuter", "family", "homemaker", "professional", "retired"];
/// Devices.
pub(crate) const DEVICES: [&str; 3] = ["phone", "desktop", "tablet"];
/// Pages on which items are shown.
pub(crate) const PAGES: [&str; 4] = ["home", "search", "detail", "cart"];
/// Number of brands.
pub(crate) const BRANDS: usize = 96;
/// First year of each age bucket but the youngest.
const AGE_EDGES: [i64; 5] = [25, 35, 45, 55, 65];
/// Rows of a table that has one row a value and a last one for missing values.
const AGES: usize = AGE_EDGES.len() + 1;
/// Share of users and of items that are first seen on the last day.
const NEW_SHARE: f64 = 0.04;

/// A user as the profile shows them; `None` is a missing value.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    /// Whether a profile row is written at all.
    pub(crate) has_profile: bool,
    /// Years.
    pub(crate) age: Option<i64>,
    /// Index into [`GENDERS`].
    pub(crate) gender: Option<usize>,
    /// Index into [`COUNTRIES`].
    pub(crate) country: Option<usize>,
    /// Index into [`SEGMENTS`].
    pub(crate) segment: Option<usize>,
    /// 0 (rarely here) to 4 (always here).
    pub(crate) activity: Option<i64>,
    /// Indices into [`CATEGORIES`], the dearest first.
    pub(crate) favourites: Option<Vec<usize>>,
    /// Latent taste.
    pub(crate) taste: [f64; TASTES],
}

/// An item as its profile shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Item {
    /// Index into [`CATEGORIES`].
    pub(crate) category: usize,
    /// Brand number.
    pub(crate) brand: Option<usize>,
    /// Price.
    pub(crate) price: Option<f64>,
    /// Mean rating, 1 to 5.
    pub(crate) rating: Option<f64>,
    /// Views before the logs begin.
    pub(crate) views: i64,
    /// Latent properties.
    pub(crate) taste: [f64; TASTES],
}

/// Everyone and everything, ordered so that those first seen on the last day stand last.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) users: Vec<User>,
    pub(crate) items: Vec<Item>,
    /// Users that are there from the first day on.
    pub(crate) old_users: usize,
    /// Items that are there from the first day on.
    pub(crate) old_items: usize,
    /// Running sum of the users' activity.
    pub(crate) user_weights: Vec<f64>,
    /// Running sum of the items' popularity.
    pub(crate) item_weights: Vec<f64>,
    /// The items of each category with the running sum of their popularity.
    pub(crate) by_category: Vec<Vec<(u32, f64)>>,
}

impl World {
    pub(crate) fn new(users: usize, items: usize, seed: u64) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        let latent = Latent::new(rng);
        let (old_users, old_items) = (users - new_count(users), items - new_count(items));
        let activity = zipf_weights(users, 0.5, rng);
        let popularity = zipf_weights(items, 0.8, rng);
        let users: Vec<User> = (0..users)
            .map(|index| latent.user(activity[index] * users as f64, index >= old_users, rng))
            .collect();
        let items: Vec<Item> =
            (0..items).map(|index| latent.item(popularity[index] * items as f64, rng)).collect();

        let mut by_category = vec![Vec::new(); CATEGORIES.len()];
        for (index, item) in items.iter().enumerate() {
            let list: &mut Vec<(u32, f64)> = &mut by_category[item.category];
            let before = list.last().map_or(0.0, |last| last.1);
            list.push((index as u32, before + popularity[index]));
        }
        Self {
            users,
            items,
            old_users,
            old_items,
            user_weights: running_sum(&activity),
            item_weights: running_sum(&popularity),
            by_category,
        }
    }

    /// A user, by activity; new ones only on the last day, when they come three times as often.
    pub(crate) fn draw_user(&self, last_day: bool, rng: &mut impl Rng) -> usize {
        if last_day && rng.random::<f64>() < 3.0 * NEW_SHARE {
            return rng.random_range(self.old_users..self.users.len());
        }
        draw(&self.user_weights[..self.old_users], |weight| *weight, rng)
    }

    /// An item for `user`: of a favourite category two times in five, by popularity.
    pub(crate) fn draw_item(&self, user: &User, last_day: bool, rng: &mut impl Rng) -> usize {
        let items = if last_day { self.items.len() } else { self.old_items };
        if let Some(favourites) = &user.favourites
            && !favourites.is_empty()
            && rng.random::<f64>() < 0.4
        {
            let category = favourites[rng.random_range(0..favourites.len())];
            let list = &self.by_category[category];
            let there = list.partition_point(|(index, _)| (*index as usize) < items);
            if there > 0 {
                return list[draw(&list[..there], |entry| entry.1, rng)].0 as usize;
            }
        }
        draw(&self.item_weights[..items], |weight| *weight, rng)
    }
}

/// Row of a table by an optional index; missing values have the last row.
pub(crate) fn or_missing(index: Option<usize>, values: usize) -> usize {
    index.unwrap_or(values)
}

fn new_count(all: usize) -> usize {
    ((all as f64 * NEW_SHARE) as usize).max(1)
}

/// Weights 1 / rank^exponent that sum to 1, in random order.
fn zipf_weights(count: usize, exponent: f64, rng: &mut impl Rng) -> Vec<f64> {
    let mut weights: Vec<f64> = (1..=count).map(|rank| (rank as f64).powf(-exponent)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights.shuffle(rng);
    weights
}

fn running_sum(weights: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let add = |weight: &f64| {
        sum += weight;
        sum
    };
    weights.iter().map(add).collect()
}

/// Position in a list of running sums, with probability in proportion to each step.
fn draw<E>(sums: &[E], sum: impl Fn(&E) -> f64, rng: &mut impl Rng) -> usize {
    let total = sums.last().map_or(0.0, &sum);
    let point = rng.random::<f64>() * total;
    sums.partition_point(|entry| sum(entry) <= point).min(sums.len() - 1)
}

pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    StandardNormal.sample(rng)
}

/// `count` rows of random numbers and one more for missing values.
fn table(count: usize, rng: &mut impl Rng) -> Vec<[f64; TASTES]> {
    (0..=count).map(|_| std::array::from_fn(|_| normal(rng))).collect()
}

/// How profiles make tastes.
struct Latent {
    age: Vec<[f64; TASTES]>,
    gender: Vec<[f64; TASTES]>,
    country: Vec<[f64; TASTES]>,
    segment: Vec<[f64; TASTES]>,
    category: Vec<[f64; TASTES]>,
    brand: Vec<[f64; TASTES]>,
    /// Logarithm of the price that is usual for a category, and for a brand beside it.
    category_price: Vec<f64>,
    brand_price: Vec<f64>,
}

impl Latent {
    fn new(rng: &mut impl Rng) -> Self {
        Self {
            age: table(AGES, rng),
            gender: table(GENDERS.len(), rng),
            country: table(COUNTRIES.len(), rng),
            segment: table(SEGMENTS.len(), rng),
            category: table(CATEGORIES.len(), rng),
            brand: table(BRANDS, rng),
            category_price: CATEGORIES.iter().map(|_| 3.2 + 0.6 * normal(rng)).collect(),
            brand_price: (0..BRANDS).map(|_| 0.3 * normal(rng)).collect(),
        }
    }

    fn user(&self, relative_activity: f64, is_new: bool, rng: &mut impl Rng) -> User {
        let skewed = |count: usize, rng: &mut dyn FnMut() -> f64| (rng().powf(1.6) * count as f64) as usize;
        let mut uniform = || rng.random::<f64>();
        let present = |share: f64, uniform: &mut dyn FnMut() -> f64| uniform() >= share;
        let age = 16 + (uniform() * uniform().sqrt() * 62.0) as i64;
        let gender = skewed(GENDERS.len(), &mut uniform).min(GENDERS.len() - 1);
        let country = skewed(COUNTRIES.len(), &mut uniform).min(COUNTRIES.len() - 1);
        let segment = (uniform() * SEGMENTS.len() as f64) as usize;
        let mut favourites: Vec<usize> = Vec::new();
        for _ in 0..(uniform() * 5.0) as usize {
            let category = (uniform() * CATEGORIES.len() as f64) as usize;
            if !favourites.contains(&category) {
                favourites.push(category);
            }
        }
        let level = (relative_activity * 2.0).log2().clamp(0.0, 4.0) as i64;
        let has_profile = present(if is_new { 0.1 } else { 0.02 }, &mut uniform);
        let mut user = User { has_profile, ..User::default() };
        if has_profile {
            user.age = present(0.05, &mut uniform).then_some(age);
            user.gender = present(0.03, &mut uniform).then_some(gender);
            user.country = present(0.01, &mut uniform).then_some(country);
            user.segment = present(0.02, &mut uniform).then_some(segment);
            user.activity = Some(if is_new { 0 } else { level });
            user.favourites = present(0.03, &mut uniform).then_some(favourites);
        }
        let noise: [f64; TASTES] = std::array::from_fn(|_| normal(rng));
        user.taste = self.user_taste(&user, noise);
        user
    }

    /// A sum of what each attribute brings, of variance about 1; little of it is the user's alone, so
    /// that what is learned from some users holds for others.
    fn user_taste(&self, user: &User, noise: [f64; TASTES]) -> [f64; TASTES] {
        let age = &self.age[or_missing(user.age.map(age_bucket), AGES)];
        let gender = &self.gender[or_missing(user.gender, GENDERS.len())];
        let country = &self.country[or_missing(user.country, COUNTRIES.len())];
        let segment = &self.segment[or_missing(user.segment, SEGMENTS.len())];
        std::array::from_fn(|k| {
            0.7 * segment[k] + 0.5 * age[k] + 0.4 * gender[k] + 0.2 * country[k] + 0.1 * noise[k]
        })
    }

    fn item(&self, relative_popularity: f64, rng: &mut impl Rng) -> Item {
        let category = rng.random_range(0..CATEGORIES.len());
        // A brand sells in few categories: its number is near to a multiple of the category's.
        let brand = (category * 3 + rng.random_range(0..9)) % BRANDS;
        let log_price = self.category_price[category] + self.brand_price[brand] + 0.4 * normal(rng);
        let price = (log_price.exp() * 100.0).round() / 100.0;
        let rating = ((3.6 + 0.7 * normal(rng)).clamp(1.0, 5.0) * 10.0).round() / 10.0;
        let views = (relative_popularity * 200.0 * (0.5 * normal(rng)).exp()) as i64;
        let brand = (rng.random::<f64>() >= 0.03).then_some(brand);
        let noise: [f64; TASTES] = std::array::from_fn(|_| normal(rng));
        let brand_row = or_missing(brand, BRANDS);
        let taste = std::array::from_fn(|k| {
            0.9 * self.category[category][k] + 0.3 * self.brand[brand_row][k] + 0.1 * noise[k]
        });
        Item {
            category,
            brand,
            price: (rng.random::<f64>() >= 0.02).then_some(price),
            rating: (rng.random::<f64>() >= 0.05).then_some(rating),
            views,
            taste,
        }
    }
}

/// Bucket of an age: the number of edges that are less than or equal to it.
fn age_bucket(age: i64) -> usize {
    AGE_EDGES.partition_point(|edge| *edge <= age)
}
