//! TensorBoard event files: scalars by step.
//!
//! An event file is a sequence of records, each an `Event` message in a frame of its length and of
//! two checksums ([`record`]). The first record names the version of the format. A training that
//! goes on from a checkpoint writes a new file, whose second record makes TensorBoard forget what
//! the older files hold from that step on.

pub mod record;

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use gatefold_proto::tensorboard::{
    Event, SessionLog, Summary, event::What, session_log::SessionStatus, summary, summary::value::Value,
};
use prost::Message as _;

/// An open event file.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventFile {
    /// Begins a file in `folder`, which is created where it does not exist, for a training whose
    /// next step is `step` (from 1).
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub fn create(folder: &Path, step: usize) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // TensorBoard reads the files of a folder in the order of their names.
        let name = format!("events.out.tfevents.{:010}.{:09}.gatefold", now.as_secs(), now.subsec_nanos());
        let path = folder.join(name);
        let mut events = Self { file: BufWriter::new(File::create_new(&path)?), path };
        events.write(0, What::FileVersion("brain.Event:2".into()))?;
        events.write(step, What::SessionLog(SessionLog { status: SessionStatus::Start as i32 }))?;
        events.file.flush()?;
        Ok(events)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes values of a step by their tags (`folder/name`), and hands them to the system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn scalars<'a>(
        &mut self,
        step: usize,
        values: impl IntoIterator<Item = (&'a str, f32)>,
    ) -> io::Result<()> {
        let value = values
            .into_iter()
            .map(|(tag, value)| summary::Value {
                tag: tag.to_owned(),
                value: Some(Value::SimpleValue(value)),
            })
            .collect();
        self.write(step, What::Summary(Summary { value }))?;
        self.file.flush()
    }

    fn write(&mut self, step: usize, what: What) -> io::Result<()> {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = Event { wall_time, step: step as i64, what: Some(what) };
        record::write(&mut self.file, &event.encode_to_vec())
    }
}
