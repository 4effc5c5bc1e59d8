//! Files of named arrays in the safetensors layout, written and read one array at a time, so that
//! no table stands in memory twice:
//!
//! ```text
//! u64   length of the header, little-endian
//! JSON  {"<name>": {"dtype": "F32", "shape": [n], "data_offsets": [begin, end]}, …}
//! data  the arrays one after another, little-endian
//! ```
//!
//! The layout is that of <https://github.com/huggingface/safetensors>, whose own crate reads a file
//! from one slice of memory that holds all of it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
};

use gatefold_exec::StateArray;
use gatefold_schema::{FileEntry, feature::hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Arrays to be written.
pub(crate) type Source<'a> = (String, StateArray<&'a [f32], &'a [u64]>);
/// Arrays to be filled, by their names.
pub(crate) type Targets<'a> = BTreeMap<String, StateArray<&'a mut [f32], &'a mut [u64]>>;

/// Numbers converted at a time.
const PIECE: usize = 1 << 16;
/// A longer header is not one that was written here.
const MOST_HEADER_BYTES: u64 = 1 << 28;
/// Element types as the header names them.
const F32: &str = "F32";
const U64: &str = "U64";

/// What the header says of an array.
#[derive(Serialize, Deserialize)]
struct Place {
    dtype: String,
    shape: [usize; 1],
    data_offsets: [u64; 2],
}

/// Writes arrays to a file and waits until the disk has it.
pub(crate) fn write(path: &Path, arrays: &[Source<'_>]) -> io::Result<FileEntry> {
    let mut offset = 0;
    let mut header: BTreeMap<&str, Place> = BTreeMap::new();
    for (name, array) in arrays {
        let (dtype, len, size) = match array {
            StateArray::F32(values) => (F32, values.len(), 4),
            StateArray::U64(values) => (U64, values.len(), 8),
        };
        let end = offset + (len * size) as u64;
        header.insert(name, Place { dtype: dtype.into(), shape: [len], data_offsets: [offset, end] });
        offset = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    // The data begins at a multiple of 8 bytes.
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = Hashed { inner: File::create(path)?, hash: Sha256::new(), bytes: 0 };
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, array) in arrays {
        match array {
            StateArray::F32(values) => write_numbers(&mut file, values, f32::to_le_bytes)?,
            StateArray::U64(values) => write_numbers(&mut file, values, u64::to_le_bytes)?,
        }
    }
    file.inner.sync_all()?;
    Ok(FileEntry { bytes: file.bytes, sha256: hex(&file.hash.finalize()) })
}

/// Fills `targets` with the arrays of a file, which must be exactly these, and checks that the file
/// is the one that `entry` describes.
pub(crate) fn read(path: &Path, entry: &FileEntry, mut targets: Targets<'_>) -> io::Result<()> {
    let mut file = Hashed { inner: BufReader::new(File::open(path)?), hash: Sha256::new(), bytes: 0 };
    for (name, place) in read_header(&mut file)? {
        let Some(target) = targets.remove(&name) else {
            return Err(invalid(format!("it holds '{name}', which this training does not have")));
        };
        match (target, place.dtype.as_str()) {
            (StateArray::F32(values), F32) if values.len() == place.shape[0] => {
                read_numbers(&mut file, values, f32::from_le_bytes)?;
            }
            (StateArray::U64(values), U64) if values.len() == place.shape[0] => {
                read_numbers(&mut file, values, u64::from_le_bytes)?;
            }
            _ => return Err(invalid(format!("'{name}' has another length or type than in this training"))),
        }
    }
    if let Some(name) = targets.keys().next() {
        return Err(invalid(format!("it does not hold '{name}'")));
    }
    let at_end = file.read(&mut [0])? == 0;
    if at_end && file.bytes == entry.bytes && hex(&file.hash.finalize()) == entry.sha256 {
        return Ok(());
    }
    Err(invalid("it was changed or cut off: its sha256 is not the one recorded".into()))
}

/// Names and places in the order of the data.
fn read_header(file: &mut impl Read) -> io::Result<Vec<(String, Place)>> {
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MOST_HEADER_BYTES {
        return Err(invalid("it does not begin as a file of arrays does".into()));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text)?;
    let header: BTreeMap<String, Place> = serde_json::from_slice(&text)?;
    let mut places: Vec<(String, Place)> = header.into_iter().collect();
    places.sort_by_key(|(_, place)| place.data_offsets);
    Ok(places)
}

fn write_numbers<T: Copy, const SIZE: usize>(
    file: &mut impl Write,
    values: &[T],
    to_bytes: fn(T) -> [u8; SIZE],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE.min(values.len()) * SIZE);
    for piece in values.chunks(PIECE) {
        bytes.clear();
        bytes.extend(piece.iter().flat_map(|value| to_bytes(*value)));
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn read_numbers<T, const SIZE: usize>(
    file: &mut impl Read,
    values: &mut [T],
    from_bytes: fn([u8; SIZE]) -> T,
) -> io::Result<()> {
    let mut bytes = vec![0; PIECE.min(values.len()) * SIZE];
    for piece in values.chunks_mut(PIECE) {
        let bytes = &mut bytes[..piece.len() * SIZE];
        file.read_exact(bytes)?;
        for (value, bytes) in piece.iter_mut().zip(bytes.as_chunks().0) {
            *value = from_bytes(*bytes);
        }
    }
    Ok(())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Counts and hashes what passes through.
struct Hashed<T> {
    inner: T,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long() -> Vec<f32> {
        (0..PIECE + 3).map(|index| index as f32 * 0.5 - 7.0).collect()
    }

    fn written(path: &Path) -> FileEntry {
        let (tower, embedding) = ([1.5, -0.0, f32::MIN_POSITIVE], long());
        let arrays: [Source<'_>; 4] = [
            ("tower.ctr.0.weight".into(), StateArray::F32(&tower[..])),
            ("embedding.user".into(), StateArray::F32(&embedding)),
            ("none".into(), StateArray::F32(&[])),
            ("steps".into(), StateArray::U64(&[7, u64::MAX])),
        ];
        write(path, &arrays).unwrap()
    }

    fn read_back(path: &Path, entry: &FileEntry) -> io::Result<(Vec<f32>, Vec<f32>, Vec<u64>)> {
        let (mut tower, mut embedding, mut steps) = (vec![0.0; 3], vec![0.0; PIECE + 3], vec![0; 2]);
        let targets = [
            ("steps", StateArray::U64(steps.as_mut_slice())),
            ("none", StateArray::F32(&mut [][..])),
            ("embedding.user", StateArray::F32(&mut embedding)),
            ("tower.ctr.0.weight", StateArray::F32(&mut tower)),
        ];
        read(path, entry, targets.map(|(name, target)| (name.to_owned(), target)).into())?;
        Ok((tower, embedding, steps))
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let entry = written(&path);
        let (tower, embedding, steps) = read_back(&path, &entry).unwrap();
        assert_eq!(tower, [1.5, -0.0, f32::MIN_POSITIVE]);
        assert!(tower[1].is_sign_negative());
        assert_eq!((embedding, steps), (long(), vec![7, u64::MAX]));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), entry.bytes);
    }

    #[test]
    fn the_layout_is_that_of_safetensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write(&path, &[("w".into(), StateArray::F32(&[1.0, 2.0]))]).unwrap();
        // python: safetensors.numpy.save({"w": numpy.array([1, 2], dtype="float32")})
        let expected = b"8\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  \
            \0\0\x80\x3f\0\0\0\x40";
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }

    #[test]
    fn a_changed_or_cut_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let entry = written(&path);
        let bytes = std::fs::read(&path).unwrap();
        for place in [0, 9, 100, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(read_back(&path, &entry).is_err(), "byte {place}");
            std::fs::write(&path, &bytes[..place]).unwrap();
            assert!(read_back(&path, &entry).is_err(), "cut to {place}");
        }
        std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
        let error = read_back(&path, &entry).unwrap_err();
        assert_eq!(error.to_string(), "it was changed or cut off: its sha256 is not the one recorded");
    }

    #[test]
    fn arrays_of_another_training_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let entry = write(&path, &[("w".into(), StateArray::F32(&[1.0, 2.0]))]).unwrap();
        let refused = |name: &str, len: usize, expected: &str| {
            let mut values = vec![0.0; len];
            let targets = [(name.to_owned(), StateArray::F32(values.as_mut_slice()))].into();
            assert_eq!(read(&path, &entry, targets).unwrap_err().to_string(), expected);
        };
        refused("w", 3, "'w' has another length or type than in this training");
        refused("v", 2, "it holds 'w', which this training does not have");
        let (mut w, mut v) = ([0.0; 2], [0.0; 2]);
        let targets = [("w", &mut w), ("v", &mut v)]
            .map(|(name, values)| (name.into(), StateArray::F32(&mut values[..])));
        let error = read(&path, &entry, targets.into()).unwrap_err();
        assert_eq!(error.to_string(), "it does not hold 'v'");
    }
}
