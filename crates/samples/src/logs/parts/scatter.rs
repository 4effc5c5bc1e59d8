//! Reads each log once and writes its good rows into parts by their users.

use std::path::Path;

use polars::prelude::*;

use super::{
    super::{
        bad::{BadRows, Dropped},
        events,
        features::Plan,
        impressions,
        keys::{KeyError, hashes},
        open::{Logs, key_error},
        profiles,
        source::Source,
    },
    AUDIT, ITEMS, Spill, part_file, part_of,
};
use crate::{Progress, SamplesError};

/// Seed of the hash by which users are divided: another one than splits, samples and features are made with.
const SEED: u32 = u32::from_be_bytes(*b"part");

/// Divides the columns that are planned into `count` parts in the folder `to`; the rows left out, by log and reason.
pub(super) fn scatter(
    mut logs: Logs,
    plan: &Plan,
    to: &Path,
    count: usize,
    bad_rows: &BadRows,
    progress: &mut dyn Progress,
) -> Result<Dropped, SamplesError> {
    let mut dropped = Dropped::new();
    let own = |hashes: Vec<u32>| hashes.into_iter().map(|hash| part_of(hash, count)).collect::<Vec<u32>>();

    progress.start(&format!("dividing the impressions by user into {count} parts"), None);
    let log = &logs.impressions;
    // The part of each request, so that its clicks come to it whatever else they say.
    let (mut requests, mut part_of_request) = (log.keys().requests, Vec::new());
    let divided = Divided::new(&log.source, log.columns(&plan.impressions), log.selected());
    dropped.extend(divided.write(count, to, "impressions", bad_rows, |batch| {
        let mut parts = own(hashes(batch.column(impressions::USER)?, SEED)?);
        let mut codes = Vec::with_capacity(parts.len());
        requests.intern(batch.column(impressions::REQUEST)?, &mut codes)?;
        for (part, code) in parts.iter_mut().zip(codes) {
            // The rows of a request are together even if they name several users, which is then found out.
            match part_of_request.get(code as usize) {
                Some(first) => *part = *first,
                None => part_of_request.push(*part),
            }
        }
        Ok(parts)
    })?);

    progress.start("dividing clicks and conversions by user", None);
    for (name, log, wanted) in [
        ("clicks", Some(&mut logs.clicks), &plan.clicks),
        ("conversions", logs.conversions.as_mut(), &plan.conversions),
    ] {
        let Some(log) = log else { continue };
        wanted.iter().for_each(|column| log.source.use_column(column));
        let divided = Divided::new(&log.source, log.columns(wanted), log.selected());
        dropped.extend(divided.write(count, to, name, bad_rows, |batch| {
            let by_user = batch.column(events::USER).ok().map(|column| hashes(column, SEED)).transpose()?;
            let Ok(request) = batch.column(events::REQUEST) else {
                return Ok(own(by_user.unwrap_or_default()));
            };
            let mut codes = Vec::with_capacity(batch.height());
            requests.find(request, &mut codes)?;
            let unknown = own(match by_user {
                Some(hashes) => hashes,
                None => hashes(request, SEED)?,
            });
            let known = |code: u32| part_of_request.get(code as usize).copied();
            Ok(codes.into_iter().zip(unknown).map(|(code, part)| known(code).unwrap_or(part)).collect())
        })?);
    }

    progress.start("dividing profiles by user", None);
    if let Some(file) = &logs.users {
        let divided = Divided::new(&file.source, file.columns(&plan.users), vec![file.key()]);
        dropped.extend(divided.write(count, to, "users", bad_rows, |batch| {
            Ok(own(hashes(batch.column(profiles::KEY)?, SEED)?))
        })?);
    }
    if let Some(file) = &logs.items {
        let divided = Divided::new(&file.source, file.columns(&plan.items), Vec::new());
        let path = |_| to.join(ITEMS);
        dropped.extend(divided.write_to(1, path, bad_rows, |batch| Ok(vec![0; batch.height()]))?);
    }
    if let Some(file) = &logs.audit {
        let divided = Divided::new(&file.source, file.columns(), Vec::new());
        let path = |_| to.join(AUDIT);
        dropped.extend(divided.write_to(1, path, bad_rows, |batch| Ok(vec![0; batch.height()]))?);
    }
    Ok(dropped)
}

/// A log to divide.
struct Divided<'a> {
    source: &'a Source,
    /// What is written.
    columns: Vec<String>,
    /// What the part is found by.
    by: Vec<Expr>,
}

impl<'a> Divided<'a> {
    fn new(source: &'a Source, named: Vec<String>, by: Vec<Expr>) -> Self {
        let mut columns: Vec<String> = Vec::with_capacity(named.len());
        for name in named {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
        Self { source, columns, by }
    }

    fn write(
        self,
        count: usize,
        to: &Path,
        log: &str,
        bad_rows: &BadRows,
        parts: impl FnMut(&DataFrame) -> Result<Vec<u32>, KeyError>,
    ) -> Result<Dropped, SamplesError> {
        self.write_to(count, |part| to.join(part_file(log, part)), bad_rows, parts)
    }

    fn write_to(
        self,
        count: usize,
        path: impl Fn(usize) -> std::path::PathBuf,
        bad_rows: &BadRows,
        mut parts: impl FnMut(&DataFrame) -> Result<Vec<u32>, KeyError>,
    ) -> Result<Dropped, SamplesError> {
        let log = self.source;
        let reading = |source| SamplesError::Reading { path: log.name.clone(), source };
        let own = || self.columns.iter().map(|name| col(name.as_str()));
        let schema = log.frame().select(own().collect::<Vec<_>>()).collect_schema().map_err(reading)?;
        let mut spill = Spill::create(count, path, &schema)?;
        let selected = own().chain(self.by.iter().cloned()).collect();
        let dropped = log.read(selected, bad_rows, |batch| {
            let of_rows = parts(&batch).map_err(|error| key_error(&log.name, error))?;
            let rows = batch.select(self.columns.iter().map(String::as_str)).map_err(reading)?;
            spill.add(&rows, &of_rows)
        })?;
        spill.finish()?;
        Ok(dropped)
    }
}
