//! Gate use and dead units against literal values.

use gatefold_metrics::{GateTally, MetricError, UnitTally};

use crate::assert_close;

#[test]
fn weights_are_averaged_and_entropies_tell_choosing_from_mixing() {
    // Each row uses one expert, and rows differ.
    let mut choosing = GateTally::new(2);
    choosing.add(&[1.0, 0.0, 0.0, 1.0]).unwrap();
    let found = choosing.finish().unwrap();
    assert_eq!((found.mean.as_slice(), found.entropy), ([0.5, 0.5].as_slice(), 0.0));
    assert_close(found.entropy_of_mean, 2f64.ln(), 1e-15);

    // Every row mixes both alike; in two parts, as from two batches.
    let mut mixing = GateTally::new(2);
    mixing.add(&[0.5, 0.5]).unwrap();
    mixing.add(&[0.5, 0.5, 0.5, 0.5]).unwrap();
    let found = mixing.finish().unwrap();
    assert_close(found.entropy, 2f64.ln(), 1e-15);

    // -(0.75 ln 0.75 + 0.25 ln 0.25)
    let mut uneven = GateTally::new(2);
    uneven.add(&[0.75, 0.25]).unwrap();
    assert_close(uneven.finish().unwrap().entropy, 0.5623351446188083, 1e-12);
}

#[test]
fn a_unit_is_dead_when_it_never_changes() {
    let mut units = UnitTally::new(3);
    units.add(&[0.0, 1.0, 2.0]).unwrap();
    units.add(&[0.0, 1.0, 0.0, 0.0, 1.5, 0.0]).unwrap();
    assert_eq!((units.units(), units.dead()), (3, 1));
}

#[test]
fn what_fits_no_row_is_refused() {
    assert!(matches!(GateTally::new(2).add(&[0.5]), Err(MetricError::LengthMismatch { found: 1, .. })));
    let nan = GateTally::new(2).add(&[0.5, 0.5, f32::NAN, 0.5]);
    assert!(matches!(nan, Err(MetricError::BadWeight { index: 1, .. })));
    assert_eq!(GateTally::new(2).finish(), Err(MetricError::Empty));
    assert!(UnitTally::new(2).add(&[0.5]).is_err());
}
