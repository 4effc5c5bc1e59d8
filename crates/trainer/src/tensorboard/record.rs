//! The frames of event files, which are TensorFlow's record files:
//!
//! ```text
//! u64  length of the data, little-endian
//! u32  masked CRC-32C of those eight bytes
//! data
//! u32  masked CRC-32C of the data
//! ```
//!
//! The mask keeps the checksum of bytes that hold checksums meaningful:
//! `((crc >> 15) | (crc << 17)) + 0xa282ead8` (tensorflow/core/lib/hash/crc32c.h).

use std::io::{self, Read, Write};

/// Writes one record.
///
/// # Errors
/// What the writer fails with.
pub fn write(writer: &mut impl Write, data: &[u8]) -> io::Result<()> {
    let length = (data.len() as u64).to_le_bytes();
    writer.write_all(&length)?;
    writer.write_all(&masked_crc(&length).to_le_bytes())?;
    writer.write_all(data)?;
    writer.write_all(&masked_crc(data).to_le_bytes())
}

/// Reads one record; none at the end of the file.
///
/// # Errors
/// A record that is cut off, or whose checksums are not those of its bytes.
pub fn read(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 8];
    match reader.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    check(reader, &length)?;
    let mut data = Vec::new();
    let expected = u64::from_le_bytes(length);
    if reader.by_ref().take(expected).read_to_end(&mut data)? as u64 != expected {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    check(reader, &data)?;
    Ok(Some(data))
}

fn check(reader: &mut impl Read, data: &[u8]) -> io::Result<()> {
    let mut found = [0; 4];
    reader.read_exact(&mut found)?;
    if u32::from_le_bytes(found) == masked_crc(data) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a checksum of the event file is wrong"))
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C: the Castagnoli polynomial, bits reflected (RFC 3720, appendix B.4).
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let with_byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg()))
    };
    !data.iter().fold(!0, with_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_record_has_tensorboards_bytes() {
        // tensorboard.summary.writer.record_writer.RecordWriter(file).write(b"gatefold"), 2.21
        let mut bytes = Vec::new();
        write(&mut bytes, b"gatefold").unwrap();
        assert_eq!(bytes, b"\x08\0\0\0\0\0\0\0\xff\x86\x24\x0fgatefold\x1c\xb3\x83\xbf");
        let mut reader = bytes.as_slice();
        assert_eq!(read(&mut reader).unwrap().unwrap(), b"gatefold");
        assert!(read(&mut reader).unwrap().is_none());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"data").unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            assert!(read(&mut changed.as_slice()).is_err(), "byte {place}");
            assert!(place < 8 || read(&mut &bytes[..place]).is_err(), "cut to {place}");
        }
    }
}
