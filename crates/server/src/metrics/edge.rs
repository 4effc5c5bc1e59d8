//! Connections and callers.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::tokens::Right;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByCaller {
    caller: Arc<str>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByProblem {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByRight {
    right: &'static str,
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug)]
pub enum Turned {
    /// As many are open as may be.
    TooMany,
    /// It was not encrypted as agreed.
    Handshake,
}

/// What happens before a call reaches its service.
#[derive(Debug, Default)]
pub struct Edge {
    calls: Family<ByCaller, Counter>,
    refused: Family<ByRight, Counter>,
    connections: Gauge,
    turned_away: Family<ByProblem, Counter>,
}

impl Edge {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let edge = Self::default();
        registry.register("calls", "Calls admitted by the token of a caller", edge.calls.clone());
        let help = "Calls, streams and collections of metrics that are refused for their token or for the lack of \
                    one, by the right that they need (score, admin)";
        registry.register("calls_refused", help, edge.refused.clone());
        registry.register("connections", "Open connections to the gRPC port", edge.connections.clone());
        let help = "Connections closed because there were too many, or whose encryption failed";
        registry.register("connections_turned_away", help, edge.turned_away.clone());
        edge
    }

    /// Notes a call of a caller that the tokens file names.
    pub fn called(&self, caller: &Arc<str>) {
        self.calls.get_or_create(&ByCaller { caller: caller.clone() }).inc();
    }

    /// Notes a call that is refused because its caller is not known or lacks this right.
    pub fn refused(&self, needed: Right) {
        self.refused.get_or_create(&ByRight { right: needed.name() }).inc();
    }

    /// Notes that so many more connections are open.
    pub fn connections(&self, more: i64) {
        self.connections.inc_by(more);
    }

    /// Notes a connection that was not taken.
    pub fn turned_away(&self, why: Turned) {
        let reason = match why {
            Turned::TooMany => "too_many",
            Turned::Handshake => "handshake",
        };
        self.turned_away.get_or_create(&ByProblem { reason }).inc();
    }
}
