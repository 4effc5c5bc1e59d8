//! Files rewritten in fewer bits, run by the real ONNX Runtime, against the same arithmetic by hand.

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use gatefold_backend_ort::find_library;
use gatefold_graph::{ElementType, Fact, Graph, Init, Level, NodeId, Op, Parameter, passes::user_once};
use gatefold_onnx::{
    ExportOptions, ExternalWeights, OBSERVED, Quantization, Range, Ranges, TableType, export, observe_ranges,
    quantize,
};
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue},
    value::Tensor,
};

/// So many that tables stand outside the file, however they are stored.
const ROWS: usize = 40_000;
const WIDTH: usize = 32;
const OUTPUTS: usize = 8;
const CANDIDATES: usize = 5;

type Parameters = BTreeMap<String, Vec<f32>>;

/// Numbers in -1..1 that follow no pattern; the same in every run.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// Two looked-up rows, a wide layer over both, and a narrow one.
fn model() -> (Graph, Parameters) {
    let mut graph = Graph::new();
    let mut parameters = Parameters::new();
    let mut parameter = |graph: &mut Graph, name: &str, dims: &[usize], table: bool| {
        parameters.insert(name.to_owned(), numbers(dims.iter().product(), 7 + name.len() as u32));
        graph.parameter(Parameter { name: name.into(), dims: dims.to_vec(), init: Init::Zeros, table })
    };
    let mut looked_up = Vec::new();
    for name in ["user", "item"] {
        let table = parameter(&mut graph, &format!("table.{name}"), &[ROWS, WIDTH], true);
        let codes = graph.input(name, Fact::i32(Level::Candidate, &[]));
        looked_up.push(graph.apply(Op::Lookup, &[table, codes]).unwrap());
    }
    let x = graph.apply(Op::Concat, &looked_up).unwrap();
    let mut linear = |graph: &mut Graph, name: &str, x: NodeId, dims: [usize; 2]| {
        let weight = parameter(graph, &format!("{name}.weight"), &dims, false);
        let bias = parameter(graph, &format!("{name}.bias"), &dims[1..], false);
        let product = graph.apply(Op::MatMul, &[x, weight]).unwrap();
        graph.apply(Op::Add, &[product, bias]).unwrap()
    };
    let wide = linear(&mut graph, "wide", x, [2 * WIDTH, OUTPUTS]);
    let hidden = graph.apply(Op::Relu, &[wide]).unwrap();
    let narrow = linear(&mut graph, "narrow", hidden, [OUTPUTS, 1]);
    graph.output("wide", wide);
    graph.output("narrow", narrow);
    (graph, parameters)
}

/// How rows of products are quantized.
#[derive(Clone, Copy, PartialEq)]
enum Rows {
    /// By the range of all of [`codes`].
    Observed,
    /// By the range of their batch.
    AsTheyCome,
}

/// Exports both forms, rewrites them, and gives the outputs of each for `codes` with the counts of the
/// rewrite.
fn rewritten(
    parameters: &Parameters,
    quantization: Quantization,
    rows: Rows,
    asked: &[i32],
) -> Vec<(Outputs, [usize; 2])> {
    let (plain, _) = model();
    let split = user_once(&plain, &|name| name == "user").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::create_dir_all(&from).unwrap();
    std::fs::create_dir_all(&to).unwrap();
    let mut weights = ExternalWeights::new("weights.bin");
    let forms = [("plain.onnx", &plain), ("split.onnx", &split)];
    for (file, graph) in forms {
        let values = |name: &str| parameters.get(name).map(Vec::as_slice);
        let bytes = export(graph, &values, &mut weights, &ExportOptions::default()).unwrap();
        std::fs::write(from.join(file), bytes).unwrap();
    }
    weights.write_to(std::fs::File::create(from.join("weights.bin")).unwrap()).unwrap();
    let mut weights = ExternalWeights::new("other.bin");
    let counts = forms.map(|(file, graph)| {
        let ranges = if rows == Rows::Observed { ranges(&from.join(file), graph) } else { Ranges::new() };
        let quantized = quantize(&from.join(file), &mut weights, quantization, &ranges).unwrap();
        assert!(quantized.read.contains("weights.bin"));
        std::fs::write(to.join(file), quantized.model).unwrap();
        [quantized.tables, quantized.products]
    });
    weights.write_to(std::fs::File::create(to.join("other.bin")).unwrap()).unwrap();
    forms
        .into_iter()
        .zip(counts)
        .map(|((file, graph), counts)| (run(&to.join(file), graph, asked), counts))
        .collect()
}

/// The ranges that a graph shows on [`codes`].
fn ranges(file: &Path, graph: &Graph) -> Ranges {
    let mut weights = ExternalWeights::new("weights.bin");
    let observed = observe_ranges(file, &mut weights).unwrap();
    assert_eq!(observed.read.iter().collect::<Vec<_>>(), ["weights.bin"]);
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("observed.onnx");
    std::fs::write(&other, observed.model).unwrap();
    weights.write_to(std::fs::File::create(folder.path().join("weights.bin")).unwrap()).unwrap();
    let (plain, seen) = (run(file, graph, &codes()), run(&other, graph, &codes()));
    assert!(plain.iter().all(|(name, values)| seen[name] == *values), "the outputs are others");
    let (found, count) = (&seen[OBSERVED], observed.values.len());
    assert_eq!(found.len(), CANDIDATES * 2 * count);
    assert!(found.chunks(2 * count).all(|row| *row == found[..2 * count]), "candidates differ");
    let range = |place: usize| {
        let mut range = Range::default();
        range.include(found[place]);
        range.include(found[count + place]);
        range
    };
    observed.values.into_iter().enumerate().map(|(place, value)| (value, range(place))).collect()
}

type Outputs = BTreeMap<String, Vec<f32>>;

/// One request with a candidate for each of the `asked`.
fn run(file: &Path, graph: &Graph, asked: &[i32]) -> Outputs {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    let environment = ENVIRONMENT.get_or_init(|| {
        ort::init_from(find_library(None).unwrap()).unwrap().with_telemetry(false).build().unwrap()
    });
    let mut session = Session::builder(environment).unwrap().commit_from_file(file).unwrap();
    let inputs = graph.inputs().map(|(name, id)| {
        assert_eq!(graph.fact(id).element, ElementType::I32);
        let rows = if graph.fact(id).level == Level::Request { 1 } else { asked.len() };
        let codes = match name {
            "user" => vec![3; rows],
            "item" => asked.to_vec(),
            // The one request's row stands for all candidates.
            _ => vec![0],
        };
        (name.to_owned(), SessionInputValue::from(Tensor::from_array(([codes.len()], codes)).unwrap()))
    });
    let inputs: Vec<_> = inputs.collect();
    let results = session.run(inputs).unwrap();
    let values = |value: ort::value::ValueRef<'_>| -> Vec<f32> {
        value.try_extract_array::<f32>().unwrap().iter().copied().collect()
    };
    results.iter().map(|(name, value)| (name.to_owned(), values(value))).collect()
}

fn codes() -> Vec<i32> {
    vec![0, 1, 17, 39_999, 17]
}

/// The input of the wide layer by hand, row by row.
fn looked_up(parameters: &Parameters) -> Vec<Vec<f32>> {
    let row = |table: &str, code: usize| parameters[table][code * WIDTH..(code + 1) * WIDTH].to_vec();
    codes().iter().map(|code| [row("table.user", 3), row("table.item", *code as usize)].concat()).collect()
}

/// Both layers in 64 bits.
fn layers(x: &[Vec<f32>], parameters: &Parameters) -> [Vec<f64>; 2] {
    let (mut wide, mut narrow) = (Vec::new(), Vec::new());
    for row in x {
        let mut sum = f64::from(parameters["narrow.bias"][0]);
        for output in 0..OUTPUTS {
            let weights = row.iter().enumerate().map(|(input, value)| {
                f64::from(*value) * f64::from(parameters["wide.weight"][input * OUTPUTS + output])
            });
            let value = weights.sum::<f64>() + f64::from(parameters["wide.bias"][output]);
            wide.push(value);
            sum += value.max(0.0) * f64::from(parameters["narrow.weight"][output]);
        }
        narrow.push(sum);
    }
    [wide, narrow]
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() <= tolerance, "{found} against {expected}");
    }
}

#[track_caller]
fn check_tables(kind: TableType, stored: impl Fn(&[f32]) -> Vec<f32>) {
    let (_, mut parameters) = model();
    let quantization = Quantization { tables: Some(kind), products: false };
    let outputs = rewritten(&parameters, quantization, Rows::AsTheyCome, &codes());
    let exact = layers(&looked_up(&parameters), &parameters);
    for table in ["table.user", "table.item"] {
        let rows = parameters[table].chunks(WIDTH).flat_map(&stored).collect();
        parameters.insert(table.to_owned(), rows);
    }
    let [wide, narrow] = layers(&looked_up(&parameters), &parameters);
    assert!(
        wide.iter().zip(&exact[0]).any(|(a, b)| (a - b).abs() > 1e-4),
        "the table is exact in fewer bits"
    );
    for (outputs, counts) in outputs {
        assert_eq!(counts, [2, 0]);
        assert_close(&outputs["wide"], &wide, 1e-5);
        assert_close(&outputs["narrow"], &narrow, 1e-5);
    }
}

#[test]
fn tables_of_16_bits_are_rounded_to_eleven() {
    // Values are below 1 and at least 2^-14 or rounded there.
    check_tables(TableType::F16, |row| {
        let rounded = |value: &f32| {
            let step = (value.abs().log2().floor().max(-14.0) - 10.0).exp2();
            (value / step).round_ties_even() * step
        };
        row.iter().map(rounded).collect()
    });
}

#[test]
fn tables_of_8_bits_have_a_scale_a_row() {
    check_tables(TableType::Int8, |row| {
        let step = row.iter().fold(0.0f32, |most, value| most.max(value.abs())) / 127.0;
        row.iter().map(|value| (value / step).round_ties_even() * step).collect()
    });
}

/// What `DynamicQuantizeLinear` of the ONNX specification makes of all rows, in floats again; so does
/// `QuantizeLinear` by the range of the same rows.
fn as_bytes(x: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let values = || x.iter().flatten().copied();
    let (low, high) = (values().fold(0.0, f32::min), values().fold(0.0, f32::max));
    let step = (high - low) / 255.0;
    let zero = (-low / step).round_ties_even();
    let byte = |value: &f32| ((value / step).round_ties_even() + zero).clamp(0.0, 255.0) - zero;
    x.iter().map(|row| row.iter().map(|value| byte(value) * step).collect()).collect()
}

const PRODUCTS: Quantization = Quantization { tables: None, products: true };

#[test]
fn wide_products_are_those_of_bytes_and_narrow_ones_stay() {
    wide_products(Rows::AsTheyCome);
    wide_products(Rows::Observed);
}

#[test]
fn by_an_observed_range_a_score_does_not_depend_on_its_batch() {
    let (_, parameters) = model();
    let alone = &codes()[1..2];
    let moved = |rows: Rows| {
        let [all, alone] = [&codes()[..], alone].map(|asked| rewritten(&parameters, PRODUCTS, rows, asked));
        let pairs = all.iter().zip(&alone).map(|((all, _), (alone, _))| {
            (0..OUTPUTS).map(|column| (all["wide"][OUTPUTS + column] - alone["wide"][column]).abs())
        });
        pairs.flatten().fold(0.0, f32::max)
    };
    assert!(moved(Rows::Observed) < 1e-6);
    assert!(moved(Rows::AsTheyCome) > 1e-4, "the batch makes no difference");
}

#[test]
fn values_beyond_the_range_are_cut_off() {
    let (_, mut parameters) = model();
    // The last row that is asked for is not among those observed.
    let unseen = 5;
    parameters.get_mut("table.item").unwrap()[unseen * WIDTH..(unseen + 1) * WIDTH].fill(100.0);
    let found = rewritten(&parameters, PRODUCTS, Rows::Observed, &[unseen as i32]);
    let exact = {
        let x = [parameters["table.user"][3 * WIDTH..4 * WIDTH].to_vec(), vec![1.0; WIDTH]].concat();
        layers(&[x], &parameters)
    };
    for (outputs, _) in found {
        // The observed values reach almost to 1.
        let close = |(found, exact): (&f32, &f64)| (f64::from(*found) - exact).abs() < 0.5;
        assert!(outputs["wide"].iter().zip(&exact[0]).all(close), "{:?} {:?}", outputs["wide"], exact[0]);
    }
}

#[track_caller]
fn wide_products(rows: Rows) {
    let (_, mut parameters) = model();
    let outputs = rewritten(&parameters, PRODUCTS, rows, &codes());
    let x = looked_up(&parameters);
    let exact = layers(&x, &parameters);
    // Each half has its own columns of weights, so the split form quantizes each for itself.
    let whole = as_bytes(&x);
    let halves = |range: std::ops::Range<usize>| -> Vec<Vec<f32>> {
        as_bytes(&x.iter().map(|row| row[range.clone()].to_vec()).collect::<Vec<_>>())
    };
    let (user, item) = (halves(0..WIDTH), halves(WIDTH..2 * WIDTH));
    let split: Vec<Vec<f32>> =
        user.iter().zip(&item).map(|(user, item)| [&user[..], item].concat()).collect();
    let weights = parameters["wide.weight"].clone();
    let rounded = |rows: std::ops::Range<usize>| -> Vec<f32> {
        let part = &weights[rows.start * OUTPUTS..rows.end * OUTPUTS];
        let step = |column: usize| {
            part.iter().skip(column).step_by(OUTPUTS).fold(0.0f32, |most, value| most.max(value.abs()))
                / 127.0
        };
        let byte = |(place, value): (usize, &f32)| {
            let step = step(place % OUTPUTS);
            (value / step).round_ties_even() * step
        };
        part.iter().enumerate().map(byte).collect()
    };
    let forms = [
        (whole, rounded(0..2 * WIDTH), 1),
        (split, [rounded(0..WIDTH), rounded(WIDTH..2 * WIDTH)].concat(), 2),
    ];
    for ((outputs, counts), (x, weights, products)) in outputs.iter().zip(forms) {
        assert_eq!(*counts, [0, products]);
        parameters.insert("wide.weight".into(), weights);
        let [wide, narrow] = layers(&x, &parameters);
        assert_close(&outputs["wide"], &wide, 1e-5);
        assert_close(&outputs["narrow"], &narrow, 1e-5);
        assert!(wide.iter().zip(&exact[0]).any(|(a, b)| (a - b).abs() > 1e-3), "nothing was rounded");
        assert!(wide.iter().zip(&exact[0]).all(|(a, b)| (a - b).abs() < 0.1), "rounded too much");
    }
}
