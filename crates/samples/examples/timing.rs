//! timing
#![allow(clippy::print_stdout)]
use gatefold_samples::*;
use std::path::Path;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: usize = a[1].parse().unwrap();
    let home = Path::new(&a[2]);
    let auc = |s: &[f32], l: &[f32]| {
        let mut o: Vec<usize> = (0..s.len()).collect();
        o.sort_by(|x, y| s[*x].total_cmp(&s[*y]));
        let (mut r, mut p) = (0.0, 0.0);
        for (i, k) in o.iter().enumerate() {
            if l[*k] > 0.5 {
                r += i as f64 + 1.0;
                p += 1.0;
            }
        }
        Some((r - p * (p + 1.0) / 2.0) / (p * (s.len() as f64 - p)))
    };
    let config = synth::SynthConfig::new(n, a[3].parse().unwrap());
    let t = Instant::now();
    let report = synth::write(&home.join("logs"), &config, true, &auc, &mut Silent).unwrap();
    println!("synth {:.2}s {report:?}", t.elapsed().as_secs_f64());
    for p in &a[4..] {
        let t = Instant::now();
        let recipe = gatefold_schema::Recipe::parse(&std::fs::read_to_string(p).unwrap(), p).unwrap();
        let options = BuildOptions { raw: vec!["test".into()], overwrite: true, streaming: None };
        let name = Path::new(p).file_stem().unwrap();
        build(&recipe, &home.join("logs"), &home.join("samples").with_file_name(name), &options, &mut Silent).unwrap();
        println!("build {p} {:.2}s", t.elapsed().as_secs_f64());
    }
}
