//! Who may call what: tokens of callers, kept as hashes in a file, each with its rights.
//!
//! ```toml
//! [[caller]]
//! name = "feed"
//! # printf %s "$TOKEN" | sha256sum
//! sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
//! rights = ["score"]
//! ```
//!
//! A token is sent as `authorization: Bearer <token>`. It is never logged; the caller's name is, and
//! calls are counted by it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use gatefold_schema::strict;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Code, Status};
use tracing::Instrument;

use crate::gate;
use crate::metrics::{Metrics, Rejection};
use crate::refusals::Refusals;
use crate::reload::{FileError, Reloaded};

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Score, and ask what the models are.
    Score,
    /// Load, unload, label and roll back models; read the admin port.
    Admin,
}

impl Right {
    /// Its name in the tokens file.
    pub fn name(self) -> &'static str {
        match self {
            Right::Score => "score",
            Right::Admin => "admin",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The right that a gRPC method needs; `None` where no token is asked for: health, as probes have
/// none.
pub fn needed(path: &str) -> Option<Right> {
    const FREE: [&str; 4] = [
        "/grpc.health.v1.Health/",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
        "/inference.GRPCInferenceService/ModelReady",
    ];
    const ADMIN: [&str; 2] =
        ["/gatefold.ranking.v1.Admin/", "/inference.GRPCInferenceService/RepositoryModel"];
    let begins = |list: &[&str]| list.iter().any(|prefix| path.starts_with(prefix));
    match () {
        () if begins(&FREE) => None,
        () if begins(&ADMIN) => Some(Right::Admin),
        () => Some(Right::Score),
    }
}

/// The callers that a tokens file names.
#[derive(Debug)]
pub struct Callers(Vec<Caller>);

#[derive(Debug)]
struct Caller {
    name: Arc<str>,
    hash: Hash,
    rights: Vec<Right>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    caller: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    rights: Vec<Right>,
}

impl Callers {
    /// The callers in the text of a tokens file; `origin` is its name as the person knows it.
    ///
    /// # Errors
    /// A sentence that names the caller and what is wrong; never a hash.
    pub fn from_toml(text: &str, origin: &str) -> Result<Callers, String> {
        let file: File = strict::from_toml(text, origin).map_err(|error| error.to_string())?;
        let mut callers: Vec<Caller> = Vec::new();
        for Entry { name, sha256, rights } in file.caller {
            if name.is_empty() {
                return Err("a caller has an empty name: give it one for logs and metrics".into());
            }
            let hash = hash_of(&sha256).ok_or_else(|| {
                format!(
                    "sha256 of caller '{name}' has {} characters and must be the 64 hexadecimal digits of \
                     the token's SHA-256 (printf %s TOKEN | sha256sum)",
                    sha256.len()
                )
            })?;
            if rights.is_empty() {
                return Err(format!("caller '{name}' has no rights: give it \"score\", \"admin\" or both"));
            }
            if let Some(other) = callers.iter().find(|other| *other.name == *name || other.hash == hash) {
                return Err(format!("callers '{}' and '{name}' have the same name or token", other.name));
            }
            callers.push(Caller { name: name.into(), hash, rights });
        }
        if callers.is_empty() {
            return Err("names no [[caller]], so that nobody could call".into());
        }
        Ok(Callers(callers))
    }

    /// The caller of the token with this hash. Every hash is compared, each in constant time, so the
    /// time says nothing about which one is near.
    fn find(&self, hash: &Hash) -> Option<&Caller> {
        self.0
            .iter()
            .fold(None, |found, caller| if caller.hash.ct_eq(hash).into() { Some(caller) } else { found })
    }

    /// The caller of the token with this hash, if it has the right.
    fn admit(&self, hash: &Hash, needed: Right, what: &str) -> Result<&Caller, Status> {
        let Some(caller) = self.find(hash) else {
            return Err(Status::unauthenticated("this token is none of a caller that the server knows"));
        };
        if !caller.rights.contains(&needed) {
            let message =
                format!("caller '{}' lacks the right \"{needed}\", which {what} needs", caller.name);
            return Err(Status::permission_denied(message));
        }
        Ok(caller)
    }
}

/// The SHA-256 of a token.
type Hash = [u8; 32];

/// The hash of the token that `headers` hold.
fn token(headers: &HeaderMap) -> Result<Hash, Status> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(Status::unauthenticated(
            "this server asks for a token: send it as `authorization: Bearer <token>`",
        ));
    };
    let scheme = value.to_str().ok().and_then(|value| value.split_once(' '));
    let Some((_, token)) = scheme.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
        return Err(Status::unauthenticated("authorization is not of the form `Bearer <token>`"));
    };
    Ok(Sha256::digest(token.trim().as_bytes()).into())
}

fn hash_of(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Asks callers for their tokens. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    callers: Arc<Reloaded<Callers>>,
    metrics: Arc<Metrics>,
    refusals: Arc<Refusals>,
}

impl Guard {
    /// A guard that knows the callers in `file` and follows its changes; who called is counted in
    /// `metrics`, and who was refused noted in `refusals`.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub fn new(file: PathBuf, metrics: Arc<Metrics>, refusals: Arc<Refusals>) -> Result<Guard, FileError> {
        let name = file.clone();
        let callers = Reloaded::follow("the tokens file", vec![file], move |contents| {
            let refuse = |problem| FileError::new(&name, problem);
            let text = std::str::from_utf8(&contents[0]).map_err(|_| refuse("is not UTF-8 text".into()))?;
            Callers::from_toml(text, "line").map_err(refuse)
        })?;
        Ok(Guard { callers, metrics, refusals })
    }

    /// The name of the caller whose token `headers` hold, if it has the right that `path` needs, and
    /// the pass that this is.
    fn admit(&self, headers: &HeaderMap, needed: Right, path: &str) -> Result<(Arc<str>, Pass), Status> {
        let callers = self.callers.get();
        let admitted = token(headers).and_then(|hash| {
            let name = callers.admit(&hash, needed, path)?.name.clone();
            Ok((name, Pass { guard: self.clone(), hash, needed, path: path.into() }))
        });
        match &admitted {
            Ok((name, _)) => self.metrics.edge.called(name),
            Err(status) => self.note(needed, path, status),
        }
        admitted
    }

    /// Counts a call that is refused; as a request without scores only where it asked for some.
    fn note(&self, needed: Right, path: &str, status: &Status) {
        self.metrics.edge.refused(needed);
        if gate::scores(path) {
            self.metrics.refused(None, None, status.code(), Rejection::Auth);
        }
        self.refusals.note(Rejection::Auth, None, None, "");
    }
}

/// What a caller may go on doing for as long as the tokens file says so. It travels with the call.
#[derive(Clone)]
pub(crate) struct Pass {
    guard: Guard,
    hash: Hash,
    needed: Right,
    path: Arc<str>,
}

impl Pass {
    /// Whether the caller still has the right, as the tokens file is now.
    ///
    /// # Errors
    /// The status that a new call would be answered with, which is counted.
    pub(crate) fn check(&self) -> Result<(), Status> {
        let Pass { guard, hash, needed, path } = self;
        let admitted = guard.callers.get().admit(hash, *needed, path).map(|_| ());
        admitted.inspect_err(|status| guard.note(*needed, path, status))
    }
}

/// Lets gRPC calls pass whose caller has the right that they need.
pub async fn enforce(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let Some(needed) = needed(path) else { return next.run(request).await };
    match guard.admit(request.headers(), needed, path) {
        Ok((caller, pass)) => {
            request.extensions_mut().insert(pass);
            next.run(request).instrument(tracing::debug_span!("call", %caller)).await
        }
        Err(status) => status.into_http(),
    }
}

/// Lets requests to the admin port pass whose caller has the right `admin`; probes need none.
pub async fn enforce_http(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if ["/livez", "/readyz"].contains(&path) {
        return next.run(request).await;
    }
    match guard.admit(request.headers(), Right::Admin, path) {
        Ok(_) => next.run(request).await,
        Err(status) => {
            use axum::http::StatusCode;
            use axum::response::IntoResponse;
            let code = match status.code() {
                Code::PermissionDenied => StatusCode::FORBIDDEN,
                _ => StatusCode::UNAUTHORIZED,
            };
            (code, [(header::WWW_AUTHENTICATE, "Bearer")], format!("{}\n", status.message())).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `test`, a published value (as in the example above).
    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn tokens_are_found_by_their_hash() {
        let text = format!("[[caller]]\nname = \"feed\"\nsha256 = \"{HASH}\"\nrights = [\"score\"]\n");
        let callers = Callers::from_toml(&text, "line").unwrap();
        for other in ["", "Test", "test ", HASH] {
            let hash = Sha256::digest(other).into();
            assert!(callers.find(&hash).is_none(), "{other:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "bearer test".parse().unwrap());
        let hash = token(&headers).unwrap();
        assert_eq!(&*callers.admit(&hash, Right::Score, "/x").unwrap().name, "feed");
        let denied = callers.admit(&hash, Right::Admin, "/x").unwrap_err();
        assert_eq!(denied.message(), "caller 'feed' lacks the right \"admin\", which /x needs");
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        #[track_caller]
        fn refuse(text: &str, expected: &str) {
            let message = Callers::from_toml(text, "line").expect_err("it is taken");
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains(&HASH[..8]), "{message}");
        }
        let caller = |name: &str, hash: &str, rights: &str| {
            format!("[[caller]]\nname = \"{name}\"\nsha256 = \"{hash}\"\nrights = {rights}\n")
        };
        refuse("", "names no [[caller]]");
        refuse(&caller("", HASH, "[\"score\"]"), "empty name");
        refuse(&caller("feed", &HASH[..63], "[\"score\"]"), "sha256 of caller 'feed' has 63 characters");
        refuse(&caller("feed", &HASH.replace('9', "é"), "[\"score\"]"), "64 hexadecimal digits");
        refuse(&caller("feed", HASH, "[]"), "caller 'feed' has no rights");
        refuse(&caller("feed", HASH, "[\"scores\"]"), "did you mean `score`?");
        let twice = caller("feed", HASH, "[\"score\"]") + &caller("ads", HASH, "[\"admin\"]");
        refuse(&twice, "callers 'feed' and 'ads' have the same name or token");
        refuse("[[caller]]\nname = \"a\"\ntoken = \"x\"\n", "unknown field `token`");
    }

    /// Every method of every service, so that a new one is given its right on purpose.
    #[test]
    fn every_method_needs_the_right_that_it_should() {
        use prost::Message;
        use prost_types::FileDescriptorSet;
        let mut admin = Vec::new();
        let mut free = Vec::new();
        let sets = [
            gatefold_proto::ranking::v1::DESCRIPTORS,
            gatefold_proto::inference::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
        ];
        for file in sets.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    match needed(&path) {
                        Some(Right::Admin) => admin.push(path),
                        None => free.push(path),
                        Some(Right::Score) => {}
                    }
                }
            }
        }
        let inference = |method: &str| format!("/inference.GRPCInferenceService/{method}");
        let health = |method: &str| format!("/grpc.health.v1.Health/{method}");
        free.sort();
        let expected = [
            health("Check"),
            health("Watch"),
            inference("ModelReady"),
            inference("ServerLive"),
            inference("ServerReady"),
        ];
        assert!(free.iter().all(|path| expected.contains(path)), "{free:?}");
        assert!(expected.iter().all(|path| free.contains(path) || path.contains("health")), "{free:?}");
        assert!(admin.contains(&inference("RepositoryModelLoad")), "{admin:?}");
        assert!(admin.contains(&inference("RepositoryModelUnload")), "{admin:?}");
        assert!(admin.iter().any(|path| path.starts_with("/gatefold.ranking.v1.Admin/")), "{admin:?}");
        let scoring = admin.iter().find(|path| path.contains(".Ranking/") || path.ends_with("Infer"));
        assert_eq!(scoring, None);
    }
}
