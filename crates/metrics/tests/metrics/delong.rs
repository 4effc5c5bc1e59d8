//! DeLong's test against pROC's published results, and against its definition over all pairs.

use std::path::{Path, PathBuf};

use gatefold_metrics::{DelongTest, delong_paired};

use crate::{Random, assert_close};

/// The folder of published test vectors beside or inside the checkout, if there is one.
fn vectors() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    [root.join("../shared/vectors"), root.join("shared/vectors")].into_iter().find(|folder| folder.is_dir())
}

#[test]
fn subarachnoid_haemorrhage_data_as_in_proc() {
    let Some(folder) = vectors() else {
        eprintln!("skipped: the folder shared/vectors is not beside the checkout");
        return;
    };
    let table = std::fs::read_to_string(folder.join("delong-asah.csv")).unwrap();
    let mut lines = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let rows: Vec<Vec<&str>> = lines.collect();
    let column = |name: &str| header.iter().position(|&field| field == name).unwrap();
    let numbers =
        |name: &str| -> Vec<f32> { rows.iter().map(|row| row[column(name)].parse().unwrap()).collect() };
    let labels: Vec<f32> = rows.iter().map(|row| (row[column("outcome")] == "Poor") as u8 as f32).collect();

    let text = std::fs::read_to_string(folder.join("stats_vectors.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cases = vectors["delong_paired_aSAH"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (a, b) = (case[0].as_str().unwrap(), case[1].as_str().unwrap());
        let test = delong_paired(&numbers(a), &numbers(b), &labels, None).unwrap();
        assert_close(test.z, case[2].as_f64().unwrap(), 1e-10);
        assert_close(test.p_value, case[3].as_f64().unwrap(), 1e-10);
    }
}

/// Mean and variance of the difference from the kernel of every pair, summed per cluster.
fn over_pairs(a: &[f32], b: &[f32], labels: &[f32], clusters: &[u32]) -> (f64, f64) {
    let kernel = |scores: &[f32], i: usize, j: usize| match scores[i].total_cmp(&scores[j]) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    };
    let positives: Vec<usize> = (0..a.len()).filter(|&row| labels[row] == 1.0).collect();
    let negatives: Vec<usize> = (0..a.len()).filter(|&row| labels[row] == 0.0).collect();
    let (m, n) = (positives.len() as f64, negatives.len() as f64);
    let v10 = |i: usize| negatives.iter().map(|&j| kernel(a, i, j) - kernel(b, i, j)).sum::<f64>() / n;
    let v01 = |j: usize| positives.iter().map(|&i| kernel(a, i, j) - kernel(b, i, j)).sum::<f64>() / m;
    let difference = positives.iter().map(|&i| v10(i)).sum::<f64>() / m;

    let mut names: Vec<u32> = clusters.to_vec();
    names.sort_unstable();
    names.dedup();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let (mut with_positive, mut with_negative) = (0.0, 0.0);
    for name in &names {
        let inside =
            |rows: &[usize]| rows.iter().copied().filter(|&row| clusters[row] == *name).collect::<Vec<_>>();
        let (inside_positive, inside_negative) = (inside(&positives), inside(&negatives));
        with_positive += !inside_positive.is_empty() as u8 as f64;
        with_negative += !inside_negative.is_empty() as u8 as f64;
        x.push(inside_positive.iter().map(|&i| v10(i) - difference).sum::<f64>());
        y.push(inside_negative.iter().map(|&j| v01(j) - difference).sum::<f64>());
    }
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let s10 = with_positive / (with_positive - 1.0) * product(&x, &x) / m;
    let s01 = with_negative / (with_negative - 1.0) * product(&y, &y) / n;
    let s11 = names.len() as f64 / (names.len() as f64 - 1.0) * product(&x, &y);
    (difference, s10 / m + s01 / n + 2.0 / (m * n) * s11)
}

#[test]
fn placements_agree_with_all_pairs() {
    let mut random = Random(12);
    for _ in 0..60 {
        let rows = 12 + random.below(40) as usize;
        let levels = 2 + random.below(20);
        let a: Vec<f32> = (0..rows).map(|_| random.below(levels) as f32).collect();
        let b: Vec<f32> = (0..rows).map(|_| random.below(levels) as f32).collect();
        // The first rows make sure that each class is in at least two rows and clusters.
        let labels: Vec<f32> =
            (0..rows).map(|row| if row < 4 { (row % 2) as f32 } else { random.below(2) as f32 }).collect();
        let clusters: Vec<u32> =
            (0..rows).map(|row| if row < 4 { row as u32 } else { random.below(8) as u32 }).collect();
        let alone: Vec<u32> = (0..rows as u32).collect();

        for (found, clusters) in [
            (delong_paired(&a, &b, &labels, None).unwrap(), &alone),
            (delong_paired(&a, &b, &labels, Some(&alone)).unwrap(), &alone),
            (delong_paired(&a, &b, &labels, Some(&clusters)).unwrap(), &clusters),
        ] {
            let (difference, variance) = over_pairs(&a, &b, &labels, clusters);
            assert_close(found.difference, difference, 1e-12);
            assert_close(found.standard_error, variance.max(0.0).sqrt(), 1e-9);
        }
    }
}

#[test]
fn a_model_does_not_differ_from_itself_and_a_perfect_one_differs_from_its_reverse() {
    let labels = [0.0, 1.0, 0.0, 1.0];
    let scores = [0.1, 0.7, 0.3, 0.9];
    let same = delong_paired(&scores, &scores, &labels, None).unwrap();
    assert_eq!((same.difference, same.standard_error, same.z, same.p_value), (0.0, 0.0, 0.0, 1.0));
    let reverse = scores.map(|score| -score);
    let DelongTest { auc_a, auc_b, p_value, .. } = delong_paired(&scores, &reverse, &labels, None).unwrap();
    assert_eq!((auc_a, auc_b, p_value), (1.0, 0.0, 0.0));
}
