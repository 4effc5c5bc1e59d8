//! Who a span is: the ids of trace and span, and how they travel between processes.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A span as others name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; not 0.
    pub trace: u128,
    /// The span; not 0.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl Context {
    /// Parses the header `traceparent` of the W3C recommendation Trace Context, level 1:
    /// `00-<32 hex>-<16 hex>-<2 hex>`, of later versions with more behind it. `None` when it is not
    /// one, and the trace then begins here.
    pub fn parse(traceparent: &str) -> Option<Context> {
        let hex = |text: &str, digits: usize| {
            let plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (text.len() == digits && plain).then(|| u128::from_str_radix(text, 16).ok()).flatten()
        };
        let mut parts = traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span, flags) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?, hex(parts.next()?, 2)?);
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace == 0 || span == 0 {
            return None;
        }
        Some(Context { trace, span: span as u64, sampled: flags & 1 == 1 })
    }
}

/// Makes ids, and decides which traces that begin here are recorded.
#[derive(Debug)]
pub struct Sampling {
    /// A trace is recorded when the lower half of its id is below this.
    below: u128,
    /// Keyed at random, so that ids of several processes differ and cannot be foretold.
    ids: RandomState,
    next: AtomicU64,
}

impl Sampling {
    /// Records `share` of the traces.
    pub fn new(share: f64) -> Self {
        let below = (share * 2.0_f64.powi(64)) as u128;
        Self { below, ids: RandomState::new(), next: AtomicU64::new(0) }
    }

    /// An id that is not 0.
    pub fn id(&self) -> u64 {
        loop {
            let id = self.ids.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
            if id != 0 {
                return id;
            }
        }
    }

    /// The first span of a new trace.
    pub fn begin(&self) -> Context {
        let lower = self.id();
        let trace = (u128::from(self.id()) << 64) | u128::from(lower);
        Context { trace, span: self.id(), sampled: u128::from(lower) < self.below }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_the_recommendation_has_it() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let known = Context {
            trace: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736,
            span: 0x00f0_67aa_0ba9_02b7,
            sampled: true,
        };
        let line = |text: &str| Context::parse(&text.replace('T', trace).replace('S', "00f067aa0ba902b7"));
        assert_eq!(line("00-T-S-01"), Some(known));
        assert_eq!(line("00-T-S-00"), Some(Context { sampled: false, ..known }));
        // Another flag beside; a later version may have more.
        assert_eq!(line("00-T-S-03"), Some(known));
        assert_eq!(line("cc-T-S-01-what-comes"), Some(known));
        for wrong in [
            "",
            "00",
            "00-T",
            "00-T-S",
            "00-T-S-1",
            "00-T-S-01-more",
            "ff-T-S-01",
            "0-T-S-01",
            "00-T-S-0x",
            "00-00000000000000000000000000000000-S-01",
            "00-T-0000000000000000-01",
            "00-T-00F067AA0BA902B7-01",
            "00-+T-S-01",
            "00-é-S-01",
        ] {
            assert_eq!(line(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_share_of_the_traces_is_recorded() {
        let recorded = |share| (0..10_000).filter(|_| Sampling::new(share).begin().sampled).count();
        assert_eq!((recorded(0.0), recorded(1.0)), (0, 10_000));
        let sampling = Sampling::new(0.3);
        let some = (0..10_000).filter(|_| sampling.begin().sampled).count();
        // Four standard deviations of a fair draw.
        assert!(some.abs_diff(3000) < 4 * 46, "{some}");
    }
}
