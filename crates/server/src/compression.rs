//! Sizes and encodings of messages, the same for every service.

use crate::settings::Encoding;

/// Gives a generated server the limits and encodings of `$settings`.
macro_rules! limited {
    ($server:expr, $settings:expr) => {{
        let settings: &$crate::settings::Settings = $settings;
        let mut server = $server
            .max_decoding_message_size(settings.limits.message_bytes)
            .max_encoding_message_size(settings.limits.reply_bytes);
        for encoding in &settings.compression.accept {
            server = server.accept_compressed((*encoding).into());
        }
        for encoding in &settings.compression.reply {
            server = server.send_compressed((*encoding).into());
        }
        server
    }};
}
pub(crate) use limited;

impl From<Encoding> for tonic::codec::CompressionEncoding {
    fn from(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Gzip => Self::Gzip,
            Encoding::Zstd => Self::Zstd,
        }
    }
}
