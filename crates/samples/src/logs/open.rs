//! All logs, opened: which columns they have, and what their rows are matched by.

use std::path::{Path, PathBuf};

use gatefold_schema::{EventLogs, Recipe, Side};
use polars::prelude::*;

use super::{
    audit::AuditFile,
    events::EventLog,
    impressions::ImpressionLog,
    keys::{KeyError, KeyType},
    profiles::ProfileFile,
    served::ServedLog,
    source::Source,
    times::check_zones,
};
use crate::{SamplesError, columns::missing_column};

/// All logs, opened: their columns are known, their rows are not.
pub(super) struct Logs {
    pub(super) impressions: ImpressionLog,
    pub(super) clicks: EventLog,
    pub(super) conversions: Option<EventLog>,
    pub(super) users: Option<ProfileFile>,
    pub(super) items: Option<ProfileFile>,
    pub(super) audit: Option<AuditFile>,
    pub(super) served: Option<ServedLog>,
}

impl Logs {
    pub(super) fn open(recipe: &Recipe, config: &EventLogs, folder: &Path) -> Result<Self, SamplesError> {
        let log = |name, log: &gatefold_schema::Log| {
            Source::open(name, folder, &log.files, log.condition.as_deref())
        };
        let impressions = ImpressionLog::new(
            log("impressions", &config.impressions)?,
            &config.impressions,
            config.audit.is_some(),
        )?;
        let clicks = log("clicks", &config.clicks)?;
        let clicks = EventLog::clicks(clicks, &config.clicks, config.labels.click_by, &impressions)?;
        let conversions = match &config.conversions {
            Some(own) => Some(EventLog::conversions(log("conversions", own)?, own, &impressions)?),
            None => None,
        };
        let profiles = |own: &Option<gatefold_schema::Profiles>, side: Side| match own {
            Some(own) => {
                let name = if side == Side::Item { "items" } else { "users" };
                let source = Source::open(name, folder, &own.files, own.condition.as_deref())?;
                ProfileFile::new(source, own, side, &impressions).map(Some)
            }
            None => Ok(None),
        };
        let users = profiles(&config.users, Side::User)?;
        let items = profiles(&config.items, Side::Item)?;
        let audit = match &config.audit {
            Some(files) => {
                Some(AuditFile::new(Source::open("audit", folder, files, None)?, config, &impressions)?)
            }
            None => None,
        };
        let served = match &config.served {
            Some(own) => {
                let source = Source::open("served", folder, &own.files, own.condition.as_deref())?;
                Some(ServedLog::new(source, own, recipe, &impressions)?)
            }
            None => None,
        };
        let mut times = vec![(impressions.source.name.as_path(), &impressions.time)];
        let events = [Some(&clicks), conversions.as_ref()].into_iter().flatten();
        times.extend(events.map(|log| (log.source.name.as_path(), &log.time)));
        for file in [&users, &items].into_iter().flatten() {
            times.extend(file.times().map(|time| (file.source.name.as_path(), time)));
        }
        check_zones(&times)?;
        Ok(Self { impressions, clicks, conversions, users, items, audit, served })
    }

    pub(super) fn sources(&mut self) -> impl Iterator<Item = &mut Source> {
        let logs = [Some(&mut self.clicks), self.conversions.as_mut()].into_iter().flatten();
        let tables = [self.users.as_mut(), self.items.as_mut()].into_iter().flatten();
        let events = logs.map(|log| &mut log.source).chain(tables.map(|table| &mut table.source));
        events.chain([&mut self.impressions.source])
    }

    /// What messages call the logs, by their keys in `[samples.logs]`.
    pub(super) fn names(&mut self) -> Vec<(String, PathBuf)> {
        self.sources().map(|source| (source.log.to_owned(), source.name.clone())).collect()
    }

    /// Has messages call the logs by other names.
    pub(super) fn rename(&mut self, names: &[(String, PathBuf)]) {
        for source in self.sources() {
            if let Some((_, name)) = names.iter().find(|(log, _)| log == source.log) {
                source.name.clone_from(name);
            }
        }
    }
}

/// The column of a log that identifies what its rows are about. A row without a value is a bad row.
pub(super) struct Key {
    pub(super) key_type: KeyType,
    /// The column under another name.
    pub(super) column: Expr,
}

impl Key {
    /// The column `name` as one called `alias`; `what` says whose identifiers it holds.
    pub(super) fn new(
        source: &mut Source,
        name: &str,
        alias: &str,
        what: &str,
    ) -> Result<Self, SamplesError> {
        let key_type = key_type(source, name, what)?;
        source.require(name);
        source.use_column(name);
        Ok(Self { key_type, column: col(name).strict_cast(key_type.frame_type()).alias(alias) })
    }
}

pub(super) fn key_type(source: &Source, name: &str, what: &str) -> Result<KeyType, SamplesError> {
    let Some(found) = source.schema.get(name) else {
        return Err(missing_column(&source.name, &source.schema, name, what));
    };
    KeyType::of(found).ok_or_else(|| {
        SamplesError::source(
            &source.name,
            format!("column '{name}' has type {found}; a key must hold integers or strings"),
        )
    })
}

/// As [`key`], of a log whose keys are matched with those of the impressions, and which may have rows without one.
pub(super) fn matching_key(
    source: &mut Source,
    name: &str,
    alias: &str,
    impressions: (&ImpressionLog, &str),
) -> Result<Expr, SamplesError> {
    let (log, other_name) = impressions;
    let other = key_type(&log.source, other_name, "the key that other logs are matched by")?;
    // A key that looks like a number may be a text in the impressions, and the other way round.
    source.parse_as(name, other.frame_type());
    let own = key_type(source, name, "the key that its rows are matched by")?;
    if own.matches(other) {
        source.use_column(name);
        return Ok(col(name).strict_cast(own.frame_type()).alias(alias));
    }
    Err(SamplesError::source(
        &source.name,
        format!(
            "column '{name}' holds {}, but '{other_name}' in the impressions {}; use one type",
            own.name(),
            other.name()
        ),
    ))
}

/// What went wrong while keys of a log were numbered.
pub(super) fn key_error(log: &Path, error: KeyError) -> SamplesError {
    match error {
        KeyError::Frame(source) => SamplesError::Reading { path: log.to_owned(), source },
        KeyError::TooMany(error) => SamplesError::source(log, error.to_string()),
    }
}
