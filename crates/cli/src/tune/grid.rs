//! Which settings are tried.

use gatefold_backend_ort::Device;

/// Settings of the batcher, named as in the server's settings file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) workers: usize,
    pub(super) intra_threads: usize,
    pub(super) row_budget: usize,
    pub(super) batch_delay_us: u64,
}

/// Ways to divide the cores, each with batches of about one request, of four and of sixteen, which wait
/// for nobody. `candidates` are those of a request on average.
pub(super) fn coarse(cores: usize, device: Device, candidates: usize) -> Vec<Setting> {
    let threads: Vec<(usize, usize)> = match device {
        Device::Cpu => {
            let intra = std::iter::successors(Some(1), |intra| Some(intra * 2));
            intra.take_while(|intra| *intra <= cores).map(|intra| (cores / intra, intra)).collect()
        }
        // A GPU is shared by workers; what the processor does for it is little.
        Device::Cuda(_) => vec![(1, 1), (2, 1)],
    };
    let one = candidates.next_power_of_two();
    let with_budgets = |(workers, intra_threads): &(usize, usize)| {
        let (workers, intra_threads) = (*workers, *intra_threads);
        [one, 4 * one, 16 * one].map(|row_budget| Setting {
            workers,
            intra_threads,
            row_budget,
            batch_delay_us: 0,
        })
    };
    threads.iter().flat_map(with_budgets).collect()
}

/// Budgets between those of the coarse grid, where the `smallest` request does not exceed them: it
/// would run alone as with the next.
pub(super) fn budgets(best: Setting, smallest: usize) -> Vec<Setting> {
    let around = [best.row_budget / 2, best.row_budget * 2].into_iter();
    around.filter(|rows| *rows >= smallest).map(|row_budget| Setting { row_budget, ..best }).collect()
}

/// Delays that leave most of the goal to the model.
pub(super) fn delays(best: Setting, goal_ms: f64) -> [Setting; 2] {
    [40.0, 10.0].map(|part| Setting { batch_delay_us: (goal_ms * 1e3 / part).ceil() as u64, ..best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_divides_the_cores_and_never_uses_more() {
        for cores in [1, 2, 3, 6, 16] {
            let grid = coarse(cores, Device::Cpu, 200);
            assert!(grid.iter().all(|setting| setting.workers >= 1));
            assert!(grid.iter().all(|setting| setting.workers * setting.intra_threads <= cores), "{grid:?}");
            assert!(grid.iter().any(|setting| setting.workers == cores));
        }
        let grid = coarse(2, Device::Cpu, 200);
        let tried: Vec<_> = grid.iter().map(|one| (one.workers, one.intra_threads, one.row_budget)).collect();
        let expected = [(2, 1, 256), (2, 1, 1024), (2, 1, 4096), (1, 2, 256), (1, 2, 1024), (1, 2, 4096)];
        assert_eq!(tried, expected);
        assert!(coarse(2, Device::Cuda(0), 50).iter().all(|setting| setting.intra_threads == 1));
    }

    #[test]
    fn finer_settings_differ_from_the_best_in_one_thing() {
        let best = coarse(2, Device::Cpu, 200)[0];
        let rows = |smallest| budgets(best, smallest).iter().map(|setting| setting.row_budget).collect();
        let (all, one): (Vec<usize>, Vec<usize>) = (rows(100), rows(200));
        assert_eq!((all, one), (vec![128, 512], vec![512]));
        assert_eq!(delays(best, 20.0).map(|setting| setting.batch_delay_us), [500, 2000]);
        assert!(delays(best, 20.0).iter().all(|setting| setting.row_budget == best.row_budget));
    }
}
