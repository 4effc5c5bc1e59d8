//! Logs whose rows are in memory, and the samples that they make.

use std::ops::Range;

use gatefold_schema::{EventLogs, LATE_COLUMN, Maturity, Recipe};
use polars::prelude::*;

use super::{
    audit::AuditFile,
    bad::{BadRows, Dropped},
    derived::{Derived, Made},
    events::Events,
    features::{Columns, Plan},
    feedback,
    impressions::{Impressions, Keys},
    keys::Ids,
    labels,
    open::Logs,
    profiles::{ProfileFile, Table},
    sampling::{self, Sampling},
    served::ServedLog,
    session, split,
    trace::Trace,
    users,
    whole::Whole,
};
use crate::{
    Progress, SamplesError,
    prepared::{Facts, Label, Prepared, Written},
};

/// Logs whose rows are in memory: of all users, or of some.
pub(super) struct Read {
    pub(super) plan: Plan,
    pub(super) impressions: Impressions,
    pub(super) keys: Keys,
    pub(super) clicks: Events,
    pub(super) conversions: Option<Events>,
    pub(super) users: Option<Table>,
    pub(super) items: Option<Table>,
    pub(super) audit: Option<AuditFile>,
    pub(super) served: Option<ServedLog>,
    /// Rows left out, by reason.
    pub(super) dropped: Dropped,
}

impl Read {
    /// Reads the columns that are planned.
    pub(super) fn new(
        logs: Logs,
        plan: Plan,
        bad_rows: &BadRows,
        progress: &mut dyn Progress,
    ) -> Result<Self, SamplesError> {
        let mut dropped = Dropped::new();
        progress.start("reading impressions", None);
        let (impressions, mut keys) = logs.impressions.read(&plan.impressions, bad_rows, &mut dropped)?;
        progress.start("reading clicks and conversions", None);
        let clicks = logs.clicks.read(&mut keys, &impressions, &plan.clicks, bad_rows, &mut dropped)?;
        let conversions = match logs.conversions {
            Some(log) => {
                Some(log.read(&mut keys, &impressions, &plan.conversions, bad_rows, &mut dropped)?)
            }
            None => None,
        };
        progress.start("reading profiles", None);
        let mut profiles = |file: Option<ProfileFile>, ids: &Ids, wanted: &[String]| {
            file.map(|file| file.read(ids, wanted, bad_rows, &mut dropped)).transpose()
        };
        let users = profiles(logs.users, &keys.users, &plan.users)?;
        let items = profiles(logs.items, &keys.items, &plan.items)?;
        dropped.insert("impressions logged again".to_owned(), impressions.again);
        let (audit, served) = (logs.audit, logs.served);
        Ok(Self { plan, impressions, keys, clicks, conversions, users, items, audit, served, dropped })
    }

    /// Time and number of rows of each request, in the order of time.
    pub(super) fn requests(&self) -> Vec<(i64, u32)> {
        let sizes = self.impressions.starts.windows(2).map(|bounds| bounds[1] - bounds[0]);
        self.impressions.request_time.iter().copied().zip(sizes).collect()
    }

    /// Times of the first and of the last row of impressions, clicks and conversions.
    pub(super) fn span(&self) -> Range<i64> {
        let events = [Some(&self.clicks), self.conversions.as_ref()].into_iter().flatten();
        let times = || events.clone().map(|log| &log.time).chain([&self.impressions.time]).flatten().copied();
        times().min().unwrap_or(i64::MAX)..times().max().unwrap_or(i64::MIN)
    }

    /// The labelled samples. `shared` are the aggregates by keys that users share, where not all users are here.
    pub(super) fn prepare(
        self,
        recipe: &Recipe,
        config: &EventLogs,
        whole: &Whole,
        shared: Option<Vec<Made>>,
        mut trace: Option<&mut Trace>,
        progress: &mut dyn Progress,
    ) -> Result<Prepared, SamplesError> {
        let Self { plan, mut impressions, keys, clicks, conversions, users, items, audit, served, dropped } =
            self;
        let (conversions, users, items) = (conversions.as_ref(), users.as_ref(), items.as_ref());
        let (mut facts, until) = (Facts { dropped, ..Facts::default() }, whole.span.end);
        progress.start("labelling", None);
        let outcomes = labels::label(config, &impressions, &clicks, conversions)?;
        if let Some(trace) = &mut trace {
            trace.outcomes(&config.labels, &keys, &impressions, (&clicks, conversions), &outcomes)?;
        }
        facts.delays = outcomes.delays(&impressions, &clicks, conversions);
        let arrivals = feedback::arrivals(config, &outcomes, &clicks, conversions);
        facts.events = outcomes.events;
        let mut labels = outcomes.labels;
        // Memory is scarcest while columns are made.
        drop((outcomes.click_of, outcomes.conversion_of));
        if let (Some(file), Some(ids)) = (audit, impressions.audit.take()) {
            labels.extend(file.read(&ids.0, &ids.1)?);
        }
        let clicks = clicks.first_of_each().map_err(SamplesError::step("reading clicks"))?;

        let rows = |request: usize| u64::from(impressions.starts[request + 1] - impressions.starts[request]);
        facts.dropped.extend(whole.cuts.dropped(&impressions.request_time, rows));
        let by_time = whole.cuts.ranges(&impressions.request_time);
        let divided = users::divide(&recipe.samples.split, &keys, &impressions, &by_time);
        if let Some(divided) = &divided {
            facts.dropped.insert("impressions of users of another split".to_owned(), divided.left_out);
        }
        let train = match &divided {
            Some(divided) => divided.splits[0].1.clone(),
            None => (by_time[0].1.start as u32..by_time[0].1.end as u32).collect(),
        };

        progress.start("joining what was known", None);
        let derived = Derived {
            config,
            keys: &keys,
            impressions: &impressions,
            shown: None,
            clicks: &clicks,
            conversions,
            items,
        };
        let mut made = derived.columns(&plan.derived, shared)?;
        if let Some(gap) = config.session_gap {
            made.extend(session::columns(&impressions, keys.users.len(), gap)?);
        }
        if config.labels.maturity == Maturity::Elapsed {
            made.push(session::observed(&impressions, &train, until, whole.window));
        }
        if let Some(trace) = &mut trace {
            trace.known(&derived, users, &plan, &made)?;
        }
        let columns = Columns { keys: &keys, impressions: &impressions, users, items, made };
        let mut values = columns.of_features(recipe, config)?;
        let skew = match served {
            Some(log) => {
                progress.start("comparing what was served", None);
                let served = log.read(&keys, &impressions)?;
                Some(served.apply(recipe, &mut values, &impressions, &keys)?)
            }
            None => None,
        };

        let places = IdxCa::from_slice(PlSmallStr::EMPTY, &impressions.request);
        let request_ids =
            keys.requests.values("").take(&places).map_err(SamplesError::step("numbering requests"))?;
        let sampling = config.sampling.as_ref();
        let sampling = sampling.map(|config| Sampling { config, keys: &keys, impressions: &impressions });
        let young = split::first_young(until, whole.window);
        let young = impressions.request_time.partition_point(|time| *time < young);
        if config.labels.maturity != Maturity::HoldBack {
            let rows = impressions.rows() - impressions.starts[young] as usize;
            facts.events.insert("impressions whose windows had not ended".to_owned(), rows as u64);
        }
        let mut thinned = sampling::thin(
            sampling.as_ref(),
            &train,
            || sampling::negatives(&recipe.tasks, &labels, impressions.rows()),
            &impressions,
            (config.labels.maturity, young),
        );
        labels.extend(thinned.weights);
        facts.dropped.extend(thinned.dropped);
        if let (Some(arrivals), Some(stream)) = (arrivals, &whole.stream) {
            let written = thinned.written.get_or_insert_with(|| vec![Written::AsItIs; impressions.rows()]);
            arrivals.stream(&impressions, &train, stream, written);
            let never = written.iter().filter(|row| **row == Written::Never).count();
            let before = "impressions before the windows of the first had ended";
            facts.dropped.insert(before.to_owned(), never as u64);
            labels.push(Label::new(LATE_COLUMN, vec![0.0; impressions.rows()]));
        }
        let prepared = Prepared {
            splits: by_time,
            request_ids: Some(request_ids),
            starts: impressions.starts,
            times: Some(impressions.request_time),
            values,
            labels,
            written: thinned.written,
            skew,
            facts,
        };
        match divided {
            Some(divided) => prepared.of_requests(&divided.splits),
            None => Ok(prepared),
        }
    }
}
