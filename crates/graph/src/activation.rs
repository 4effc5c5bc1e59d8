//! Activation functions beside `Relu` and `Sigmoid`, each as PyTorch defines it.

/// A function of single numbers between two layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x` where positive, else `slope · x` (Maas et al., 2013).
    LeakyRelu(f32),
    /// `x` where positive, else `exp(x) − 1` (Clevert et al., 2016).
    Elu,
    /// `x · Φ(x)` with the normal distribution function, `x/2 · (1 + erf(x/√2))`: the exact form
    /// of Hendrycks and Gimpel (2016), not the one by tanh.
    Gelu,
    /// `x · σ(x)` (Elfwing et al., 2018).
    Silu,
    /// `tanh(x)`.
    Tanh,
}

impl Activation {
    /// Short name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Activation::LeakyRelu(_) => "leaky-relu",
            Activation::Elu => "elu",
            Activation::Gelu => "gelu",
            Activation::Silu => "silu",
            Activation::Tanh => "tanh",
        }
    }
}
