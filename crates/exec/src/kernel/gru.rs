//! A gated recurrent unit and its derivative through time. All rows take a step together, so that
//! each step is one matrix product; a row whose sequence has ended keeps its state.

use super::{elementwise, matrix, sigmoid};

/// Width of the state, and the weights and biases: `[d, 3h]`, `[h, 3h]`, `[3h]`, `[3h]`, their
/// columns for r, z and n.
pub(super) struct Gru<'a> {
    pub(super) state: usize,
    pub(super) weights: [&'a [f32]; 4],
}

/// What the unit reads: `length` rows for each sequence, and its codes.
#[derive(Clone, Copy)]
pub(super) struct Steps<'a> {
    pub(super) x: &'a [f32],
    pub(super) codes: &'a [i32],
    pub(super) length: usize,
}

impl Steps<'_> {
    fn rows(&self) -> usize {
        self.codes.len().checked_div(self.length).unwrap_or(0)
    }

    /// The steps that each row takes.
    fn taken(&self) -> Vec<usize> {
        let sequences = self.codes.chunks_exact(self.length.max(1));
        sequences.map(|codes| codes.iter().filter(|code| **code != 0).count()).collect()
    }
}

/// What decides one number of the next state.
struct Gates {
    r: f32,
    z: f32,
    n: f32,
}

impl Gates {
    /// `a` is what the input adds and `c` what the state adds, `[3h]` each.
    fn new(a: &[f32], c: &[f32], column: usize, state: usize) -> Self {
        let r = sigmoid(a[column] + c[column]);
        let z = sigmoid(a[state + column] + c[state + column]);
        let n = (a[2 * state + column] + r * c[2 * state + column]).tanh();
        Self { r, z, n }
    }
}

impl Gru<'_> {
    /// The last states.
    pub(super) fn run(&self, steps: Steps<'_>, out: &mut [f32]) {
        self.walk(steps, out, |_, _| {});
    }

    /// The states before each step: `[rows, length, h]`.
    pub(super) fn states(&self, steps: Steps<'_>, out: &mut [f32]) {
        let state = self.state.max(1);
        let mut last = vec![0.0; steps.rows() * state];
        self.walk(steps, &mut last, |step, states| {
            for (out, before) in out.chunks_exact_mut(steps.length * state).zip(states.chunks_exact(state)) {
                out[step * state..][..state].copy_from_slice(before);
            }
        });
    }

    /// Takes all steps from a state of 0, showing the states before each.
    fn walk(&self, steps: Steps<'_>, states: &mut [f32], mut before: impl FnMut(usize, &[f32])) {
        let [input_weights, state_weights, input_bias, state_bias] = self.weights;
        let (state, rows) = (self.state, steps.rows());
        let taken = steps.taken();
        let mut from_input = vec![0.0; rows * steps.length * 3 * state];
        let width = steps.x.len().checked_div(rows * steps.length).unwrap_or(0);
        matrix::multiply(&mut from_input, steps.x, input_weights, width, false);
        elementwise::add_bias(&mut from_input, input_bias, false);
        let mut from_state = vec![0.0; rows * 3 * state];
        states.fill(0.0);
        for step in 0..steps.length {
            before(step, states);
            matrix::multiply(&mut from_state, states, state_weights, state, false);
            elementwise::add_bias(&mut from_state, state_bias, false);
            for row in (0..rows).filter(|row| step < taken[*row]) {
                let a = &from_input[(row * steps.length + step) * 3 * state..][..3 * state];
                let c = &from_state[row * 3 * state..][..3 * state];
                for (column, value) in states[row * state..][..state].iter_mut().enumerate() {
                    let Gates { z, n, .. } = Gates::new(a, c, column, state);
                    *value = (1.0 - z) * n + z * *value;
                }
            }
        }
    }

    /// From the gradient `g` of the last states, the gradients of what each step adds up, `[rows,
    /// length, 4h]`: by the input's part for r, z and n, then by the state's part for n.
    pub(super) fn gates_gradient(&self, steps: Steps<'_>, g: &[f32], states: &[f32], out: &mut [f32]) {
        let [input_weights, state_weights, input_bias, state_bias] = self.weights;
        let (state, rows, length) = (self.state, steps.rows(), steps.length);
        let taken = steps.taken();
        let mut from_input = vec![0.0; rows * length * 3 * state];
        let width = steps.x.len().checked_div(rows * length).unwrap_or(0);
        matrix::multiply(&mut from_input, steps.x, input_weights, width, false);
        elementwise::add_bias(&mut from_input, input_bias, false);
        let mut from_state = vec![0.0; rows * length * 3 * state];
        matrix::multiply(&mut from_state, states, state_weights, state, false);
        elementwise::add_bias(&mut from_state, state_bias, false);
        let mut transposed = vec![0.0; state_weights.len()];
        matrix::transpose(&mut transposed, state_weights, 3 * state);

        out.fill(0.0);
        let mut of_state = g.to_vec();
        let mut of_sum = vec![0.0; rows * 3 * state];
        for step in (0..length).rev() {
            of_sum.fill(0.0);
            for row in (0..rows).filter(|row| step < taken[*row]) {
                let place = row * length + step;
                let a = &from_input[place * 3 * state..][..3 * state];
                let c = &from_state[place * 3 * state..][..3 * state];
                let before = &states[place * state..][..state];
                let out = &mut out[place * 4 * state..][..4 * state];
                let of_sum = &mut of_sum[row * 3 * state..][..3 * state];
                for (column, g) in of_state[row * state..][..state].iter_mut().enumerate() {
                    let Gates { r, z, n } = Gates::new(a, c, column, state);
                    let of_n = *g * (1.0 - z) * (1.0 - n * n);
                    let of_z = *g * (before[column] - n) * z * (1.0 - z);
                    let of_r = of_n * c[2 * state + column] * r * (1.0 - r);
                    for (part, value) in [of_r, of_z, of_n, of_n * r].into_iter().enumerate() {
                        out[part * state + column] = value;
                    }
                    for (part, value) in [of_r, of_z, of_n * r].into_iter().enumerate() {
                        of_sum[part * state + column] = value;
                    }
                    *g *= z;
                }
            }
            matrix::multiply(&mut of_state, &of_sum, &transposed, 3 * state, true);
        }
    }
}
