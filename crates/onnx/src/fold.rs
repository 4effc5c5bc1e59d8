//! Batch normalisation by fixed statistics is a scale and a shift of each column, and those belong
//! into the layer before it: what is served then costs nothing for having been normalised.

use std::collections::BTreeMap;

use gatefold_graph::{Graph, Init, NodeId, Op, Parameter};

use crate::{OnnxError, export::values_of};

/// A graph without batch normalisation, and the values of the parameters that it has and the first
/// graph had not.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The graph: inputs, outputs and all parameters that were not folded, by their names.
    pub graph: Graph,
    /// Values of the folded parameters, `<first name>.folded`, row-major.
    pub values: BTreeMap<String, Vec<f32>>,
}

/// Folds every [`Op::BatchNorm`] of a forward graph into the linear layer before it, where nothing
/// else reads that layer: `W' = W·s`, `b' = (b − mean)·s + beta` with
/// `s = gamma / √(variance + epsilon)`. Elsewhere it becomes one product and one sum. To be done
/// before the levels are split, so that both forms come from the folded graph. A graph without the
/// op comes back as it was.
///
/// # Errors
/// When values are missing or have the wrong length, or statistics are not parameters.
pub fn fold<'v>(graph: &Graph, values: &dyn Fn(&str) -> Option<&'v [f32]>) -> Result<Folded, OnnxError> {
    let mut folder = Folder {
        old: graph,
        given: values,
        layers: layers(graph),
        folded: Folded { graph: Graph::new(), values: BTreeMap::new() },
        places: vec![None; graph.nodes().len()],
    };
    for (_, id) in graph.inputs() {
        folder.place(id)?;
    }
    let absorbed: Vec<NodeId> =
        folder.layers.values().flat_map(|layer| [Some(layer.product), layer.sum]).flatten().collect();
    for (index, node) in graph.nodes().iter().enumerate() {
        let id = NodeId(index);
        // Parameters come with the first node that reads them.
        if !matches!(node.op, Op::Parameter(_)) && !absorbed.contains(&id) {
            folder.place(id)?;
        }
    }
    for (name, id) in graph.outputs() {
        let place = folder.place(*id)?;
        folder.folded.graph.output(name, place);
    }
    folder.folded.graph.check()?;
    Ok(folder.folded)
}

/// `x·W + b` before a normalisation.
#[derive(Clone, Copy)]
struct Layer {
    product: NodeId,
    sum: Option<NodeId>,
}

/// The layers that nothing but a normalisation reads, by the node of the normalisation.
fn layers(graph: &Graph) -> BTreeMap<NodeId, Layer> {
    let mut reads = vec![0; graph.nodes().len()];
    let read_by_nodes = graph.nodes().iter().flat_map(|node| &node.inputs);
    for id in read_by_nodes.chain(graph.outputs().iter().map(|(_, id)| id)) {
        reads[id.0] += 1;
    }
    let is_parameter = |id: &NodeId| matches!(graph.node(*id).op, Op::Parameter(_));
    let is_product = |id: &NodeId| {
        let node = graph.node(*id);
        node.op == Op::MatMul && reads[id.0] == 1 && is_parameter(&node.inputs[1])
    };
    let layer_of = |x: NodeId| {
        let node = graph.node(x);
        if is_product(&x) {
            return Some(Layer { product: x, sum: None });
        }
        let whole_bias = |id: &NodeId| is_parameter(id) && graph.fact(*id).dims == node.fact.dims;
        match (&node.op, node.inputs.as_slice()) {
            (Op::Add, [a, b]) if reads[x.0] == 1 && is_product(a) && whole_bias(b) => {
                Some(Layer { product: *a, sum: Some(x) })
            }
            _ => None,
        }
    };
    let normalisations = graph.nodes().iter().enumerate();
    normalisations
        .filter(|(_, node)| matches!(node.op, Op::BatchNorm { .. }))
        .filter_map(|(index, node)| Some((NodeId(index), layer_of(node.inputs[0])?)))
        .collect()
}

struct Folder<'a, 'v> {
    old: &'a Graph,
    given: &'a dyn Fn(&str) -> Option<&'v [f32]>,
    layers: BTreeMap<NodeId, Layer>,
    folded: Folded,
    /// By old node.
    places: Vec<Option<NodeId>>,
}

impl<'v> Folder<'_, 'v> {
    /// The node of the new graph for one of the old graph, whose other inputs are there already.
    fn place(&mut self, id: NodeId) -> Result<NodeId, OnnxError> {
        if let Some(place) = self.places[id.0] {
            return Ok(place);
        }
        let node = self.old.node(id);
        let new = &mut self.folded.graph;
        let place = match &node.op {
            Op::Input { name } => new.input(name, node.fact.clone()),
            Op::Parameter(parameter) => new.parameter(self.old.parameters()[parameter.0].clone()),
            Op::BatchNorm { epsilon } => self.normalise(id, *epsilon)?,
            op => {
                let inputs =
                    node.inputs.iter().map(|input| self.place(*input)).collect::<Result<Vec<_>, _>>()?;
                self.folded.graph.apply(op.clone(), &inputs)?
            }
        };
        self.places[id.0] = Some(place);
        Ok(place)
    }

    fn normalise(&mut self, id: NodeId, epsilon: f32) -> Result<NodeId, OnnxError> {
        let [x, mean, variance, gamma, beta] = self.old.node(id).inputs[..] else {
            unreachable!("by its shape rule")
        };
        let [(_, mean), (_, variance), (gamma_name, gamma), (beta_name, beta)] =
            [self.values(mean)?, self.values(variance)?, self.values(gamma)?, self.values(beta)?];
        let scales: Vec<f64> = gamma
            .iter()
            .zip(variance)
            .map(|(gamma, variance)| f64::from(*gamma) / (f64::from(*variance) + f64::from(epsilon)).sqrt())
            .collect();
        let shift = |column: usize, bias: f64| {
            ((bias - f64::from(mean[column])) * scales[column] + f64::from(beta[column])) as f32
        };
        let columns = scales.len();
        let Some(layer) = self.layers.get(&id).copied() else {
            let scale = scales.iter().map(|scale| *scale as f32).collect();
            let terms = (0..columns).map(|column| shift(column, 0.0)).collect();
            let scale = self.parameter(gamma_name, &[columns], scale);
            let terms = self.parameter(beta_name, &[columns], terms);
            let x = self.place(x)?;
            let product = self.folded.graph.apply(Op::Mul, &[x, scale])?;
            return Ok(self.folded.graph.apply(Op::Add, &[product, terms])?);
        };
        let (weight_name, weight) = self.values(self.old.node(layer.product).inputs[1])?;
        let (bias_name, bias) = match layer.sum {
            Some(sum) => {
                let (name, bias) = self.values(self.old.node(sum).inputs[1])?;
                (name, Some(bias))
            }
            None => (beta_name, None),
        };
        let scaled = weight.iter().enumerate().map(|(at, w)| (f64::from(*w) * scales[at % columns]) as f32);
        let scaled = scaled.collect::<Vec<_>>();
        let terms =
            (0..columns).map(|column| shift(column, bias.map_or(0.0, |bias| f64::from(bias[column]))));
        let terms = terms.collect();
        let weight = self.parameter(weight_name, &[weight.len() / columns, columns], scaled);
        let bias = self.parameter(bias_name, &[columns], terms);
        let x = self.place(self.old.node(layer.product).inputs[0])?;
        let product = self.folded.graph.apply(Op::MatMul, &[x, weight])?;
        Ok(self.folded.graph.apply(Op::Add, &[product, bias])?)
    }

    /// Name and values of a parameter.
    fn values(&self, id: NodeId) -> Result<(String, &'v [f32]), OnnxError> {
        let Op::Parameter(parameter) = self.old.node(id).op else {
            let message = "its statistics are of a batch; export the forward graph, which has running ones";
            return Err(OnnxError::Unsupported { node: id.0, op: self.old.node(id).op.name(), message });
        };
        let parameter = &self.old.parameters()[parameter.0];
        Ok((parameter.name.clone(), values_of(parameter, self.given)?))
    }

    /// A new parameter, named after an old one.
    fn parameter(&mut self, name: String, dims: &[usize], values: Vec<f32>) -> NodeId {
        let mut name = format!("{name}.folded");
        // A parameter that several layers share has one value for each of them.
        while self.folded.values.contains_key(&name) {
            name.push_str(".again");
        }
        self.folded.values.insert(name.clone(), values);
        self.folded.graph.parameter(Parameter { name, dims: dims.to_vec(), init: Init::Zeros, table: false })
    }
}
