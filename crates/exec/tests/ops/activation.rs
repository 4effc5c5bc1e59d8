//! Activation functions against PyTorch, and their slopes against central differences.

use gatefold_graph::{Activation, GradientOp, Level, Op};

use crate::{
    case::{candidates, check, check_gradient},
    gradient::check_on_rows,
};

/// Values and slopes at −3, −0.5, 0, 0.5 and 2, by PyTorch 2.15:
///
/// ```python
/// x = torch.tensor([-3.0, -0.5, 0.0, 0.5, 2.0], requires_grad=True)
/// y = f(x); g, = torch.autograd.grad(y.sum(), x)
/// # f: lambda x: F.leaky_relu(x, 0.2), F.elu, F.gelu, F.silu, torch.tanh
/// ```
const EXPECTED: [(Activation, [f32; 5], [f32; 5]); 5] = [
    (Activation::LeakyRelu(0.2), [-0.6, -0.1, 0.0, 0.5, 2.0], [0.2, 0.2, 0.2, 1.0, 1.0]),
    (Activation::Elu, [-0.950_213, -0.393_469_3, 0.0, 0.5, 2.0], [0.049_787_1, 0.606_530_7, 1.0, 1.0, 1.0]),
    (
        Activation::Gelu,
        [-0.004_050_2, -0.154_268_8, 0.0, 0.345_731_2, 1.954_499_7],
        [-0.011_945_6, 0.132_504_9, 0.5, 0.867_495_1, 1.085_231_9],
    ),
    (
        Activation::Silu,
        [-0.142_277_6, -0.188_770_3, 0.0, 0.311_229_7, 1.761_594],
        [-0.088_104_1, 0.260_038_8, 0.5, 0.739_961_2, 1.090_784_3],
    ),
    (
        Activation::Tanh,
        [-0.995_054_8, -0.462_117_2, 0.0, 0.462_117_2, 0.964_027_6],
        [0.009_866_0, 0.786_447_7, 1.0, 0.786_447_7, 0.070_650_8],
    ),
];

#[test]
fn values_and_slopes_are_those_of_pytorch() {
    for (activation, values, slopes) in EXPECTED {
        let x = || candidates(&[], [-3.0, -0.5, 0.0, 0.5, 2.0]);
        check(Op::Activation(activation), &[x()], &values);
        let twice = slopes.map(|slope| 2.0 * slope);
        check_gradient(GradientOp::Activation(activation), &[candidates(&[], [2.0; 5]), x()], &twice);
    }
}

#[test]
fn slopes_are_central_differences() {
    for (activation, ..) in EXPECTED {
        check_on_rows(Op::Activation(activation), Level::Candidate);
    }
    check_on_rows(Op::Exp, Level::Request);
}

#[test]
fn exponentials() {
    // exp(0), exp(1), exp(−ln 2).
    let x = candidates(&[], [0.0, 1.0, -std::f32::consts::LN_2]);
    check(Op::Exp, &[x], &[1.0, std::f32::consts::E, 0.5]);
}
