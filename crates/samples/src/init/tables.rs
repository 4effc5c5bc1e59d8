//! Which file is which log: by its name and by the columns it has.

use std::path::Path;

use gatefold_schema::{Files, Side};
use polars::prelude::*;

use crate::{SamplesError, logs};

/// Rows of a file that are looked at.
const PEEK: IdxSize = 10_000;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Impressions,
    Clicks,
    Conversions,
    Users,
    Items,
}

/// The columns that hold keys and times.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    pub(super) request: Option<String>,
    pub(super) user: Option<String>,
    pub(super) item: Option<String>,
    pub(super) time: Option<String>,
}

/// A file, or a folder of partitions.
pub(super) struct Table {
    pub(super) name: String,
    pub(super) role: Option<Role>,
    pub(super) keys: Keys,
    /// Its first rows.
    pub(super) peek: DataFrame,
}

const REQUEST: [&str; 6] = ["request_id", "req_id", "request", "rid", "query_id", "search_id"];
const USER: [&str; 7] = ["user_id", "uid", "user", "customer_id", "member_id", "visitor_id", "account_id"];
const ITEM: [&str; 10] = [
    "item_id",
    "iid",
    "item",
    "product_id",
    "ad_id",
    "article_id",
    "video_id",
    "content_id",
    "sku",
    "listing_id",
];
const TIME: [&str; 10] = [
    "time",
    "timestamp",
    "ts",
    "event_time",
    "datetime",
    "date",
    "valid_from",
    "updated_at",
    "created_at",
    "t",
];

/// Parts of file names by what the files are.
const NAMES: [(Role, &[&str]); 5] = [
    (Role::Clicks, &["click"]),
    (Role::Conversions, &["conversion", "order", "purchase", "transaction", "sale", "buy"]),
    (Role::Impressions, &["impression", "exposure", "view", "shown", "display", "request"]),
    (Role::Users, &["user", "customer", "member", "visitor", "account"]),
    (Role::Items, &["item", "product", "article", "video", "catalog", "content", "listing", "ad"]),
];

impl Role {
    /// Whether a table with these keys can be it.
    fn can_be(self, keys: &Keys) -> bool {
        let (request, user) = (keys.request.is_some(), keys.user.is_some());
        let (item, time) = (keys.item.is_some(), keys.time.is_some());
        match self {
            Role::Impressions => request && user && item && time,
            Role::Clicks => item && time && (request || user),
            Role::Conversions => user && item && time,
            Role::Users => user && !item,
            Role::Items => item && !user && !request,
        }
    }
}

/// The tables of a folder, each role given once.
pub(super) fn find(folder: &Path) -> Result<Vec<Table>, SamplesError> {
    let entries = std::fs::read_dir(folder).map_err(SamplesError::io("read", folder))?;
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        let name = entry.map_err(SamplesError::io("read", folder))?.file_name();
        names.extend(name.to_str().filter(|name| !name.starts_with(['.', '_'])).map(str::to_owned));
    }
    names.sort();
    let mut tables = Vec::new();
    for name in names {
        // What is no table is of no interest.
        if let Some(peek) = logs::peek(folder, &Files::One(name.clone()), PEEK)? {
            tables.push(Table { keys: Keys::of(&peek), name, role: None, peek });
        }
    }
    // By name where a name says so, then by columns alone.
    for by_name in [true, false] {
        for (role, parts) in NAMES {
            if tables.iter().any(|table| table.role == Some(role)) {
                continue;
            }
            let is = |table: &&mut Table| {
                let name = table.name.to_lowercase();
                let named = parts.iter().any(|part| name.contains(part));
                let columns_say = matches!(role, Role::Impressions | Role::Users | Role::Items);
                table.role.is_none() && role.can_be(&table.keys) && if by_name { named } else { columns_say }
            };
            if let Some(table) = tables.iter_mut().find(is) {
                table.role = Some(role);
            }
        }
    }
    Ok(tables)
}

impl Keys {
    fn of(peek: &DataFrame) -> Self {
        let find = |names: &[&str]| {
            let columns = || peek.columns().iter().map(|column| column.name().as_str());
            let called = |name: &&&str| columns().any(|column| column.eq_ignore_ascii_case(name));
            let name = names.iter().find(called)?;
            columns().find(|column| column.eq_ignore_ascii_case(name)).map(str::to_owned)
        };
        Self { request: find(&REQUEST), user: find(&USER), item: find(&ITEM), time: find(&TIME) }
    }

    fn has(&self, name: &str) -> bool {
        [&self.request, &self.user, &self.item, &self.time].into_iter().flatten().any(|own| own == name)
    }
}

impl Table {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.peek.columns().iter().map(|column| column.name().as_str())
    }

    /// The names of its columns.
    pub(super) fn columns(&self) -> String {
        self.names().collect::<Vec<_>>().join(", ")
    }

    /// The columns that are neither key nor time.
    pub(super) fn others(&self) -> impl Iterator<Item = String> {
        self.names().filter(|name| !self.keys.has(name)).map(str::to_owned)
    }

    /// Whether a column of impressions belongs to the request or to each item of it.
    pub(super) fn side_of(&self, column: &str) -> Side {
        let same = || -> PolarsResult<bool> {
            let Some(request) = &self.keys.request else { return Ok(false) };
            let pairs = self.peek.select([request.as_str(), column])?;
            let requests = self.peek.column(request)?.n_unique()?;
            let pairs = pairs.unique_stable(None, UniqueKeepStrategy::First, None)?.height();
            // Each request once tells nothing.
            Ok(pairs == requests && requests < self.peek.height())
        };
        if same().unwrap_or(false) { Side::Context } else { Side::Item }
    }

    /// The unit of times that are integers, where it is not milliseconds.
    fn unit(&self) -> Option<&'static str> {
        let times = self.peek.column(self.keys.time.as_deref()?).ok()?;
        if !times.dtype().is_integer() {
            return None;
        }
        match times.cast(&DataType::Int64).ok()?.i64().ok()?.max()? {
            ..100_000_000_000 => Some("s"),
            100_000_000_000..100_000_000_000_000 => None,
            _ => Some("us"),
        }
    }

    /// Its line as a log.
    pub(super) fn log(&self, name: &str) -> String {
        let keys = [
            ("request", &self.keys.request, "request_id"),
            ("user", &self.keys.user, "user_id"),
            ("item", &self.keys.item, "item_id"),
            ("time", &self.keys.time, "time"),
        ];
        let own = keys.into_iter().filter_map(|(key, found, default)| {
            found.as_ref().filter(|found| *found != default).map(|found| format!("{key} = {found:?}"))
        });
        self.line(name, own.collect())
    }

    /// Its line as a table of profiles.
    pub(super) fn profiles(&self, name: &str, default: &str) -> String {
        let key = if name == "items" { &self.keys.item } else { &self.keys.user };
        let mut more = Vec::new();
        more.extend(key.as_ref().filter(|key| *key != default).map(|key| format!("key = {key:?}")));
        match &self.keys.time {
            Some(time) if time == "time" => {}
            Some(time) => more.push(format!("time = {time:?}")),
            None => more.push("static = true".to_owned()),
        }
        let warning = match self.keys.time {
            Some(_) => "",
            None => {
                "# It has no time: a value that has changed since is a leak. Give it a time column if you can.\n"
            }
        };
        format!("{warning}{}", self.line(name, more))
    }

    fn line(&self, name: &str, mut more: Vec<String>) -> String {
        more.extend(self.unit().map(|unit| format!("time_unit = \"{unit}\"")));
        if more.is_empty() {
            return format!("{name} = {:?}\n", self.name);
        }
        format!("{name} = {{ files = {:?}, {} }}\n", self.name, more.join(", "))
    }
}
