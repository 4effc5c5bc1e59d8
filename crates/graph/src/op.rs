//! The closed set of operations; [`Op::infer`] holds their shape rules.
//!
//! Levels follow one rule everywhere: a result has the highest level of its inputs, and inputs of
//! an element-wise op must stand at the same level or be constant. Going from request rows to
//! candidate rows is always explicit, by [`Op::Expand`].

mod infer;

use crate::{activation::Activation, gradient_op::GradientOp, graph::ParamId};
pub(crate) use infer::{
    arity, expect, expect_columns, expect_constant, expect_sequence, gru_dims, level_of, rows_of,
};

/// An operation. `[n]` below means "a row of n numbers" at any row level; a dimension list after
/// "constant" has no rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// A value given at run time. No inputs.
    Input {
        /// Name of the graph input.
        name: String,
    },
    /// A parameter's value. No inputs.
    Parameter(ParamId),
    /// Rows of a table: (constant `[rows, d]`, codes `[]`) → `[d]`.
    Lookup,
    /// Mean of the rows of a table over the codes that are not padding: (constant `[rows, d]`,
    /// codes `[l]`) → `[d]`; zero where every code is padding. Row 0 of the table is zero.
    LookupMean,
    /// A row of a table for each code of a sequence: (constant `[rows, d]`, codes `[l]`) → `[l, d]`.
    /// Rows of padding are zero, as row 0 of the table is.
    LookupEach,
    /// A row for each position of a sequence: `[d]` → `[length, d]`.
    RepeatRows {
        /// Positions.
        length: usize,
    },
    /// One row from those of a sequence whose codes are not padding: (x `[l, d]`, codes `[l]`) →
    /// `[d]`; zero where every code is padding.
    PoolSequence(Pool),
    /// Sum of the rows of a sequence by weights: (weights `[l]`, x `[l, d]`) → `[d]`: `Σ w_i · x_i`, as
    /// in target attention (Zhou et al., KDD 2018, equation 3: weights need not sum to 1). Padding
    /// adds nothing where x comes from [`Op::LookupEach`], whatever its weight.
    WeightedSum,
    /// The last state of a gated recurrent unit over a sequence: (x `[l, d]`, codes `[l]`, input
    /// weights constant `[d, 3h]`, state weights constant `[h, 3h]`, input bias constant `[3h]`, state
    /// bias constant `[3h]`) → `[h]`, by PyTorch's formulas, the columns of weights and biases in
    /// its order r, z, n:
    ///
    /// `r, z = σ(x·W + b + h·U + c)`, `n = tanh(x·W + b + r · (h·U + c))`, `h' = (1 − z)·n + z·h`.
    ///
    /// The state begins at 0 and takes as many steps as there are codes other than padding;
    /// padding stands after them, as encoders write it (Cho et al., 2014).
    Gru,
    /// Joins rows end to end: any number of `[.., n_i]` at one level → `[.., Σ n_i]`. A `[]` counts
    /// as one number.
    Concat,
    /// Columns `start..end` of each row: `[.., n]` → `[.., end − start]`.
    SliceColumns {
        /// First column.
        start: usize,
        /// One past the last column.
        end: usize,
    },
    /// Row ranges of a constant, in order: constant `[n, d]` → constant `[Σ lengths, d]`.
    SliceRows {
        /// `(start, end)` pairs.
        ranges: Vec<(usize, usize)>,
    },
    /// Matrix product: (`[.., i]`, constant `[i, o]`) → `[.., o]`.
    MatMul,
    /// Element-wise sum of equal dimensions. A constant is repeated over rows, and may lack the
    /// first dimensions of the other operand: it is repeated over them too.
    Add,
    /// Element-wise product, of the same operands as `Add`.
    Mul,
    /// Inner product of rows: (`[n]`, `[n]`) → `[]`.
    Dot,
    /// `max(x, 0)`.
    Relu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// Another activation function, of every number.
    Activation(Activation),
    /// `exp(x)` of every number.
    Exp,
    /// Softmax over each row.
    Softmax,
    /// Drops a dimension of one: `[.., 1]` → `[..]`.
    Squeeze,
    /// Weighted sum of experts: (gate `[e]`, then e experts `[d]`) → `[d]`: `Σ gate_i · expert_i`.
    /// A constant gate is the same for all rows, as in cross-stitch units.
    Mix,
    /// Repeats request rows for their candidates: (request `[..]`, `request_of` candidate `i32 []`)
    /// → candidate `[..]`.
    Expand,
    /// Mean binary cross-entropy of logits: (logits `[]`, labels `[]`, weights `[]`) → constant `[]`:
    /// `Σ w·(softplus(z) − z·y) / Σ w`, and 0 where every weight is 0.
    BceWithLogits,
    /// Mean binary cross-entropy of probabilities, each clamped to `[1e-7, 1 − 1e-7]`:
    /// (p `[]`, labels `[]`, weights `[]`) → constant `[]`, and 0 where every weight is 0.
    Bce,
    /// Mean squared error: (values `[]`, labels `[]`, weights `[]`) → constant `[]`:
    /// `Σ w·(v − y)² / Σ w`, and 0 where every weight is 0.
    SquaredError,
    /// Mean over rows: `[..]` → constant `[..]`, or with weights, (x `[..]`, weights `[]`) →
    /// constant `[..]`: `Σ w·x / Σ w`. 0 where there are no rows or every weight is 0.
    MeanRows,
    /// Sum of squares: constant `[..]` → constant `[]`, the penalty of L2.
    SumSquares,
    /// Sum of the singular values of the matrix whose columns are t constants of equal dimensions,
    /// each read as one column: t constants `[..]` → constant `[]`. The penalty by which tasks
    /// share what their layers span (Yang and Hospedales, 2017).
    TraceNorm,
    /// Rows brought to mean 0 and variance 1, then scaled and shifted:
    /// (x `[.., n]`, gamma constant `[n]`, beta constant `[n]`) → `[.., n]`:
    /// `gamma · (x − mean) / √(variance + epsilon) + beta`, where mean and variance are over the
    /// last dimension, the variance by n (Ba et al., 2016).
    LayerNorm {
        /// Added to the variance; PyTorch's is 1e-5.
        epsilon: f32,
    },
    /// Columns scaled and shifted by given statistics: (x `[n]`, mean constant `[n]`, variance
    /// constant `[n]`, gamma constant `[n]`, beta constant `[n]`) → `[n]`:
    /// `gamma · (x − mean) / √(variance + epsilon) + beta` (Ioffe and Szegedy, 2015).
    ///
    /// In a training graph the statistics are those of the batch, over all candidates, and the
    /// derivative goes through them: `mean = MeanRows(x)`, `variance = MeanRows((x − mean)²)`. They
    /// are ordinary values: named as outputs they are targets of a plan, from which the training
    /// loop updates the running statistics as PyTorch does, `running += momentum · (batch −
    /// running)`, the variance first multiplied by `rows / (rows − 1)`. In a forward graph the
    /// statistics are the running ones: parameters that no loss reaches, so that no optimizer
    /// changes them. Both graphs declare them, so that they have the same parameters. An export
    /// folds the op into the layer before it.
    BatchNorm {
        /// Added to the variance; PyTorch's is 1e-5.
        epsilon: f32,
    },
    /// Zeros each number with probability `rate` and multiplies the others by `1 / (1 − rate)`:
    /// (x `[..]`, seed constant `i32 []`) → `[..]`. What is zeroed is a function of seed, salt, row
    /// and column alone. For training graphs only (Srivastava et al., 2014).
    Dropout {
        /// At least 0 and below 1.
        rate: f32,
        /// Another one for each use in a graph, so that their zeros are independent.
        salt: u32,
    },
    /// Piecewise linear function through given points, constant before the first and after the
    /// last: (x `[]`, knots constant `[k]`, values constant `[k]`) → `[]`, with at least two knots in
    /// strictly increasing order. It has no derivative here: it calibrates what is trained already
    /// (isotonic regression; Zadrozny and Elkan, 2002).
    Calibrate,
    /// Multiplies by a number.
    Scale(f32),
    /// The same numbers, constants to the derivative: no gradient goes through. For training graphs,
    /// where a prediction weighs a loss.
    Detach,
    /// An operation that only derivatives need.
    Gradient(GradientOp),
}

/// How a sequence becomes one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Sum of the rows.
    Sum,
    /// Mean of the rows.
    Mean,
    /// The largest number of each column; its gradient goes to the first row that has it.
    Max,
}

impl Op {
    /// Short name for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Parameter(_) => "parameter",
            Op::Lookup => "lookup",
            Op::LookupMean => "lookup-mean",
            Op::LookupEach => "lookup-each",
            Op::RepeatRows { .. } => "repeat-rows",
            Op::PoolSequence(_) => "pool-sequence",
            Op::WeightedSum => "weighted-sum",
            Op::Gru => "gru",
            Op::Concat => "concat",
            Op::SliceColumns { .. } => "slice-columns",
            Op::SliceRows { .. } => "slice-rows",
            Op::MatMul => "matmul",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Dot => "dot",
            Op::Relu => "relu",
            Op::Sigmoid => "sigmoid",
            Op::Activation(activation) => activation.name(),
            Op::Exp => "exp",
            Op::Softmax => "softmax",
            Op::Squeeze => "squeeze",
            Op::Mix => "mix",
            Op::Expand => "expand",
            Op::BceWithLogits => "bce-with-logits",
            Op::Bce => "bce",
            Op::SquaredError => "squared-error",
            Op::MeanRows => "mean-rows",
            Op::SumSquares => "sum-squares",
            Op::TraceNorm => "trace-norm",
            Op::LayerNorm { .. } => "layer-norm",
            Op::BatchNorm { .. } => "batch-norm",
            Op::Dropout { .. } => "dropout",
            Op::Calibrate => "calibrate",
            Op::Scale(_) => "scale",
            Op::Detach => "detach",
            Op::Gradient(op) => op.name(),
        }
    }
}
