//! What the machine can do: one large matrix product on all threads, the measure that a training
//! step's arithmetic is compared with.

use std::time::Instant;

use anyhow::Result;
use gemm::Parallelism;
use serde_json::{Value, json};

/// The first layers of T1's experts on a whole batch: rows, inner, columns.
const SHAPE: [usize; 3] = [4096, 416, 2048];
const PRODUCTS_A_TURN: usize = 20;

/// Billions of floating-point operations a second, the best of `turns` turns.
pub(crate) fn measure(threads: usize, turns: usize) -> Result<Value> {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let [rows, inner, columns] = SHAPE;
    let a = vec![0.5_f32; rows * inner];
    let b = vec![0.25_f32; inner * columns];
    let mut out = vec![0.0_f32; rows * columns];
    let mut product = || {
        let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
        // SAFETY: the three slices are row-major matrices of exactly these sizes, and `out` is
        // borrowed mutably.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                inner,
                out.as_mut_ptr(),
                1,
                columns as isize,
                false,
                a.as_ptr(),
                1,
                inner as isize,
                b.as_ptr(),
                1,
                columns as isize,
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    };
    product();
    let operations = (2 * rows * inner * columns * PRODUCTS_A_TURN) as f64;
    let best = (0..turns.max(1))
        .map(|_| {
            let start = Instant::now();
            (0..PRODUCTS_A_TURN).for_each(|_| product());
            operations / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max);
    Ok(json!({ "gflops": best, "threads": threads }))
}
