//! Where models are run: on the processor, or on a CUDA device.

use std::{fmt, path::Path, str::FromStr};

use ort::{
    environment::Environment,
    ep,
    session::{Session, builder::SessionBuilder},
};
use serde::{Deserialize, Serialize};

use crate::OrtError;

/// What runs models. As text: `cpu`, or `cuda:N` for the N-th CUDA device, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of this number.
    Cuda(u16),
}

/// Text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device is `cpu` or `cuda:0` (any number of a GPU), found '{0}'")]
pub struct DeviceError(String);

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Device, DeviceError> {
        let number = || text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "cpu" => Ok(Device::Cpu),
            _ => number().map(Device::Cuda).ok_or_else(|| DeviceError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Device, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => formatter.write_str("cpu"),
            Device::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl Device {
    /// `builder` with this device. Without [`error_on_failure`] a device that cannot be had would be
    /// replaced by the processor in silence.
    ///
    /// [`error_on_failure`]: ep::ExecutionProviderDispatch::error_on_failure
    pub(crate) fn add_to(self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let Device::Cuda(number) = self else { return Ok(builder) };
        let cuda = ep::CUDA::default()
            .with_device_id(number.into())
            // Products of 10 bits would move scores by more than the tolerance of golden rows.
            .with_tf32(false)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested);
        // A batch runs in the shape of its bucket, which is seen again and again.
        let builder = builder.with_execution_providers([cuda.build().error_on_failure()])?;
        Ok(builder.with_memory_pattern(true)?)
    }

    /// Opens a graph of one node, so that a device that cannot be had is found before any model.
    pub(crate) fn check(self, environment: &Environment, library: &Path) -> Result<(), OrtError> {
        if self == Device::Cpu {
            return Ok(());
        }
        let open = || -> Result<Session, ort::Error> {
            let mut builder = self.add_to(Session::builder(environment)?.with_intra_threads(1)?)?;
            builder.commit_from_memory(ONE_NODE)
        };
        let no_device = |error: ort::Error| OrtError::NoDevice {
            device: self,
            library: library.to_path_buf(),
            reason: error.to_string().trim_end_matches(['.', '\n']).to_owned(),
        };
        open().map(drop).map_err(no_device)
    }
}

/// An ONNX file (the protocol buffer `ModelProto`) with the one node `y = Identity(x)` of one float.
const ONE_NODE: &[u8] = b"\
    \x08\x08\
    \x3a\x37\
    \x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity\
    \x12\x01g\
    \x5a\x0f\x0a\x01x\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x62\x0f\x0a\x01y\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01\
    \x42\x04\x0a\x00\x10\x0d";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_pytorch_names_them() {
        for (text, device) in
            [("cpu", Device::Cpu), ("cuda:0", Device::Cuda(0)), ("cuda:12", Device::Cuda(12))]
        {
            assert_eq!(text.parse(), Ok(device));
            assert_eq!(device.to_string(), text);
        }
        for text in ["", "gpu", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:65536", "CPU"] {
            let message = text.parse::<Device>().unwrap_err().to_string();
            assert_eq!(
                message,
                format!("a device is `cpu` or `cuda:0` (any number of a GPU), found '{text}'")
            );
        }
    }

    #[test]
    fn the_graph_of_one_node_is_one_that_onnx_runtime_reads() {
        let library = crate::find_library(None).unwrap();
        let environment = crate::library::environment(&library).unwrap();
        let session = Session::builder(&environment).unwrap().commit_from_memory(ONE_NODE).unwrap();
        assert_eq!((session.inputs()[0].name(), session.outputs()[0].name()), ("x", "y"));
    }
}
