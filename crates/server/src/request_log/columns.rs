//! The rows of a row group as they are gathered: values, and for nulls and lists the levels that the
//! Parquet format describes them by.

use std::time::{SystemTime, UNIX_EPOCH};

use gatefold_features::{RawBatch, RawColumn, RawValues};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FloatType, Int64Type};
use parquet::errors::Result;
use parquet::file::writer::SerializedColumnWriter;

use super::layout::{Element, Shape, Source, Spec};
use super::record::Record;

/// One column of a row group.
#[derive(Debug)]
pub(super) struct Gathered {
    spec: Spec,
    cells: Cells,
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

#[derive(Debug)]
enum Cells {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
    Texts(Vec<ByteArray>),
}

impl Gathered {
    pub(super) fn new(spec: Spec) -> Gathered {
        let cells = match spec.element {
            Element::Int | Element::Time => Cells::Ints(Vec::new()),
            Element::Float => Cells::Floats(Vec::new()),
            Element::Double => Cells::Doubles(Vec::new()),
            Element::Text => Cells::Texts(Vec::new()),
        };
        Gathered { spec, cells, definition: Vec::new(), repetition: Vec::new() }
    }

    /// Adds a row for each candidate of `record`, whose values are `raw`; bytes added, roughly.
    pub(super) fn add(&mut self, record: &Record, raw: &RawBatch<'_>) -> usize {
        let before = self.bytes();
        let rows = raw.candidates;
        let source = self.spec.source.clone();
        match &source {
            Source::RequestId => self.repeat_text(&record.request_id, rows),
            Source::Model => self.repeat_text(&record.reply.model.name, rows),
            Source::Version => self.ints((0..rows).map(|_| record.reply.model.version as i64)),
            Source::Time => self.ints((0..rows).map(|_| millis(record.time))),
            Source::Candidate => self.ints(0..rows as i64),
            Source::Labels => {
                let labels: Vec<ByteArray> =
                    record.reply.labels.iter().map(|label| label.as_str().into()).collect();
                for _ in 0..rows {
                    self.list(labels.iter(), Cells::text);
                }
            }
            Source::Experiment => self.one_text(record.arm.as_ref().map(|arm| &*arm.experiment), rows),
            Source::Arm => {
                let arm = record.arm.as_ref().map(|arm| &*arm.name);
                self.one_text(arm.filter(|arm| !arm.is_empty()), rows);
            }
            Source::Output(name) => {
                let scores = record.reply.outputs.iter().position(|output| output == name);
                let scores = scores.map(|at| record.reply.scores[at].as_slice());
                self.optional(rows, |row| Some(scores?[row]), Cells::float);
            }
            Source::Fused => {
                self.optional(rows, |row| Some(record.fused.as_ref()?[row]), Cells::double);
            }
            Source::Feature { name, item } => match raw.columns.iter().find(|(found, _)| found == name) {
                Some((_, column)) => self.feature(column, *item, raw),
                None => (0..rows).for_each(|_| self.null()),
            },
        }
        self.bytes() - before
    }

    fn feature(&mut self, column: &RawColumn<'_>, item: bool, raw: &RawBatch<'_>) {
        let rows = raw.candidates;
        let place = |row: usize| if item { row } else { raw.request_of[row] as usize };
        let present = |row: usize| Some(place(row)).filter(|row| !column.is_missing(*row));
        match &column.values {
            RawValues::Ints(values) if self.spec.element == Element::Double => {
                self.optional(rows, |row| Some(values[present(row)?] as f64), Cells::double);
            }
            RawValues::Ints(values) => self.optional(rows, |row| Some(values[present(row)?]), Cells::int),
            RawValues::Floats(values) => {
                self.optional(rows, |row| Some(values[present(row)?]), Cells::double)
            }
            RawValues::Texts(values) => {
                let texts: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                self.optional(rows, |row| Some(&texts[present(row)?]), Cells::text);
            }
            RawValues::IntLists { values, offsets } => {
                for row in 0..rows {
                    match present(row) {
                        Some(row) => self.list(values[range(offsets, row)].iter().copied(), Cells::int),
                        None => self.null(),
                    }
                }
            }
            RawValues::TextLists { values, offsets } => {
                let texts: Vec<ByteArray> = values.iter().map(|text| ByteArray::from(*text)).collect();
                for row in 0..rows {
                    match present(row) {
                        Some(row) => self.list(texts[range(offsets, row)].iter(), Cells::text),
                        None => self.null(),
                    }
                }
            }
        }
    }

    /// The same text, or none, in every row.
    fn one_text(&mut self, text: Option<&str>, rows: usize) {
        let text = text.map(ByteArray::from);
        self.optional(rows, |_| text.as_ref(), Cells::text);
    }

    fn repeat_text(&mut self, text: &str, rows: usize) {
        let text = ByteArray::from(text);
        (0..rows).for_each(|_| self.cells.text(&text));
    }

    fn ints(&mut self, values: impl Iterator<Item = i64>) {
        values.for_each(|value| self.cells.int(value));
    }

    fn optional<V>(&mut self, rows: usize, value: impl Fn(usize) -> Option<V>, push: impl Fn(&mut Cells, V)) {
        for row in 0..rows {
            let value = value(row);
            match value {
                None => self.null(),
                Some(value) => {
                    self.definition.push(1);
                    push(&mut self.cells, value);
                }
            }
        }
    }

    /// Levels of a list: 0 no list, 1 an empty one, 2 an element; repeated from the second element.
    fn list<V>(&mut self, elements: impl ExactSizeIterator<Item = V>, push: impl Fn(&mut Cells, V)) {
        if elements.len() == 0 {
            self.definition.push(1);
            self.repetition.push(0);
        }
        for (at, element) in elements.enumerate() {
            self.definition.push(2);
            self.repetition.push(i16::from(at > 0));
            push(&mut self.cells, element);
        }
    }

    fn null(&mut self) {
        self.definition.push(0);
        self.repetition.push(0);
    }

    fn bytes(&self) -> usize {
        let cells = match &self.cells {
            Cells::Ints(cells) => 8 * cells.len(),
            Cells::Floats(cells) => 4 * cells.len(),
            Cells::Doubles(cells) => 8 * cells.len(),
            // The text itself is shared by the rows of a request.
            Cells::Texts(cells) => size_of::<ByteArray>() * cells.len(),
        };
        cells + 2 * (self.definition.len() + self.repetition.len())
    }

    /// Writes the column and empties it.
    pub(super) fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<()> {
        let definition = (self.spec.shape != Shape::One).then_some(self.definition.as_slice());
        let repetition = (self.spec.shape == Shape::ListOrNull).then_some(self.repetition.as_slice());
        match &mut self.cells {
            Cells::Ints(cells) => {
                writer.typed::<Int64Type>().write_batch(cells, definition, repetition)?;
                cells.clear();
            }
            Cells::Floats(cells) => {
                writer.typed::<FloatType>().write_batch(cells, definition, repetition)?;
                cells.clear();
            }
            Cells::Doubles(cells) => {
                writer.typed::<DoubleType>().write_batch(cells, definition, repetition)?;
                cells.clear();
            }
            Cells::Texts(cells) => {
                writer.typed::<ByteArrayType>().write_batch(cells, definition, repetition)?;
                cells.clear();
            }
        }
        self.definition.clear();
        self.repetition.clear();
        Ok(())
    }
}

/// A value of another type than the column's is none of the encoder's, which has seen it before.
impl Cells {
    fn int(&mut self, value: i64) {
        if let Cells::Ints(cells) = self {
            cells.push(value);
        }
    }

    fn float(&mut self, value: f32) {
        if let Cells::Floats(cells) = self {
            cells.push(value);
        }
    }

    fn double(&mut self, value: f64) {
        if let Cells::Doubles(cells) = self {
            cells.push(value);
        }
    }

    fn text(&mut self, value: &ByteArray) {
        if let Cells::Texts(cells) = self {
            cells.push(value.clone());
        }
    }
}

fn range(offsets: &[u32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
