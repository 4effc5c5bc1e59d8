//! Raw values of a feature for every sample, held once each: a dictionary, and each sample's place in it.
//!
//! What a sample has of its user's profile, of its request or of its item is the same for many samples.
//! Values are therefore never copied to the samples before they are encoded; a place costs four bytes, or none
//! where samples share those of another feature.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use gatefold_history::{NONE, Timeline, last::Tail};
use polars::prelude::*;

use crate::logs::{Ids, KeyError, KeyType};

/// Whose place in a dictionary is looked up.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// The dictionary has one value a row.
    Row,
    /// One value a request.
    Request,
    /// By row: the place in the dictionary, [`NONE`] where the value is missing.
    OfRow(Arc<Vec<u32>>),
    /// By request.
    OfRequest(Arc<Vec<u32>>),
}

/// Values of one column for every sample.
#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// One value a sample.
    Scalars {
        /// The dictionary, of one chunk, in the type of its source.
        dictionary: Series,
        /// Where a sample's value is.
        place: Place,
    },
    /// A list a request: what the last events before it were about.
    Events(Events),
}

/// The last events before each request.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    /// Events by user and time.
    pub(crate) order: Arc<Timeline>,
    /// The events of each request.
    pub(crate) tails: Arc<Vec<Tail>>,
    /// What is listed of an event.
    pub(crate) listed: Listed,
}

/// What is listed of an event.
#[derive(Clone, Debug)]
pub(crate) enum Listed {
    /// `dictionary[place[event]]`; an event without a value is left out.
    Value {
        /// The values.
        dictionary: Series,
        /// By event.
        place: Arc<Vec<u32>>,
    },
    /// Whole seconds between the event and the request, whose times these are.
    Gap(Arc<Vec<i64>>),
}

/// Which request each row belongs to: the first row of each request, and the number of rows.
pub(crate) type Starts = [u32];

/// The requests of the rows in `rows`.
pub(crate) fn requests_of(starts: &Starts, rows: Range<usize>) -> Vec<u32> {
    let mut of = Vec::with_capacity(rows.len());
    let mut request = starts.partition_point(|start| *start as usize <= rows.start).saturating_sub(1);
    for row in rows {
        while starts[request + 1] as usize <= row {
            request += 1;
        }
        of.push(request as u32);
    }
    of
}

impl Place {
    /// How often each of `length` places is that of one of some rows.
    pub(crate) fn counts(&self, length: usize, rows: Range<usize>, starts: &Starts) -> Vec<u64> {
        let mut counts = vec![0; length];
        let mut count = |place: u32| {
            if place != NONE {
                counts[place as usize] += 1;
            }
        };
        match self {
            Place::Row => rows.for_each(|row| count(row as u32)),
            Place::Request => requests_of(starts, rows).into_iter().for_each(count),
            Place::OfRow(place) => place[rows].iter().copied().for_each(count),
            Place::OfRequest(place) => {
                requests_of(starts, rows).into_iter().for_each(|request| count(place[request as usize]));
            }
        }
        counts
    }
}

/// The largest of whole numbers from 0; nothing of another dictionary, or where one is missing.
pub(crate) fn largest(dictionary: &Series) -> Option<u32> {
    let unsigned = matches!(dictionary.dtype(), DataType::UInt8 | DataType::UInt16 | DataType::UInt32);
    if !unsigned || dictionary.has_nulls() {
        return None;
    }
    dictionary.max::<u32>().ok().flatten()
}

/// The numbers at some places of a dictionary that has a [`largest`].
pub(crate) fn whole_numbers(
    dictionary: &Series,
    places: impl Iterator<Item = usize>,
) -> PolarsResult<Vec<u32>> {
    Ok(match dictionary.dtype() {
        DataType::UInt8 => {
            let numbers = dictionary.u8()?.cont_slice()?;
            places.map(|place| u32::from(numbers[place])).collect()
        }
        DataType::UInt16 => {
            let numbers = dictionary.u16()?.cont_slice()?;
            places.map(|place| u32::from(numbers[place])).collect()
        }
        _ => {
            let numbers = dictionary.u32()?.cont_slice()?;
            places.map(|place| numbers[place]).collect()
        }
    })
}

impl Values {
    /// One value a row.
    pub(crate) fn of_rows(dictionary: Series) -> Self {
        Values::Scalars { dictionary, place: Place::Row }
    }

    /// Whether there is one value a request.
    pub(crate) fn is_of_requests(&self) -> bool {
        !matches!(self, Values::Scalars { place: Place::Row | Place::OfRow(_), .. })
    }

    /// The type of the values as their source has them.
    pub(crate) fn frame_type(&self) -> DataType {
        match self {
            Values::Scalars { dictionary, .. } => dictionary.dtype().clone(),
            Values::Events(Events { listed: Listed::Value { dictionary, .. }, .. }) => {
                DataType::List(Box::new(dictionary.dtype().clone()))
            }
            Values::Events(Events { listed: Listed::Gap(_), .. }) => {
                DataType::List(Box::new(DataType::Int64))
            }
        }
    }

    /// The same values with one place a request, that of its first row; or a request whose rows have
    /// different values.
    pub(crate) fn of_requests(&self, starts: &Starts) -> PolarsResult<Result<Self, usize>> {
        let Values::Scalars { dictionary, place } = self else { return Ok(Ok(self.clone())) };
        let place: Cow<'_, [u32]> = match place {
            Place::Request | Place::OfRequest(_) => return Ok(Ok(self.clone())),
            Place::Row => Cow::Owned((0..dictionary.len() as u32).collect()),
            Place::OfRow(place) => Cow::Borrowed(place),
        };
        let firsts: Vec<u32> =
            starts[..starts.len() - 1].iter().map(|start| place[*start as usize]).collect();
        for (request, bounds) in starts.windows(2).enumerate() {
            let rows = &place[bounds[0] as usize..bounds[1] as usize];
            if rows.iter().all(|other| *other == firsts[request]) {
                continue;
            }
            let own = pick(dictionary, rows.iter().copied())?;
            let first = pick(dictionary, std::iter::repeat_n(firsts[request], rows.len()))?;
            if !own.equals_missing(&first) {
                return Ok(Err(request));
            }
        }
        Ok(Ok(Values::Scalars { dictionary: dictionary.clone(), place: Place::OfRequest(Arc::new(firsts)) }))
    }

    /// The values of rows `rows`, whose requests are `requests`, in the type of the source.
    pub(crate) fn rows(&self, rows: Range<usize>, requests: &[u32]) -> PolarsResult<Series> {
        match self {
            Values::Scalars { dictionary, place } => match place {
                Place::Row => Ok(dictionary.slice(rows.start as i64, rows.len())),
                Place::Request => pick(dictionary, requests.iter().copied()),
                Place::OfRow(place) => pick(dictionary, place[rows].iter().copied()),
                Place::OfRequest(place) => {
                    pick(dictionary, requests.iter().map(|request| place[*request as usize]))
                }
            },
            Values::Events(events) => events.rows(requests),
        }
    }
}

impl Values {
    /// How many of the rows `rows`, whose requests are `requests`, have no value.
    pub(crate) fn missing(&self, rows: Range<usize>, requests: &[u32]) -> PolarsResult<usize> {
        let values = self.rows(rows, requests)?;
        let not_numbers =
            if values.dtype().is_float() { values.is_nan()?.sum().unwrap_or(0) as usize } else { 0 };
        Ok(values.null_count() + not_numbers)
    }
}

impl Events {
    /// A list of integers or texts for each of `requests`.
    fn rows(&self, requests: &[u32]) -> PolarsResult<Series> {
        let order = self.order.view();
        let tails = requests.iter().map(|request| self.tails[*request as usize]);
        let total: usize = tails.clone().map(|tail| tail.length as usize).sum();
        match &self.listed {
            Listed::Value { dictionary, place } if *dictionary.dtype() == DataType::String => {
                let texts: Vec<Option<&str>> = dictionary.str()?.iter().collect();
                let mut lists = ListStringChunkedBuilder::new(PlSmallStr::EMPTY, requests.len(), total);
                for tail in tails {
                    let places = tail.rows(order).iter().map(|event| place[*event as usize]);
                    let known = places.filter(|place| *place != NONE);
                    lists.append_values_iter(known.filter_map(|place| texts[place as usize]));
                }
                Ok(lists.finish().into_series())
            }
            Listed::Value { dictionary, place } => {
                let dictionary = dictionary.strict_cast(&DataType::Int64)?;
                let ints: Vec<Option<i64>> = dictionary.i64()?.iter().collect();
                let mut lists = int_lists(requests.len(), total);
                for tail in tails {
                    let places = tail.rows(order).iter().map(|event| place[*event as usize]);
                    let known = places.filter(|place| *place != NONE);
                    lists.append_values_iter(known.filter_map(|place| ints[place as usize]));
                }
                Ok(lists.finish().into_series())
            }
            Listed::Gap(request_time) => {
                let mut lists = int_lists(requests.len(), total);
                for (tail, request) in tails.zip(requests) {
                    let now = request_time[*request as usize];
                    lists.append_values_iter(tail.times(order).iter().map(|time| (now - time) / 1_000_000));
                }
                Ok(lists.finish().into_series())
            }
        }
    }
}

fn int_lists(rows: usize, values: usize) -> ListPrimitiveChunkedBuilder<Int64Type> {
    ListPrimitiveChunkedBuilder::new(PlSmallStr::EMPTY, rows, values, DataType::Int64)
}

/// The values at some places; null at [`NONE`].
pub(crate) fn pick(dictionary: &Series, places: impl ExactSizeIterator<Item = u32>) -> PolarsResult<Series> {
    let missing = |place: u32| if place == NONE { None } else { Some(place) };
    let places = IdxCa::from_iter_options(PlSmallStr::EMPTY, places.map(missing));
    dictionary.take(&places)
}

/// Collects a column of a log batch by batch.
pub(crate) struct Builder {
    name: String,
    collected: Collected,
}

enum Collected {
    /// Texts, each kept once.
    Texts { known: Ids, codes: Vec<u32> },
    /// Anything else, as it comes.
    Rows(Series),
}

impl Builder {
    /// A collector of the column `name`, whose type is `found`.
    pub(crate) fn new(name: &str, found: &DataType) -> Self {
        let collected = match found {
            DataType::String => Collected::Texts { known: Ids::new(KeyType::Text), codes: Vec::new() },
            found => Collected::Rows(Series::new_empty(PlSmallStr::EMPTY, found)),
        };
        Self { name: name.to_owned(), collected }
    }

    /// Name of the column.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Appends a batch of it.
    pub(crate) fn add(&mut self, column: &Column) -> Result<(), KeyError> {
        match &mut self.collected {
            Collected::Texts { known, codes } => known.intern(column, codes)?,
            Collected::Rows(rows) => drop(rows.append(column.as_materialized_series())?),
        }
        Ok(())
    }

    /// The values of samples, of which each is the row `row[sample]` of the log.
    pub(crate) fn finish(self, row: &Arc<Vec<u32>>) -> Values {
        match self.collected {
            Collected::Texts { known, codes } => {
                let dictionary = known.values("");
                let place = row.iter().map(|row| codes[*row as usize]).collect();
                Values::Scalars { dictionary, place: Place::OfRow(Arc::new(place)) }
            }
            Collected::Rows(rows) => {
                let dictionary = rows.rechunk();
                Values::Scalars { dictionary, place: Place::OfRow(row.clone()) }
            }
        }
    }
}
