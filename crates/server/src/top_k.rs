//! The best candidates of a request.

use std::cmp::Ordering;

/// Places of the `count` highest `scores`, best first; equal scores keep the order of the request.
/// All places when there are fewer.
pub fn top_k<Score: Copy + Into<f64>>(scores: &[Score], count: usize) -> Vec<u32> {
    let score = |place: &u32| -> f64 { scores[*place as usize].into() };
    let better = |a: &u32, b: &u32| -> Ordering { score(b).total_cmp(&score(a)).then(a.cmp(b)) };
    let mut places: Vec<u32> = (0..scores.len() as u32).collect();
    if count < places.len() {
        if count > 0 {
            places.select_nth_unstable_by(count - 1, better);
        }
        places.truncate(count);
    }
    places.sort_unstable_by(better);
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_ties_keep_their_order() {
        let scores = [0.2f32, 0.9, 0.5, 0.9, 0.1];
        assert_eq!(top_k(&scores, 3), [1, 3, 2]);
        assert_eq!(top_k(&scores, 1), [1]);
        assert_eq!(top_k(&scores, 9), [1, 3, 2, 0, 4]);
        assert_eq!(top_k(&scores, 0), [0_u32; 0]);
        assert_eq!(top_k::<f32>(&[], 3), [0_u32; 0]);
    }

    #[test]
    fn it_agrees_with_a_full_sort() {
        let scores: Vec<f32> = (0..500_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as f32).collect();
        let mut all: Vec<u32> = (0..500).collect();
        all.sort_by(|a, b| scores[*b as usize].partial_cmp(&scores[*a as usize]).unwrap());
        for count in [1, 2, 7, 100, 499, 500] {
            assert_eq!(top_k(&scores, count), all[..count], "{count}");
        }
    }
}
