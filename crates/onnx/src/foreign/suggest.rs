//! A map to begin with, from what a graph shows of itself.
//!
//! Which table an input is looked up in says how many codes it has, and where a matrix is cut says
//! which columns belong together. What no graph tells, which side a feature is on above all, is guessed
//! from its name and left to the person.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

use gatefold_proto::onnx::{
    GraphProto, NodeProto, TensorProto,
    tensor_proto::{DataLocation, DataType},
};

use super::{
    ForeignError, ForeignModel, Port,
    graph::{self, is},
    size, tensor,
};

/// Words in a name that speak of the candidate, and of the situation.
const ITEM_WORDS: [&str; 12] = [
    "item",
    "ad",
    "goods",
    "product",
    "video",
    "movie",
    "target",
    "cand",
    "candidate",
    "sku",
    "price",
    "creative",
];
const CONTEXT_WORDS: [&str; 8] = ["hour", "weekday", "day", "context", "ctx", "time", "position", "device"];

/// A matrix of more columns than this is not taken apart into features, or tasks.
const MOST_COLUMNS: usize = 1000;

/// Operators that hand on the values they read, or their place in the graph.
const TRANSPARENT: [&str; 6] = ["Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"];

impl ForeignModel {
    /// The text of a map for this model, with a remark wherever a person has to look.
    ///
    /// # Errors
    /// When a constant of the graph cannot be read.
    pub fn suggest(&self, name: &str) -> Result<String, ForeignError> {
        let reader = Reader::new(self.graph());
        let mut text = format!(
            "# A beginning for `gatefold bundle import`: look at every line, the sides above all.\nname = \"{name}\"\n"
        );
        for port in self.inputs() {
            let trailing = port.dims.clone().unwrap_or_default();
            let trailing = trailing.get(1..).unwrap_or_default();
            let cuts = reader.cuts(&port.name)?;
            match trailing {
                [Some(width)]
                    if *width <= MOST_COLUMNS
                        && !cuts.is_empty()
                        && cuts.iter().all(|(start, end, _)| start < end && end <= width) =>
                {
                    matrix(&mut text, &port, *width, &cuts);
                }
                _ => {
                    let fixed = size(trailing);
                    let open = trailing.contains(&None);
                    let width = if trailing.is_empty() || (!open && fixed == 1) { None } else { Some(fixed) };
                    let codes = reader.table_rows(&port.name);
                    feature(
                        &mut text,
                        &plain_name(&port.name),
                        &port,
                        codes,
                        width.map(|width| (width, open)),
                    );
                    if plain_name(&port.name) != port.name {
                        let _ = writeln!(text, "input = {}", quoted(&port.name));
                    }
                }
            }
        }
        for port in self.outputs() {
            let last = port.dims.as_ref().and_then(|dims| dims.get(1..)?.last().copied().flatten());
            let columns = last.unwrap_or(1).max(1);
            if columns > MOST_COLUMNS {
                let _ =
                    writeln!(text, "\n# An output has {columns} columns, here are the first {MOST_COLUMNS}.");
            }
            for column in 0..columns.min(MOST_COLUMNS) {
                let name = plain_name(&port.name);
                let name = if columns > 1 { format!("{name}_{column}") } else { name };
                let _ =
                    write!(text, "\n[[task]]\nname = \"{name}\"\nlabel = \"{name}\"  # the label's column\n");
                if name != port.name {
                    let _ = writeln!(text, "output = {}", quoted(&port.name));
                }
                if columns > 1 {
                    let _ = writeln!(text, "column = {column}");
                }
                if !reader.is_probability(&port.name) {
                    text.push_str("sigmoid = true  # the graph does not end with one\n");
                }
            }
        }
        Ok(text)
    }
}

/// The features of an input that carries several, by where it is cut.
fn matrix(text: &mut String, port: &Port, width: usize, cuts: &[(usize, usize, Option<usize>)]) {
    let mut next = 0;
    while next < width {
        let cut = cuts.iter().find(|(start, ..)| *start == next);
        let later = cuts.iter().map(|(start, ..)| *start).filter(|start| *start > next).min();
        let (end, codes) = cut.map_or((later.unwrap_or(width), None), |(_, end, codes)| (*end, *codes));
        // Numbers are one column each; a sequence of codes is one feature.
        let parts =
            if codes.is_some() { vec![(next, end - next)] } else { (next..end).map(|at| (at, 1)).collect() };
        for (column, width) in parts {
            let name = format!("{}_{column}", plain_name(&port.name).to_lowercase());
            feature(text, &name, port, codes, (width > 1).then_some((width, false)));
            let _ = writeln!(text, "input = {}\ncolumn = {column}", quoted(&port.name));
        }
        next = end;
    }
}

/// One feature; `sequence` is its length and whether the graph leaves it open.
fn feature(
    text: &mut String,
    name: &str,
    port: &Port,
    codes: Option<usize>,
    sequence: Option<(usize, bool)>,
) {
    let side = side(name);
    let _ = write!(text, "\n[[feature]]\nname = \"{name}\"\nside = \"{side}\"  # user, context or item?\n");
    let whole = !matches!(port.element, Some(DataType::Float | DataType::Double | DataType::Float16));
    if codes.is_none() && !whole && sequence.is_none() {
        text.push_str("kind = \"numeric\"\ntype = \"float\"\nencoder = { kind = \"none\" }\n");
        return;
    }
    let kind = if sequence.is_some() { "sequence" } else { "categorical" };
    let _ = write!(text, "kind = \"{kind}\"\ntype = \"int\"\n");
    match codes {
        Some(codes) => {
            let _ = writeln!(text, "encoder = {{ kind = \"given\", codes = {codes} }}");
        }
        None => text.push_str("encoder = { kind = \"given\", codes = 1 }  # how many codes are there?\n"),
    }
    match sequence {
        Some((_, true)) => text.push_str("max_len = 50  # the graph leaves it open\n"),
        Some((length, false)) => {
            let _ = writeln!(text, "max_len = {length}");
        }
        None => {}
    }
}

fn side(name: &str) -> &'static str {
    let has = |words: &[&str]| name.to_lowercase().split('_').any(|part| words.contains(&part));
    if has(&ITEM_WORDS) {
        "item"
    } else if has(&CONTEXT_WORDS) {
        "context"
    } else {
        "user"
    }
}

/// The name with what a feature's or task's name cannot have replaced.
fn plain_name(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() { "value".to_owned() } else { name }
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(letter));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a tensor holds one value.
fn is_one(tensor: &TensorProto) -> bool {
    tensor.dims.iter().all(|dim| *dim == 1)
}

/// Follows values through a graph.
struct Reader<'g> {
    readers: HashMap<&'g str, Vec<&'g NodeProto>>,
    producers: HashMap<&'g str, &'g NodeProto>,
    constants: BTreeMap<&'g str, TensorProto>,
}

impl<'g> Reader<'g> {
    fn new(graph: &'g GraphProto) -> Self {
        let mut reader =
            Self { readers: HashMap::new(), producers: HashMap::new(), constants: BTreeMap::new() };
        for tensor in &graph.initializer {
            // A bound is one number; of a table the dimensions are enough.
            let light = TensorProto { dims: tensor.dims.clone(), ..TensorProto::default() };
            reader.constants.insert(&tensor.name, if is_one(tensor) { tensor.clone() } else { light });
        }
        for node in &graph.node {
            node.input.iter().for_each(|name| reader.readers.entry(name).or_default().push(node));
            node.output.iter().for_each(|name| {
                reader.producers.insert(name, node);
            });
            if let (Some(tensor), Some(name)) = (graph::constant(node), node.output.first()) {
                reader.constants.insert(name, tensor);
            }
        }
        reader
    }

    /// Nodes that read the value, or what is handed on of it.
    fn readers(&self, name: &str) -> Vec<&'g NodeProto> {
        let mut found = Vec::new();
        let (mut open, mut seen) = (vec![name], HashSet::new());
        while let Some(name) = open.pop() {
            if !seen.insert(name) {
                continue;
            }
            for node in self.readers.get(name).into_iter().flatten() {
                match TRANSPARENT.iter().any(|operator| is(node, operator)) {
                    true => open.extend(node.output.iter().map(String::as_str)),
                    false => found.push(*node),
                }
            }
        }
        found
    }

    /// Rows of the table that the value is looked up in.
    fn table_rows(&self, name: &str) -> Option<usize> {
        let lookup = self.readers(name).into_iter().find(|node| {
            is(node, "Gather")
                && node.input.first().is_some_and(|table| self.constants.contains_key(table.as_str()))
        })?;
        let rows = self.constants.get(lookup.input.first()?.as_str())?.dims.first()?;
        usize::try_from(*rows).ok()
    }

    /// Ranges of columns that the value is cut into, each with the rows of the table it is looked up in.
    fn cuts(&self, name: &str) -> Result<Vec<(usize, usize, Option<usize>)>, ForeignError> {
        let mut cuts = Vec::new();
        for slice in self.readers(name).into_iter().filter(|node| is(node, "Slice")) {
            let bound = |place: usize| -> Result<Option<i64>, ForeignError> {
                let constant = slice.input.get(place).and_then(|name| self.constants.get(name.as_str()));
                // One in a file beside the model's is no bound that is looked for.
                let inside = |tensor: &&TensorProto| tensor.data_location != DataLocation::External as i32;
                let values = constant
                    .filter(|tensor| is_one(tensor))
                    .filter(inside)
                    .map(|tensor| tensor::integers(tensor, std::path::Path::new("")));
                Ok(values.transpose()?.and_then(|values| values.first().copied()))
            };
            let (Some(start), Some(end), Some(1)) = (bound(1)?, bound(2)?, bound(3)?) else { continue };
            let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else { continue };
            let codes = slice.output.first().and_then(|output| self.table_rows(output));
            if !cuts.contains(&(start, end, codes)) {
                cuts.push((start, end, codes));
            }
        }
        Ok(cuts)
    }

    /// Whether the value comes straight from a sigmoid or a softmax.
    fn is_probability(&self, name: &str) -> bool {
        let (mut open, mut seen) = (vec![name], HashSet::new());
        while let Some(name) = open.pop() {
            if !seen.insert(name) {
                continue;
            }
            let Some(node) = self.producers.get(name) else { return false };
            let handed = TRANSPARENT.iter().chain(["Concat"].iter()).any(|operator| is(node, operator));
            match node.op_type.as_str() {
                "Sigmoid" | "Softmax" | "HardSigmoid" => {}
                "Concat" if handed => open.extend(node.input.iter().map(String::as_str)),
                _ if handed => open.extend(node.input.first().map(String::as_str)),
                _ => return false,
            }
        }
        true
    }
}
